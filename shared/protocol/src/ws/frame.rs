//! The head of one frame (RFC 6455, 5.2).

use bytes::{Bytes, BytesMut};

use super::WsError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    pub(super) const fn is_data(self) -> bool {
        matches!(self, Self::Continuation | Self::Text | Self::Binary)
    }

    const fn of(opcode: u8) -> Option<Self> {
        match opcode {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }
}

pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) is_final: bool,
    mask: Option<[u8; 4]>,
    /// Bytes of the header itself.
    pub(super) len: usize,
    pub(super) payload_len: u64,
}

impl Header {
    /// `None` when it is not all there. What is wrong with the first two bytes is said at once.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, WsError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(WsError::Extension);
        }
        let kind = Kind::of(first & 0x0f).ok_or(WsError::Opcode)?;
        let (is_final, short) = (first & 0x80 != 0, second & 0x7f);
        if !kind.is_data() && (!is_final || short > LONGEST_CONTROL) {
            return Err(WsError::Control);
        }
        let (payload_len, rest, len) = match (short, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest, 4),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest, 10)
            }
            (126 | 127, _) => return Ok(None),
            (short, rest) => (u64::from(short), rest, 2),
        };
        let (mask, len) = match (second & 0x80 != 0, rest) {
            (false, _) => (None, len),
            (true, [a, b, c, d, ..]) => (Some([*a, *b, *c, *d]), len + 4),
            (true, _) => return Ok(None),
        };
        Ok(Some(Self {
            kind,
            is_final,
            mask,
            len,
            payload_len,
        }))
    }

    /// The payload of `frame`, which is this whole frame. Copied only to unmask it.
    pub(super) fn payload(&self, frame: &Bytes) -> Bytes {
        let payload = frame.slice(self.len..);
        match self.mask {
            None => payload,
            Some(mask) => {
                let mut plain = BytesMut::from(&payload[..]);
                apply(mask, &mut plain);
                plain.freeze()
            }
        }
    }
}

/// Masks, or unmasks, which is the same.
pub(super) fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c, d]) {
        *byte ^= mask;
    }
}

pub(super) const LONGEST_CONTROL: u8 = 125;
