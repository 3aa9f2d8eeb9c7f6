//! Counts how often a mark occurs in a stream that comes in pieces.

use memchr::memmem::Finder;

/// A mark that lies across two pieces is counted once.
pub(crate) struct Counter {
    finder: Finder<'static>,
    /// The end of what has been seen: one byte less than the mark.
    tail: Vec<u8>,
    seen: usize,
}

impl Counter {
    pub(crate) fn new(mark: &'static [u8]) -> Self {
        Self {
            finder: Finder::new(mark),
            tail: Vec::new(),
            seen: 0,
        }
    }

    pub(crate) fn add(&mut self, piece: &[u8]) {
        let kept = self.finder.needle().len() - 1;
        // Neither the tail nor the head of the piece can hold a whole mark: what is found lies across.
        self.tail.extend_from_slice(&piece[..piece.len().min(kept)]);
        self.seen += self.finder.find_iter(&self.tail).count() + self.finder.find_iter(piece).count();
        if piece.len() >= kept {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - kept..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(kept));
        }
    }

    pub(crate) fn seen(&self) -> usize {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn a_mark_is_counted_once_wherever_the_stream_is_cut() {
        let stream = b"..abcd..abcdabcd.abc.abcd";
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let mut counter = Counter::new(b"abcd");
                for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                    counter.add(piece);
                }
                assert_eq!(counter.seen(), 4, "cut at {first} and {second}");
            }
        }
        let mut counter = Counter::new(b"abcd");
        stream.iter().for_each(|byte| counter.add(&[*byte]));
        assert_eq!(counter.seen(), 4);
    }
}
