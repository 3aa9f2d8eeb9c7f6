//! What is promised of bytes that frame others: server-sent events, Amazon's frames, WebSockets.

use bytes::Bytes;
use relay_protocol::sse::Gate;
use relay_protocol::ws::{self, Item, Messages, WsError};
use relay_protocol::{Bridge, Wire};

use super::{cut, recorded};
use crate::event_stream::{FrameError, Frames};

pub(super) fn events() -> Vec<Vec<u8>> {
    let odd = "\u{feff}event: a\r\ndata: {\"x\":\r\ndata: \"é\"}\r\n\r\n: ping\n\ndata: 2\r\rdata\n\ndata:\n\nid: 1\ndata: 4\n\r\n";
    let mut found = recorded("streams", None);
    found.push(odd.as_bytes().to_vec());
    found
}

/// Events are found where the standard says, wherever the stream is cut; a gate alters no byte.
pub(super) fn event_stream(input: &[u8]) {
    let split = |pieces: &[&[u8]]| {
        let mut bridge = Bridge::new(0);
        let events: Vec<_> = pieces.iter().flat_map(|piece| bridge.push(piece)).collect();
        events
    };
    let pieces = cut(input);
    let wanted = by_the_standard(input);
    assert!(split(&[input]) == wanted, "events are not where they are");
    assert!(split(&pieces) == wanted, "events are elsewhere when the stream is cut");
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini] {
        let mut gate = Gate::new(wire);
        let mut passed = Vec::new();
        for piece in &pieces {
            for piece in gate.push(Bytes::copy_from_slice(piece)) {
                passed.extend_from_slice(&piece.into_bytes());
            }
            assert!(!gate.is_at_boundary() || passed.last().is_none_or(|byte| matches!(byte, b'\n' | b'\r')));
        }
        passed.extend(gate.end().into_iter().flat_map(|piece| piece.into_bytes()));
        assert!(passed == input, "the gate altered the stream");
    }
}

/// The data of each event that has some, as the WHATWG standard has it.
fn by_the_standard(input: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut data) = (Vec::new(), None::<Vec<u8>>);
    let mut rest = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = &rest[..end];
        let end = end + 1 + usize::from(rest[end..].starts_with(b"\r\n"));
        rest = &rest[end..];
        if line.is_empty() {
            found.extend(data.take());
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = colon.map_or((line, &b""[..]), |colon| (&line[..colon], &line[colon + 1..]));
        if name == b"data" {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            data = Some(match data.take() {
                Some(before) => [&before, &b"\n"[..], value].concat(),
                None => value.to_vec(),
            });
        }
    }
    found
}

/// A frame with one header, as the specification has it.
fn frame(name: &str, value: &str, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![u8::try_from(name.len()).unwrap()];
    head.extend_from_slice(name.as_bytes());
    head.push(7);
    head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    head.extend_from_slice(value.as_bytes());
    let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
    let mut frame = [
        total.to_be_bytes(),
        u32::try_from(head.len()).unwrap().to_be_bytes(),
        [0; 4],
    ]
    .concat();
    frame.extend(head);
    frame.extend_from_slice(payload);
    frame.extend([0; 4]);
    sealed(&frame)
}

pub(super) fn frames() -> Vec<Vec<u8>> {
    let one = frame(":event-type", "chunk", b"{\"bytes\":\"e30=\"}");
    let error = frame(":exception-type", "throttlingException", b"{\"message\":\"slow down\"}");
    let empty = frame("", "", b"");
    vec![one.clone(), error.clone(), empty.clone(), [one, empty, error].concat()]
}

/// Frames are the same wherever the bytes are cut, and nothing is told of one whose checksum is wrong. Once as the bytes
/// came, and once with the lengths and checksums that they should have, or no change would get any further.
pub(super) fn amazon(input: &[u8]) {
    amazon_frames(input);
    amazon_frames(&sealed(input));
}

fn amazon_frames(input: &[u8]) {
    let whole = popped(&[input]);
    assert!(whole == popped(&cut(input)), "frames are others when they are cut");
    let told: usize = whole.0.iter().map(|(_, payload)| payload.len()).sum();
    assert!(told <= input.len());
}

type Told = (Option<String>, Bytes);

fn popped(pieces: &[&[u8]]) -> (Vec<Told>, Option<FrameError>) {
    let (mut frames, mut found) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.push(piece);
        loop {
            match frames.pop() {
                Ok(Some(frame)) => found.push((frame.header(":event-type"), frame.payload)),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// The bytes as frames: each as long as it says, or as there is, with the checksums of what it has.
fn sealed(input: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(input.len()), input);
    while rest.len() >= 16 {
        let said = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let total = said.clamp(16, rest.len());
        let (frame, after) = rest.split_at(total);
        let mut frame = frame.to_vec();
        frame[..4].copy_from_slice(&u32::try_from(total).unwrap().to_be_bytes());
        let prelude = crc32fast::hash(&frame[..8]);
        frame[8..12].copy_from_slice(&prelude.to_be_bytes());
        let all = crc32fast::hash(&frame[..total - 4]);
        frame[total - 4..].copy_from_slice(&all.to_be_bytes());
        out.extend(frame);
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// No message is longer.
const LONGEST: usize = 16 << 10;

pub(super) fn sockets() -> Vec<Vec<u8>> {
    let text = br#"{"type":"response.create","model":"m","input":"h\u00e9"}"#;
    let mask = Some([1, 2, 3, 4]);
    let plain = ws::encode_text(text, None);
    // One message in two frames, with a ping between them.
    let first = [&[0x01, 3][..], b"{\"a"].concat();
    let last = [&[0x80, 4][..], "\":é".as_bytes()].concat();
    let ping = ws::encode_ping(b"p", mask);
    vec![
        plain.to_vec(),
        ws::encode_text(text, mask).to_vec(),
        ws::encode_text(&[b'a'; 300], mask).to_vec(),
        [&first[..], &ping, &last].concat(),
        [
            &plain[..],
            &ws::encode_pong(b"", None),
            &ws::encode_close(1000, "over", mask),
        ]
        .concat(),
        [&[0x82, 2][..], b"\xff\xfe"].concat(),
    ]
}

/// Messages are the same wherever the bytes are cut, are no longer than agreed, and are read as they are written.
pub(super) fn socket(input: &[u8]) {
    let (whole, whole_error) = received(&[input]);
    let (found, error) = received(&cut(input));
    assert_eq!(whole_error, error, "it fails in another way when it is cut");
    // What came whole before a fault is told only when it came in a piece of its own.
    assert!(
        error.is_some() || whole == found,
        "messages are others when they are cut"
    );
    let raw: usize = found.iter().map(|(_, raw, _)| raw.len()).sum();
    assert!(raw <= input.len());
    for (kind, _, text) in found {
        assert!(text.len() <= LONGEST);
        if kind == 't' {
            let again = received(&[&ws::encode_text(&text, Some([9, 8, 7, 6]))]);
            assert!(again.1.is_none() && again.0.len() == 1 && again.0[0].2 == text);
        }
    }
}

type Received = (char, Bytes, Vec<u8>);

fn received(pieces: &[&[u8]]) -> (Vec<Received>, Option<WsError>) {
    let (mut messages, mut found) = (Messages::new(LONGEST), Vec::new());
    for piece in pieces {
        match messages.push(Bytes::copy_from_slice(piece)) {
            Ok(items) => found.extend(items.into_iter().map(|item| match item {
                Item::Text { raw, text } => ('t', raw, text.as_slice().to_vec()),
                Item::Binary { raw } => ('b', raw, Vec::new()),
                Item::Control { raw, data, .. } => ('c', raw, data.as_slice().to_vec()),
                Item::Close { raw, .. } => ('e', raw, Vec::new()),
            })),
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}
