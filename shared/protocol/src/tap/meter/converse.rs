//! Events of Bedrock's Converse, each under the name that its frame tells, and its whole answers. They are read whole: no
//! client speaks this wire, so every answer is written anew.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Meter, Verdict, label};
use crate::scan::{Field, Scan};
use crate::tap::observed::Ending;
use crate::usage::converse;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stopped<'a> {
    #[serde(borrow)]
    stop_reason: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct More<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use: Option<Input<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<Thought<'a>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Thought<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl Meter {
    pub(super) fn converse_event(&mut self, data: &[u8]) -> Verdict {
        type Happening<'a> = BTreeMap<&'a str, &'a RawValue>;
        let Ok(happened) = serde_json::from_slice::<Happening<'_>>(data) else {
            return Verdict::Keep;
        };
        let Some((name, payload)) = happened.first_key_value() else {
            return Verdict::Keep;
        };
        match *name {
            "contentBlockDelta" => {
                self.converse_delta(payload.get());
                self.look_for_hidden(data, &[b"\"signature\"", b"\"redactedContent\""]);
            }
            "messageStop" => {
                let stopped = serde_json::from_str::<Stopped<'_>>(payload.get());
                let ending = stopped.map_or(Ending::Completed, |stopped| ending(&stopped.stop_reason));
                self.told.get_or_insert_default().ends(ending);
            }
            "metadata" => {
                let told = serde_json::from_str::<Metadata<'_>>(payload.get());
                let usage = told.ok().and_then(|metadata| metadata.usage);
                self.converse_usage(usage.map(|usage| usage.get().as_bytes()));
                let told = self.told.take().unwrap_or_default();
                self.observed.ending = Some(told.ending().unwrap_or(Ending::Completed));
                return Verdict::Terminal;
            }
            failure if failure.ends_with("Exception") => {
                self.observed.error_code = label(failure);
                self.observed.ending = Some(Ending::Failed);
                return Verdict::Terminal;
            }
            _ => {}
        }
        Verdict::Keep
    }

    fn converse_delta(&mut self, payload: &str) {
        let Ok(More { delta }) = serde_json::from_str::<More<'_>>(payload) else {
            return;
        };
        let thought = delta.reasoning_content.and_then(|thought| thought.text);
        let input = delta.tool_use.and_then(|tool| tool.input);
        for text in [delta.text, thought, input].into_iter().flatten() {
            let text = text.get().trim_matches('"').as_bytes();
            self.observed.produced += text.len();
            self.sample.add(text);
        }
    }

    fn converse_usage(&mut self, raw: Option<&[u8]>) {
        if let Some(raw) = raw.filter(|raw| *raw != b"null") {
            self.observed.usage = converse::read(raw);
            self.observed.is_unsound = self.observed.usage.is_none();
        }
    }

    /// A document that is the whole answer.
    pub(super) fn converse_whole(&mut self, scan: &Scan) {
        self.converse_usage(scan.found(Field::Usage));
        self.observed.produced = scan.text();
        if scan.is_closed() {
            let reason = scan.found_text(Field::Stop);
            self.observed.ending = Some(reason.map_or(Ending::Completed, |reason| ending(&reason)));
        }
    }
}

/// Why a message ended. A call of a tool is a whole answer.
fn ending(reason: &str) -> Ending {
    match reason {
        "max_tokens" | "guardrail_intervened" | "content_filtered" | "model_context_window_exceeded" => {
            Ending::Incomplete
        }
        "malformed_model_output" | "malformed_tool_use" => Ending::Failed,
        _ => Ending::Completed,
    }
}
