//! Broken input for every reader: what was recorded, changed. [`Reader::read`] says what each of them promises of any
//! bytes; this crate's tests try the corpus and half a second of the same changes each time (`RELAY_FUZZ_SECONDS` of
//! others, where that is set), and `cargo xtask prove fuzz` puts libFuzzer behind the same promises, which is guided by what of the code an input
//! reaches.
//!
//! The corpus is what was recorded in `fixtures`, with what failed once (`fixtures/fuzz/READER`) and what libFuzzer found
//! worth keeping (`fixtures/fuzz/READER.pack`).

mod answers;
mod bodies;
mod change;
mod framing;
mod requests;

use std::fs;

use allocation_counter::AllocationInfo;
use relay_protocol::{VendorWire, Wire};

pub(crate) use self::change::{Chance, changed};
use crate::common::{as_events, fixtures, folder, root};

/// What reads bytes that others wrote.
#[derive(Clone, Copy)]
pub(crate) enum Reader {
    /// A client's request: its envelope, and the same call for every vendor.
    Requests(Wire),
    /// A vendor's stream, metered and written for every client.
    Streams(VendorWire),
    /// A vendor's whole answer, and its refusals.
    Answers(VendorWire),
    /// Gemini's stream as one array.
    Arrays,
    /// Server-sent events, whatever is in them.
    Events,
    /// Amazon's binary frames.
    Frames,
    /// WebSocket frames.
    Sockets,
    /// A socket's messages over HTTP, and what comes back.
    Bridge,
    /// JSON that is walked and spliced, not parsed.
    Bodies,
}

impl Reader {
    pub(crate) const ALL: [Self; 20] = [
        Self::Requests(Wire::Responses),
        Self::Requests(Wire::Chat),
        Self::Requests(Wire::Messages),
        Self::Requests(Wire::Gemini),
        Self::Streams(VendorWire::Responses),
        Self::Streams(VendorWire::Chat),
        Self::Streams(VendorWire::Messages),
        Self::Streams(VendorWire::Gemini),
        Self::Streams(VendorWire::Converse),
        Self::Answers(VendorWire::Responses),
        Self::Answers(VendorWire::Chat),
        Self::Answers(VendorWire::Messages),
        Self::Answers(VendorWire::Gemini),
        Self::Answers(VendorWire::Converse),
        Self::Arrays,
        Self::Events,
        Self::Frames,
        Self::Sockets,
        Self::Bridge,
        Self::Bodies,
    ];

    /// What its folder in the corpus is called.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Requests(wire) => format!("{}-requests", folder(wire.into())),
            Self::Streams(wire) => format!("{}-streams", folder(wire)),
            Self::Answers(wire) => format!("{}-answers", folder(wire)),
            Self::Arrays => "gemini-arrays".to_owned(),
            Self::Events => "events".to_owned(),
            Self::Frames => "frames".to_owned(),
            Self::Sockets => "sockets".to_owned(),
            Self::Bridge => "bridge".to_owned(),
            Self::Bodies => "bodies".to_owned(),
        }
    }

    /// Well-formed input, to begin with.
    pub(crate) fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Self::Requests(wire) => recorded("requests", Some(wire.into())),
            Self::Streams(wire) => recorded("streams", Some(wire)),
            Self::Answers(wire) => recorded("answers", Some(wire)),
            Self::Arrays => answers::arrays(),
            Self::Events => framing::events(),
            Self::Frames => framing::frames(),
            Self::Sockets => framing::sockets(),
            Self::Bridge => requests::bridged(),
            Self::Bodies => recorded("requests", None),
        }
    }

    /// What was kept of earlier runs.
    pub(crate) fn kept(self) -> Vec<Vec<u8>> {
        let folder = root().join("fixtures/fuzz");
        let failed = fs::read_dir(folder.join(self.name())).into_iter().flatten();
        let failed = failed.map(|entry| fs::read(entry.unwrap().path()).unwrap());
        let pack = fs::read(folder.join(format!("{}.pack", self.name()))).unwrap_or_default();
        failed.chain(unpacked(&pack)).collect()
    }

    /// Reads an input and keeps its promises, or panics.
    pub(crate) fn read(self, input: &[u8]) {
        let AllocationInfo { bytes_max, .. } = allocation_counter::measure(|| self.promises(input));
        let most = MEMORY + MEMORY_A_BYTE * input.len();
        assert!(
            bytes_max <= most as u64,
            "it took {bytes_max} bytes for {}",
            input.len()
        );
    }

    fn promises(self, input: &[u8]) {
        match self {
            Self::Requests(wire) => requests::requests(wire, input),
            Self::Streams(wire) => answers::streams(wire, input),
            Self::Answers(wire) => answers::answers(wire, input),
            Self::Arrays => answers::array(input),
            Self::Events => framing::event_stream(input),
            Self::Frames => framing::amazon(input),
            Self::Sockets => framing::socket(input),
            Self::Bridge => requests::bridge(input),
            Self::Bodies => bodies::bodies(input),
        }
    }
}

/// The inputs of a pack: one after another, each behind its length, which is four bytes, the smallest first.
fn unpacked(mut pack: &[u8]) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    while let Some((length, rest)) = pack.split_first_chunk() {
        let (input, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        inputs.push(input.to_vec());
        pack = rest;
    }
    inputs
}

/// What was recorded of one kind, of one wire or of all.
fn recorded(kind: &str, wire: Option<VendorWire>) -> Vec<Vec<u8>> {
    let of_kind = fixtures(kind).into_iter();
    let of_wire = of_kind.filter(|fixture| wire.is_none_or(|wire| fixture.wire == wire));
    let is_stream = kind == "streams";
    of_wire
        .map(|fixture| if is_stream { as_events(&fixture) } else { fixture.bytes })
        .collect()
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// The input in pieces: the same for the same input, so that what failed fails again.
fn cut(input: &[u8]) -> Vec<&[u8]> {
    let mut chance = Chance::of(input);
    let most = 1 << chance.below(10);
    let (mut pieces, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + chance.below(most)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// No input is longer.
pub(crate) const MOST: usize = 8 << 10;
/// What a reader, its writers and these tests may take at once, for an input of no length and for each byte of one.
const MEMORY: usize = 512 << 10;
const MEMORY_A_BYTE: usize = 512;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
    use std::{env, fs};

    use relay_protocol::{VendorWire, Wire};

    use super::{Chance, Reader, changed};

    /// How long chance is tried, and where it begins: a test of a change is given what the one before was.
    fn asked() -> (Duration, u64) {
        let asked = |name: &str| env::var(name).ok().and_then(|word| word.parse().ok());
        let start = asked("RELAY_FUZZ_START");
        let Some(seconds) = asked("RELAY_FUZZ_SECONDS") else {
            return (Duration::from_millis(500), start.unwrap_or(1));
        };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = u64::try_from(since_epoch.as_nanos() & u128::from(u64::MAX)).unwrap();
        (Duration::from_secs(seconds), start.unwrap_or(now))
    }

    /// Tries the corpus, and then what chance makes of it.
    fn try_all(reader: Reader) {
        let mut corpus = reader.kept();
        corpus.extend(reader.seeds());
        let attempt = |input: &[u8]| {
            if catch_unwind(AssertUnwindSafe(|| reader.read(input))).is_err() {
                let name = reader.name();
                let path = env::temp_dir().join(format!("relay-fuzz-{name}"));
                fs::write(&path, input).unwrap();
                panic!("{name} failed on {}; keep it in fixtures/fuzz/{name}", path.display());
            }
        };
        corpus.iter().for_each(|input| attempt(input));
        let (most, start) = asked();
        let (mut chance, mut tried, began) = (Chance::from(start), 0_u64, Instant::now());
        while began.elapsed() < most {
            let which = chance.below(corpus.len());
            attempt(&changed(&corpus[which], &corpus, &mut chance));
            tried += 1;
        }
        println!("{}: {} kept, {tried} more, from {start}", reader.name(), corpus.len());
        assert!(tried > 0);
    }

    macro_rules! readers {
        ($($name:ident: $reader:expr;)*) => {
            $(#[test]
            fn $name() {
                try_all($reader);
            })*

            #[test]
            fn no_reader_is_left_out() {
                let tried: Vec<_> = [$($reader),*].map(Reader::name).into();
                assert_eq!(tried, Reader::ALL.map(Reader::name));
            }
        };
    }

    readers! {
        no_request_of_responses_breaks_anything: Reader::Requests(Wire::Responses);
        no_request_of_chat_breaks_anything: Reader::Requests(Wire::Chat);
        no_request_of_messages_breaks_anything: Reader::Requests(Wire::Messages);
        no_request_of_gemini_breaks_anything: Reader::Requests(Wire::Gemini);
        no_stream_of_responses_breaks_anything: Reader::Streams(VendorWire::Responses);
        no_stream_of_chat_breaks_anything: Reader::Streams(VendorWire::Chat);
        no_stream_of_messages_breaks_anything: Reader::Streams(VendorWire::Messages);
        no_stream_of_gemini_breaks_anything: Reader::Streams(VendorWire::Gemini);
        no_stream_of_converse_breaks_anything: Reader::Streams(VendorWire::Converse);
        no_answer_of_responses_breaks_anything: Reader::Answers(VendorWire::Responses);
        no_answer_of_chat_breaks_anything: Reader::Answers(VendorWire::Chat);
        no_answer_of_messages_breaks_anything: Reader::Answers(VendorWire::Messages);
        no_answer_of_gemini_breaks_anything: Reader::Answers(VendorWire::Gemini);
        no_answer_of_converse_breaks_anything: Reader::Answers(VendorWire::Converse);
        no_array_of_gemini_breaks_anything: Reader::Arrays;
        no_stream_of_events_breaks_anything: Reader::Events;
        no_stream_of_amazon_breaks_anything: Reader::Frames;
        no_frame_of_a_socket_breaks_anything: Reader::Sockets;
        no_message_over_http_breaks_anything: Reader::Bridge;
        no_body_breaks_anything: Reader::Bodies;
    }
}
