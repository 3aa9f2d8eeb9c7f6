//! Amazon's binary event stream, `application/vnd.amazon.eventstream`: frames with two checksums. Knows no service.
//!
//! Source: <https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream> and the
//! Smithy specification, "Amazon event stream" (2026-11).

use bytes::{Buf, Bytes, BytesMut};

/// A frame: two lengths and their checksum, headers, payload, the checksum of all before it.
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;
/// No frame of ours is longer: a model's answer comes in deltas, and a frame is held until its checksum is known.
const MOST: usize = 128 << 10;
/// Those of ours are three short ones.
const MOST_HEADERS: usize = 16 << 10;

/// Finds frames in bytes that come in pieces.
#[derive(Default)]
pub struct Frames {
    buffer: BytesMut,
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    headers: Bytes,
    /// What it carries.
    pub payload: Bytes,
}

/// Why bytes are no event stream. Nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bytes were changed on the way.
    #[error("a checksum of the event stream is wrong")]
    Checksum,
    /// The lengths contradict each other, or a header does not end.
    #[error("a frame of the event stream is malformed")]
    Malformed,
    /// Longer than any frame we expect.
    #[error("a frame of the event stream is longer than {MOST} bytes")]
    TooLong,
}

impl Frames {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, once all of it is there.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn pop(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(prelude) = self.buffer.first_chunk::<PRELUDE>() else {
            return Ok(None);
        };
        let [total, headers, told] = numbers(prelude);
        // Judged before anything is waited for: a wrong length would be waited for without end.
        if crc32fast::hash(&prelude[..PRELUDE - CHECKSUM]) != told {
            return Err(FrameError::Checksum);
        }
        let (total, headers) = (length(total)?, length(headers)?);
        if headers > MOST_HEADERS || total < PRELUDE + headers + CHECKSUM {
            return Err(FrameError::Malformed);
        }
        if self.buffer.len() < total {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(total).freeze();
        let told = frame.split_off(total - CHECKSUM).get_u32();
        if crc32fast::hash(&frame) != told {
            return Err(FrameError::Checksum);
        }
        frame.advance(PRELUDE);
        let headers = frame.split_to(headers);
        well_formed(headers.clone())?;
        Ok(Some(Frame {
            headers,
            payload: frame,
        }))
    }

    /// Whether no part of a frame waits for its rest.
    pub fn is_at_boundary(&self) -> bool {
        self.buffer.is_empty()
    }
}

impl Frame {
    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut rest = self.headers.clone();
        while let Ok(Some((found, value))) = header(&mut rest) {
            if found == name.as_bytes() {
                return value.and_then(|value| String::from_utf8(value.to_vec()).ok());
            }
        }
        None
    }
}

fn numbers(prelude: &[u8; PRELUDE]) -> [u32; 3] {
    let mut rest = &prelude[..];
    [rest.get_u32(), rest.get_u32(), rest.get_u32()]
}

fn length(number: u32) -> Result<usize, FrameError> {
    usize::try_from(number)
        .ok()
        .filter(|length| *length <= MOST)
        .ok_or(FrameError::TooLong)
}

fn well_formed(mut headers: Bytes) -> Result<(), FrameError> {
    while header(&mut headers)?.is_some() {}
    Ok(())
}

/// The next header's name and, where it is text, its value.
fn header(rest: &mut Bytes) -> Result<Option<(Bytes, Option<Bytes>)>, FrameError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let name = usize::from(take(rest, 1)?.get_u8());
    let name = take(rest, name)?;
    let (size, is_text) = match take(rest, 1)?.get_u8() {
        // True and false.
        0 | 1 => (0, false),
        // Numbers of one, two, four and eight bytes.
        2 => (1, false),
        3 => (2, false),
        4 => (4, false),
        // A moment is one of eight bytes.
        5 | 8 => (8, false),
        kind @ (6 | 7) => (usize::from(take(rest, 2)?.get_u16()), kind == 7),
        // A UUID.
        9 => (16, false),
        _ => return Err(FrameError::Malformed),
    };
    let value = take(rest, size)?;
    Ok(Some((name, is_text.then_some(value))))
}

fn take(rest: &mut Bytes, size: usize) -> Result<Bytes, FrameError> {
    if rest.len() < size {
        return Err(FrameError::Malformed);
    }
    Ok(rest.split_to(size))
}

#[cfg(test)]
pub(crate) mod testing {
    /// A frame with text headers, as the specification has it.
    pub(crate) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(u8::try_from(name.len()).unwrap());
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
        let mut frame = total.to_be_bytes().to_vec();
        frame.extend_from_slice(&u32::try_from(head.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame.extend_from_slice(&head);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::frame, *};

    fn all(frames: &mut Frames) -> Result<Vec<(String, Bytes)>, FrameError> {
        let mut found = Vec::new();
        while let Some(frame) = frames.pop()? {
            found.push((frame.header(":event-type").unwrap_or_default(), frame.payload));
        }
        Ok(found)
    }

    /// Three frames, one of them without payload and one with every kind of header.
    fn sample() -> (Vec<u8>, Vec<(String, Bytes)>) {
        let mut bytes = frame(
            &[(":message-type", "event"), (":event-type", "chunk")],
            b"{\"bytes\":\"e30=\"}",
        );
        bytes.extend(frame(&[(":event-type", "empty")], b""));
        let mut head = Vec::new();
        let values: [(u8, usize); 9] = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16), (6, 2)];
        for (kind, size) in values {
            head.extend_from_slice(&[1, b'x', kind]);
            // Of the bytes themselves none are there: their length is zero.
            head.extend(std::iter::repeat_n(0, size));
        }
        let mut odd = u32::try_from(16 + head.len() + 1).unwrap().to_be_bytes().to_vec();
        odd.extend_from_slice(&u32::try_from(head.len()).unwrap().to_be_bytes());
        odd.extend_from_slice(&crc32fast::hash(&odd).to_be_bytes());
        odd.extend_from_slice(&head);
        odd.push(b'!');
        odd.extend_from_slice(&crc32fast::hash(&odd).to_be_bytes());
        bytes.extend(odd);
        let found = [("chunk", "{\"bytes\":\"e30=\"}"), ("empty", ""), ("", "!")];
        (
            bytes,
            found
                .map(|(kind, payload)| (kind.to_owned(), payload.to_owned().into()))
                .to_vec(),
        )
    }

    #[test]
    fn frames_are_the_same_wherever_the_bytes_are_cut() {
        let (bytes, wanted) = sample();
        for cut in 0..=bytes.len() {
            let mut frames = Frames::default();
            frames.push(&bytes[..cut]);
            let mut found = all(&mut frames).unwrap();
            frames.push(&bytes[cut..]);
            found.extend(all(&mut frames).unwrap());
            assert_eq!(found, wanted, "cut at {cut}");
            assert!(frames.is_at_boundary());
        }
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for byte in &bytes {
            frames.push(&[*byte]);
            found.extend(all(&mut frames).unwrap());
        }
        assert_eq!(found, wanted);
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_nothing_of_its_frame_is_told() {
        let (bytes, wanted) = sample();
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            let mut frames = Frames::default();
            frames.push(&bad);
            let (mut told, mut failed) = (0, false);
            loop {
                match frames.pop() {
                    Ok(Some(_)) => told += 1,
                    Ok(None) => break,
                    Err(_) => {
                        failed = true;
                        break;
                    }
                }
            }
            assert!(failed && told < wanted.len(), "bit {at}");
        }
    }

    #[test]
    fn a_frame_that_claims_to_be_endless_is_refused_before_it_is_held() {
        let prelude = |total: u32, headers: u32| {
            let mut bytes = total.to_be_bytes().to_vec();
            bytes.extend_from_slice(&headers.to_be_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            let mut frames = Frames::default();
            frames.push(&bytes);
            frames.pop().map(|frame| frame.is_some())
        };
        assert_eq!(prelude(u32::MAX, 0), Err(FrameError::TooLong));
        assert_eq!(prelude(100, 100 << 10), Err(FrameError::Malformed));
        assert_eq!(prelude(15, 0), Err(FrameError::Malformed));
        assert_eq!(prelude(100, 85), Err(FrameError::Malformed));
        assert_eq!(prelude(100, 84), Ok(false));
    }

    #[test]
    fn a_header_that_does_not_end_is_malformed() {
        for head in [
            &[5, b'a'][..],
            &[1, b'a'],
            &[1, b'a', 7, 0],
            &[1, b'a', 7, 0, 9, b'x'],
            &[1, b'a', 10],
        ] {
            assert!(well_formed(Bytes::copy_from_slice(head)).is_err(), "{head:?}");
        }
    }
}
