//! The HTTP side: takes a call, finds its script, answers as it says. Sockets are in `socket`.

use std::io::Read;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::render::{self, Turn};
use super::script::{Answer, Break, Output, Script, Upgrade, Usage};
use super::truth::{Ended, Entry};
use super::wire::{Control, Wire};
use super::{Call, Sent, Shared, bedrock, bench, soak, socket};

/// Why a connection ends without an answer: hyper drops it, and `Control` has said how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scripted;

impl std::fmt::Display for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script breaks the connection")
    }
}

impl std::error::Error for Scripted {}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, peer)) = accepted {
                shared.peers.lock().expect("no holder panics").insert(peer.ip());
                connections.spawn(connection(stream, peer.ip(), Arc::clone(&shared)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>) {
    let _kept_coalescing = stream.set_nodelay(true);
    shared.accepted.fetch_add(1, Ordering::SeqCst);
    shared.open_connections.fetch_add(1, Ordering::SeqCst);
    let control = Control::new();
    let wire = TokioIo::new(Wire::new(stream, Arc::clone(&control)));
    let answering = Arc::clone(&shared);
    let service = service_fn(move |request| handle(Arc::clone(&answering), Arc::clone(&control), peer, request));
    let _ended = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(256 * 1024)
        .serve_connection(wire, service)
        .with_upgrades()
        .await;
    shared.open_connections.fetch_sub(1, Ordering::SeqCst);
    shared.announce();
}

async fn handle(
    shared: Arc<Shared>,
    control: Arc<Control>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Scripted> {
    control.limit_writes(None);
    if is_upgrade(request.headers()) {
        return upgrade(&shared, &control, request).await;
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if path == "/_truth" {
        let body = json!({"totals": shared.truth.totals(), "entries": shared.truth.entries()});
        return Ok(json_reply(StatusCode::OK, &body));
    }
    // A body that was cut is no call: the vendor never understood it.
    let body = body.collect().await.map_err(|_| Scripted)?.to_bytes();
    let asked = Asked::read(&head.headers, &body).at(&path, head.uri.query());
    if head.method == Method::POST
        && let Some(reply) = bench::reply(&shared, &path, &asked)
    {
        return Ok(reply);
    }
    if head.method == Method::POST
        && let Some(reply) = soak::reply(&shared, &control, &path, &asked, &body)
    {
        return reply;
    }
    shared.note_source(&head.headers, peer);
    let guard = shared.guard.lock().expect("no holder panics").clone();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let is_accepted = guard.is_none_or(|accepts| accepts(&head.method, target, &head.headers, &body));
    let is_bedrock = matches!(Kind::of(&path), Kind::Bedrock | Kind::Count("inputTokens"));
    let unfit = if is_bedrock {
        bedrock::unfit(&path, &head.headers, &body)
    } else {
        None
    };
    let script = match (&head.method, path.as_str()) {
        _ if !is_accepted && is_bedrock => bedrock::wrong_signature(&head.headers),
        _ if !is_accepted => Script::error(401, "invalid_request_error", Some("invalid_api_key"), "No."),
        (&Method::GET, "/v1beta/models") => {
            Script::json(200, &json!({"models": [{"name": "models/gemini-3.8-flash"}]}))
        }
        (&Method::GET, path) if path.ends_with("/models") => shared.models.lock().expect("no holder panics").clone(),
        (&Method::HEAD | &Method::GET, _) => Script::error(404, "invalid_request_error", None, "Not found"),
        _ => unfit.unwrap_or_else(|| shared.script_for(&asked.model)),
    };
    let number = shared.truth.open(asked.entry(&shared, &path, &script, false));
    let sent = Sent::default();
    shared.keep(Call {
        method: head.method,
        path: path.clone(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
        socket: false,
        entry: number,
        sent: sent.clone(),
    });
    answer(
        &Exchange {
            shared,
            control,
            asked,
            number,
            sent,
            path,
        },
        script,
    )
    .await
}

/// What the vendor needs to know of a request's body.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) generate: bool,
    pub(super) has_tool_output: bool,
    /// Gemini's stream is one of events.
    pub(super) as_events: bool,
}

impl Asked {
    fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        match headers
            .get(header::CONTENT_ENCODING)
            .and_then(|value| value.to_str().ok())
        {
            None => Self::parse(body),
            Some(coding) => Self::parse(&decode(coding, body)),
        }
    }

    pub(super) fn parse(body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Head<'a> {
            #[serde(default, borrow)]
            model: std::borrow::Cow<'a, str>,
            #[serde(default)]
            stream: bool,
            generate: Option<bool>,
            stream_options: Option<StreamOptions>,
        }
        #[derive(serde::Deserialize)]
        struct StreamOptions {
            #[serde(default)]
            include_usage: bool,
        }
        let Ok(head) = serde_json::from_slice::<Head<'_>>(body) else {
            return Self::default();
        };
        Self {
            model: head.model.into_owned(),
            stream: head.stream,
            include_usage: head.stream_options.is_some_and(|options| options.include_usage),
            generate: head.generate.unwrap_or(true),
            has_tool_output: has_tool_output(body),
            as_events: false,
        }
    }

    /// What an address says on the wire whose address names the model.
    fn at(mut self, path: &str, query: Option<&str>) -> Self {
        if let Some((model, method)) = path.rsplit_once("/models/").and_then(|(_, rest)| rest.rsplit_once(':')) {
            self.model = model.to_owned();
            self.stream = method == "streamGenerateContent";
            self.as_events = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        }
        if let Some((model, stream)) = bedrock::asked(path) {
            (self.model, self.stream) = (model, stream);
        }
        self
    }

    pub(super) fn entry(&self, shared: &Shared, path: &str, script: &Script, socket: bool) -> Entry {
        let prefix = match Kind::of(path) {
            Kind::Chat => "chatcmpl-",
            Kind::Messages | Kind::Bedrock => "msg_",
            Kind::Gemini => "g-",
            Kind::Responses | Kind::Compact | Kind::Count(_) => "resp_",
        };
        let warm_up = socket && !self.generate;
        Entry {
            response_id: format!("{prefix}{:024x}", shared.serial()),
            model: self.model.clone(),
            endpoint: path.to_owned(),
            socket,
            status: script.status,
            usage: self.usage(script).filter(|_| !matches!(Kind::of(path), Kind::Count(_))),
            extra: script.extra.clone(),
            reported: false,
            warm_up,
            events_sent: 0,
            bytes_sent: 0,
            ended: Ended::Running,
            started_ms: 0,
            ended_ms: None,
        }
    }

    /// A tool round bills its two calls differently, so that a mix-up shows.
    fn usage(&self, script: &Script) -> Option<Usage> {
        match &script.answer {
            Answer::ToolRound { .. } if self.has_tool_output => Some(Usage {
                input: 9_731,
                cached: 9_216,
                output: 37,
                reasoning: 0,
            }),
            Answer::ToolRound { .. } => Some(Usage {
                input: 9_402,
                cached: 1_024,
                output: 83,
                reasoning: 41,
            }),
            Answer::Turn(_) => script.usage,
            Answer::Body(_) | Answer::Chunks(_) => None,
        }
    }

    /// The output items of a script for this request.
    pub(super) fn output(&self, script: &Script) -> Vec<Output> {
        match &script.answer {
            Answer::Turn(output) => output.clone(),
            Answer::ToolRound { text, .. } if self.has_tool_output => {
                vec![Output::Text(text.split_inclusive(' ').map(str::to_owned).collect())]
            }
            Answer::ToolRound { command, .. } => {
                let arguments = json!({"cmd": command, "yield_time_ms": 10_000}).to_string();
                vec![Output::Call {
                    name: "exec_command".to_owned(),
                    arguments,
                }]
            }
            Answer::Body(_) | Answer::Chunks(_) => Vec::new(),
        }
    }
}

fn has_tool_output(body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    let of_type = |list: &str, key: &str, kind: &str| {
        body[list]
            .as_array()
            .is_some_and(|items| items.iter().any(|item| item[key] == kind))
    };
    let holds = |list: &str, parts: &str, is_result: fn(&Value) -> bool| {
        let items = body[list].as_array().into_iter().flatten();
        let mut parts = items.filter_map(|item| item[parts].as_array()).flatten();
        parts.any(is_result)
    };
    of_type("input", "type", "function_call_output")
        || of_type("messages", "role", "tool")
        || holds("messages", "content", |part| part["type"] == "tool_result")
        || holds("contents", "parts", |part| part["functionResponse"].is_object())
}

/// What an address asks for.
enum Kind {
    Responses,
    Compact,
    Chat,
    Messages,
    /// The same in frames.
    Bedrock,
    Gemini,
    /// How many tokens an input has, under this name.
    Count(&'static str),
}

impl Kind {
    fn of(path: &str) -> Self {
        match path {
            path if path.ends_with("/chat/completions") => Self::Chat,
            path if path.ends_with("/compact") => Self::Compact,
            path if path.ends_with("/messages") => Self::Messages,
            path if path.ends_with("/invoke") || path.ends_with("/invoke-with-response-stream") => Self::Bedrock,
            path if path.ends_with("/count-tokens") => Self::Count("inputTokens"),
            path if path.ends_with("/count_tokens") => Self::Count("input_tokens"),
            path if path.ends_with(":countTokens") => Self::Count("totalTokens"),
            path if path.ends_with("enerateContent") => Self::Gemini,
            _ => Self::Responses,
        }
    }
}

fn decode(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain),
        "zstd" => zstd::stream::copy_decode(body, &mut plain).map(|()| 0),
        _ => Ok(0),
    };
    if read.is_err() {
        plain.clear();
    }
    plain
}

/// One call that is being answered.
struct Exchange {
    shared: Arc<Shared>,
    control: Arc<Control>,
    asked: Asked,
    number: usize,
    sent: Sent,
    path: String,
}

async fn answer(exchange: &Exchange, script: Script) -> Result<Response<Reply>, Scripted> {
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
    match (Kind::of(path), asked.stream) {
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

fn vendor_headers(number: usize) -> impl Iterator<Item = (String, String)> {
    [
        ("x-request-id", format!("req_{number:032x}")),
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

/// `GET /v1/models` as OpenAI answers it.
pub(super) fn model_list() -> Script {
    let models = ["gpt-5.2-codex", "gpt-5.2", "gpt-4.1", "gpt-4o-mini"];
    let data: Vec<Value> = models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 1_795_000_000u64, "owned_by": "openai"}))
        .collect();
    Script::json(200, &json!({"object": "list", "data": data}))
}

pub(super) fn json_reply(status: StatusCode, body: &Value) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Some(body.to_string().into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

async fn upgrade(
    shared: &Arc<Shared>,
    control: &Arc<Control>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Scripted> {
    match shared.upgrade() {
        Upgrade::Accept => Ok(socket::accept(shared, control, request)),
        Upgrade::AcceptWith(name, value) => {
            let mut response = socket::accept(shared, control, request);
            response
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
            Ok(response)
        }
        Upgrade::Hang => std::future::pending().await,
        Upgrade::HangUp(how) => {
            control.break_off(how);
            Err(Scripted)
        }
        Upgrade::Refuse(script) => {
            let path = request.uri().path().to_owned();
            let asked = Asked::default();
            let number = shared.truth.open(asked.entry(shared, &path, &script, true));
            let sent = Sent::default();
            let call = Call {
                method: Method::GET,
                path: path.clone(),
                query: request.uri().query().map(str::to_owned),
                headers: request.headers().clone(),
                body: Bytes::new(),
                socket: false,
                entry: number,
                sent: sent.clone(),
            };
            shared.keep(call);
            let (shared, control) = (Arc::clone(shared), Arc::clone(control));
            answer(
                &Exchange {
                    shared,
                    control,
                    asked,
                    number,
                    sent,
                    path,
                },
                *script,
            )
            .await
        }
    }
}

/// Sends the writes of one answer at the pace of its script, and keeps the truth.
struct Pump {
    shared: Arc<Shared>,
    sender: mpsc::Sender<Result<Bytes, Break>>,
    chunks: Vec<Bytes>,
    script: Script,
    number: usize,
    sent: Sent,
}

impl Pump {
    async fn run(self) {
        let ended = tokio::select! {
            biased;
            ended = self.send_all() => ended,
            () = self.sender.closed() => Ended::ClientGone,
        };
        self.shared.truth.close(self.number, ended);
        self.shared.announce();
    }

    async fn send_all(&self) -> Ended {
        let mut left = self.script.cut.map_or(usize::MAX, |(bytes, _)| bytes);
        for (index, chunk) in self.chunks.iter().enumerate() {
            pace(&self.script, index).await;
            let part = chunk.slice(..chunk.len().min(left));
            left -= part.len();
            let is_last = index + 1 == self.chunks.len() && part.len() == chunk.len();
            // Handing over the last event makes the bill final, whether or not anyone reads it.
            self.shared.truth.amend(self.number, |entry| {
                entry.reported |= is_last && self.script.status == 200;
                entry.events_sent = index + 1;
                entry.bytes_sent += part.len();
            });
            self.sent.add(&part);
            if !part.is_empty() && self.sender.send(Ok(part)).await.is_err() {
                return Ended::ClientGone;
            }
            self.shared.announce();
            if let Some((_, how)) = self.script.cut.filter(|_| left == 0) {
                let _gone = self.sender.send(Err(how)).await;
                return Ended::Broken;
            }
        }
        self.shared.truth.close(self.number, Ended::Sent);
        tokio::time::sleep(self.script.linger).await;
        Ended::Sent
    }
}

/// Waits as the script says before event `index`.
pub(super) async fn pace(script: &Script, index: usize) {
    if index > 0 && script.interval > Duration::ZERO {
        tokio::time::sleep(script.interval).await;
    }
    if let Some((_, how_long)) = script.silence.filter(|(after, _)| *after == index) {
        tokio::time::sleep(how_long).await;
    }
    if let Some(gate) = &script.gate {
        gate.pass().await;
    }
}

/// The body of an answer.
pub(super) enum Reply {
    Whole(Option<Bytes>),
    Stream {
        receiver: mpsc::Receiver<Result<Bytes, Break>>,
        control: Arc<Control>,
        breaking: Option<Breaking>,
    },
}

/// A break that waits for all before it to be written.
pub(super) struct Breaking {
    written: Pin<Box<dyn Future<Output = ()> + Send>>,
    how: Break,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Scripted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Scripted>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream {
                receiver,
                control,
                breaking,
            } => loop {
                if let Some(Breaking { written, how }) = breaking {
                    ready!(written.as_mut().poll(cx));
                    control.break_off(*how);
                    return Poll::Ready(Some(Err(Scripted)));
                }
                match ready!(receiver.poll_recv(cx)) {
                    Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Some(Err(how)) => {
                        let control = Arc::clone(control);
                        *breaking = Some(Breaking {
                            written: Box::pin(async move { control.written().await }),
                            how,
                        });
                    }
                    None => return Poll::Ready(None),
                }
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}
