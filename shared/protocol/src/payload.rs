//! Bytes that belong to a tenant. Cannot be printed, logged or serialised by accident.

use bytes::Bytes;

/// A body or message. There is no `Debug`, `Display` or `Serialize` on purpose: prompts and answers are in no log.
#[derive(Clone)]
pub struct Payload(Bytes);

impl Payload {
    /// Takes the bytes without copying them.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, to read.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The same allocation, to send.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}
