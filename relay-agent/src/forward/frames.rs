//! What a client sends on a WebSocket, without looking inside: is it a message, is it the closing handshake?

/// Walks over frame headers (RFC 6455, 5.2) and skips what they carry.
#[derive(Default)]
pub(super) struct FrameWalk {
    head: [u8; LONGEST_HEAD],
    have: usize,
    skip: u64,
}

/// What began in the bytes looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// A frame of a text or binary message.
    pub(super) message: bool,
    /// A close frame.
    pub(super) close: bool,
}

impl FrameWalk {
    /// Looks at the next bytes of the stream, cut anywhere.
    pub(super) fn walk(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                bytes = &bytes[skipped..];
                self.skip -= skipped as u64;
                continue;
            }
            let wanted = self.wanted().saturating_sub(self.have);
            let taken = wanted.min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.wanted() {
                self.begin(&mut seen);
            }
        }
        seen
    }

    fn begin(&mut self, seen: &mut Seen) {
        match self.head[0] & 0x0f {
            0..=2 => seen.message = true,
            8 => seen.close = true,
            _ => {}
        }
        self.skip = self.length();
        self.have = 0;
    }

    /// How long the header is, as far as can be told from what is there.
    fn wanted(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        mask + match self.head[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn length(&self) -> u64 {
        match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.head[2..10]);
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        }
    }
}

const LONGEST_HEAD: usize = 14;

#[cfg(test)]
mod tests {
    use relay_protocol::ws;

    use super::*;

    #[test]
    fn frames_are_told_apart_wherever_they_are_cut() {
        let mask = Some([1, 2, 3, 4]);
        let frames: [(Vec<u8>, Seen); 5] = [
            (
                ws::encode_text(b"hi", mask).to_vec(),
                Seen {
                    message: true,
                    close: false,
                },
            ),
            (ws::encode_ping(b"p", mask).to_vec(), Seen::default()),
            (
                ws::encode_text(&[b'x'; 300], mask).to_vec(),
                Seen {
                    message: true,
                    close: false,
                },
            ),
            (
                ws::encode_text(&[b'x'; 70_000], mask).to_vec(),
                Seen {
                    message: true,
                    close: false,
                },
            ),
            (
                ws::encode_close(1000, "bye", mask).to_vec(),
                Seen {
                    message: false,
                    close: true,
                },
            ),
        ];
        for step in [1, 2, 3, 7, 1000, usize::MAX] {
            let mut walk = FrameWalk::default();
            for (bytes, expected) in &frames {
                let mut seen = Seen::default();
                for part in bytes.chunks(step.min(bytes.len())) {
                    let more = walk.walk(part);
                    seen = Seen {
                        message: seen.message | more.message,
                        close: seen.close | more.close,
                    };
                }
                assert_eq!(seen, *expected, "cut every {step}");
            }
        }
    }
}
