//! Calls by the million: each says in its `user` field whose it is, how it shall end and from which seed its usage
//! comes. Of each only what this vendor bills is kept, so that all of them fit.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::Shared;
use super::asked::Asked;
use super::render::{self, Turn};
use super::reply::{Reply, Scripted, json_reply};
use super::script::{Break, Ending, Output, PLAIN, Usage};
use super::wire::Control;

/// How a call shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Completed,
    /// Stopped at a limit.
    Incomplete,
    /// Failed inside the answer, with usage.
    Failed,
    /// The same without.
    FailedFree,
    /// An error status.
    Error,
    /// The connection breaks instead of an answer.
    HangUp,
    /// The connection breaks within the answer.
    Cut,
    /// Completed, and no usage is reported.
    Silent,
    /// The client leaves within the answer.
    Left,
    /// Refused by whoever stands between: never comes here.
    Unheard,
}

/// What the client writes into `user`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    pub tenant: u16,
    pub kind: Kind,
    pub seed: u64,
}

/// One call on this vendor's bill.
#[derive(Clone, Copy, Debug)]
pub struct Soaked {
    pub order: Order,
    /// The last byte of the model's name.
    pub model: u8,
    /// What it is billed with; none where nothing was reported.
    pub billed: Option<Usage>,
}

/// The number that a response's id carries.
pub fn number(response_id: &str) -> Option<usize> {
    let (_, digits) = response_id.split_once("soak")?;
    usize::from_str_radix(digits, 16).ok()
}

/// The usage of a seed: anything from one token to many.
fn usage(seed: u64) -> Usage {
    let draw = |salt: u64, below: u64| mix(seed.wrapping_add(salt)) % below.max(1);
    let input = 1 + draw(1, 1 << draw(2, 19));
    let output = draw(3, 1 << draw(4, 15));
    Usage {
        input,
        cached: draw(5, input + 1),
        output,
        reasoning: draw(6, output + 1),
    }
}

/// Splitmix64: a number that looks random, from one that does not.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The answer to a call of a model `soak-…`; `None` for every other.
pub(super) fn reply(
    shared: &Arc<Shared>,
    control: &Arc<Control>,
    path: &str,
    asked: &Asked,
    body: &[u8],
) -> Option<Result<Response<Reply>, Scripted>> {
    #[derive(Deserialize)]
    struct User {
        user: String,
    }
    let model = *asked.model.strip_prefix("soak-")?.as_bytes().last()?;
    let user = serde_json::from_slice::<User>(body).ok()?.user;
    let order: Order = serde_json::from_str(&user).ok()?;
    let usage = usage(order.seed);
    let billed = matches!(order.kind, Kind::Completed | Kind::Incomplete | Kind::Failed).then_some(usage);
    let number = shared.truth.soaked(Soaked { order, model, billed });
    if order.kind == Kind::HangUp {
        control.break_off(Break::Reset);
        return Some(Err(Scripted));
    }
    let mut response = answer(shared, control, path, asked, order, billed, number);
    if let Ok(id) = HeaderValue::from_str(&format!("req_soak{number:016x}")) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-request-id"), id);
    }
    Some(Ok(response))
}

fn answer(
    shared: &Arc<Shared>,
    control: &Arc<Control>,
    path: &str,
    asked: &Asked,
    order: Order,
    usage: Option<Usage>,
    number: usize,
) -> Response<Reply> {
    if order.kind == Kind::Error {
        let status = [400, 429, 500, 503][order.seed as usize % 4];
        let error = json!({"error": {"message": "no", "type": "soak", "param": null, "code": null}});
        return json_reply(StatusCode::from_u16(status).expect("a status"), &error);
    }
    let is_chat = path.ends_with("/chat/completions");
    let id = format!("{}soak{number:016x}", if is_chat { "chatcmpl-" } else { "resp_" });
    let text: Vec<String> = (0..4).map(|n| format!("word{n} ")).collect();
    let turn = Turn {
        id: &id,
        model: &asked.model,
        output: &[Output::Text(text)],
        usage,
        extra: &PLAIN,
        ending: &ending(order.kind),
    };
    match (asked.stream, is_chat) {
        (false, true) => json_reply(StatusCode::OK, &render::chat_body(&turn)),
        (false, false) => json_reply(StatusCode::OK, &render::responses_body(&turn)),
        (true, true) => {
            let chunks = render::chat_chunks(&turn, asked.include_usage);
            let writes = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
            stream(shared, control, order.kind, writes)
        }
        (true, false) => {
            let events = render::responses_events(&turn);
            stream(shared, control, order.kind, events.iter().map(render::sse).collect())
        }
    }
}

fn ending(kind: Kind) -> Ending {
    match kind {
        Kind::Incomplete => Ending::Incomplete("max_output_tokens"),
        Kind::Failed | Kind::FailedFree => Ending::Failed("server_error", "soaked".to_owned()),
        _ => Ending::Completed,
    }
}

/// A stream that ends, is cut in its middle, or is silent there until the client leaves.
fn stream(shared: &Arc<Shared>, control: &Arc<Control>, kind: Kind, writes: Vec<String>) -> Response<Reply> {
    let (sender, receiver) = mpsc::channel(4);
    let middle = writes.len() / 2;
    let part = |writes: &[String]| Ok(Bytes::from(writes.concat()));
    // The channel has room for all of it.
    let send = |write| drop(sender.try_send(write));
    send(part(&writes[..middle]));
    match kind {
        Kind::Cut => send(Err(Break::Reset)),
        Kind::Left => {
            let sender = sender.clone();
            shared.pumps.spawn(async move { sender.closed().await });
        }
        _ => send(part(&writes[middle..])),
    }
    let mut response = Response::new(Reply::Stream {
        receiver,
        control: Arc::clone(control),
        breaking: None,
    });
    let event_stream = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, event_stream);
    response
}
