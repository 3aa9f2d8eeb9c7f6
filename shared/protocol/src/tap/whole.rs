//! An answer that is one JSON document.

use bytes::Bytes;

use super::meter::Meter;
use super::pieces::{Piece, Pieces};
use crate::scan::{Root, Scan};

/// Keeps the newest chunk back: nobody can use a document before its end, and the end must wait for the settlement.
pub(super) struct Whole {
    held: Option<Bytes>,
    scan: Scan,
}

impl Default for Whole {
    fn default() -> Self {
        Self {
            held: None,
            scan: Scan::new(Root::Bare),
        }
    }
}

impl Whole {
    /// Nothing was read yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.held.is_none()
    }

    /// Looks for what the vendor hides, too.
    pub(super) fn find_hidden(&mut self) {
        self.scan.find_hidden();
    }

    pub(super) fn push(&mut self, meter: &mut Meter, chunk: Bytes) -> Pieces {
        let mut pieces = Pieces::default();
        if !chunk.is_empty() {
            self.scan.push(&chunk);
            meter.part(&self.scan);
            if let Some(before) = self.held.replace(chunk) {
                pieces.add(Piece::Pass(before));
            }
        }
        pieces
    }

    pub(super) fn end(&mut self, meter: &mut Meter) -> Option<Piece> {
        meter.whole(&self.scan);
        self.held.take().map(Piece::Last)
    }
}
