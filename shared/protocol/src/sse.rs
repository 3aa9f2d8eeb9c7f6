//! Server-sent events: where they end, and those we write ourselves.

pub(crate) mod blocks;
pub(crate) mod long;
pub(crate) mod split;

use bytes::Bytes;

use crate::tap::{Piece, Pieces, Tap};
use crate::wire::Wire;

/// Ends a half-passed event, so that an event of our own may follow. The client sees one event of broken JSON, which Codex skips.
pub const BREAK: &[u8] = b"\n\n";

/// What a WebSocket client gets as a text message instead of [`keepalive`].
pub const KEEPALIVE_MESSAGE: &str = r#"{"type":"keepalive"}"#;

/// What to send when the vendor is silent. Nothing to clients of Gemini: some know no line but `data`.
#[must_use]
pub const fn keepalive(wire: Wire) -> Option<&'static [u8]> {
    match wire {
        Wire::Responses => Some(b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"),
        Wire::Chat => Some(b": keep-alive\n\n"),
        Wire::Messages => Some(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        Wire::Gemini => None,
    }
}

/// Whether a body begins as a stream of events does, and no document: with a field's name, or a comment.
pub(crate) fn begins_events(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    matches!(body.trim_ascii_start().first(), Some(b'd' | b'e' | b'i' | b'r' | b':'))
}

/// The event boundaries of a stream, without the metering: what the agent needs.
pub struct Gate(Tap);

impl Gate {
    /// A gate for one stream.
    #[must_use]
    pub fn new(wire: Wire) -> Self {
        Self(Tap::blind(wire))
    }

    /// Takes a chunk as it came. `Last` is the terminal event.
    pub fn push(&mut self, chunk: Bytes) -> Pieces {
        self.0.push(chunk)
    }

    /// The stream ended cleanly: what was still held.
    pub fn end(&mut self) -> Option<Piece> {
        self.0.end()
    }

    /// An event of our own may follow what was passed.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.0.is_at_boundary()
    }

    /// The terminal event was passed on.
    #[must_use]
    pub fn saw_terminal(&self) -> bool {
        self.0.observed().ending.is_some()
    }
}
