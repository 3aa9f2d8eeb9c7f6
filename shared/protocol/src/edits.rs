//! Named changes of a body, by byte range. Knows nothing of JSON.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::payload::Payload;

/// Replacements in one body. Made by [`crate::Envelope::edits`] and good for the body that envelope was read from.
///
/// No `Debug`: a replacement may quote what the tenant sent.
#[derive(Clone, Default)]
pub struct Edits(Vec<Edit>);

#[derive(Clone)]
struct Edit {
    at: Range<usize>,
    with: Bytes,
}

impl Edits {
    /// Puts `with` where the bytes `at` stand. An empty range inserts. Ranges must not overlap.
    pub(crate) fn replace(&mut self, at: Range<usize>, with: impl Into<Bytes>) {
        let place = self.0.partition_point(|edit| edit.at.start <= at.start);
        self.0.insert(place, Edit { at, with: with.into() });
    }

    /// Nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The body with the edits made. Without edits it is the same allocation.
    #[must_use]
    pub fn apply(&self, body: &Payload) -> Payload {
        if self.is_empty() {
            return body.clone();
        }
        let old = body.as_slice();
        let added: usize = self.0.iter().map(|edit| edit.with.len()).sum();
        let mut out = BytesMut::with_capacity(old.len() + added);
        let mut done = 0;
        for Edit { at, with } in &self.0 {
            out.put_slice(old.get(done..at.start).unwrap_or_default());
            out.put_slice(with);
            done = at.end;
        }
        out.put_slice(old.get(done..).unwrap_or_default());
        Payload::new(out.freeze())
    }
}
