//! What is promised of a vendor's bytes: streams, whole answers and refusals, metered and written for each client.

use bytes::Bytes;
use relay_protocol::{
    Code, Framing, Observed, Piece, Refusal, Shape, Tap, TapOptions, Translator, Usage, VendorWire, Wire, failure,
};

use super::change::Chance;
use super::{cut, is_json, recorded};
use crate::common::{answered, fixtures, has_lane, others, streamed, taken, translator};

/// Every client is told the same, and an end, wherever the stream is cut; what is metered is the same as well.
pub(super) fn streams(vendor: VendorWire, input: &[u8]) {
    let pieces = cut(input);
    let most = 1024 * input.len() + (16 << 10);
    for client in others(vendor).filter(|client| has_lane(*client, vendor)) {
        let whole = unmetered(client, vendor, &[input]);
        told_an_end(client, &whole);
        assert!(whole.len() <= most, "{} bytes for {}", whole.len(), input.len());
        assert!(
            whole == unmetered(client, vendor, &pieces),
            "it says something else when it is cut"
        );
        told_an_end(
            client,
            &streamed(client, vendor, Framing::Events, pieces.iter().copied()),
        );
        match client {
            Wire::Gemini => assert!(is_json(&streamed(client, vendor, Framing::Array, [input]))),
            Wire::Responses => messages(client, vendor, &pieces),
            Wire::Chat | Wire::Messages => {}
        }
    }
    tapped(vendor, Shape::Events, input);
}

/// What the client reads of an answer whose usage nobody reads: how early that is known depends on the cuts.
fn unmetered(client: Wire, vendor: VendorWire, chunks: &[&[u8]]) -> Vec<u8> {
    let mut translator = translator(client, vendor, Framing::Events);
    let mut read = Vec::new();
    for chunk in chunks {
        translator.push(Bytes::copy_from_slice(chunk), None);
        read.extend(taken(&mut translator));
    }
    translator.end(None);
    read.extend(taken(&mut translator));
    assert!(translator.has_ended());
    read
}

/// Each event is JSON, and the last says that the answer is over or that it failed.
fn told_an_end(client: Wire, read: &[u8]) {
    let text = std::str::from_utf8(read).unwrap();
    let mut last = "";
    for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        assert!(line == "[DONE]" || is_json(line.as_bytes()), "{line}");
        last = line;
    }
    let ends: &[&str] = match client {
        Wire::Responses => &[
            "\"response.completed\"",
            "\"response.incomplete\"",
            "\"response.failed\"",
        ],
        Wire::Chat => &["[DONE]", "\"error\""],
        Wire::Messages => &["\"message_stop\"", "\"error\""],
        Wire::Gemini => &["\"finishReason\"", "\"error\""],
    };
    assert!(ends.iter().any(|end| last.contains(end)), "it ends with {last}");
}

fn messages(client: Wire, vendor: VendorWire, pieces: &[&[u8]]) {
    let mut translator = translator(client, vendor, Framing::Messages);
    for piece in pieces {
        translator.push(Bytes::copy_from_slice(piece), None);
        assert!(messages_taken(&mut translator).all(|message| is_json(&message)));
    }
    translator.end(None);
    assert!(messages_taken(&mut translator).all(|message| is_json(&message)));
}

fn messages_taken(translator: &mut Translator) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(|| Some(translator.take_messages()).filter(|some| !some.is_empty())).flatten()
}

/// A tap alters no byte and sees the same, wherever the body is cut.
fn tapped(vendor: VendorWire, shape: Shape, input: &[u8]) -> Option<Usage> {
    let plain = TapOptions::default();
    let (bytes, whole) = tap(vendor, shape, plain, &[input]);
    assert!(bytes == input, "the tap altered the answer");
    let pieces = cut(input);
    let (bytes, cut) = tap(vendor, shape, plain, &pieces);
    assert!(bytes == input, "the tap altered the answer in pieces");
    // What is no JSON is metered by chance: of a key without a colon nobody can tell whether it is one.
    assert!(
        whole == cut || shape != Shape::Events && !is_json(input),
        "{whole:?} {cut:?}"
    );
    if vendor == VendorWire::Chat {
        let removing = TapOptions {
            remove_usage_chunk: true,
        };
        let (one, seen) = tap(vendor, shape, removing, &[input]);
        let (other, seen_cut) = tap(vendor, shape, removing, &pieces);
        assert!(one == other && one.len() <= input.len());
        assert!(seen == whole && seen_cut == cut);
    }
    whole.usage
}

fn tap(vendor: VendorWire, shape: Shape, options: TapOptions, chunks: &[&[u8]]) -> (Vec<u8>, Observed) {
    const SAMPLE: usize = 512;
    let mut tap = Tap::new(vendor, shape, options).sampling(SAMPLE);
    let mut bytes = Vec::new();
    let mut keep = |piece: Piece| bytes.extend_from_slice(&piece.into_bytes());
    for chunk in chunks {
        tap.push(Bytes::copy_from_slice(chunk)).for_each(&mut keep);
    }
    if let Some(piece) = tap.end() {
        keep(piece);
    }
    let sample = tap.take_sample();
    assert!(sample.len() <= SAMPLE && sample.text().len() <= 3 * SAMPLE);
    (bytes, tap.observed().clone())
}

/// A whole answer is one of each client's, or a refusal; and so is every refusal.
pub(super) fn answers(vendor: VendorWire, input: &[u8]) {
    let status = 400 + u16::try_from(Chance::of(input).below(200)).unwrap();
    for client in others(vendor).filter(|client| has_lane(*client, vendor)) {
        match answered(client, vendor, input) {
            Ok(body) => {
                assert!(is_json(&body));
                assert!(
                    body.len() <= 64 * input.len() + 4096,
                    "{} for {}",
                    body.len(),
                    input.len()
                );
            }
            Err(refusal) => assert!(is_json(&refusal.render(client, "r").body)),
        }
        let refusal = failure(vendor, status, input).refusal(None);
        assert!(is_json(&refusal.render(client, "r").body));
    }
    tapped(vendor, Shape::Whole, input);
}

/// Recorded arrays, and recorded streams as arrays.
pub(super) fn arrays() -> Vec<Vec<u8>> {
    let mut found: Vec<_> = fixtures("streams")
        .into_iter()
        .filter(|fixture| fixture.path.to_string_lossy().contains(".array."))
        .map(|fixture| fixture.bytes)
        .collect();
    for stream in recorded("streams", Some(VendorWire::Gemini)) {
        let text = String::from_utf8_lossy(&stream);
        let events: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        found.push(format!("[{}]", events.join(",\r\n")).into_bytes());
    }
    found
}

/// As of every stream; and wherever an array breaks off between two elements, words of ours end it.
pub(super) fn array(input: &[u8]) {
    tapped(VendorWire::Gemini, Shape::Array, input);
    let is_array = input.trim_ascii_start().starts_with(b"[") && is_json(input);
    let mut tap = Tap::new(VendorWire::Gemini, Shape::Array, TapOptions::default());
    let refusal = Refusal::new(Code::UpstreamUnreachable, "It broke off.");
    let mut passed = Vec::new();
    for piece in cut(input) {
        for piece in tap.push(Bytes::copy_from_slice(piece)) {
            passed.extend_from_slice(&piece.into_bytes());
        }
        if let Some(words) = tap.last_words(&refusal, "r").filter(|_| is_array) {
            let told = [&passed[..], &words].concat();
            assert!(is_json(&told), "{}", String::from_utf8_lossy(&told));
        }
    }
}
