//! What a stream may hold, whatever its vendor sends: hostile streams of every wire for every client, counted byte by byte.

use allocation_counter::measure;
use bytes::Bytes;
use relay_protocol::{Flat, Framing, Lane, Shape, Tap, TapOptions, Tokens, Translator, VendorWire, Wire};

use crate::common::{CLIENTS, reply};

/// The tap's and the translator's, from the first byte to the last, the busiest moment included.
const MOST: u64 = 256 << 10;
/// As vendors' chunks come.
const CHUNK: usize = 16 << 10;

/// A stream that is made as it is read.
struct Script {
    name: &'static str,
    start: String,
    /// Repeated, with a number in the place of `@`.
    more: String,
    times: usize,
    end: String,
}

impl Script {
    fn chunks(&self) -> impl Iterator<Item = Bytes> {
        let more = (0..self.times).map(|at| self.more.replace('@', &at.to_string()));
        let mut pieces = std::iter::once(self.start.clone())
            .chain(more)
            .chain([self.end.clone()]);
        let mut rest = Vec::new();
        std::iter::from_fn(move || {
            while rest.len() < CHUNK {
                let Some(piece) = pieces.next() else { break };
                rest.extend_from_slice(piece.as_bytes());
            }
            let after = rest.split_off(rest.len().min(CHUNK));
            let chunk = std::mem::replace(&mut rest, after);
            (!chunk.is_empty()).then(|| chunk.into())
        })
    }
}

/// How each vendor's wire says things; `@` is a number.
struct Says {
    /// The beginning of an answer.
    begin: &'static str,
    /// A piece of text, up to where the text begins, and what follows it.
    text: [&'static str; 2],
    /// A thought.
    thought: [&'static str; 2],
    /// A call of a tool with some of its arguments.
    call: [&'static str; 2],
    /// More of its arguments.
    arguments: [&'static str; 2],
    /// What repeats, of which nothing is told.
    echo: [&'static str; 2],
    /// A picture, where the wire has one.
    picture: Option<[&'static str; 2]>,
    end: &'static str,
}

fn says(vendor: VendorWire) -> Says {
    match vendor {
        VendorWire::Responses => Says {
            begin: r#"{"type":"response.created","response":{"id":"r"}}"#,
            text: [
                r#"{"type":"response.output_text.delta","output_index":@,"delta":""#,
                r#""}"#,
            ],
            thought: [
                r#"{"type":"response.reasoning_summary_text.delta","output_index":@,"delta":""#,
                r#""}"#,
            ],
            call: [
                r#"{"type":"response.output_item.done","output_index":@,"item":{"type":"function_call","call_id":"c@","name":"f","arguments":""#,
                r#""}}"#,
            ],
            arguments: [
                r#"{"type":"response.function_call_arguments.delta","output_index":@,"delta":""#,
                r#""}"#,
            ],
            echo: [
                r#"{"type":"response.in_progress","response":{"instructions":"i","tools":[{"a":{"b":[""#,
                r#""]}}],"output":[]}}"#,
            ],
            picture: Some([
                r#"{"type":"response.output_item.done","output_index":@,"item":{"type":"image_generation_call","result":""#,
                r#""}}"#,
            ]),
            end: r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#,
        },
        VendorWire::Chat => Says {
            begin: r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#,
            text: [r#"{"choices":[{"index":0,"delta":{"content":""#, r#""}}]}"#],
            thought: [r#"{"choices":[{"index":0,"delta":{"reasoning_content":""#, r#""}}]}"#],
            call: [
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":@,"id":"c@","function":{"name":"f","arguments":""#,
                r#""}}]}}]}"#,
            ],
            arguments: [
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":""#,
                r#""}}]}}]}"#,
            ],
            echo: [r#"{"choices":[{"index":1,"delta":{"content":""#, r#""}}]}"#],
            picture: None,
            end: r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        },
        VendorWire::Messages => Says {
            begin: r#"{"type":"message_start","message":{"id":"m","content":[]}}"#,
            text: [
                r#"{"type":"content_block_start","index":@,"content_block":{"type":"text","text":""#,
                r#""}}"#,
            ],
            thought: [
                r#"{"type":"content_block_start","index":@,"content_block":{"type":"thinking","thinking":""#,
                r#""}}"#,
            ],
            call: [
                r#"{"type":"content_block_start","index":@,"content_block":{"type":"tool_use","id":"c@","name":"f","input":{"a":""#,
                r#""}}}"#,
            ],
            arguments: [
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""#,
                r#""}}"#,
            ],
            echo: [
                r#"{"type":"content_block_start","index":@,"content_block":{"type":"web_search_tool_result","content":[{"encrypted_content":""#,
                r#""}]}}"#,
            ],
            picture: None,
            end: r#"{"type":"message_stop"}"#,
        },
        VendorWire::Gemini => Says {
            begin: r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#,
            text: [r#"{"candidates":[{"content":{"parts":[{"text":""#, r#""}]}}]}"#],
            thought: [
                r#"{"candidates":[{"content":{"parts":[{"text":""#,
                r#"","thought":true}]}}]}"#,
            ],
            call: [
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"c@","name":"f","args":{"a":""#,
                r#""}}}]}}]}"#,
            ],
            arguments: [r#"{"candidates":[{"content":{"parts":[{"text":""#, r#""}]}}]}"#],
            echo: [
                r#"{"candidates":[{"groundingMetadata":{"searchEntryPoint":{"renderedContent":""#,
                r#""}}}]}"#,
            ],
            picture: Some([
                r#"{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":""#,
                r#""}}]}}]}"#,
            ]),
            end: r#"{"candidates":[{"finishReason":"STOP"}]}"#,
        },
        VendorWire::Converse => Says {
            begin: r#"{"messageStart":{"role":"assistant"}}"#,
            text: [
                r#"{"contentBlockDelta":{"contentBlockIndex":@,"delta":{"text":""#,
                r#""}}}"#,
            ],
            thought: [
                r#"{"contentBlockDelta":{"contentBlockIndex":@,"delta":{"reasoningContent":{"text":""#,
                r#""}}}}"#,
            ],
            call: [
                r#"{"contentBlockStart":{"contentBlockIndex":@,"start":{"toolUse":{"toolUseId":"c@","name":"f","input":{"a":""#,
                r#""}}}}}"#,
            ],
            arguments: [
                r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"toolUse":{"input":""#,
                r#""}}}}"#,
            ],
            echo: [r#"{"metadata":{"trace":""#, r#""}}"#],
            picture: None,
            end: r#"{"metadata":{"usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2}}}"#,
        },
    }
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// One event whose text has no end, or a very late one.
fn endless(name: &'static str, says: &Says, [before, after]: [&str; 2], more: &str, bytes: usize) -> Script {
    Script {
        name,
        start: format!("{}data: {}", event(says.begin), before.replace('@', "0")),
        more: more.repeat(2_000 / more.len()),
        times: bytes / 2_000,
        end: format!("{after}\n\n{}", event(says.end)),
    }
}

/// Very many events.
fn many(name: &'static str, says: &Says, one: &str, times: usize) -> Script {
    Script {
        name,
        start: event(says.begin),
        more: one.to_owned(),
        times,
        end: event(says.end),
    }
}

/// Where a vendor's wire has lists: what comes before one, and after it.
fn lists(vendor: VendorWire) -> &'static [[&'static str; 2]] {
    match vendor {
        VendorWire::Responses => &[
            [
                r#"{"type":"response.output_item.done","item":{"type":"message","content":"#,
                "]}}",
            ],
            [
                r#"{"type":"response.output_item.done","item":{"type":"reasoning","summary":"#,
                "]}}",
            ],
            [r#"{"type":"response.completed","response":{"output":"#, "]}}"],
            [
                r#"{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"a","annotations":"#,
                "]}]}]}}",
            ],
        ],
        VendorWire::Chat => &[
            [r#"{"choices":"#, "]}"],
            [r#"{"choices":[{"delta":{"tool_calls":"#, "]}}]}"],
            [r#"{"choices":[{"delta":{"annotations":"#, "]}}]}"],
            [r#"{"choices":[{"delta":{"content":"#, "]}}]}"],
        ],
        VendorWire::Messages => &[[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a","citations":"#,
            "]}}",
        ]],
        VendorWire::Gemini => &[
            [r#"{"candidates":"#, "]}"],
            [r#"{"candidates":[{"content":{"parts":"#, "]}}]}"],
            [r#"{"candidates":[{"citationMetadata":{"citations":"#, "]}}]}"],
            [r#"{"candidates":[{"groundingMetadata":{"groundingChunks":"#, "]}}]}"],
        ],
        VendorWire::Converse => &[[
            r#"{"contentBlockDelta":{"delta":{"citation":{"sourceContent":"#,
            "]}}}}",
        ]],
    }
}

/// So many letters of base64, the same each time.
fn noise(bytes: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 7_u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(ALPHABET[(state >> 58) as usize])
    });
    letters.take(bytes).collect()
}

/// Everything that a vendor does, a fifth as long where not all of it is asked for.
fn hostile(vendor: VendorWire, is_whole: bool) -> Vec<Script> {
    let much = if is_whole { 5 } else { 1 };
    let says = &says(vendor);
    let of = |[before, after]: [&str; 2], text: &str| event(&format!("{before}{text}{after}"));
    let args = r#"{\"a\":1}"#;
    let kilobyte = r#"a\"b\u0001é "#.repeat(80);
    let list = |one: &str| format!("[{}", format!("{one},").repeat(64));
    let mut scripts = vec![
        endless("a line without an end", says, [": ", ""], "a", much * 200_000),
        endless("an event of many lines", says, ["1", ""], "\ndata: 1", much * 200_000),
        endless(
            "an event of many texts",
            says,
            ["[", "]"],
            "\ndata: \"abcdefgh\",",
            much * 200_000,
        ),
        endless("a line of lists", says, ["", ""], "[", much * 100_000),
        endless("a line of objects", says, ["", ""], "{\"a\":", much * 100_000),
        endless("a list of nothing", says, ["[", "]"], "{},", much * 100_000),
        endless("a number without an end", says, ["", ""], "1", much * 100_000),
        endless("blanks without an end", says, ["", ""], " ", much * 100_000),
        endless("a text without an end", says, says.text, "a\\n", much * 200_000),
        endless("a text just too long", says, says.text, "a\\n", 50 << 10),
        endless("a text that fits", says, says.text, "a\\n", 48_000),
        endless("a thought that fits", says, says.thought, "\\u00e9", 48_000),
        endless("a call that fits", says, says.call, "ab\\\\n", 48_000),
        endless("arguments without an end", says, says.call, "a\\n", much * 200_000),
        endless("an echo without an end", says, says.echo, "a\\n", much * 200_000),
        endless("an echo of many texts", says, says.echo, "a\",\"b", much * 200_000),
        endless("a key without an end", says, ["{\"", "\":1}"], "a\\n", much * 200_000),
        many("50,000 events", says, &of(says.text, "w@ "), much * 10_000),
        many("10,000 empty events", says, "data: {}\n\n", much * 2_000),
        many("10,000 comments", says, ": ping\n\n", much * 2_000),
        many("5 MB of text", says, &of(says.text, &kilobyte), much * 1_000),
        many("1 MB of thoughts", says, &of(says.thought, &kilobyte), much * 200),
        many("1 MB of echoes", says, &of(says.echo, &kilobyte), much * 200),
        many("5,000 calls", says, &of(says.call, args), much * 1_000),
    ];
    // Letters that nobody can pack, nearly as many as are kept, before what is long by itself.
    let noise = noise(124 << 10);
    let (pieces, _) = noise.as_bytes().as_chunks::<1024>();
    let pieces = pieces.iter().map(|piece| str::from_utf8(piece).unwrap());
    let noisy: String = pieces.map(|piece| of(says.text, piece).replace('@', "0")).collect();
    scripts.push(many("noise", says, &noisy, 10));
    let mut longest = vec![(says.text, "a\\n"), (says.thought, "\\u00e9"), (says.call, "ab\\\\n")];
    longest.extend(says.picture.map(|picture| (picture, "abcd")));
    scripts.extend(longest.into_iter().map(|(long, more)| {
        let script = endless("a long event after much noise", says, long, more, 48_000);
        let (begin, rest) = script.start.split_at(event(says.begin).len());
        Script {
            start: format!("{begin}{noisy}{rest}"),
            ..script
        }
    }));
    // A call whose arguments do not end.
    let opened = event(&says.call.concat().replace('@', "0"));
    scripts.push(Script {
        start: format!("{}{opened}", event(says.begin)),
        ..many("2 MB of arguments", says, &of(says.arguments, &kilobyte), much * 400)
    });
    let one = [
        "{}",
        r#"{"text":"a"}"#,
        r#"{"index":@,"id":"c@","function":{"name":"f"}}"#,
        r#"{"functionCall":{"name":"f"}}"#,
        r#"{"type":"function_call","call_id":"c","name":"f"}"#,
        r#"{"url":"u","type":"url_citation","url_citation":{"url":"u"}}"#,
    ];
    for (list_of, one) in lists(vendor).iter().flat_map(|list| one.map(|one| (list, one))) {
        let [before, after] = list_of;
        for bytes in [47_000, 200_000] {
            scripts.push(Script {
                name: "a list without an end",
                start: format!("{}data: {before}{}", event(says.begin), list(one).replace('@', "0")),
                more: format!("{one},").repeat(2_000 / one.len()),
                times: bytes / 2_000,
                end: format!("{one}{after}\n\n{}", event(says.end)),
            });
        }
    }
    if let Some(picture) = says.picture {
        scripts.push(endless("a picture that fits", says, picture, "abcd", 48_000));
        scripts.push(endless(
            "a picture that does not",
            says,
            picture,
            "abcd",
            much * 200_000,
        ));
    }
    scripts
}

/// The most that was held at once, and how much the client was told.
fn held(client: Wire, vendor: VendorWire, framing: Framing, flat: &Flat, script: &Script) -> (u64, u64, Vec<u8>) {
    let mut told = 0_u64;
    let mut last = Vec::with_capacity(1 << 20);
    let mut chunks = script.chunks();
    let mut most = 0;
    let mut held = 0_i64;
    let mut translator = None;
    let mut tap = None;
    let mut begin = || {
        translator = Translator::new(client, vendor, framing, reply(), flat.clone())
            .map(|translator| translator.allowing(Tokens::new(1 << 20)));
        tap = Some(Tap::new(vendor, Shape::Events, TapOptions::default()).sampling(4 << 10));
    };
    let mut count = |held: &mut i64, work: &mut dyn FnMut()| {
        let info = measure(work);
        most = most.max(u64::try_from(*held).unwrap_or_default() + info.bytes_max);
        *held += info.bytes_current;
    };
    count(&mut held, &mut begin);
    let (mut translator, mut tap) = (translator.unwrap(), tap.unwrap());
    let mut tell = |bytes: Vec<u8>| {
        told += bytes.len() as u64;
        let excess = (last.len() + bytes.len()).saturating_sub(1 << 19).min(last.len());
        last.drain(..excess);
        last.extend_from_slice(&bytes[bytes.len().saturating_sub(1 << 19)..]);
    };
    let mut is_over = false;
    while !is_over {
        // The chunk itself is its connection's.
        let chunk = chunks.next();
        count(&mut held, &mut || match &chunk {
            Some(chunk) => {
                for piece in tap.push(chunk.clone()) {
                    translator.push(piece.into_bytes(), tap.observed().usage);
                    while let Some(bytes) = translator.take() {
                        tell(bytes);
                    }
                }
            }
            None => {
                if let Some(piece) = tap.end() {
                    translator.push(piece.into_bytes(), tap.observed().usage);
                    while let Some(bytes) = translator.take() {
                        tell(bytes);
                    }
                }
                translator.end(tap.observed().usage);
                while let Some(bytes) = translator.take() {
                    tell(bytes);
                }
                is_over = true;
            }
        });
        is_over |= translator.has_ended();
    }
    assert!(translator.has_ended());
    (most, told, last)
}

/// The last event is an end or a failure, in the client's dialect.
fn is_well_ended(client: Wire, framing: Framing, last: &[u8]) -> bool {
    let text = String::from_utf8_lossy(last);
    let ends: &[&str] = match client {
        Wire::Responses => &["response.completed", "response.incomplete", "response.failed"],
        Wire::Chat => &["[DONE]", "\"error\""],
        Wire::Messages => &["message_stop", "\"error\""],
        Wire::Gemini => &["finishReason", "\"error\""],
    };
    let event = match framing {
        Framing::Events => text.trim_end().rsplit("\n\n").next().unwrap_or_default(),
        Framing::Array => text
            .rsplit(",\r\n")
            .next()
            .filter(|_| text.ends_with(']'))
            .unwrap_or_default(),
        Framing::Messages => &text,
    };
    ends.iter().any(|end| event.contains(end))
}

/// What packs an answer is its thread's and no stream's: it is made by the first that is long.
fn warm(vendor: VendorWire) {
    let client = if vendor == VendorWire::Responses {
        Wire::Chat
    } else {
        Wire::Responses
    };
    let says = says(vendor);
    let one = event(&format!("{}{}{}", says.text[0], "word @ ".repeat(100), says.text[1]));
    let script = many("warms up", &says, &one, 100);
    held(client, vendor, Framing::Events, &Flat::default(), &script);
}

fn holds_little(vendor: VendorWire) {
    warm(vendor);
    let mut worst = (0, String::new());
    let mut is_next = true;
    for client in CLIENTS.into_iter().rev() {
        if !matches!(Lane::between(client, vendor), Some(Lane::Translate(_))) {
            continue;
        }
        let is_first = std::mem::take(&mut is_next);
        let framings: &[Framing] = match client {
            Wire::Gemini => &[Framing::Events, Framing::Array],
            Wire::Responses | Wire::Chat | Wire::Messages => &[Framing::Events],
        };
        for (framing, script) in framings
            .iter()
            .flat_map(|framing| hostile(vendor, is_first).into_iter().map(move |it| (*framing, it)))
        {
            let context = format!("{} from {} for {}", script.name, vendor.name(), client.name());
            let (most, told, last) = held(client, vendor, framing, &Flat::default(), &script);
            assert!(
                most <= MOST,
                "{context}: {most} bytes were held, {told} were told, {}",
                &script.start[..script.start.len().min(200)]
            );
            let is_ended = is_well_ended(client, framing, &last) || client == Wire::Responses && told > 1 << 19;
            assert!(
                is_ended,
                "{context}: {}",
                String::from_utf8_lossy(&last[last.len().saturating_sub(300)..])
            );
            if most > worst.0 {
                worst = (most, context);
            }
        }
    }
    println!("{} bytes at most: {}", worst.0, worst.1);
}

#[test]
fn a_stream_of_responses_holds_no_more_than_it_may() {
    holds_little(VendorWire::Responses);
}

#[test]
fn a_stream_of_chat_holds_no_more_than_it_may() {
    holds_little(VendorWire::Chat);
}

#[test]
fn a_stream_of_messages_holds_no_more_than_it_may() {
    holds_little(VendorWire::Messages);
}

#[test]
fn a_stream_of_gemini_holds_no_more_than_it_may() {
    holds_little(VendorWire::Gemini);
}

#[test]
fn a_stream_of_converse_holds_no_more_than_it_may() {
    holds_little(VendorWire::Converse);
}
