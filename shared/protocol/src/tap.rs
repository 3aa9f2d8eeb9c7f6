//! Watches an answer on its way from the vendor to the client. Knows no socket, no price and no settlement.
//!
//! It never fails: what it does not understand goes by unread and is not metered. It never alters a byte, but for one
//! chat chunk that [`TapOptions::remove_usage_chunk`] names. It keeps a partial event up to 32 KiB, so that an event of
//! our own can be put between two; a whole one only on a wire where nothing but the end of the body tells that it was
//! the last.

mod array;
mod events;
mod meter;
mod observed;
mod pieces;
mod whole;

use bytes::Bytes;

use self::array::Array;
use self::events::Events;
pub use self::meter::Meter;
pub use self::observed::{Ending, Observed};
pub use self::pieces::{Piece, Pieces};
use self::whole::Whole;
use crate::hidden::Hidden;
use crate::lane::VendorWire;
use crate::refusal::Refusal;
use crate::sample::Sample;
use crate::sse;

/// What the answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Server-sent events.
    Events,
    /// One JSON array of Gemini's, an element for each chunk.
    Array,
    /// One JSON document. What begins as a stream of events is read as one.
    Whole,
}

/// What the tap may do beyond watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapOptions {
    /// Remove chat's usage chunk again, because the client did not ask for it. Its usage is remembered.
    pub remove_usage_chunk: bool,
}

/// The tap of one answer.
pub struct Tap {
    meter: Meter,
    body: Body,
}

enum Body {
    Events(Events),
    Array(Array),
    Whole(Whole),
}

impl Tap {
    /// A tap for one answer.
    #[must_use]
    pub fn new(wire: impl Into<VendorWire>, shape: Shape, options: TapOptions) -> Self {
        let body = match shape {
            Shape::Events => Body::Events(Events::default()),
            Shape::Array => Body::Array(Array::default()),
            Shape::Whole => Body::Whole(Whole::default()),
        };
        Self {
            meter: Meter::new(wire).removing_usage(options.remove_usage_chunk),
            body,
        }
    }

    /// A tap that looks for the terminal event and reads nothing else.
    pub(crate) fn blind(wire: impl Into<VendorWire>) -> Self {
        Self {
            meter: Meter::new(wire).blind(),
            body: Body::Events(Events::default()),
        }
    }

    /// Keeps the beginning of what the model writes, of a stream, so that its tokens can be counted.
    #[must_use]
    pub fn sampling(mut self, most: usize) -> Self {
        self.meter = self.meter.sampling(most);
        self
    }

    /// Looks for what the vendor hides: reasoning under its lock, signatures of thoughts.
    #[must_use]
    pub fn finding_hidden(mut self, is_wanted: bool) -> Self {
        self.meter = self.meter.finding_hidden(is_wanted);
        if let (true, Body::Whole(whole)) = (is_wanted, &mut self.body) {
            whole.find_hidden();
        }
        self
    }

    /// What was found of it, the last ones.
    pub fn take_hidden(&mut self) -> Vec<Hidden> {
        self.meter.take_hidden()
    }

    /// What was kept of it.
    pub fn take_sample(&mut self) -> Sample {
        self.meter.take_sample()
    }

    /// Takes a chunk of the vendor's body as it came. All pieces together are the chunks together.
    #[must_use = "the pieces are the client's answer"]
    pub fn push(&mut self, chunk: Bytes) -> Pieces {
        if matches!(&self.body, Body::Whole(whole) if whole.is_fresh()) && sse::begins_events(&chunk) {
            self.body = Body::Events(Events::default());
        }
        match &mut self.body {
            Body::Events(events) => events.push(&mut self.meter, chunk),
            Body::Array(array) => array.push(&mut self.meter, chunk),
            Body::Whole(whole) => whole.push(&mut self.meter, chunk),
        }
    }

    /// The body ended cleanly: what was still held, and the last word on how the answer ended.
    ///
    /// Not to be called for a body that was cut: what is held then is half an event, better replaced by one of ours.
    #[must_use = "the piece is the end of the client's answer"]
    pub fn end(&mut self) -> Option<Piece> {
        match &mut self.body {
            Body::Events(events) => events.end(&mut self.meter),
            Body::Array(array) => array.end(&mut self.meter),
            Body::Whole(whole) => whole.end(&mut self.meter),
        }
    }

    /// An event of our own may follow what was passed. Never true of a [`Shape::Whole`] body.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        match &self.body {
            Body::Events(events) => events.is_at_boundary(),
            Body::Array(array) => array.is_at_boundary(),
            Body::Whole(_) => false,
        }
    }

    /// The answer said why it ends; where its vendor leaves out the last word, the end of the body is its end.
    #[must_use]
    pub const fn has_finished(&self) -> bool {
        self.meter.has_finished()
    }

    /// What may be the end is kept until the body ends: it will soon.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        match &self.body {
            Body::Events(events) => events.is_ending(),
            Body::Array(array) => array.is_ending(),
            Body::Whole(_) => false,
        }
    }

    /// The words that end an answer which broke off, after what was passed; `None` where there is no place for them.
    #[must_use]
    pub fn last_words(&self, refusal: &Refusal, request_id: &str) -> Option<Bytes> {
        let is_possible = self.is_at_boundary();
        let wire = self.meter.wire().of_clients().filter(|_| is_possible)?;
        Some(match &self.body {
            Body::Array(array) => refusal.array_end(request_id, array.passed()),
            Body::Events(_) | Body::Whole(_) => refusal.stream_event(wire, request_id),
        })
    }

    /// What was seen so far.
    #[must_use]
    pub fn observed(&self) -> &Observed {
        self.meter.observed()
    }
}

#[cfg(test)]
mod tests;
