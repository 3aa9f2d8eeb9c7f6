//! `docs/lanes.md`: what each pair of wires carries, drops and refuses, found by asking. With `RELAY_WRITE_DOCS` set the
//! page is written; without, it must be as it would be.

use std::fmt::Write as _;

use super::*;
use crate::{LANES, Lane};

/// What a client may ask for, and how it says so on its wire: members added to the smallest request there is.
type Ask = (&'static str, [Option<&'static str>; 2]);

/// On Responses and on chat.
const ASKS: &[Ask] = &[
    (
        "text",
        [
            Some(r#""input":"x""#),
            Some(r#""messages":[{"role":"user","content":"x"}]"#),
        ],
    ),
    (
        "rules at the beginning",
        [
            Some(r#""instructions":"S","input":"x""#),
            Some(
                r#""messages":[{"role":"system","content":"S"},{"role":"developer","content":"D"},{"role":"user","content":"x"}]"#,
            ),
        ],
    ),
    (
        "rules in the middle",
        [
            Some(
                r#""input":[{"role":"user","content":"x"},{"role":"developer","content":"D"},{"role":"user","content":"y"}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":"x"},{"role":"system","content":"S"},{"role":"user","content":"y"}]"#,
            ),
        ],
    ),
    (
        "functions",
        [
            Some(r#""input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]"#),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#,
            ),
        ],
    ),
    (
        "a function that must be called",
        [
            Some(
                r#""input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"tool_choice":{"type":"function","name":"f"}"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"f"}}"#,
            ),
        ],
    ),
    (
        "no two calls at once",
        [
            Some(
                r#""input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"parallel_tool_calls":false"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false"#,
            ),
        ],
    ),
    (
        "calls and their results",
        [
            Some(
                r#""input":[{"role":"user","content":"x"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"y"}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"y"}]"#,
            ),
        ],
    ),
    (
        "a tool with free text",
        [
            Some(r#""input":"x","tools":[{"type":"custom","name":"f"}]"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"custom","custom":{"name":"f"}}]"#),
        ],
    ),
    (
        "a search by the vendor, beside functions",
        [
            Some(
                r#""input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"web_search"}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}],"web_search_options":{}"#,
            ),
        ],
    ),
    (
        "a search by the vendor alone",
        [
            Some(r#""input":"x","tools":[{"type":"web_search"}]"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"web_search_options":{}"#),
        ],
    ),
    (
        "a picture",
        [
            Some(
                r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBO"}]}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]}]"#,
            ),
        ],
    ),
    (
        "a picture by address",
        [
            Some(r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"https://e/x.png"}]}]"#),
            Some(
                r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://e/x.png"}}]}]"#,
            ),
        ],
    ),
    (
        "a PDF",
        [
            Some(
                r#""input":[{"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}]}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}}]}]"#,
            ),
        ],
    ),
    (
        "a PDF by address",
        [
            Some(r#""input":[{"role":"user","content":[{"type":"input_file","file_url":"https://e/a.pdf"}]}]"#),
            None,
        ],
    ),
    (
        "sound",
        [
            Some(
                r#""input":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]"#,
            ),
        ],
    ),
    (
        "a file stored at the vendor",
        [
            Some(r#""input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]"#),
            Some(r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]"#),
        ],
    ),
    (
        "some JSON",
        [
            Some(r#""input":"x","text":{"format":{"type":"json_object"}}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}"#),
        ],
    ),
    (
        "JSON by a schema",
        [
            Some(r#""input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}}"#),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}"#,
            ),
        ],
    ),
    (
        "a limit of output",
        [
            Some(r#""input":"x","max_output_tokens":9"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"max_completion_tokens":9"#),
        ],
    ),
    (
        "texts that end the answer",
        [None, Some(r#""messages":[{"role":"user","content":"x"}],"stop":["a"]"#)],
    ),
    (
        "temperature, top_p",
        [
            Some(r#""input":"x","temperature":0.5,"top_p":0.9"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"temperature":0.5,"top_p":0.9"#),
        ],
    ),
    (
        "a seed",
        [None, Some(r#""messages":[{"role":"user","content":"x"}],"seed":1"#)],
    ),
    (
        "penalties",
        [
            None,
            Some(r#""messages":[{"role":"user","content":"x"}],"presence_penalty":1"#),
        ],
    ),
    (
        "an effort",
        [
            Some(r#""input":"x","reasoning":{"effort":"low"}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"reasoning_effort":"low""#),
        ],
    ),
    (
        "verbosity",
        [
            Some(r#""input":"x","text":{"verbosity":"low"}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"verbosity":"low""#),
        ],
    ),
    (
        "a key for the cache",
        [
            Some(r#""input":"x","prompt_cache_key":"k""#),
            Some(r#""messages":[{"role":"user","content":"x"}],"prompt_cache_key":"k""#),
        ],
    ),
    (
        "a tier",
        [
            Some(r#""input":"x","service_tier":"flex""#),
            Some(r#""messages":[{"role":"user","content":"x"}],"service_tier":"flex""#),
        ],
    ),
    (
        "labels",
        [
            Some(r#""input":"x","metadata":{"a":"b"}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"metadata":{"a":"b"}"#),
        ],
    ),
    (
        "the user's name",
        [
            Some(r#""input":"x","safety_identifier":"u""#),
            Some(r#""messages":[{"role":"user","content":"x"}],"user":"u""#),
        ],
    ),
    (
        "several answers",
        [None, Some(r#""messages":[{"role":"user","content":"x"}],"n":2"#)],
    ),
    (
        "log probabilities",
        [
            Some(r#""input":"x","top_logprobs":2"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"logprobs":true"#),
        ],
    ),
    (
        "to be stored, and to go on from what is",
        [Some(r#""input":"x","previous_response_id":"r""#), None],
    ),
];

const CLIENTS: [Wire; 2] = [Wire::Responses, Wire::Chat];

fn outcome(client: Wire, vendor: VendorWire, is_openai: bool, members: &str) -> &'static str {
    let body = format!(r#"{{"model":"m",{members}}}"#);
    let target = Target {
        is_openai,
        ..target(false)
    };
    match translate(client, vendor, body.as_bytes(), &target) {
        Ok(Translated { dropped: None, .. }) => "carried",
        Ok(Translated { dropped: Some(_), .. }) => "dropped",
        Err(refusal) if refusal.message.contains("cannot say") => "refused",
        Err(refusal) => panic!("{members}: {}", refusal.message),
    }
}

fn page() -> String {
    let mut page = String::from(HEAD);
    for (index, client) in CLIENTS.into_iter().enumerate() {
        let vendors: Vec<VendorWire> = VendorWire::ALL
            .into_iter()
            .filter(|vendor| matches!(Lane::between(client, *vendor), Some(Lane::Translate(_))))
            .collect();
        write!(page, "\n## Clients of {}\n\n| |", client.name()).unwrap();
        for vendor in &vendors {
            write!(page, " {} |", vendor.name()).unwrap();
        }
        page.push_str("\n|---|");
        page.push_str(&"---|".repeat(vendors.len()));
        page.push('\n');
        for (what, says) in ASKS {
            let Some(members) = says[index] else { continue };
            write!(page, "| {what} |").unwrap();
            for vendor in &vendors {
                let (of_openai, of_others) = (
                    outcome(client, *vendor, true, members),
                    outcome(client, *vendor, false, members),
                );
                if of_openai == of_others {
                    write!(page, " {of_openai} |").unwrap();
                } else {
                    write!(page, " {of_openai} by OpenAI, else {of_others} |").unwrap();
                }
            }
            page.push('\n');
        }
    }
    page.push_str("\n## Every pair\n\n| client \\ vendor |");
    for (vendor, _) in &LANES {
        write!(page, " {} |", vendor.name()).unwrap();
    }
    page.push_str("\n|---|---|---|---|---|---|\n");
    for client in [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini] {
        write!(page, "| {} |", client.name()).unwrap();
        for (vendor, _) in &LANES {
            let lane = match Lane::between(client, *vendor) {
                Some(Lane::Verbatim) => "verbatim",
                Some(Lane::Translate(_)) => "translated",
                None => "refused",
            };
            write!(page, " {lane} |").unwrap();
        }
        page.push('\n');
    }
    page
}

const HEAD: &str = "# Lanes

A call whose client and vendor speak the same wire crosses byte for byte; another one is read and written anew, both ways. This
page is written by a test from the table of lanes, by asking for each of these things.

- *carried*: the vendor is told the same.
- *dropped*: the answer is the same in kind without it; the answer's `relay-dropped` header names the field.
- *refused*: the answer would be another one. The call is refused with 400, which names the field, before it costs anything.

Pictures and files by address are passed on as addresses; the relay never fetches them. What a vendor hides of its reasoning
comes back to a vendor of the same wire and to no other.
";

#[test]
fn the_page_of_lanes_says_what_every_pair_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lanes.md");
    let wanted = page();
    if std::env::var_os("RELAY_WRITE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == wanted,
        "docs/lanes.md is stale; set RELAY_WRITE_DOCS to write it"
    );
}

#[test]
fn every_cell_of_the_table_has_both_its_codecs() {
    for (vendor, cells) in &LANES {
        for (client, lane) in cells {
            let translator = Translator::new(*client, *vendor, Framing::Events, reply(), Flat::default());
            match lane {
                Some(Lane::Translate(_)) => assert!(translator.is_some(), "{client:?} to {vendor:?}"),
                Some(Lane::Verbatim) => {}
                None => assert!(translator.is_none(), "{client:?} to {vendor:?} could be translated"),
            }
        }
    }
}
