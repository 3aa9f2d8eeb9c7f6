//! Frames of our own. A mask is what a client must give, fresh and unguessable for each frame.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::frame::{LONGEST_CONTROL, apply};

const LONGEST: usize = LONGEST_CONTROL as usize;

/// A text message in one frame. `text` must be UTF-8.
#[must_use]
pub fn encode_text(text: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    encode(0x81, text, mask)
}

/// A close frame; the reason is cut at a character before byte 124.
#[must_use]
pub fn encode_close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(LONGEST - 2)];
    encode(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat(), mask)
}

/// A ping; the data is cut at 125 bytes.
#[must_use]
pub fn encode_ping(data: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    encode(0x89, &data[..data.len().min(LONGEST)], mask)
}

/// A pong; the data is cut at 125 bytes.
#[must_use]
pub fn encode_pong(data: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    encode(0x8a, &data[..data.len().min(LONGEST)], mask)
}

fn encode(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 14);
    frame.put_u8(first);
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short <= LONGEST_CONTROL => frame.put_u8(flag | short),
        (_, Ok(medium)) => {
            frame.put_u8(flag | 126);
            frame.put_u16(medium);
        }
        (_, Err(_)) => {
            frame.put_u8(flag | 127);
            frame.put_u64(len as u64);
        }
    }
    if let Some(mask) = mask {
        frame.put_slice(&mask);
    }
    let start = frame.len();
    frame.put_slice(payload);
    if let Some(mask) = mask {
        apply(mask, &mut frame[start..]);
    }
    frame.freeze()
}
