//! WebSocket messages out of bytes and back (RFC 6455), without IO. Knows no JSON.

use bytes::Bytes;
use thiserror::Error;

use crate::payload::Payload;

/// One thing that came through a socket, whole.
pub enum Item {
    /// A text message.
    Text {
        /// The very bytes of all its frames.
        raw: Bytes,
        /// What it says: joined, unmasked, valid UTF-8.
        text: Payload,
    },
    /// A binary message.
    Binary {
        /// The very bytes of all its frames.
        raw: Bytes,
    },
    /// A ping or a pong. May come between the frames of a message; it then precedes that message here.
    Control {
        /// Which.
        opcode: Opcode,
        /// The very bytes of its frame.
        raw: Bytes,
        /// The application data, unmasked.
        payload: Payload,
    },
    /// The closing handshake.
    Close {
        /// The status code, if one was given.
        code: Option<u16>,
        /// The very bytes of its frame.
        raw: Bytes,
    },
}

/// The control frames that are not `Close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// To be answered with a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

/// Why the socket must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WsError {
    /// An RSV bit is set: an extension nobody agreed to.
    #[error("a frame uses an extension that was not negotiated")]
    Extension,
    /// Larger than agreed.
    #[error("a message is larger than {limit} bytes")]
    TooBig {
        /// The limit.
        limit: usize,
    },
}

impl WsError {
    /// The status code to close with.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Extension => 1002,
            Self::TooBig { .. } => 1009,
        }
    }
}

/// One direction of a socket.
pub struct Messages {
    max_message: usize,
}

impl Messages {
    /// Reads messages of at most `max_message` bytes of payload.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self { max_message }
    }

    /// Takes a chunk as it came.
    ///
    /// # Errors
    /// When the peer broke the protocol; the socket must then be closed. Every further call fails the same way.
    pub fn push(&mut self, _chunk: Bytes) -> Result<Vec<Item>, WsError> {
        let _ = self.max_message;
        Ok(Vec::new())
    }

    /// Nothing of a message is held: a message of our own may go out on this direction.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        true
    }
}

/// A text message in one frame. `mask` is what clients must give.
#[must_use]
pub fn encode_text(text: &[u8], _mask: Option<[u8; 4]>) -> Bytes {
    Bytes::copy_from_slice(text)
}

/// A close frame; the reason is cut at 123 bytes.
#[must_use]
pub fn encode_close(_code: u16, _reason: &str, _mask: Option<[u8; 4]>) -> Bytes {
    Bytes::new()
}

/// A ping; the data is cut at 125 bytes.
#[must_use]
pub fn encode_ping(_data: &[u8], _mask: Option<[u8; 4]>) -> Bytes {
    Bytes::new()
}

/// A pong; the data is cut at 125 bytes.
#[must_use]
pub fn encode_pong(_data: &[u8], _mask: Option<[u8; 4]>) -> Bytes {
    Bytes::new()
}
