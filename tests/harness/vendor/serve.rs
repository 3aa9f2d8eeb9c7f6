//! The HTTP side: takes a call, finds its script, and has it answered. Sockets are in `socket`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answer::{Exchange, answer, request_id};
use super::asked::{Asked, Kind};
use super::reply::{Reply, Scripted, json_reply};
use super::script::{Script, Upgrade};
use super::wire::{Control, Wire};
use super::{Call, Sent, Shared, bedrock, bench, memory, soak, socket};

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
    let is_bedrock = matches!(
        Kind::of(&path),
        Kind::Bedrock | Kind::Converse | Kind::Count("inputTokens")
    );
    let unfit = if is_bedrock {
        bedrock::unfit(&path, &head.headers, &body)
    } else {
        None
    };
    let script = match (&head.method, path.as_str()) {
        _ if !is_accepted && is_bedrock => bedrock::wrong_signature(&head.headers),
        _ if !is_accepted => no_key(),
        (&Method::GET, "/v1beta/models") => {
            Script::json(200, &json!({"models": [{"name": "models/gemini-3.8-flash"}]}))
        }
        (&Method::GET, path) if path.ends_with("/models") => shared.models.lock().expect("no holder panics").clone(),
        (&Method::HEAD | &Method::GET, _) => Script::error(404, "invalid_request_error", None, "Not found"),
        _ => unfit.unwrap_or_else(|| shared.script_for(&asked.model)),
    };
    let (script, read) = remembered(&shared, script, &head.headers, &body);
    let entry = asked.entry(&shared, &path, &script, false);
    if let Some(read) = read {
        shared.memory.answered(&entry.response_id, read, &asked.output(&script));
    }
    let number = shared.truth.open(entry);
    if matches!(Kind::of(&path), Kind::Converse) {
        // Its answers have no id but that of the request.
        let id = request_id(number);
        shared.truth.amend(number, |entry| entry.response_id = id);
    }
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

fn no_key() -> Script {
    Script::error(401, "invalid_request_error", Some("invalid_api_key"), "No.")
}

/// The script with what the prompt counts, where the vendor remembers prompts.
pub(super) fn remembered(
    shared: &Shared,
    mut script: Script,
    headers: &HeaderMap,
    body: &[u8],
) -> (Script, Option<memory::Read>) {
    match shared.memory.read(headers, body) {
        Ok(read) => {
            if let Some(read) = &read {
                read.count(&mut script);
            }
            (script, read)
        }
        Err(refusal) => (*refusal, None),
    }
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
    let guard = shared.guard.lock().expect("no holder panics").clone();
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let is_accepted = guard.is_none_or(|accepts| accepts(request.method(), target, request.headers(), b""));
    let upgrade = match is_accepted {
        true => shared.upgrade(),
        false => Upgrade::Refuse(Box::new(no_key())),
    };
    match upgrade {
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

/// `GET /v1/models` as OpenAI answers it.
pub(super) fn model_list() -> Script {
    let models = ["gpt-5.2-codex", "gpt-5.2", "gpt-4.1", "gpt-4o-mini"];
    let data: Vec<Value> = models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 1_795_000_000u64, "owned_by": "openai"}))
        .collect();
    Script::json(200, &json!({"object": "list", "data": data}))
}
