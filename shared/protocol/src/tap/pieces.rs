//! What one chunk gives, without an allocation in the usual case.

use bytes::Bytes;

/// A part of the answer, in order. No `Debug`: it is what a model wrote.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Goes on to the client at once.
    Pass(Bytes),
    /// Ends the answer for the client: must wait until the settlement is durable.
    Last(Bytes),
}

impl Piece {
    /// The bytes of either.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Pass(bytes) | Self::Last(bytes) => bytes,
        }
    }
}

/// The pieces that one chunk gave, in order.
#[derive(Default)]
pub struct Pieces {
    first: Option<Piece>,
    second: Option<Piece>,
    more: std::collections::VecDeque<Piece>,
}

impl Pieces {
    /// Appends a piece, unless it is empty.
    pub(super) fn add(&mut self, piece: Piece) {
        let (Piece::Pass(bytes) | Piece::Last(bytes)) = &piece;
        if bytes.is_empty() {
            return;
        }
        if self.first.is_none() {
            self.first = Some(piece);
        } else if self.second.is_none() {
            self.second = Some(piece);
        } else {
            self.more.push_back(piece);
        }
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        self.first
            .take()
            .or_else(|| self.second.take())
            .or_else(|| self.more.pop_front())
    }
}
