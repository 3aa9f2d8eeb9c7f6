//! Cuts a stream of server-sent events into the data of each, however its chunks were cut. Knows no wire.

use std::borrow::Cow;

use super::blocks::{DataLines, EndFinder, block};
use super::long::Long;
use super::long::frame::Flows;

/// The events of one body.
pub(crate) struct Split {
    /// The start of an event whose end has not come.
    held: Vec<u8>,
    /// What is kept of one that is longer than is held.
    long: Option<Box<(DataLines, Long)>>,
    finder: EndFinder,
    /// How long that one is so far.
    length: usize,
    /// An event of so many bytes is held as it came.
    most: usize,
    /// Of a longer one is kept what there is room for, and told on what flows.
    abridges: Option<Flows>,
    is_first: bool,
    /// The last event ended with a CR at the end of a chunk: an LF would be part of that line end.
    after_cr: bool,
}

/// An event is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// An event, or what can be told of one.
pub(crate) enum Found {
    /// A whole one as it came.
    Plain {
        /// Its bytes, where they did not come as a whole.
        held: Option<Vec<u8>>,
        is_first: bool,
    },
    /// What was kept of the data of a whole one.
    Long(Vec<u8>),
    /// A part of its data that can be told before the rest, as data of its own.
    Part(Vec<u8>),
}

impl Found {
    /// The data, if there is any. `event` is what was taken for it last.
    pub(crate) fn data<'a>(&'a self, event: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Plain { held, is_first } => block(held.as_deref().unwrap_or(event), *is_first)?.data,
            Self::Long(kept) | Self::Part(kept) => Some(Cow::Borrowed(kept)),
        }
    }

    /// Some of it may have been left out.
    pub(crate) const fn is_long(&self) -> bool {
        matches!(self, Self::Long(_) | Self::Part(_))
    }

    /// The rest of the event is ahead.
    pub(crate) const fn is_part(&self) -> bool {
        matches!(self, Self::Part(_))
    }
}

impl Split {
    /// One that takes events of so many bytes, and none that is longer.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            held: Vec::new(),
            long: None,
            length: 0,
            finder: EndFinder::new(true),
            most,
            abridges: None,
            is_first: true,
            after_cr: false,
        }
    }

    /// One that cuts long events where they flow, and else leaves out their longest strings.
    pub(crate) fn abridging(flows: Flows) -> Self {
        Self {
            abridges: Some(flows),
            ..Self::new(LONGEST_PLAIN)
        }
    }

    /// Takes from the start of a chunk what belongs to one event: how much, and the event once it is whole, or a part of it.
    pub(crate) fn next(&mut self, chunk: &[u8]) -> Result<(usize, Option<Found>), TooLong> {
        let mut before = 0;
        if self.after_cr && !chunk.is_empty() {
            before = usize::from(chunk[0] == b'\n');
            self.after_cr = false;
        }
        let mut rest = chunk.get(before..).unwrap_or_default();
        if self.abridges.is_some() {
            let most = if self.long.is_some() { SLICE } else { LONGEST_PLAIN };
            rest = rest.get(..most).unwrap_or(rest);
        }
        let Some(end) = self.finder.end(rest) else {
            self.hold(rest)?;
            let part = self.long.as_mut().and_then(|long| long.1.part());
            return Ok((before + rest.len(), part.map(Found::Part)));
        };
        let event = rest.get(..end).unwrap_or(rest);
        self.after_cr = end == rest.len() && event.ends_with(b"\r");
        // What lies in the chunk as a whole is not copied.
        let is_whole = before == 0 && self.held.is_empty() && self.long.is_none() && end <= self.most;
        if !is_whole {
            self.hold(event)?;
        }
        Ok((before + end, Some(self.found(is_whole))))
    }

    /// Takes a chunk and gives the data of each event that it ends. Events without data are skipped.
    pub(crate) fn push(&mut self, chunk: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (taken, found) = self.next(rest)?;
            let (event, after) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            if let Some(data) = found.as_ref().and_then(|found| found.data(event)) {
                sink(&data);
            }
            rest = after;
        }
        Ok(())
    }

    /// The body ended: an event whose blank line is missing counts, as vendors leave it out at the end.
    pub(crate) fn end(&mut self) -> Option<Found> {
        if self.held.is_empty() && self.long.is_none() {
            return None;
        }
        if self.long.is_none() {
            self.held.extend_from_slice(b"\n\n");
        }
        Some(self.found(false))
    }

    fn found(&mut self, is_whole: bool) -> Found {
        let is_first = std::mem::take(&mut self.is_first);
        self.length = 0;
        match self.long.take() {
            Some(long) => Found::Long(long.1.into_kept()),
            None => Found::Plain {
                held: (!is_whole).then(|| std::mem::take(&mut self.held)),
                is_first,
            },
        }
    }

    fn hold(&mut self, more: &[u8]) -> Result<(), TooLong> {
        if self.long.is_none() && self.held.len().saturating_add(more.len()) <= self.most {
            self.held.extend_from_slice(more);
            return Ok(());
        }
        self.length = self.length.saturating_add(more.len());
        let Some(flows) = self.abridges.filter(|_| self.length <= LONGEST_ABRIDGED) else {
            return Err(TooLong);
        };
        let is_first = self.is_first;
        let long = self
            .long
            .get_or_insert_with(|| Box::new((DataLines::new(is_first), Long::new(flows))));
        let (lines, kept) = long.as_mut();
        let mut fits = Ok(());
        for part in [&std::mem::take(&mut self.held)[..], more] {
            lines.read(part, |data| fits = fits.and_then(|()| kept.push(data)));
        }
        fits
    }
}

/// An event of so many bytes is held as it came: nearly all are.
const LONGEST_PLAIN: usize = 16 << 10;
/// A longer one is read in slices of so many bytes, between which it may be cut.
const SLICE: usize = 4 << 10;
/// Nobody reads on in an event that is longer, however little of it is kept.
const LONGEST_ABRIDGED: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(mut split: Split, chunks: &[&[u8]]) -> Vec<String> {
        let mut out = Vec::new();
        let mut sink = |data: &[u8]| out.push(String::from_utf8_lossy(data).trim_end().to_owned());
        for chunk in chunks {
            split.push(chunk, &mut sink).unwrap();
        }
        if let Some(data) = split.end().as_ref().and_then(|found| found.data(b"")) {
            sink(&data);
        }
        out
    }

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        through(Split::new(64), chunks)
    }

    const TEXT: &[u8] =
        "\u{feff}event: a\r\ndata: {\"x\":\r\ndata: \"é\"}\r\n\r\n: ping\n\ndata: 2\r\rdata: [DONE]\n\ndata: 4"
            .as_bytes();

    #[test]
    fn the_events_are_the_same_wherever_the_body_is_cut() {
        let whole = split(&[TEXT]);
        assert_eq!(whole, ["{\"x\":\n\"é\"}", "2", "[DONE]", "4"]);
        for cut in 0..=TEXT.len() {
            let (before, after) = TEXT.split_at(cut);
            assert_eq!(split(&[before, after]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = TEXT.chunks(1).collect();
        assert_eq!(split(&bytes), whole);
    }

    #[test]
    fn a_long_event_is_the_same_wherever_it_is_cut() {
        for (mark, lines) in [("\u{feff}", "\r\n"), ("", "\n"), ("", "\r")] {
            let texts = format!("data: \"{}\",{lines}", "a".repeat(700)).repeat(60);
            let body = format!("{mark}event: b{lines}data: [{lines}{texts}data: 1]{lines}{lines}data: 2{lines}{lines}");
            let whole = through(Split::new(1 << 20), &[body.as_bytes()]);
            for size in [1, 2, 3, 5, 1_000, 20_000, 1 << 20] {
                let chunks: Vec<_> = body.as_bytes().chunks(size).collect();
                assert!(
                    through(Split::abridging(Flows::NONE), &chunks) == whole,
                    "in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn a_blank_line_after_a_byte_order_mark_takes_no_event_with_it() {
        let body = "\u{feff}\ndata: 1\n\n".as_bytes();
        for cut in 0..=body.len() {
            let (before, after) = body.split_at(cut);
            assert_eq!(split(&[before, after]), ["1"], "cut at {cut}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        for mut split in [Split::new(64), Split::abridging(Flows::NONE)] {
            let (mut given, mut pushed) = (0, 0);
            while split.push(b"data: [[[[[[[[[[\n", |_| given += 1).is_ok() {
                pushed += 1;
                assert!(pushed < 10_000);
            }
            assert_eq!(given, 0);
            assert!(split.held.len() <= LONGEST_PLAIN);
        }
    }

    proptest! {
        #[test]
        fn no_cut_changes_an_event(
            mark in "\u{feff}?",
            body in "(data: ?[a-c]{0,3}|:|x)?(\r\n|\n|\r){0,2}",
            again in 1..4_usize,
            at in 0..40_usize,
        ) {
            let body = format!("{mark}{}", body.repeat(again));
            let cut = at.min(body.len());
            let (before, after) = body.as_bytes().split_at(cut);
            prop_assert_eq!(split(&[before, after]), split(&[body.as_bytes()]));
        }
    }
}
