//! One answer over HTTP, from its script to the head and the writes of its body. Knows no connection.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::asked::{Asked, Kind};
use super::render::{self, Turn};
use super::reply::{Pump, Reply, Scripted};
use super::script::{Answer, Break, Script};
use super::truth::Ended;
use super::wire::Control;
use super::{Sent, Shared, bedrock};

/// One call that is being answered.
pub(super) struct Exchange {
    pub(super) shared: Arc<Shared>,
    pub(super) control: Arc<Control>,
    pub(super) asked: Asked,
    pub(super) number: usize,
    pub(super) sent: Sent,
    pub(super) path: String,
}

pub(super) async fn answer(exchange: &Exchange, script: Script) -> Result<Response<Reply>, Scripted> {
    let Exchange {
        shared,
        control,
        number,
        ..
    } = exchange;
    let mut waiting = Waiting {
        shared: Arc::clone(shared),
        number: *number,
        is_over: false,
    };
    tokio::time::sleep(script.delay).await;
    if script.hangs {
        std::future::pending::<()>().await;
    }
    if let Some(garbage) = &script.garbage {
        control.spoil(garbage.clone());
    }
    if script.hang_up.is_some() || script.garbage.is_some() {
        control.break_off(script.hang_up.unwrap_or(Break::Fin));
        shared.truth.close(*number, Ended::Broken);
        return Err(Scripted);
    }
    control.limit_writes(script.write_size);
    waiting.is_over = true;
    Ok(reply(exchange, script))
}

/// Notes a client that went before the status line.
struct Waiting {
    shared: Arc<Shared>,
    number: usize,
    is_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.truth.close(self.number, Ended::ClientGone);
            self.shared.announce();
        }
    }
}

fn reply(exchange: &Exchange, script: Script) -> Response<Reply> {
    let Exchange {
        shared,
        control,
        asked,
        number,
        sent,
        path,
    } = exchange;
    let mut response = Response::builder().status(script.status);
    for (name, value) in vendor_headers(*number).chain(script.headers.iter().cloned()) {
        response = response.header(name, value);
    }
    let (content_type, chunks) = chunks(shared, asked, *number, path, &script);
    if !script.headers.iter().any(|(name, _)| name == "content-type") {
        response = response.header(header::CONTENT_TYPE, content_type);
    }
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let is_stream = content_type.starts_with("text/event-stream") || chunks.len() > 1;
    let body = if (is_stream || script.cut.is_some()) && length > 0 {
        if script.declares_length || !is_stream {
            response = response.header(header::CONTENT_LENGTH, length);
        }
        let (sender, receiver) = mpsc::channel(1);
        let pump = Pump {
            shared: Arc::clone(shared),
            sender,
            chunks,
            script,
            number: *number,
            sent: sent.clone(),
        };
        shared.pumps.spawn(pump.run());
        Reply::Stream {
            receiver,
            control: Arc::clone(control),
            breaking: None,
        }
    } else {
        let whole = chunks.concat();
        sent.add(&whole);
        finish_whole(shared, *number, script.status, whole.len());
        Reply::Whole(Some(whole.into()))
    };
    response.body(body).expect("scripted headers are valid")
}

fn finish_whole(shared: &Shared, number: usize, status: u16, length: usize) {
    shared.truth.amend(number, |entry| {
        entry.reported = status == 200;
        entry.bytes_sent = length;
    });
    shared
        .truth
        .close(number, if status < 400 { Ended::Sent } else { Ended::Refused });
    shared.announce();
}

/// The content type and the writes of an answer.
fn chunks(shared: &Shared, asked: &Asked, number: usize, path: &str, script: &Script) -> (&'static str, Vec<Bytes>) {
    match &script.answer {
        Answer::Body(body) => return ("application/json", vec![body.clone()]),
        Answer::Chunks(chunks) => return ("text/event-stream", chunks.clone()),
        Answer::Turn(_) | Answer::ToolRound { .. } => {}
    }
    let entry = shared.truth.entry(number);
    let output = asked.output(script);
    let turn = Turn {
        id: &entry.response_id,
        model: &asked.model,
        output: &output,
        usage: entry.usage,
        extra: &script.extra,
        ending: &script.ending,
    };
    let pretty = |value: Value| {
        let text = serde_json::to_string_pretty(&value).expect("a JSON value serialises");
        ("application/json", vec![Bytes::from(text)])
    };
    let frames = |events: Vec<render::Event>| {
        let frames = events.iter().map(|event| Bytes::from(render::sse(event)));
        ("text/event-stream; charset=utf-8", frames.collect())
    };
    match (Kind::of(path), asked.stream && !script.streams_nothing) {
        (Kind::Chat, true) => {
            let chunks = render::chat_chunks(&turn, asked.include_usage);
            let frames = chunks.iter().map(|chunk| Bytes::from(format!("data: {chunk}\n\n")));
            ("text/event-stream; charset=utf-8", frames.collect())
        }
        (Kind::Chat, false) => pretty(render::chat_body(&turn)),
        (Kind::Compact, _) => pretty(render::compact_body(&turn)),
        (Kind::Count(name), _) => pretty(json!({name: COUNTED})),
        (Kind::Messages, true) => frames(render::messages::events(&turn)),
        (Kind::Bedrock, true) => (bedrock::FRAMES, bedrock::frames(&render::messages::events(&turn))),
        (Kind::Messages | Kind::Bedrock, false) => pretty(render::messages::body(&turn)),
        (Kind::Converse, true) => (bedrock::FRAMES, bedrock::happenings(&render::converse::events(&turn))),
        (Kind::Converse, false) => pretty(render::converse::body(&turn)),
        (Kind::Gemini, true) => {
            let pieces = render::gemini::stream(&render::gemini::chunks(&turn), asked.as_events);
            let kind = if asked.as_events {
                "text/event-stream"
            } else {
                "application/json; charset=UTF-8"
            };
            (kind, pieces.into_iter().map(Bytes::from).collect())
        }
        (Kind::Gemini, false) => pretty(render::gemini::body(&turn)),
        (Kind::Responses, true) => frames(render::responses_events(&turn)),
        (Kind::Responses, false) => pretty(render::responses_body(&turn)),
    }
}

/// What every count of tokens comes to.
const COUNTED: u64 = 2_095;

/// What the head of an answer says of its request.
pub(super) fn request_id(number: usize) -> String {
    format!("req_{number:032x}")
}

fn vendor_headers(number: usize) -> impl Iterator<Item = (String, String)> {
    [
        ("x-request-id", request_id(number)),
        ("openai-processing-ms", "42".to_owned()),
        ("openai-version", "2020-10-01".to_owned()),
        ("x-ratelimit-limit-requests", "10000".to_owned()),
        ("x-ratelimit-remaining-requests", "9999".to_owned()),
        (
            "strict-transport-security",
            "max-age=31536000; includeSubDomains; preload".to_owned(),
        ),
        ("cf-ray", "9a1b2c3d4e5f6071-FRA".to_owned()),
        (
            "set-cookie",
            "__cf_bm=vendor-cookie; path=/; HttpOnly; Secure".to_owned(),
        ),
        ("alt-svc", "h3=\":443\"; ma=86400".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
}
