//! Cuts a stream of server-sent events into the data of each, however its chunks were cut. Knows no wire.

use super::blocks::{EndFinder, block};

/// The events of one body.
pub(crate) struct Split {
    /// The start of an event whose end has not come.
    held: Vec<u8>,
    finder: EndFinder,
    /// An event may be so long.
    most: usize,
    is_first: bool,
    /// The last event ended with a CR at the end of a chunk: an LF would be part of that line end.
    after_cr: bool,
}

/// An event is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Split {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            held: Vec::new(),
            finder: EndFinder::START,
            most,
            is_first: true,
            after_cr: false,
        }
    }

    /// Takes a chunk and gives the data of each event that it ends. Events without data are skipped.
    pub(crate) fn push(&mut self, chunk: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut rest = chunk;
        if self.after_cr && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_cr = false;
        }
        while let Some(end) = self.finder.end(rest) {
            let (event, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.after_cr = after.is_empty() && event.ends_with(b"\r");
            self.room(event.len())?;
            if self.held.is_empty() {
                give(event, self.is_first, &mut sink);
            } else {
                self.held.extend_from_slice(event);
                give(&self.held, self.is_first, &mut sink);
                self.held.clear();
            }
            self.is_first = false;
            rest = after;
        }
        self.room(rest.len())?;
        self.held.extend_from_slice(rest);
        Ok(())
    }

    /// The body ended: an event whose blank line is missing counts, as vendors leave it out at the end.
    pub(crate) fn end(&mut self, mut sink: impl FnMut(&[u8])) {
        if !self.held.is_empty() {
            self.held.extend_from_slice(b"\n\n");
            give(&self.held, self.is_first, &mut sink);
            self.held = Vec::new();
        }
    }

    fn room(&self, more: usize) -> Result<(), TooLong> {
        if self.held.len().saturating_add(more) > self.most {
            Err(TooLong)
        } else {
            Ok(())
        }
    }
}

fn give(event: &[u8], is_first: bool, sink: &mut impl FnMut(&[u8])) {
    if let Some(data) = block(event, is_first).and_then(|block| block.data) {
        sink(&data);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut split = Split::new(64);
        let mut out = Vec::new();
        let mut sink = |data: &[u8]| out.push(String::from_utf8_lossy(data).into_owned());
        for chunk in chunks {
            split.push(chunk, &mut sink).unwrap();
        }
        split.end(&mut sink);
        out
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
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut split = Split::new(64);
        let mut given = 0;
        let mut pushed = 0;
        while split.push(b"data: aaaaaaaaaa", |_| given += 1).is_ok() {
            pushed += 1;
            assert!(pushed < 10);
        }
        assert_eq!(given, 0);
        assert!(split.held.len() <= 64);
    }

    proptest! {
        #[test]
        fn no_cut_changes_an_event(body in "(data: ?[a-c]{0,3}|:|x)?(\r\n|\n|\r){0,2}", again in 1..4_usize, at in 0..40_usize) {
            let body = body.repeat(again);
            let cut = at.min(body.len());
            let (before, after) = body.as_bytes().split_at(cut);
            prop_assert_eq!(split(&[before, after]), split(&[body.as_bytes()]));
        }
    }
}
