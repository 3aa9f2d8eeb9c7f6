//! Calls of tools as wires want them that know no other form: arguments as an object, ids of few letters. Knows no wire.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

/// What a model wrote as arguments, as an object of JSON. Nothing is an empty one; what is none becomes the one member of
/// one, so that it is told and not lost.
pub(crate) fn object(arguments: &str) -> Cow<'_, RawValue> {
    let arguments = arguments.trim();
    let whole = if arguments.is_empty() { "{}" } else { arguments };
    if whole.starts_with('{')
        && let Ok(object) = serde_json::from_str(whole)
    {
        return Cow::Borrowed(object);
    }
    // With room for some escapes, as it may be long.
    let mut broken = Vec::with_capacity(arguments.len() + arguments.len() / 8 + 64);
    let written = serde_json::to_writer(&mut broken, &Broken { arguments });
    let broken = written.ok().and_then(|()| String::from_utf8(broken).ok());
    Cow::Owned(
        broken
            .and_then(|broken| RawValue::from_string(broken).ok())
            .unwrap_or_default(),
    )
}

#[derive(Serialize)]
struct Broken<'a> {
    arguments: &'a str,
}

/// A call's id in the letters and the length that a wire takes; the same id always becomes the same one.
pub(crate) fn fit<'a>(id: &'a str, is_fit: impl Fn(u8) -> bool, most: usize) -> Cow<'a, str> {
    if id.len() <= most && !id.is_empty() && id.bytes().all(&is_fit) {
        return Cow::Borrowed(id);
    }
    if id.len() <= most && !id.is_empty() {
        let mended = id
            .chars()
            .map(|c| if c.is_ascii() && is_fit(c as u8) { c } else { '_' });
        return Cow::Owned(mended.collect());
    }
    Cow::Owned(format!("call_{:016x}", fnv(id.as_bytes())))
}

/// A tool's name in the letters and the length that a vendor takes; the same name always becomes the same one.
pub(crate) fn fit_name(name: &str, is_fit: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if name.len() <= LONGEST_NAME && name.bytes().all(&is_fit) {
        return Cow::Borrowed(name);
    }
    let letters = name
        .chars()
        .map(|c| if c.is_ascii() && is_fit(c as u8) { c } else { '_' });
    let mut fit: String = letters.collect();
    if fit.len() > LONGEST_NAME {
        // Long names differ at their ends.
        let hash = format!("_{:016x}", fnv(name.as_bytes()));
        fit.truncate(LONGEST_NAME - hash.len());
        fit.push_str(&hash);
    }
    Cow::Owned(fit)
}

/// Of every vendor, though some take more.
const LONGEST_NAME: usize = 64;

/// FNV-1a: it needs no key, as a client chooses ids for itself alone.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_whatever_a_model_wrote() {
        for (arguments, wanted) in [
            (r#" {"b":1.0, "a":2} "#, r#"{"b":1.0, "a":2}"#),
            ("", "{}"),
            ("[1]", r#"{"arguments":"[1]"}"#),
            (r#"{"a":"#, r#"{"arguments":"{\"a\":"}"#),
        ] {
            assert_eq!(object(arguments).get(), wanted);
        }
    }

    #[test]
    fn an_id_that_does_not_fit_becomes_one_that_does_always_the_same() {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert_eq!(fit("call_1", is_fit, 64), "call_1");
        assert_eq!(fit("functions.é:0", is_fit, 64), "functions___0");
        let long = "x".repeat(65);
        assert_eq!(fit(&long, is_fit, 64), fit(&long, is_fit, 64));
        assert_ne!(fit(&long, is_fit, 64), fit(&"x".repeat(66), is_fit, 64));
        assert!(fit(&long, is_fit, 64).len() <= 64 && !fit("", is_fit, 64).is_empty());
    }
}
