//! Where HTTP/3 frames begin and end in the bytes of a request stream. h3 0.0.8 takes a stream that ends inside a DATA
//! frame for complete, keeps an endless HEADERS frame in memory, and reads ahead of a slow reader; cutting the bytes at
//! the frames' borders, and knowing whether the last one was whole, cures all three. Knows no meaning of a frame.

/// Follows the frames of one stream.
#[derive(Debug, Default)]
pub(super) struct Borders {
    head: [u8; 16],
    have: usize,
    is_head_whole: bool,
    left: u64,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes to hand on: a frame's whole head, or as much of its content as is here.
    Whole(usize),
    /// So many bytes, the rest of a head whose beginning was kept: hand on [`Borders::kept`] instead.
    Kept(usize),
    /// So many bytes to leave out: a part of a head, or the head of an empty DATA frame (h3 takes it for the end).
    Nothing(usize),
    /// The sender could not go on: nothing but the reset follows.
    Cut,
}

/// A frame other than DATA that is longer than any we could want.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes that is no data")]
pub(super) struct TooLong(u64);

impl Borders {
    /// What the beginning of `bytes` (not empty) is.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Piece, TooLong> {
        if self.left > 0 {
            let part = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= part as u64;
            return Ok(Piece::Whole(part));
        }
        if self.is_head_whole {
            self.is_head_whole = false;
            self.have = 0;
        }
        let kept = self.have;
        for (at, byte) in bytes.iter().enumerate() {
            self.head[self.have] = *byte;
            self.have += 1;
            let Some((kind, length)) = read_head(&self.head[..self.have]) else {
                continue;
            };
            self.left = length;
            self.is_head_whole = true;
            if kind == CUT {
                return Ok(Piece::Cut);
            }
            if kind != DATA && length > LONGEST_OTHER {
                return Err(TooLong(length));
            }
            return Ok(match (kind, length, kept) {
                (DATA, 0, _) => Piece::Nothing(at + 1),
                (_, _, 0) => Piece::Whole(at + 1),
                (_, _, _) => Piece::Kept(at + 1),
            });
        }
        Ok(Piece::Nothing(bytes.len()))
    }

    /// The head that came in parts.
    pub(super) fn kept(&self) -> &[u8] {
        &self.head[..self.have]
    }

    /// Whether the stream may end here: after at least one frame, and not inside one.
    pub(super) const fn may_end(&self) -> bool {
        self.is_head_whole && self.left == 0
    }
}

/// Type and length, once all their bytes are here.
fn read_head(bytes: &[u8]) -> Option<(u64, u64)> {
    let (kind, used) = read_varint(bytes)?;
    let (length, _) = read_varint(&bytes[used..])?;
    Some((kind, length))
}

/// A variable-length integer of RFC 9000, 16, and how many bytes it took.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest
        .iter()
        .fold(u64::from(first & 0x3f), |value, byte| (value << 8) | u64::from(*byte));
    Some((value, length))
}

const DATA: u64 = 0;
/// Ours (RFC 9114, 9: whoever does not know it passes over it): the answer breaks off here. QUIC throws away what is on
/// its way when a stream is reset, so the reset waits until the reader, who is told in the stream, has read up to here.
const CUT: u64 = 0x0063_7574;
/// The whole frame.
pub(super) const CUT_FRAME: &[u8] = &[0x80, 0x63, 0x75, 0x74, 0];
/// Longer than any head we accept; h3 needs the whole frame in memory.
const LONGEST_OTHER: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::{Borders, CUT_FRAME, Piece, TooLong};

    /// What is handed on, in pieces, when the bytes come `step` at a time, and whether they may end.
    fn cut(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
        let mut borders = Borders::default();
        let mut pieces = Vec::new();
        for chunk in bytes.chunks(step) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let used = match borders.next(rest).unwrap() {
                    Piece::Whole(used) => {
                        pieces.push(rest[..used].to_vec());
                        used
                    }
                    Piece::Kept(used) => {
                        pieces.push(borders.kept().to_vec());
                        used
                    }
                    Piece::Nothing(used) => used,
                    Piece::Cut => panic!("nothing was cut"),
                };
                rest = &rest[used..];
            }
        }
        (pieces, borders.may_end())
    }

    #[test]
    fn frames_are_cut_at_their_borders_and_empty_data_is_left_out() {
        let bytes = [1, 2, b'h', b'h', 0, 0, 0, 0x40, 3, b'a', b'b', b'c', 0, 0];
        let whole = vec![vec![1, 2], b"hh".to_vec(), vec![0, 0x40, 3], b"abc".to_vec()];
        assert_eq!(cut(&bytes, 100), (whole.clone(), true));
        for step in 1..14 {
            let (pieces, may_end) = cut(&bytes, step);
            assert_eq!((pieces.concat(), may_end), (whole.concat(), true), "{step}");
            assert!(pieces.contains(&vec![0, 0x40, 3]), "a head is handed on whole: {step}");
        }
    }

    #[test]
    fn an_end_inside_a_frame_or_before_the_first_is_seen() {
        let bytes = [1, 2, b'h', b'h', 0, 0x40, 3, b'a', b'b', b'c'];
        for end in 0..=bytes.len() {
            assert_eq!(cut(&bytes[..end], 2).1, end == 4 || end == 10, "{end}");
        }
    }

    #[test]
    fn a_cut_is_seen_after_all_before_it_wherever_the_bytes_are_split() {
        let bytes = [&[0, 2, b'a', b'b'], CUT_FRAME].concat();
        for step in 1..=bytes.len() {
            let (mut borders, mut passed, mut is_cut) = (Borders::default(), Vec::new(), false);
            for mut rest in bytes.chunks(step) {
                while !rest.is_empty() && !is_cut {
                    let used = match borders.next(rest).unwrap() {
                        Piece::Whole(used) => {
                            passed.extend_from_slice(&rest[..used]);
                            used
                        }
                        Piece::Kept(used) => {
                            passed.extend_from_slice(borders.kept());
                            used
                        }
                        Piece::Nothing(used) => used,
                        Piece::Cut => {
                            is_cut = true;
                            rest.len()
                        }
                    };
                    rest = &rest[used..];
                }
            }
            assert_eq!((passed.as_slice(), is_cut), (&bytes[..4], true), "{step}");
        }
    }

    #[test]
    fn only_data_may_be_long() {
        assert_eq!(Borders::default().next(&[1, 0x80, 0x10, 0, 0]), Err(TooLong(1 << 20)));
        assert_eq!(Borders::default().next(&[0, 0x80, 0x10, 0, 0]), Ok(Piece::Whole(5)));
    }
}
