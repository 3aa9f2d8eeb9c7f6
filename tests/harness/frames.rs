//! WebSocket frames (RFC 6455, section 5.2), as much as the vendor and its clients need. Written here and not borrowed, so that
//! a test can compare raw bytes and send frames that a library would refuse to send.

use bytes::{Buf, Bytes, BytesMut};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// One frame as it arrived, unmasked.
pub(crate) struct Frame {
    pub(crate) last: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Bytes,
}

/// Takes one frame off the front, or nothing when it is not all there.
pub(crate) fn take(buffer: &mut BytesMut) -> Option<Frame> {
    let (&first, &second) = (buffer.first()?, buffer.get(1)?);
    let (length, mut at) = match second & 0x7f {
        126 => (u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?).into(), 4),
        127 => (
            usize::try_from(u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)).ok()?,
            10,
        ),
        short => (usize::from(short), 2),
    };
    let mask = match second & 0x80 {
        0 => [0; 4],
        _ => {
            at += 4;
            buffer.get(at - 4..at)?.try_into().ok()?
        }
    };
    if buffer.len() < at + length {
        return None;
    }
    buffer.advance(at);
    let mut payload = buffer.split_to(length);
    payload
        .iter_mut()
        .zip(mask.iter().cycle())
        .for_each(|(byte, key)| *byte ^= key);
    Some(Frame {
        last: first & 0x80 != 0,
        opcode: first & 0x0f,
        payload: payload.freeze(),
    })
}

/// A message of `opcode` in `fragments` frames, unmasked as a server sends it.
pub(crate) fn message(opcode: u8, payload: &[u8], fragments: usize) -> Vec<u8> {
    let size = payload.len().div_ceil(fragments.max(1)).max(1);
    let parts: Vec<&[u8]> = if payload.is_empty() {
        vec![payload]
    } else {
        payload.chunks(size).collect()
    };
    let mut bytes = Vec::with_capacity(payload.len() + 10 * parts.len());
    for (index, part) in parts.iter().enumerate() {
        let last = if index + 1 == parts.len() { 0x80 } else { 0 };
        bytes.push(last | if index == 0 { opcode } else { 0 });
        match part.len() {
            short @ 0..=125 => bytes.push(u8::try_from(short).unwrap_or(0)),
            middle @ 126..=0xffff => {
                bytes.push(126);
                bytes.extend_from_slice(&u16::try_from(middle).unwrap_or(0).to_be_bytes());
            }
            long => {
                bytes.push(127);
                bytes.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A close frame with this code.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    message(CLOSE, &payload, 1)
}

/// Masks the only frame in `frame` as a client must.
pub(crate) fn mask(frame: Vec<u8>, key: [u8; 4]) -> Vec<u8> {
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mut masked = frame[..head].to_vec();
    masked[1] |= 0x80;
    masked.extend_from_slice(&key);
    masked.extend(
        frame[head..]
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    masked
}
