//! What an answer said about itself.

use crate::tokens::Tokens;
use crate::usage::{ToolCalls, Usage};

/// How an answer ended, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The answer is whole. Chat: any `finish_reason`, its limit of tokens included.
    Completed,
    /// It stopped early for a reason it names, such as its limit of tokens or a refusal of the model.
    Incomplete,
    /// The vendor failed, or the answer was cancelled at the vendor.
    Failed,
}

/// What was seen so far. Holds nothing that a model or a tenant wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The last usage that was reported; `None` also when that makes no sense.
    pub usage: Option<Usage>,
    /// The side of the input, where it is reported before there is any output.
    pub begun: Option<Usage>,
    /// The last usage that was reported makes no sense: negative, absurd, or in contradiction with itself.
    pub is_unsound: bool,
    /// Calls of the vendor's own tools among the output. Not within `usage`, which vendors report without them.
    pub tools: ToolCalls,
    /// How the answer ended; `None` while it has not. A clean end of the body with `None` here is a broken answer.
    pub ending: Option<Ending>,
    /// The vendor's id of the answer.
    pub response_id: Option<String>,
    /// The tier that served, which may change the price.
    pub service_tier: Option<String>,
    /// The code of an error in the answer, or its type when it has no code.
    pub error_code: Option<String>,
    /// What the model was seen to write (text, refusals, reasoning, tool arguments), in bytes of JSON text: an escape
    /// such as `\n` counts as the two bytes it is. Of a stream the deltas count. Reasoning that stays hidden and sound
    /// do not, so this is a lower bound.
    pub produced: usize,
    /// Events with data, or messages of a socket.
    pub events: u64,
}

impl Observed {
    /// An estimate of the output, for want of a report: a token for every four bytes, rounded up.
    #[must_use]
    pub fn estimated_output(&self) -> Tokens {
        Tokens::new(u64::try_from(self.produced.div_ceil(4)).unwrap_or(u64::MAX))
    }
}
