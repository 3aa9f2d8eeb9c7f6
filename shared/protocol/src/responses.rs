//! OpenAI Responses, read and written: requests and answers of clients and of vendors. Knows no other wire.
//! Source: <https://platform.openai.com/docs/api-reference/responses> (2026-11).

mod ask;
mod compact;
mod compaction;
mod item;
mod list;
mod read;
mod request;
mod write;

pub(crate) use self::ask::write;
pub use self::compact::Compact;
pub(crate) use self::compaction::ask_in_words;
pub(crate) use self::list::{elements, join};
pub(crate) use self::read::Reader;
pub(crate) use self::request::read;
pub(crate) use self::write::Writer;

use crate::event::Failure;

/// The body of a vendor's refusal.
pub(crate) fn failure(status: u16, body: &[u8]) -> Failure {
    crate::codec::openai::failure(Some(status), body)
}

#[cfg(test)]
mod tests;
