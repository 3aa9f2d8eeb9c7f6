//! `docs/lanes.md`: what each pair of wires carries, drops and refuses, found by asking. With `RELAY_WRITE_DOCS` set the
//! page is written; without, it must be as it would be.

use std::fmt::Write as _;

use super::*;
use crate::{LANES, Lane};

/// What a client may ask for, and how it says so on its wire: members added to the smallest request there is.
type Ask = (&'static str, [Option<&'static str>; 4]);

/// On Responses, on chat, on Messages and on Gemini.
const ASKS: &[Ask] = &[
    (
        "text",
        [
            Some(r#""input":"x""#),
            Some(r#""messages":[{"role":"user","content":"x"}]"#),
            Some(r#""messages":[{"role":"user","content":"x"}]"#),
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}]"#),
        ],
    ),
    (
        "rules at the beginning",
        [
            Some(r#""instructions":"S","input":"x""#),
            Some(
                r#""messages":[{"role":"system","content":"S"},{"role":"developer","content":"D"},{"role":"user","content":"x"}]"#,
            ),
            Some(r#""system":"S","messages":[{"role":"user","content":"x"}]"#),
            Some(r#""systemInstruction":{"parts":[{"text":"S"}]},"contents":[{"role":"user","parts":[{"text":"x"}]}]"#),
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
            Some(
                r#""messages":[{"role":"user","content":"x"},{"role":"system","content":"S"},{"role":"user","content":"y"}]"#,
            ),
            None,
        ],
    ),
    (
        "functions",
        [
            Some(r#""input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]"#),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","input_schema":{"type":"object"}}]"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object"}}]}]"#,
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
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f"}"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object"}}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f"]}}"#,
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
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}"#,
            ),
            None,
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
            Some(
                r#""messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"y"}]}]"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]},{"role":"model","parts":[{"functionCall":{"id":"c","name":"f","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"id":"c","name":"f","response":{"output":"y"}}}]}]"#,
            ),
        ],
    ),
    (
        "a tool with free text",
        [
            Some(r#""input":"x","tools":[{"type":"custom","name":"f"}]"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"custom","custom":{"name":"f"}}]"#),
            None,
            None,
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
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}]"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object"}}]},{"googleSearch":{}}]"#,
            ),
        ],
    ),
    (
        "a search by the vendor alone",
        [
            Some(r#""input":"x","tools":[{"type":"web_search"}]"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"web_search_options":{}"#),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search_20250305","name":"web_search"}]"#,
            ),
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"tools":[{"googleSearch":{}}]"#),
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
            Some(
                r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}}]}]"#,
            ),
            Some(r#""contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"image/png","data":"iVBO"}}]}]"#),
        ],
    ),
    (
        "a picture by address",
        [
            Some(r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"https://e/x.png"}]}]"#),
            Some(
                r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://e/x.png"}}]}]"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://e/x.png"}}]}]"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"fileData":{"fileUri":"https://e/x.png","mimeType":"image/png"}}]}]"#,
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
            Some(
                r#""messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"}}]}]"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"application/pdf","data":"JVBE"}}]}]"#,
            ),
        ],
    ),
    (
        "a PDF by address",
        [
            Some(r#""input":[{"role":"user","content":[{"type":"input_file","file_url":"https://e/a.pdf"}]}]"#),
            None,
            Some(
                r#""messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://e/a.pdf"}}]}]"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"fileData":{"fileUri":"https://e/a.pdf","mimeType":"application/pdf"}}]}]"#,
            ),
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
            None,
            Some(r#""contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}]}]"#),
        ],
    ),
    (
        "a file stored at the vendor",
        [
            Some(r#""input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]"#),
            Some(r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]"#),
            Some(
                r#""messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"fileData":{"fileUri":"gs://b/a.pdf","mimeType":"application/pdf"}}]}]"#,
            ),
        ],
    ),
    (
        "some JSON",
        [
            Some(r#""input":"x","text":{"format":{"type":"json_object"}}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}"#),
            None,
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"responseMimeType":"application/json"}"#,
            ),
        ],
    ),
    (
        "JSON by a schema",
        [
            Some(r#""input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}}"#),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}"#,
            ),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"responseMimeType":"application/json","responseJsonSchema":{"type":"object"}}"#,
            ),
        ],
    ),
    (
        "a limit of output",
        [
            Some(r#""input":"x","max_output_tokens":9"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"max_completion_tokens":9"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"max_tokens":9"#),
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"maxOutputTokens":9}"#),
        ],
    ),
    (
        "texts that end the answer",
        [
            None,
            Some(r#""messages":[{"role":"user","content":"x"}],"stop":["a"]"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"stop_sequences":["a"]"#),
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"stopSequences":["a"]}"#),
        ],
    ),
    (
        "temperature, top_p",
        [
            Some(r#""input":"x","temperature":0.5,"top_p":0.9"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"temperature":0.5,"top_p":0.9"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"temperature":0.5,"top_p":0.9"#),
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"temperature":0.5,"topP":0.9}"#,
            ),
        ],
    ),
    (
        "a seed",
        [
            None,
            Some(r#""messages":[{"role":"user","content":"x"}],"seed":1"#),
            None,
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"seed":1}"#),
        ],
    ),
    (
        "penalties",
        [
            None,
            Some(r#""messages":[{"role":"user","content":"x"}],"presence_penalty":1"#),
            None,
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"presencePenalty":1}"#),
        ],
    ),
    (
        "an effort",
        [
            Some(r#""input":"x","reasoning":{"effort":"low"}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"reasoning_effort":"low""#),
            Some(
                r#""messages":[{"role":"user","content":"x"}],"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}"#,
            ),
            Some(
                r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"thinkingConfig":{"thinkingLevel":"LOW"}}"#,
            ),
        ],
    ),
    (
        "verbosity",
        [
            Some(r#""input":"x","text":{"verbosity":"low"}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"verbosity":"low""#),
            None,
            None,
        ],
    ),
    (
        "a key for the cache",
        [
            Some(r#""input":"x","prompt_cache_key":"k""#),
            Some(r#""messages":[{"role":"user","content":"x"}],"prompt_cache_key":"k""#),
            None,
            None,
        ],
    ),
    (
        "a tier",
        [
            Some(r#""input":"x","service_tier":"flex""#),
            Some(r#""messages":[{"role":"user","content":"x"}],"service_tier":"flex""#),
            None,
            None,
        ],
    ),
    (
        "labels",
        [
            Some(r#""input":"x","metadata":{"a":"b"}"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"metadata":{"a":"b"}"#),
            None,
            None,
        ],
    ),
    (
        "the user's name",
        [
            Some(r#""input":"x","safety_identifier":"u""#),
            Some(r#""messages":[{"role":"user","content":"x"}],"user":"u""#),
            Some(r#""messages":[{"role":"user","content":"x"}],"metadata":{"user_id":"u"}"#),
            None,
        ],
    ),
    (
        "several answers",
        [
            None,
            Some(r#""messages":[{"role":"user","content":"x"}],"n":2"#),
            None,
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"candidateCount":2}"#),
        ],
    ),
    (
        "log probabilities",
        [
            Some(r#""input":"x","top_logprobs":2"#),
            Some(r#""messages":[{"role":"user","content":"x"}],"logprobs":true"#),
            None,
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"responseLogprobs":true}"#),
        ],
    ),
    (
        "to be stored, and to go on from what is",
        [
            Some(r#""input":"x","previous_response_id":"r""#),
            None,
            None,
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"cachedContent":"cachedContents/c""#),
        ],
    ),
    (
        "how many tokens to draw from",
        [
            None,
            None,
            Some(r#""messages":[{"role":"user","content":"x"}],"top_k":5"#),
            Some(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"topK":5}"#),
        ],
    ),
    (
        "marks for a cache",
        [
            None,
            None,
            Some(
                r#""messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]"#,
            ),
            None,
        ],
    ),
    (
        "old thoughts to be cleared",
        [
            None,
            None,
            Some(
                r#""messages":[{"role":"user","content":"x"}],"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}"#,
            ),
            None,
        ],
    ),
    (
        "a tool that was searched for",
        [
            None,
            None,
            Some(
                r#""messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":[{"type":"tool_reference","tool_name":"g"}]}]}]"#,
            ),
            None,
        ],
    ),
    (
        "a tool that is added later",
        [
            None,
            None,
            Some(
                r#""messages":[{"role":"user","content":"x"},{"role":"system","content":[{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"name":"f","input_schema":{"type":"object"}}}}]}]"#,
            ),
            None,
        ],
    ),
];

const CLIENTS: [Wire; 4] = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini];

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
    for client in CLIENTS {
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
