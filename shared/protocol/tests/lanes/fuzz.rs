//! Broken input for every reader: recorded requests, streams and answers, changed at random. Nothing may panic, what is
//! written must be JSON, and a client must be told an end.
//!
//! Each target runs for a moment in every test run, and for a minute by
//! `RELAY_FUZZ_SECONDS=60 cargo test -p relay-protocol fuzz::`. What once failed is kept in `fixtures/fuzz` and is tried
//! first. It needs no compiler of its own: what cargo-fuzz would need, guidance by coverage, is the recorded corpus, which
//! has each form of each wire.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use std::{env, fs, path::PathBuf};

use relay_protocol::{Framing, VendorWire, Wire};

use crate::common::{Fixture, answered, as_events, asked, fixtures, folder, has_lane, others, translator};

/// Numbers that look like chance and come again from the same start: xorshift64*.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(most.max(1)).unwrap()).unwrap()
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len + 1);
        let most = (len - from).min(1 << self.below(9));
        from..from + self.below(most + 1)
    }
}

const WORDS: &[&str] = &[
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "1.5",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "{\"type\":\"text\"}",
    "[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "]",
    "}",
    "\"",
    "\\",
    ",",
    ":",
    "\n\n",
    "\r",
    "data: ",
    "data: {}\n\n",
    "event: error\n",
    "data: [DONE]\n\n",
    "\u{feff}",
    "é",
    "\u{1f600}",
    "\0",
    "input",
    "content",
];

/// Changes an input in a few places.
fn changed(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = corpus[chance.below(corpus.len())].clone();
    for _ in 0..=chance.below(6) {
        let at = chance.range(input.len());
        match chance.below(9) {
            0 => {
                if let Some(byte) = input.get_mut(at.start) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            1 => drop(input.drain(at)),
            2 => {
                let again = input[at.clone()].to_vec();
                input.splice(at.start..at.start, again);
            }
            3 => {
                let word = WORDS[chance.below(WORDS.len())];
                input.splice(at.start..at.start, word.bytes());
            }
            4 => {
                let word = WORDS[chance.below(WORDS.len())];
                input.splice(at, word.bytes());
            }
            5 => {
                let other = &corpus[chance.below(corpus.len())];
                let from = chance.range(other.len());
                input.splice(at, other[from].iter().copied());
            }
            6 => input.truncate(at.end),
            7 => value(&mut input, chance),
            _ => lines(&mut input, chance),
        }
        input.truncate(MOST);
    }
    input
}

/// Puts another value where one stands.
fn value(input: &mut Vec<u8>, chance: &mut Chance) {
    let colons: Vec<usize> = input
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b':')
        .map(|(at, _)| at + 1)
        .collect();
    if colons.is_empty() {
        return;
    }
    let at = colons[chance.below(colons.len())];
    let len = input[at..]
        .iter()
        .position(|byte| matches!(byte, b',' | b'}'))
        .unwrap_or(0);
    let word = WORDS[chance.below(14)];
    input.splice(at..at + len, word.bytes());
}

/// Drops an event, tells it twice, or tells it at another time.
fn lines(input: &mut Vec<u8>, chance: &mut Chance) {
    let mut events: Vec<Vec<u8>> = Vec::new();
    let mut rest = input.as_slice();
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\n\n") {
        let (event, after) = rest.split_at(at + 2);
        events.push(event.to_vec());
        rest = after;
    }
    if events.is_empty() {
        return;
    }
    let rest = rest.to_vec();
    let (one, other) = (chance.below(events.len()), chance.below(events.len()));
    match chance.below(3) {
        0 => drop(events.remove(one)),
        1 => events.insert(other, events[one].clone()),
        _ => events.swap(one, other),
    }
    *input = [events.concat(), rest].concat();
}

/// No input is longer.
const MOST: usize = 64 << 10;

fn seconds() -> Duration {
    let asked = env::var("RELAY_FUZZ_SECONDS").ok().and_then(|word| word.parse().ok());
    asked.map_or(Duration::from_millis(500), Duration::from_secs)
}

/// Tries what was recorded, what failed before, and then what chance makes of both.
fn fuzz(target: &str, mut corpus: Vec<Vec<u8>>, one: impl Fn(&[u8], &mut Chance)) {
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/fuzz")
        .join(target);
    if let Ok(entries) = fs::read_dir(kept) {
        corpus.extend(entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()));
    }
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let start = env::var("RELAY_FUZZ_START").ok().and_then(|word| word.parse().ok());
    let start = start.unwrap_or_else(|| u64::try_from(since_epoch.as_nanos() & u128::from(u64::MAX)).unwrap() | 1);
    let mut chance = Chance(start);
    let attempt = |input: &[u8], chance: &mut Chance| {
        let outcome = catch_unwind(AssertUnwindSafe(|| one(input, chance)));
        if outcome.is_err() {
            let path = env::temp_dir().join(format!("relay-fuzz-{target}"));
            fs::write(&path, input).unwrap();
            panic!(
                "{target} failed on {}; keep it in fixtures/fuzz/{target}",
                path.display()
            );
        }
    };
    for input in &corpus {
        attempt(input, &mut chance);
    }
    let (limit, began, mut tried) = (seconds(), Instant::now(), 0_u64);
    while began.elapsed() < limit {
        attempt(&changed(&corpus, &mut chance), &mut chance);
        tried += 1;
    }
    println!("{target}: {tried} inputs, from {start}");
    assert!(tried > 0);
}

fn corpus(kind: &str, wire: VendorWire, read: impl Fn(&Fixture) -> Vec<u8>) -> Vec<Vec<u8>> {
    let of_kind = fixtures(kind).into_iter().filter(|fixture| fixture.wire == wire);
    of_kind.map(|fixture| read(&fixture)).collect()
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

fn requests(client: Wire) {
    let own = VendorWire::from(client);
    let corpus = corpus("requests", own, |fixture| fixture.bytes.clone());
    let vendors: Vec<_> = VendorWire::ALL
        .into_iter()
        .filter(|vendor| has_lane(client, *vendor))
        .collect();
    fuzz(&format!("{}-requests", folder(own)), corpus, |input, chance| {
        let Some(vendor) = vendors.get(chance.below(vendors.len())) else {
            return;
        };
        match asked(client, *vendor, input) {
            Ok(asked) => {
                assert!(is_json(&asked.body));
                assert!(asked.body.len() <= 8 * input.len() + 4096);
            }
            Err(refusal) => assert!(is_json(&refusal.render(client, "r").body)),
        }
    });
}

fn streams(vendor: VendorWire) {
    let corpus = corpus("streams", vendor, as_events);
    let clients: Vec<_> = others(vendor).filter(|client| has_lane(*client, vendor)).collect();
    fuzz(&format!("{}-streams", folder(vendor)), corpus, |input, chance| {
        let Some(client) = clients.get(chance.below(clients.len())) else {
            return;
        };
        let whole = unmetered(*client, vendor, &[input]);
        told_an_end(*client, &whole);
        let cut = chance.below(input.len() + 1);
        let cut = unmetered(*client, vendor, &[&input[..cut], &input[cut..]]);
        assert!(whole == cut, "it says something else when it is cut");
    });
}

/// What the client reads of an answer whose usage nobody reads: how early that is known depends on the cuts.
fn unmetered(client: Wire, vendor: VendorWire, chunks: &[&[u8]]) -> Vec<u8> {
    let mut translator = translator(client, vendor, Framing::Events);
    let mut read = Vec::new();
    for chunk in chunks {
        translator.push(chunk, None);
        read.extend(translator.take());
    }
    translator.end(None);
    read.extend(translator.take());
    read
}

/// Each event is JSON, and the last says that the answer is over or that it failed.
fn told_an_end(client: Wire, read: &[u8]) {
    let text = std::str::from_utf8(read).unwrap();
    let mut last = "";
    for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        assert!(line == "[DONE]" || is_json(line.as_bytes()), "{line}");
        last = line;
    }
    let ends: &[&str] = match client {
        Wire::Responses => &[
            "\"response.completed\"",
            "\"response.incomplete\"",
            "\"response.failed\"",
        ],
        Wire::Chat => &["[DONE]", "\"error\""],
        Wire::Messages => &["\"message_stop\"", "\"error\""],
        Wire::Gemini => &["\"finishReason\"", "\"error\""],
    };
    assert!(ends.iter().any(|end| last.contains(end)), "it ends with {last}");
}

fn answers(vendor: VendorWire) {
    let corpus = corpus("answers", vendor, |fixture| fixture.bytes.clone());
    let clients: Vec<_> = others(vendor).filter(|client| has_lane(*client, vendor)).collect();
    fuzz(&format!("{}-answers", folder(vendor)), corpus, |input, chance| {
        let Some(client) = clients.get(chance.below(clients.len())) else {
            return;
        };
        match answered(*client, vendor, input) {
            Ok(body) => assert!(is_json(&body)),
            Err(refusal) => assert!(is_json(&refusal.render(*client, "r").body)),
        }
        let status = 400 + u16::try_from(chance.below(200)).unwrap();
        let failure = relay_protocol::failure(vendor, status, input);
        assert!(is_json(&failure.refusal(None).render(*client, "r").body));
    });
}

macro_rules! targets {
    ($($name:ident: $run:ident($wire:expr);)*) => {
        $(#[test]
        fn $name() {
            $run($wire);
        })*
    };
}

targets! {
    no_request_of_responses_breaks_anything: requests(Wire::Responses);
    no_request_of_chat_breaks_anything: requests(Wire::Chat);
    no_request_of_messages_breaks_anything: requests(Wire::Messages);
    no_request_of_gemini_breaks_anything: requests(Wire::Gemini);
    no_stream_of_responses_breaks_anything: streams(VendorWire::Responses);
    no_stream_of_chat_breaks_anything: streams(VendorWire::Chat);
    no_stream_of_messages_breaks_anything: streams(VendorWire::Messages);
    no_stream_of_gemini_breaks_anything: streams(VendorWire::Gemini);
    no_stream_of_converse_breaks_anything: streams(VendorWire::Converse);
    no_answer_of_responses_breaks_anything: answers(VendorWire::Responses);
    no_answer_of_chat_breaks_anything: answers(VendorWire::Chat);
    no_answer_of_messages_breaks_anything: answers(VendorWire::Messages);
    no_answer_of_gemini_breaks_anything: answers(VendorWire::Gemini);
    no_answer_of_converse_breaks_anything: answers(VendorWire::Converse);
}
