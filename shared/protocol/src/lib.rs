//! The wires that clients and vendors speak: what can be read from their bytes and what is written in answer.
//!
//! Pure: no IO, no clock, no tasks, no tenants and no money. Both ends of the relay use it, so that a refusal reads
//! the same whoever makes it and an event boundary is found the same way on both sides of the tunnel.

mod base64;
mod bridge;
mod call;
pub mod catalog;
mod chat;
#[allow(dead_code, reason = "what each codec uses of it differs")]
mod codec;
mod converse;
mod edits;
mod envelope;
mod event;
mod form;
mod gemini;
mod hidden;
mod json;
mod lane;
#[allow(dead_code, reason = "what each codec uses of it differs")]
mod loss;
#[allow(dead_code, reason = "what each codec uses of it differs")]
mod members;
mod messages;
mod openai;
mod payload;
mod prefix;
mod refusal;
mod responses;
mod sample;
mod scan;
mod splice;
pub mod sse;
mod tap;
mod tokens;
mod told;
mod translate;
pub mod turn;
mod usage;
mod wire;
mod words;
pub mod ws;

pub use bridge::{Asked, Bridge};
pub use codec::{Framing, Outbox, Reply, Target};
pub use edits::Edits;
pub use envelope::{Carries, Envelope, EnvelopeError, Frame};
pub use event::{Answer, AnswerPart, Cause, Event, Failure, Opened, Sequence, Stop};
pub use hidden::Hidden;
pub use lane::{LANES, Lane, VendorWire};
pub use loss::{Loss, LossKind, Losses};
pub use members::Invalid;
pub use payload::Payload;
pub use prefix::{Family, Prefix};
pub use refusal::{Code, Rate, RateUnit, Refusal, Rendered};
pub use responses::Compact;
pub use sample::Sample;
pub use splice::with_members;
pub use tap::{Ending, Meter, Observed, Piece, Pieces, Shape, Tap, TapOptions};
pub use tokens::Tokens;
pub use told::tell_model;
pub use translate::{Translated, Translator, failure, no_lane, translate};
pub use turn::{Flat, FlatError, Turn};
pub use usage::{ToolCalls, Usage, UsageSource};
pub use wire::{Endpoint, ModelPath, Wire, asked_model};
pub use words::Words;
