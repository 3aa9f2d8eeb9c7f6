//! What is promised of a client's bytes: its requests, and its messages on a socket.

use bytes::Bytes;
use relay_protocol::{Asked, Bridge, Endpoint, Envelope, Payload, Refusal, VendorWire, Wire, translate};

use super::{cut, is_json, recorded};
use crate::common::{asked, has_lane, reply, target};

/// The envelope is read and edited, and the call is written for each vendor or refused.
pub(super) fn requests(client: Wire, input: &[u8]) {
    let endpoint = match client {
        Wire::Responses => Endpoint::Responses,
        Wire::Chat => Endpoint::ChatCompletions,
        Wire::Messages => Endpoint::Messages,
        Wire::Gemini => Endpoint::StreamGenerate,
    };
    let path = "/v1beta/models/gemini-3.5-flash:streamGenerateContent";
    match Envelope::read_at(endpoint, path, input) {
        Ok(envelope) => edited(endpoint, path, &envelope, input),
        Err(error) => assert!(is_json(&Refusal::from(error).render(client, "r").body)),
    }
    for vendor in VendorWire::ALL.into_iter().filter(|vendor| has_lane(client, *vendor)) {
        match asked(client, vendor, input) {
            Ok(asked) => {
                assert!(is_json(&asked.body));
                assert!(
                    asked.body.len() <= 16 * input.len() + 4096,
                    "{} bytes",
                    asked.body.len()
                );
                assert!(asked.dropped.is_none_or(|told| told.len() <= 2048));
                let target = target(vendor, false);
                let whole = translate(client, vendor, input, &target).map(|asked| asked.body);
                assert!(whole.is_ok_and(|body| is_json(&body)));
            }
            Err(refusal) => assert!(is_json(&refusal.render(client, "r").body)),
        }
    }
}

/// Without an edit the bytes are the same ones; with one they are JSON that says what the edit says.
fn edited(endpoint: Endpoint, path: &str, envelope: &Envelope, input: &[u8]) {
    assert!(is_json(input), "it is read less strictly than others read it");
    let body = Payload::new(Bytes::copy_from_slice(input));
    let same = envelope.edits(None, false).apply(&body);
    assert!(std::ptr::eq(same.as_slice(), body.as_slice()));
    let renamed = envelope.edits(Some("\"my\\own\""), true).apply(&body);
    let renamed = renamed.as_slice();
    assert!(is_json(renamed));
    let again = Envelope::read_at(endpoint, path, renamed).ok().unwrap();
    if endpoint.wire() != Wire::Gemini {
        assert!(again.model == "\"my\\own\"");
    }
    assert!(again.stream == envelope.stream && again.max_output == envelope.max_output && again.n == envelope.n);
    assert!(again.wants_usage || endpoint.wire() != Wire::Chat || !envelope.stream);
}

/// Every recorded request of Responses as a message, and recorded streams between them.
pub(super) fn bridged() -> Vec<Vec<u8>> {
    let streams = recorded("streams", Some(VendorWire::Responses));
    let requests = recorded("requests", Some(VendorWire::Responses));
    let one_line = |json: &Vec<u8>| json.iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<_>>();
    let next =
        br#"{"type":"response.create","previous_response_id":"resp_1","input":[{"role":"user","content":"on"}]}"#;
    let warm = br#"{"type":"response.create","generate":false,"input":"hello"}"#;
    let mut found = vec![warm.to_vec()];
    for (request, stream) in requests.iter().zip(streams.iter().cycle()) {
        found.push([&one_line(request)[..], b"\n", stream, next].concat());
    }
    found
}

/// Lines that open an object are messages of the client, what is between them is what the vendor answers.
pub(super) fn bridge(input: &[u8]) {
    const MOST_KEPT: usize = 8 << 10;
    let (mut bridge, mut told) = (Bridge::new(MOST_KEPT), 0);
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b"{") {
            for piece in cut(line) {
                told += bridge.push(piece).iter().map(Vec::len).sum::<usize>();
            }
            continue;
        }
        match bridge.ask(line, reply()) {
            Ok(Asked::Call(body)) => {
                assert!(is_json(&body), "{}", String::from_utf8_lossy(&body));
                assert!(body.len() <= line.len() + MOST_KEPT + 64);
            }
            Ok(Asked::Told(messages)) => assert!(messages.iter().all(|message| is_json(message))),
            Err(error) => assert!(is_json(&Refusal::from(error).render(Wire::Responses, "r").body)),
        }
    }
    assert!(told <= input.len());
}
