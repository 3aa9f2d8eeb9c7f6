//! The id of one call, made by the agent, bound to the device by the hub. Unguessable; no meaning inside.

use std::fmt;

/// 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId([u8; 16]);

impl CallId {
    /// A fresh id from the system's random source.
    #[must_use]
    pub fn random() -> Self {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).expect("the system's random source works or nothing else can be trusted");
        Self(id)
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

    /// The raw bytes, for keys of maps and tables.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

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
