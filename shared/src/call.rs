//! The id of one call, made by the agent, bound to the device by the hub. Unguessable; no meaning inside.

use std::{cell::RefCell, fmt};

/// 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId([u8; 16]);

impl CallId {
    /// A fresh id from the system's random source.
    #[must_use]
    pub fn random() -> Self {
        DRAWN.with_borrow_mut(|drawn| Self(drawn.pop().unwrap_or_else(|| draw(drawn))))
    }

    /// Reads exactly 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(id))
    }

    /// From the raw bytes that a table kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 32 hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> [u8; 32] {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        text
    }

    /// The raw bytes, for keys of maps and tables.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
    }
}

thread_local! {
    /// Ids to come: the random source takes as long for many bytes as for few.
    static DRAWN: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

fn draw(drawn: &mut Vec<[u8; 16]>) -> [u8; 16] {
    let mut ids = [[0; 16]; AT_ONCE];
    aws_lc_rs::rand::fill(ids.as_flattened_mut())
        .expect("the system's random source works or nothing else can be trusted");
    let [first, rest @ ..] = ids;
    drawn.extend_from_slice(&rest);
    first
}

const AT_ONCE: usize = 32;

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::CallId;

    #[test]
    fn an_id_survives_being_written_and_read() {
        let id = CallId::random();
        assert_eq!(CallId::parse(&id.to_string()), Some(id));
        assert_ne!(id, CallId::random());
    }

    #[test]
    fn anything_but_32_hexadecimal_digits_is_refused() {
        for text in [
            "",
            "00",
            "g0000000000000000000000000000000",
            "000000000000000000000000000000000",
            "é000000000000000000000000000000",
        ] {
            assert_eq!(CallId::parse(text), None, "{text}");
        }
    }
}
