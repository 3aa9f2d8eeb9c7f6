//! The recorded requests, streams and answers, and how they are put through a lane.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use relay_protocol::{
    Flat, Framing, Lane, Refusal, Reply, Shape, Tap, TapOptions, Target, Tokens, Translated, Translator, Usage,
    VendorWire, Wire, translate,
};

pub(crate) const CLIENTS: [Wire; 4] = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini];

/// One recorded file.
pub(crate) struct Fixture {
    pub(crate) wire: VendorWire,
    /// Without what says its kind.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn folder(wire: VendorWire) -> &'static str {
    match wire {
        VendorWire::Responses => "responses",
        VendorWire::Chat => "chat",
        VendorWire::Messages => "messages",
        VendorWire::Gemini => "gemini",
        VendorWire::Converse => "converse",
    }
}

/// The crate of the wires; libFuzzer's program stands in a folder of it.
pub(crate) fn root() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above
        .find(|folder| folder.join("fixtures").is_dir())
        .unwrap()
        .to_owned()
}

/// What was recorded of one kind (`requests`, `streams`, `answers`), of every wire, in order.
pub(crate) fn fixtures(kind: &str) -> Vec<Fixture> {
    let mut found = Vec::new();
    for wire in VendorWire::ALL {
        let folder = root().join("fixtures").join(folder(wire)).join(kind);
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_none_or(|ending| ending != "golden"));
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap().to_string_lossy();
            found.push(Fixture {
                wire,
                name: name.split('.').next().unwrap().to_owned(),
                bytes: fs::read(&path).unwrap(),
                path,
            });
        }
    }
    found
}

/// The clients whose calls are translated to this vendor.
pub(crate) fn others(vendor: VendorWire) -> impl Iterator<Item = Wire> {
    CLIENTS
        .into_iter()
        .filter(move |client| VendorWire::from(*client) != vendor)
}

pub(crate) fn target(vendor: VendorWire, is_streamed: bool) -> Target<'static> {
    Target {
        model: match vendor {
            VendorWire::Responses | VendorWire::Chat => "gpt-5.5",
            VendorWire::Messages => "claude-sonnet-4-5",
            VendorWire::Gemini => "gemini-3.5-flash",
            VendorWire::Converse => "anthropic.claude-sonnet-4-5-20250929-v1:0",
        },
        is_openai: vendor == VendorWire::Responses,
        is_streamed,
        max_output: Tokens::new(32_000),
    }
}

pub(crate) fn asked(client: Wire, vendor: VendorWire, body: &[u8]) -> Result<Translated, Refusal> {
    translate(client, vendor, body, &target(vendor, true))
}

pub(crate) fn reply() -> Reply {
    Reply {
        id: "0123456789abcdef".to_owned(),
        model: "the-model".to_owned(),
        created: 1_790_000_000,
        wants_usage: true,
    }
}

pub(crate) fn translator(client: Wire, vendor: VendorWire, framing: Framing) -> Translator {
    Translator::new(client, vendor, framing, reply(), Flat::default()).unwrap()
}

/// A vendor's stream as the translator takes it. Of Converse the frames were taken off: each line has a name and a
/// payload.
pub(crate) fn as_events(fixture: &Fixture) -> Vec<u8> {
    if fixture.wire != VendorWire::Converse {
        return fixture.bytes.clone();
    }
    let text = std::str::from_utf8(&fixture.bytes).unwrap();
    let event = |line: &str| {
        let (name, payload) = line.split_once(' ').unwrap();
        format!("data: {{\"{name}\":{payload}}}\n\n")
    };
    text.lines().map(event).collect::<String>().into_bytes()
}

/// Puts a stream through a lane in the given pieces, and gives what the client reads.
pub(crate) fn streamed<'a>(
    client: Wire,
    vendor: VendorWire,
    framing: Framing,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut translator = translator(client, vendor, framing);
    let mut tap = vendor
        .of_clients()
        .map(|wire| Tap::new(wire, Shape::Events, TapOptions::default()));
    let mut read = Vec::new();
    for chunk in chunks {
        let usage = tap.as_mut().and_then(|tap| {
            tap.push(chunk.to_vec().into()).for_each(drop);
            tap.observed().usage
        });
        translator.push(Bytes::copy_from_slice(chunk), usage);
        read.extend(taken(&mut translator));
    }
    let usage = tap.as_mut().and_then(|tap| {
        drop(tap.end());
        tap.observed().usage
    });
    translator.end(usage);
    read.extend(taken(&mut translator));
    read
}

/// All that there is to tell.
pub(crate) fn taken(translator: &mut Translator) -> Vec<u8> {
    std::iter::from_fn(|| translator.take()).flatten().collect()
}

/// Puts a whole answer through a lane.
pub(crate) fn answered(client: Wire, vendor: VendorWire, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let usage = vendor.of_clients().and_then(|wire| usage(wire, body));
    translator(client, vendor, Framing::Events).whole(body, usage)
}

fn usage(wire: Wire, body: &[u8]) -> Option<Usage> {
    let mut tap = Tap::new(wire, Shape::Whole, TapOptions::default());
    tap.push(body.to_vec().into()).for_each(drop);
    drop(tap.end());
    tap.observed().usage
}

/// JSON with a line for each member, its order and its numbers untouched.
pub(crate) fn laid_out(json: &[u8]) -> String {
    let text = std::str::from_utf8(json).unwrap();
    let (mut out, mut depth, mut in_string, mut is_escaped) = (String::new(), 0_usize, false, false);
    let mut last = ' ';
    for c in text.chars() {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&" ".repeat(depth));
        };
        if in_string {
            in_string = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            out.push(c);
        } else {
            match c {
                '"' => {
                    in_string = true;
                    if matches!(last, '{' | '[') {
                        line(&mut out, depth);
                    }
                    out.push(c);
                }
                '{' | '[' => {
                    if matches!(last, '{' | '[') {
                        line(&mut out, depth);
                    }
                    depth += 1;
                    out.push(c);
                }
                '}' | ']' => {
                    depth -= 1;
                    if !matches!(last, '{' | '[') {
                        line(&mut out, depth);
                    }
                    out.push(c);
                }
                ',' => {
                    out.push(c);
                    line(&mut out, depth);
                }
                ' ' | '\n' | '\r' | '\t' => {}
                c => {
                    if matches!(last, '{' | '[') {
                        line(&mut out, depth);
                    }
                    out.push(c);
                }
            }
        }
        if !c.is_ascii_whitespace() {
            last = c;
        }
    }
    out.push('\n');
    out
}

/// There is a lane between them that writes anew.
pub(crate) fn has_lane(client: Wire, vendor: VendorWire) -> bool {
    matches!(Lane::between(client, vendor), Some(Lane::Translate(_)))
}
