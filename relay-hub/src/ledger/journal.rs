//! The journal's format: pages of entries, each a line that the tables will get. Knows no statement and no rule.
//!
//! Entries are MessagePack, structs as arrays. A later version may add fields at the end of a line, with a default; it
//! never moves one, so that it reads what an earlier one left.

use std::borrow::Cow;

use rmp_serde::{decode, encode};
use serde::{Deserialize, Serialize};

/// Something that happened, as the tables will have it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Entry<'a> {
    /// A hold that outlives its batch.
    #[serde(borrow)]
    Open(HoldLine<'a>),
    /// The end of a hold.
    #[serde(borrow)]
    Close(CloseLine<'a>),
    /// A call that cost nothing.
    #[serde(borrow)]
    Note(CallLine<'a>),
    /// An open hold grows.
    #[serde(borrow)]
    Extend(ExtendLine<'a>),
    /// How far the call of an open hold came.
    Checkpoint(CheckpointLine),
}

/// A row of `hold`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HoldLine<'a> {
    pub(super) id: i64,
    /// The sixteen bytes of the call's id.
    pub(super) call: u128,
    pub(super) tenant: &'a str,
    pub(super) caller: &'a str,
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    pub(super) amount: i64,
    pub(super) price_version: i64,
    pub(super) epoch: i64,
    pub(super) at_ms: i64,
}

/// How a hold was resolved.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CloseLine<'a> {
    /// Whether an [`Entry::Open`] came before.
    pub(super) was_open: bool,
    /// What was set aside.
    pub(super) held: i64,
    /// What the tenant pays.
    pub(super) charge: i64,
    /// What nobody pays.
    pub(super) loss: i64,
    #[serde(borrow)]
    pub(super) call: CallLine<'a>,
    /// What of `held` earlier entries set aside, where that is not all of it.
    #[serde(default)]
    pub(super) durable: Option<i64>,
}

/// More that is set aside for a hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct ExtendLine<'a> {
    pub(super) id: i64,
    pub(super) tenant: &'a str,
    pub(super) amount: i64,
}

/// What a call used so far, by the relay's count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct CheckpointLine {
    pub(super) id: i64,
    pub(super) input: i64,
    pub(super) output: i64,
    pub(super) cost: i64,
}

/// A row of `usage`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CallLine<'a> {
    /// The hold's number, or one of the same row of numbers.
    pub(super) number: i64,
    pub(super) call: u128,
    pub(super) tenant: &'a str,
    pub(super) caller: &'a str,
    pub(super) account: Option<&'a str>,
    pub(super) egress: Option<&'a str>,
    pub(super) endpoint: &'a str,
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) upstream_model: Cow<'a, str>,
    pub(super) tokens: Option<TokenLine>,
    pub(super) cost: i64,
    pub(super) price_version: i64,
    pub(super) status: u16,
    #[serde(borrow)]
    pub(super) ending: Cow<'a, str>,
    pub(super) started_ms: i64,
    pub(super) hold_us: Option<i64>,
    pub(super) first_byte_us: Option<i64>,
    pub(super) total_us: Option<i64>,
    #[serde(borrow)]
    pub(super) vendor_request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) response_id: Option<Cow<'a, str>>,
    pub(super) link: &'a str,
    pub(super) streamed: bool,
    #[serde(borrow, default)]
    pub(super) detail: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) local_address: Option<Cow<'a, str>>,
}

/// Counts of one call.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct TokenLine {
    pub(super) input: i64,
    pub(super) cached: i64,
    pub(super) cache_write: i64,
    pub(super) output: i64,
    pub(super) reasoning: i64,
    /// Counted by the relay, for the vendor told nothing.
    pub(super) is_estimated: bool,
}

/// A page as it is written.
#[derive(Debug, Default, Clone)]
pub(super) struct Page {
    pub(super) entries: i64,
    pub(super) body: Vec<u8>,
}

/// Entries as pages, in their order.
pub(super) fn pages<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Result<Vec<Page>, encode::Error> {
    let mut pages: Vec<Page> = Vec::new();
    let mut entry_bytes = Vec::with_capacity(1024);
    for entry in entries {
        entry_bytes.clear();
        encode::write(&mut entry_bytes, &entry)?;
        let fits = |page: &Page| page.body.len().saturating_add(entry_bytes.len()) <= PAGE;
        let page = match pages.pop_if(|page| fits(page)) {
            Some(page) => page,
            None => Page {
                entries: 0,
                body: Vec::with_capacity(PAGE),
            },
        };
        pages.push(page.with(&entry_bytes));
    }
    for page in &mut pages {
        // All of one size, so that a slot is overwritten where it stands.
        page.body.resize(page.body.len().max(PAGE), 0);
    }
    Ok(pages)
}

impl Page {
    fn with(mut self, entry: &[u8]) -> Self {
        self.body.extend_from_slice(entry);
        self.entries = self.entries.saturating_add(1);
        self
    }

    /// The entries, in their order.
    pub(super) fn read(&self) -> Result<Vec<Entry<'_>>, decode::Error> {
        let mut reader = decode::Deserializer::from_read_ref(&self.body);
        (0..self.entries).map(|_| Entry::deserialize(&mut reader)).collect()
    }
}

/// With its other columns it fills one page of the database, of 4,096 bytes, and spills into no second one.
const PAGE: usize = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: i64, text: &str) -> Entry<'_> {
        Entry::Note(CallLine {
            number,
            call: u128::MAX - 7,
            tenant: "ten_a",
            caller: "key_b",
            account: None,
            egress: Some("direct"),
            endpoint: "/v1/responses",
            model: text.into(),
            upstream_model: text.into(),
            tokens: Some(TokenLine {
                input: 1,
                cached: 2,
                cache_write: 3,
                output: i64::MAX,
                reasoning: 5,
                is_estimated: true,
            }),
            cost: i64::MIN,
            price_version: 3,
            status: 200,
            ending: "completed".into(),
            started_ms: 1,
            hold_us: None,
            first_byte_us: Some(2),
            total_us: Some(3),
            vendor_request_id: Some(text.into()),
            response_id: None,
            link: "quic",
            streamed: true,
            detail: None,
            local_address: Some("192.0.2.1".into()),
        })
    }

    #[test]
    fn entries_read_back_in_their_order_over_pages_of_one_size() {
        let long = "é".repeat(200);
        let entries = || (0..100).map(|number| note(number, if number % 3 == 0 { &long } else { "gpt-5" }));
        let pages = pages(entries()).unwrap();
        assert!(pages.len() > 5 && pages.iter().all(|page| page.body.len() == PAGE));
        let read: Vec<_> = pages.iter().flat_map(|page| page.read().unwrap()).collect();
        assert_eq!(read, entries().collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_longer_than_a_page_has_a_page_of_its_own() {
        let long = "x".repeat(3 * PAGE);
        let pages = pages([note(1, "a"), note(2, &long), note(3, "b")].into_iter()).unwrap();
        let numbers = |page: &Page| page.read().unwrap().len();
        assert_eq!(pages.iter().map(numbers).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn a_field_that_an_earlier_version_did_not_write_reads_as_its_default() {
        #[derive(Serialize)]
        struct Earlier(i64, i64);
        #[derive(Debug, PartialEq, Deserialize)]
        struct Later {
            first: i64,
            second: i64,
            #[serde(default)]
            third: Option<String>,
        }
        let written = rmp_serde::to_vec(&Earlier(1, 2)).unwrap();
        let read: Later = rmp_serde::from_slice(&written).unwrap();
        assert_eq!(
            read,
            Later {
                first: 1,
                second: 2,
                third: None
            }
        );
    }

    #[test]
    fn a_page_that_is_damaged_is_an_error() {
        let mut page = pages([note(1, "a")].into_iter()).unwrap().remove(0);
        page.entries = 2;
        assert!(page.read().is_err());
        page.body.truncate(20);
        assert!(page.read().is_err());
    }
}
