//! Values as people write them in `hub.toml`: durations, sizes, counts, addresses. Knows no key.

use std::{fmt, marker::PhantomData, net::SocketAddr, time::Duration};

use relay_protocol::Tokens;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// What a value should have looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) problem: String,
    pub(super) hint: &'static str,
}

/// A kind of value that is written as text or as an integer.
pub(super) trait Value: Sized {
    /// How it is written, for the hint of a fault.
    const WRITTEN: &'static str;

    fn from_text(text: &str) -> Option<Self>;

    fn from_integer(_integer: i64) -> Option<Self> {
        None
    }
}

/// What stood in the file. A fault is kept, not raised, so that it is told with its key, its line and its hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read<T>(pub(super) Result<T, Fault>);

impl<T: Value> Read<T> {
    fn of(shown: &dyn fmt::Display, value: Option<T>) -> Self {
        Self(value.ok_or_else(|| Fault {
            problem: format!("{shown} cannot be used"),
            hint: T::WRITTEN,
        }))
    }
}

impl<'de, T: Value> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Value> Visitor<'de> for Either<T> {
            type Value = Read<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a whole number: ")?;
                f.write_str(T::WRITTEN)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Read<T>, E> {
                Ok(Read::of(&format_args!("`{text}`"), T::from_text(text)))
            }

            fn visit_i64<E: serde::de::Error>(self, integer: i64) -> Result<Read<T>, E> {
                Ok(Read::of(&integer, T::from_integer(integer)))
            }

            fn visit_u64<E: serde::de::Error>(self, integer: u64) -> Result<Read<T>, E> {
                Ok(Read::of(
                    &integer,
                    i64::try_from(integer).ok().and_then(T::from_integer),
                ))
            }

            fn visit_i128<E: serde::de::Error>(self, integer: i128) -> Result<Read<T>, E> {
                Ok(Read::of(&integer, None))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Read<T>, E> {
                Ok(Read::of(&number, None))
            }

            fn visit_bool<E: serde::de::Error>(self, word: bool) -> Result<Read<T>, E> {
                Ok(Read::of(&word, None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Read<T>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Read::of(&"a list", None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Read<T>, A::Error> {
                while table.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Read::of(&"a table or a date", None))
            }
        }

        deserializer
            .deserialize_any(Either(PhantomData))
            .map_err(D::Error::custom)
    }
}

impl Value for Duration {
    const WRITTEN: &'static str = "write a duration as \"500ms\", \"5s\", \"10m\" or \"1h\"";

    fn from_text(text: &str) -> Option<Self> {
        let (count, unit) = count_and_unit(text)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        count.checked_mul(millis).map(Self::from_millis)
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) usize);

impl Value for Size {
    const WRITTEN: &'static str = "write a size in bytes as 1048576, \"64KiB\", \"64MiB\" or \"1GiB\"";

    fn from_text(text: &str) -> Option<Self> {
        let (count, unit) = count_and_unit(text)?;
        let bytes: u64 = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        usize::try_from(count.checked_mul(bytes)?).ok().map(Self)
    }

    fn from_integer(integer: i64) -> Option<Self> {
        usize::try_from(integer).ok().map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units
            .iter()
            .find(|(bytes, _)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
        {
            Some((bytes, unit)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl Value for usize {
    const WRITTEN: &'static str = "write a whole number such as 100";

    fn from_text(_text: &str) -> Option<Self> {
        None
    }

    fn from_integer(integer: i64) -> Option<Self> {
        Self::try_from(integer).ok()
    }
}

impl Value for u32 {
    const WRITTEN: &'static str = usize::WRITTEN;

    fn from_text(_text: &str) -> Option<Self> {
        None
    }

    fn from_integer(integer: i64) -> Option<Self> {
        Self::try_from(integer).ok()
    }
}

impl Value for Tokens {
    const WRITTEN: &'static str = "write a whole number of tokens such as 8192";

    fn from_text(_text: &str) -> Option<Self> {
        None
    }

    fn from_integer(integer: i64) -> Option<Self> {
        u64::try_from(integer).ok().map(Self::new)
    }
}

impl Value for SocketAddr {
    const WRITTEN: &'static str = "write an IP address and a port as \"0.0.0.0:8443\" or \"[::1]:8443\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// An entrance: closed, or open at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Nobody listens.
    Closed,
    /// The address bound. Port 0 takes a free one.
    At(SocketAddr),
}

impl Door {
    /// Reads `off` or an address.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Closed),
            _ => text.parse().ok().map(Self::At),
        }
    }
}

impl Value for Door {
    const WRITTEN: &'static str = "write an IP address and a port as \"127.0.0.1:8080\", or \"off\"";

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

/// A size in bytes, written as a number or with a binary unit.
pub fn parse_size(text: &str) -> Option<usize> {
    Size::from_text(text).map(|size| size.0)
}

/// A duration with its unit: `500ms`, `5s`, `10m`, `1h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    Duration::from_text(text)
}

fn count_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(end);
    Some((count.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(Duration::from_text("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(Duration::from_text("10m"), Some(Duration::from_secs(600)));
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "5 parsecs",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(Duration::from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        assert_eq!(Size::from_text("64MiB"), Some(Size(64 << 20)));
        assert_eq!(Size::from_integer(7), Some(Size(7)));
        for bad in ["64MB", "many", "", "99999999999GiB"] {
            assert_eq!(Size::from_text(bad), None, "{bad}");
        }
        assert_eq!(Size::from_integer(-4), None);
        assert_eq!(Size(64 << 20).to_string(), "64MiB");
    }
}
