//! The beginning of a text, kept while its call runs, in case its tokens have to be counted. Knows no tokenizer.
//!
//! A vendor that reports its usage makes counting needless, so nothing is counted as the text goes by; and a text may
//! be long, so no more is kept of it than tells how many bytes a token has.

/// Pieces of JSON text, at most so many bytes. No `Debug`: it is what a model or a tenant wrote.
#[derive(Default)]
pub struct Sample {
    json: Vec<u8>,
    most: usize,
}

impl Sample {
    /// An empty one that takes the beginning of what is written to it.
    #[must_use]
    pub const fn up_to(most: usize) -> Self {
        Self { json: Vec::new(), most }
    }

    /// Of a whole document: parts from all over it, for its beginning may be unlike the rest.
    #[must_use]
    pub fn across(document: &[u8], most: usize) -> Self {
        let mut sample = Self::up_to(most);
        let part = most.div_ceil(PARTS);
        if document.len() <= most {
            sample.add(document);
            return sample;
        }
        for at in 0..PARTS {
            let start = (document.len() - part) * at / (PARTS - 1);
            sample.add(document.get(start..start + part).unwrap_or_default());
        }
        sample
    }

    /// Takes more of the text, as far as there is room.
    pub(crate) fn add(&mut self, json: &[u8]) {
        let room = self.most - self.json.len();
        if room == 0 || json.is_empty() {
            return;
        }
        if self.json.is_empty() {
            // All at once, and only where there is a text.
            self.json.reserve_exact(self.most);
        }
        self.json.extend_from_slice(&json[..json.len().min(room)]);
    }

    /// The JSON itself.
    #[must_use]
    pub fn into_json(self) -> Vec<u8> {
        self.json
    }

    /// How many bytes of JSON it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.json.len()
    }

    /// Nothing was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// The text that the JSON stands for, as far as it can be read.
    #[must_use]
    pub fn text(&self) -> String {
        unescaped(&self.json)
    }
}

/// The text that JSON between quotes stands for, as far as it can be read.
pub(crate) fn unescaped(json: &[u8]) -> String {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = unescape(&rest[at + 1..], &mut out);
    }
    out.extend_from_slice(rest);
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes what an escape after its backslash stands for; the rest.
fn unescape<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((kind, rest)) = rest.split_first() else {
        return rest;
    };
    match kind {
        b'n' => out.push(b'\n'),
        b't' => out.push(b'\t'),
        b'r' => out.push(b'\r'),
        b'b' | b'f' => out.push(b' '),
        b'u' => return unescape_unit(rest, out),
        other => out.push(*other),
    }
    rest
}

fn unescape_unit<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(rest.get(at..at + 4)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else { return &[] };
    let second = (rest.get(4..6) == Some(b"\\u")).then(|| unit(6)).flatten();
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    let one = char::decode_utf16([first]).next().and_then(Result::ok);
    let (c, used) = match (one, pair) {
        (Some(c), _) => (c, 4),
        (None, Some(c)) => (c, 10),
        (None, None) => (char::REPLACEMENT_CHARACTER, 4),
    };
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    &rest[used..]
}

/// From so many places of a document.
const PARTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        let mut sample = Sample::up_to(100);
        sample.add(json.as_bytes());
        sample.text()
    }

    #[test]
    fn escapes_are_read_as_json_means_them() {
        for whole in ["a\n\t\"b\\c/é", "😀 and \u{1}", "", "plain"] {
            let json = serde_json::to_string(whole).unwrap();
            assert_eq!(text(&json[1..json.len() - 1]), whole);
        }
        assert_eq!(text(r"\ud83d\ude00 \u00e9"), "😀 é");
    }

    #[test]
    fn a_text_that_is_torn_anywhere_is_read_as_far_as_it_goes() {
        let json = r#"a\"b\\ \ud83d\ude00 é \n"#.as_bytes();
        for end in 0..json.len() {
            let mut sample = Sample::up_to(end);
            sample.add(json);
            assert_eq!(sample.len(), end);
            assert!(sample.text().len() <= end + 3);
        }
    }

    #[test]
    fn no_more_is_kept_than_was_said_and_a_document_is_met_all_over() {
        let mut sample = Sample::up_to(10);
        for _ in 0..5 {
            sample.add(b"1234");
        }
        assert_eq!(sample.text(), "1234123412");
        let document: Vec<u8> = (0..100).map(|at| b'a' + at / 5).collect();
        let sample = Sample::across(&document, 20);
        assert_eq!(sample.len(), 20);
        assert!(sample.text().starts_with("aaaaa") && sample.text().ends_with("ttttt"));
        assert_eq!(Sample::across(b"short", 20).text(), "short");
    }
}
