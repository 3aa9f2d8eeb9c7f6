//! A socket of the Responses wire served over HTTP: what a message asks becomes a body, and each event of a stream a
//! message. Keeps what stands behind the last answer, which the client names instead of sending it again, as long as its
//! socket lives. Knows no transport and no account.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::codec::{Framing, Outbox, Reply, WriteAnswer as _};
use crate::envelope::EnvelopeError;
use crate::event::{Event, Stop};
use crate::responses::{Writer, elements, join};
use crate::splice::with_members;
use crate::sse::split::Split;
use crate::usage::Usage;

/// The last event of an answer holds all of it, which is no longer than this.
const LONGEST_EVENT: usize = 20 << 20;

/// One client's side of a socket.
pub struct Bridge {
    /// So many bytes of a conversation are kept.
    most: usize,
    last: Option<Exchanged>,
    /// What the running call gave its vendor: elements of an array, without its brackets.
    asked: String,
    split: Split,
}

/// What was said up to an answer, as elements of an array.
struct Exchanged {
    id: String,
    items: String,
}

/// What a message asks for.
pub enum Asked {
    /// A call, with the body of the same call over HTTP.
    Call(Vec<u8>),
    /// To be told at once: nothing is to be generated, or it cannot be served.
    Told(Vec<Vec<u8>>),
}

/// A `response.create`.
#[derive(Deserialize)]
struct Create<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_response_id: Option<Cow<'a, str>>,
    generate: Option<bool>,
}

/// The last event of an answer.
#[derive(Deserialize)]
struct Ended<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    response: Option<Answered<'a>>,
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

impl Bridge {
    /// One that keeps conversations of up to `most` bytes. Of a longer one the client is told that it is not known, and
    /// sends it again.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            last: None,
            asked: String::new(),
            split: Split::new(LONGEST_EVENT),
        }
    }

    /// Takes a `response.create`. `reply` is what an answer of ours says of itself.
    ///
    /// # Errors
    /// It is not what the wire says.
    pub fn ask(&mut self, message: &[u8], reply: Reply) -> Result<Asked, EnvelopeError> {
        let create: Create<'_> = serde_json::from_slice(message).map_err(|_| EnvelopeError::Type {
            field: "input",
            expected: "a text or a list, beside a `previous_response_id` that is a text",
        })?;
        let mut items = match (create.previous_response_id.as_deref(), self.last.take()) {
            (None, _) => String::new(),
            (Some(id), Some(last)) if last.id == id => last.items,
            (Some(_), _) => return Ok(Asked::Told(vec![Self::unknown()])),
        };
        join(&mut items, &elements(create.input));
        self.asked = items;
        self.split = Split::new(LONGEST_EVENT);
        if create.generate == Some(false) {
            return Ok(Asked::Told(self.warm(reply)));
        }
        let input = format!("[{}]", self.asked);
        let without = ["type", "generate", "previous_response_id", "input", "stream"];
        with_members(message, &without, &[("stream", "true"), ("input", &input)]).map(Asked::Call)
    }

    /// The messages of a piece of the call's stream. None after an event that is longer than one may be.
    pub fn push(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let is_whole = self.split.push(piece, |data| messages.push(data.to_vec()));
        if is_whole.is_err() {
            self.split = Split::new(0);
        }
        messages.iter().for_each(|message| self.note(message));
        messages
    }

    /// Whether this is the id of the last answer.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.last.as_ref().is_some_and(|last| last.id == id)
    }

    /// What OpenAI says to an id that it does not know: its clients send the whole conversation then.
    #[must_use]
    pub fn unknown() -> Vec<u8> {
        let told = json!({"type": "error", "status": 400, "error": {
            "type": "invalid_request_error", "code": "previous_response_not_found", "param": "previous_response_id",
            "message": "The previous response is not known on this connection; send the whole input.",
        }});
        told.to_string().into_bytes()
    }

    /// An answer that ends a call stands behind the next one.
    fn note(&mut self, message: &[u8]) {
        // Every event names its type; few are parsed whole.
        if memchr::memmem::find(message, b"response.completed").is_none() {
            return;
        }
        let Ok(Ended {
            kind,
            response: Some(response),
        }) = serde_json::from_slice::<Ended<'_>>(message)
        else {
            return;
        };
        if kind != "response.completed" {
            return;
        }
        let mut items = std::mem::take(&mut self.asked);
        join(&mut items, &elements(response.output));
        self.last = (items.len() <= self.most).then(|| Exchanged {
            id: response.id.into_owned(),
            items,
        });
    }

    /// An answer without a word: the client gets to know its id, under which what it has said is kept.
    fn warm(&mut self, reply: Reply) -> Vec<Vec<u8>> {
        let mut out = Outbox::new(Framing::Messages);
        let mut writer = Writer::new(reply);
        for event in [
            Event::Begin,
            Event::Usage(Usage::default()),
            Event::Stop(Stop::Done),
            Event::End,
        ] {
            writer.write(event, &mut out);
        }
        let messages = out.take_messages();
        messages.iter().for_each(|message| self.note(message));
        messages
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn reply(id: &str) -> Reply {
        Reply {
            id: id.to_owned(),
            model: "m".to_owned(),
            created: 1,
            wants_usage: false,
        }
    }

    fn body(asked: Asked) -> Value {
        match asked {
            Asked::Call(body) => serde_json::from_slice(&body).unwrap(),
            Asked::Told(told) => panic!(
                "told {:?}",
                told.iter()
                    .map(|told| String::from_utf8_lossy(told))
                    .collect::<Vec<_>>()
            ),
        }
    }

    fn told(asked: Asked) -> Vec<Value> {
        match asked {
            Asked::Told(told) => told.iter().map(|told| serde_json::from_slice(told).unwrap()).collect(),
            Asked::Call(_) => panic!("a call"),
        }
    }

    #[test]
    fn a_call_says_over_http_what_its_message_said() {
        let mut bridge = Bridge::new(1000);
        let message = br#"{"type":"response.create","model":"m","tools":[{"b":1,"a":2}],"input":"hi","stream":false,"store":false}"#;
        let Asked::Call(asked) = bridge.ask(message, reply("1")).unwrap() else {
            panic!()
        };
        let text = String::from_utf8(asked).unwrap();
        assert!(text.contains(r#""tools":[{"b":1,"a":2}]"#), "{text}");
        let asked: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            asked,
            json!({"model": "m", "tools": [{"b": 1, "a": 2}], "store": false, "stream": true,
            "input": [{"role": "user", "content": "hi"}]})
        );
    }

    #[test]
    fn what_stands_behind_an_answer_is_asked_again_where_its_id_is_named() {
        let mut bridge = Bridge::new(1000);
        let warm = br#"{"type":"response.create","model":"m","input":[{"n":1}, {"n":2}],"generate":false}"#;
        let warm = told(bridge.ask(warm, reply("1")).unwrap());
        let id = warm.last().unwrap()["response"]["id"].clone();
        assert_eq!(warm.last().unwrap()["type"], "response.completed");
        let next = json!({"type": "response.create", "model": "m", "input": [{"n": 3}], "previous_response_id": id});
        let asked = body(bridge.ask(next.to_string().as_bytes(), reply("2")).unwrap());
        assert_eq!(asked["input"], json!([{"n": 1}, {"n": 2}, {"n": 3}]));
        assert!(asked.get("previous_response_id").is_none());

        let stream = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n\
            event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"output\":[{\"n\":4}]}}\n\n";
        let mut messages = Vec::new();
        for byte in stream.as_bytes() {
            messages.extend(bridge.push(&[*byte]));
        }
        assert_eq!(messages.len(), 2);
        let next = json!({"type": "response.create", "input": [], "previous_response_id": "r"}).to_string();
        let asked = body(bridge.ask(next.as_bytes(), reply("3")).unwrap());
        assert_eq!(asked["input"], json!([{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]));
        // It was asked again, so it is no longer the last answer.
        let again = told(bridge.ask(next.as_bytes(), reply("4")).unwrap());
        assert_eq!(again[0]["error"]["code"], "previous_response_not_found");
    }

    #[test]
    fn what_is_too_long_to_be_kept_is_asked_for_again() {
        let mut bridge = Bridge::new(20);
        let message = br#"{"type":"response.create","input":"a text of some length","generate":false}"#;
        let id = told(bridge.ask(message, reply("1")).unwrap())[1]["response"]["id"].clone();
        assert!(bridge.last.is_none() && bridge.asked.is_empty());
        let next = json!({"type": "response.create", "input": [], "previous_response_id": id}).to_string();
        let told = told(bridge.ask(next.as_bytes(), reply("2")).unwrap());
        assert_eq!((&told[0]["status"], told.len()), (&json!(400), 1));
        assert!(
            bridge
                .ask(
                    br#"{"type":"response.create","input":"x","previous_response_id":7}"#,
                    reply("3")
                )
                .is_err()
        );
    }
}
