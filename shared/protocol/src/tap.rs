//! Watches an answer on its way from the vendor to the client. Never fails, never alters, never delays a whole event.

use bytes::Bytes;

use crate::tokens::Tokens;
use crate::usage::Usage;
use crate::wire::Wire;

/// What the answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Server-sent events.
    Events,
    /// One JSON document.
    Whole,
}

/// What the tap may do beyond watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapOptions {
    /// Remove chat's usage chunk again, because the client did not ask for it. Its usage is remembered.
    pub remove_usage_chunk: bool,
}

/// A part of the answer, in order.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Goes on to the client at once.
    Pass(Bytes),
    /// Ends the answer for the client: must wait until the settlement is durable.
    Last(Bytes),
}

/// The pieces that one chunk gave.
#[derive(Default)]
pub struct Pieces(Vec<Piece>);

/// How an answer ended, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The answer is whole.
    Completed,
    /// It stopped early for a reason it names, such as its token limit.
    Incomplete,
    /// The vendor failed.
    Failed,
}

/// What was seen so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The last usage that was reported and makes sense.
    pub usage: Option<Usage>,
    /// How the answer ended; `None` while it has not.
    pub ending: Option<Ending>,
    /// The vendor's id of the answer.
    pub response_id: Option<String>,
    /// The tier that really served, which may change the price.
    pub service_tier: Option<String>,
    /// The code of an error in the answer.
    pub error_code: Option<String>,
    /// Bytes of JSON text in which the model's output stood.
    pub produced: usize,
    /// Events with data.
    pub events: u64,
}

impl Observed {
    /// An estimate of the output, for want of a report: four bytes a token, rounded up.
    #[must_use]
    pub fn estimated_output(&self) -> Tokens {
        Tokens::new(self.produced.div_ceil(4) as u64)
    }
}

/// Reads one event or message after another. The part of the tap that a WebSocket needs.
pub struct Meter {
    observed: Observed,
}

impl Meter {
    /// A meter for one answer.
    #[must_use]
    pub fn new(_wire: Wire) -> Self {
        Self {
            observed: Observed::default(),
        }
    }

    /// Reads a WebSocket text message of the vendor. True when it ends the answer.
    pub fn message(&mut self, _json: &[u8]) -> bool {
        false
    }

    /// What was seen so far.
    #[must_use]
    pub fn observed(&self) -> &Observed {
        &self.observed
    }
}

/// The tap of one answer.
pub struct Tap {
    observed: Observed,
}

impl Tap {
    /// A tap for one answer.
    #[must_use]
    pub fn new(_wire: Wire, _shape: Shape, _options: TapOptions) -> Self {
        Self {
            observed: Observed::default(),
        }
    }

    /// Takes a chunk of the vendor's body as it came.
    pub fn push(&mut self, chunk: Bytes) -> Pieces {
        Pieces(vec![Piece::Pass(chunk)])
    }

    /// The body ended cleanly: what was still held. Not to be called for a body that was cut.
    pub fn end(&mut self) -> Option<Piece> {
        None
    }

    /// An event of our own may follow what was passed: nothing of a partial event has been passed.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        true
    }

    /// What was seen so far.
    #[must_use]
    pub fn observed(&self) -> &Observed {
        &self.observed
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        self.0.pop()
    }
}
