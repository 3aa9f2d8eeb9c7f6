//! WebSocket messages out of bytes and back (RFC 6455), without IO. Knows no JSON.
//!
//! A relay forwards the very frames that came, so every item carries its bytes as they were on the wire. Extensions are
//! never agreed to; a frame that uses one is an error.

mod encode;
mod frame;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

pub use self::encode::{encode_close, encode_ping, encode_pong, encode_text};
use self::frame::{Header, Kind};
use crate::payload::Payload;

/// One thing that came through a socket, whole. No `Debug`: it is what somebody wrote.
#[derive(Clone)]
pub enum Item {
    /// A text message.
    Text {
        /// The very bytes of all its frames, without control frames that came between them.
        raw: Bytes,
        /// What it says: joined, unmasked, valid UTF-8.
        text: Payload,
    },
    /// A binary message.
    Binary {
        /// The very bytes of all its frames.
        raw: Bytes,
    },
    /// A ping or a pong. One that comes between the frames of a message precedes that message here.
    Control {
        /// Which.
        opcode: Opcode,
        /// The very bytes of its frame.
        raw: Bytes,
        /// Its data, unmasked; at most 125 bytes.
        data: Payload,
    },
    /// The closing handshake. What comes after it is dropped.
    Close {
        /// The status code, if one was given.
        code: Option<u16>,
        /// The very bytes of its frame.
        raw: Bytes,
    },
}

/// The control frames that are not a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// To be answered with a pong of the same data.
    Ping,
    /// The answer to a ping.
    Pong,
}

/// Why a socket must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WsError {
    /// An RSV bit is set.
    #[error("a frame uses an extension that was not agreed to")]
    Extension,
    /// An opcode that RFC 6455 does not define.
    #[error("a frame has an unknown opcode")]
    Opcode,
    /// A control frame in several parts or with more than 125 bytes, or a close frame with one byte.
    #[error("a control frame is malformed")]
    Control,
    /// A continuation of nothing, or a message within another.
    #[error("frames of messages are out of order")]
    Order,
    /// A text message that is not UTF-8.
    #[error("a text message is not UTF-8")]
    Text,
    /// Larger than agreed.
    #[error("a message is larger than {limit} bytes")]
    TooBig {
        /// The limit of its payload in bytes.
        limit: usize,
    },
}

impl WsError {
    /// The status code to close with.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Extension | Self::Opcode | Self::Control | Self::Order => 1002,
            Self::Text => 1007,
            Self::TooBig { .. } => 1009,
        }
    }
}

/// One direction of a socket. Takes masked and unmasked frames alike: which are right depends on the direction, and
/// the far end will judge the bytes it gets.
pub struct Messages {
    max_message: usize,
    /// The start of a frame whose end has not come, and how long that frame is as far as is known.
    partial: BytesMut,
    needed: usize,
    /// A message whose last frame has not come.
    open: Option<Open>,
    state: State,
}

struct Open {
    is_text: bool,
    raw: BytesMut,
    payload: BytesMut,
}

#[derive(Clone, Copy)]
enum State {
    Running,
    Closed,
    Failed(WsError),
}

impl Messages {
    /// Reads messages of at most `max_message` bytes of payload. Keeps about twice that at most.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            partial: BytesMut::new(),
            needed: 0,
            open: None,
            state: State::Running,
        }
    }

    /// Takes a chunk as it came. A message in one frame in one chunk is not copied, unless it must be unmasked.
    ///
    /// # Errors
    /// When the peer broke the protocol; the socket must then be closed. Every further call fails the same way.
    pub fn push(&mut self, chunk: Bytes) -> Result<Vec<Item>, WsError> {
        match self.state {
            State::Running => {}
            State::Closed => return Ok(Vec::new()),
            State::Failed(error) => return Err(error),
        }
        let mut items = Vec::new();
        match self.read(chunk, &mut items) {
            Ok(()) => Ok(items),
            Err(error) => {
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    /// Nothing of a message is held: this direction stands between two messages.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.partial.is_empty() && self.open.is_none()
    }

    fn read(&mut self, chunk: Bytes, items: &mut Vec<Item>) -> Result<(), WsError> {
        let mut bytes = chunk;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&bytes);
            if self.partial.len() < self.needed {
                return Ok(());
            }
            bytes = self.partial.split().freeze();
        }
        while let Some(header) = Header::read(&bytes)? {
            let total = self.admit(&header)?;
            if bytes.len() < total {
                self.needed = total;
                self.partial.reserve(total);
                break;
            }
            items.extend(self.frame(&header, bytes.split_to(total))?);
            if matches!(self.state, State::Closed) {
                return Ok(());
            }
        }
        if !bytes.is_empty() {
            self.partial.extend_from_slice(&bytes);
        }
        Ok(())
    }

    /// The length of the frame in all, if we are ready to hold it.
    fn admit(&mut self, header: &Header) -> Result<usize, WsError> {
        self.needed = 0;
        let limit = self.max_message;
        let too_big = WsError::TooBig { limit };
        let (held, raw) = match &self.open {
            Some(open) if header.kind.is_data() => (open.payload.len(), open.raw.len()),
            Some(_) | None => (0, 0),
        };
        let len = usize::try_from(header.payload_len).map_err(|_| too_big)?;
        let fits = held
            .checked_add(len)
            .is_some_and(|sum| sum <= limit || !header.kind.is_data());
        // Many tiny frames are more bytes than their payload.
        let is_lean = raw <= limit.saturating_mul(2).saturating_add(1024);
        if fits && is_lean {
            Ok(header.len + len)
        } else {
            Err(too_big)
        }
    }

    /// Takes one whole frame.
    fn frame(&mut self, header: &Header, raw: Bytes) -> Result<Option<Item>, WsError> {
        let opcode = match header.kind {
            Kind::Ping => Opcode::Ping,
            Kind::Pong => Opcode::Pong,
            Kind::Close => return self.close(header, raw).map(Some),
            Kind::Text | Kind::Binary | Kind::Continuation => return self.data(header, raw),
        };
        let data = Payload::new(header.payload(&raw));
        Ok(Some(Item::Control { opcode, raw, data }))
    }

    fn close(&mut self, header: &Header, raw: Bytes) -> Result<Item, WsError> {
        let payload = header.payload(&raw);
        let code = match &payload[..] {
            [] => None,
            [_] => return Err(WsError::Control),
            [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        };
        self.state = State::Closed;
        Ok(Item::Close { code, raw })
    }

    fn data(&mut self, header: &Header, raw: Bytes) -> Result<Option<Item>, WsError> {
        let is_first = header.kind != Kind::Continuation;
        if is_first == self.open.is_some() {
            return Err(WsError::Order);
        }
        let payload = header.payload(&raw);
        if is_first && header.is_final {
            return message(header.kind == Kind::Text, raw, payload).map(Some);
        }
        let open = self.open.get_or_insert_with(|| Open {
            is_text: header.kind == Kind::Text,
            raw: BytesMut::new(),
            payload: BytesMut::new(),
        });
        open.raw.extend_from_slice(&raw);
        open.payload.extend_from_slice(&payload);
        match self.open.take_if(|_| header.is_final) {
            None => Ok(None),
            Some(open) => message(open.is_text, open.raw.freeze(), open.payload.freeze()).map(Some),
        }
    }
}

fn message(is_text: bool, raw: Bytes, payload: Bytes) -> Result<Item, WsError> {
    if !is_text {
        return Ok(Item::Binary { raw });
    }
    std::str::from_utf8(&payload).map_err(|_| WsError::Text)?;
    Ok(Item::Text {
        raw,
        text: Payload::new(payload),
    })
}

#[cfg(test)]
mod tests;
