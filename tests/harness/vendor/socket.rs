//! The WebSocket side: one socket, any number of `response.create`, one answer after the other.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::asked::Asked;
use super::render::{self, Turn};
use super::reply::{Reply, pace};
use super::script::{Answer, Script, SocketFault, Usage};
use super::serve::remembered;
use super::truth::Ended;
use super::wire::Control;
use super::{Call, Sent, Shared, SocketLog};
use crate::frames::{self, Frame};

/// Answers 101 and serves the socket in a task of its own.
pub(super) fn accept(shared: &Arc<Shared>, control: &Arc<Control>, request: Request<Incoming>) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Some(Bytes::new())));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let key = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("x-request-id", HeaderValue::from_static("req_socket"));
    if let Some(key) = key.and_then(|key| HeaderValue::from_str(&key).ok()) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    let log = SocketLog {
        headers: request.headers().clone(),
        query: request.uri().query().map(str::to_owned),
        received: Sent::default(),
        closed: Arc::new(Mutex::new(None)),
    };
    shared.sockets.lock().expect("no holder panics").push(log.clone());
    shared.announce();
    let (shared, control, path) = (Arc::clone(shared), Arc::clone(control), request.uri().path().to_owned());
    let tracker = shared.pumps.clone();
    tracker.spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        let (messages, incoming) = mpsc::channel(16);
        let socket = Socket {
            shared: Arc::clone(&shared),
            control,
            headers: log.headers.clone(),
            path,
            writer,
        };
        // The reader goes first: what it sees last is that the client left.
        tokio::select! {
            () = read(reader, messages, log.received.clone()) => {}
            () = socket.serve(incoming) => {}
        }
        *log.closed.lock().expect("no holder panics") = Some(shared.truth.since_start());
        shared.announce();
    });
    response
}

/// Reads frames until the client leaves; joins the fragments of a message.
async fn read(mut reader: ReadHalf<TokioIo<Upgraded>>, messages: mpsc::Sender<(u8, Bytes)>, received: Sent) {
    let mut buffer = BytesMut::new();
    let mut message = (0, BytesMut::new());
    loop {
        while let Some(Frame { last, opcode, payload }) = frames::take(&mut buffer) {
            let whole = if opcode >= frames::CLOSE {
                (opcode, payload)
            } else {
                if opcode != 0 {
                    message.0 = opcode;
                }
                message.1.extend_from_slice(&payload);
                if !last {
                    continue;
                }
                (message.0, message.1.split().freeze())
            };
            if messages.send(whole).await.is_err() {
                return;
            }
        }
        let before = buffer.len();
        if !reader.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
            return;
        }
        received.add(&buffer[before..]);
    }
}

struct Socket {
    shared: Arc<Shared>,
    control: Arc<Control>,
    headers: HeaderMap,
    path: String,
    writer: WriteHalf<TokioIo<Upgraded>>,
}

impl Socket {
    async fn serve(mut self, mut incoming: mpsc::Receiver<(u8, Bytes)>) {
        while let Some((opcode, payload)) = incoming.recv().await {
            let goes_on = match opcode {
                frames::TEXT => self.create(payload).await,
                frames::PING => self.write(&frames::message(frames::PONG, &payload, 1)).await,
                frames::CLOSE => {
                    self.write(&frames::message(frames::CLOSE, &payload, 1)).await;
                    false
                }
                frames::PONG => true,
                _ => {
                    self.write(&frames::close(1003, "text only")).await;
                    false
                }
            };
            if !goes_on {
                break;
            }
        }
        let _closed = self.writer.shutdown().await;
    }

    /// Answers one `response.create`. `false` ends the socket.
    async fn create(&mut self, body: Bytes) -> bool {
        let asked = Asked::parse(&body);
        let script = match asked.generate {
            true => self.shared.script_for(&asked.model),
            false => Script::message("").usage(Usage::default()),
        };
        let (mut script, read) = remembered(&self.shared, script, &self.headers, &body);
        if !asked.generate {
            script.usage = Some(Usage::default());
        }
        let entry = asked.entry(&self.shared, &self.path, &script, true);
        if let Some(read) = read {
            let output = asked.output(&script);
            self.shared.memory.answered(&entry.response_id, read, &output);
        }
        let number = self.shared.truth.open(entry);
        let sent = Sent::default();
        self.shared.keep(Call {
            method: Method::GET,
            path: self.path.clone(),
            query: None,
            headers: self.headers.clone(),
            body,
            socket: true,
            entry: number,
            sent: sent.clone(),
        });
        let mut guard = Running {
            shared: Arc::clone(&self.shared),
            number,
            ended: Ended::ClientGone,
        };
        let (goes_on, ended) = self.answer(&asked, &script, number, &sent).await;
        guard.ended = ended;
        goes_on
    }

    async fn answer(&mut self, asked: &Asked, script: &Script, number: usize, sent: &Sent) -> (bool, Ended) {
        tokio::time::sleep(script.delay).await;
        if script.hangs {
            std::future::pending::<()>().await;
        }
        if let Some(fault) = &script.socket_fault {
            return (self.fault(fault).await, Ended::Broken);
        }
        self.control.limit_writes(script.write_size);
        let events = self.events(asked, script, number);
        let mut left = script.cut.map_or(usize::MAX, |(bytes, _)| bytes);
        for (index, event) in events.iter().enumerate() {
            pace(script, index).await;
            let frame = frames::message(frames::TEXT, event.as_bytes(), script.fragments);
            let part = &frame[..frame.len().min(left)];
            left -= part.len();
            let is_last = index + 1 == events.len() && part.len() == frame.len();
            self.shared.truth.amend(number, |entry| {
                entry.reported |= is_last;
                entry.events_sent = index + 1;
                entry.bytes_sent += part.len();
            });
            sent.add(part);
            if !self.write(part).await {
                return (false, Ended::ClientGone);
            }
            self.shared.announce();
            if let Some((_, how)) = script.cut.filter(|_| left == 0) {
                self.control.break_off(how);
                return (false, Ended::Broken);
            }
        }
        (true, Ended::Sent)
    }

    fn events(&self, asked: &Asked, script: &Script, number: usize) -> Vec<String> {
        if let Answer::Body(body) = &script.answer {
            let error: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let frame = serde_json::json!({"type": "error", "status": script.status, "error": error["error"]});
            return vec![frame.to_string()];
        }
        if let Answer::Chunks(chunks) = &script.answer {
            return chunks
                .iter()
                .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
                .collect();
        }
        let entry = self.shared.truth.entry(number);
        let output = asked.output(script);
        let turn = Turn {
            id: &entry.response_id,
            model: &asked.model,
            output: &output,
            usage: entry.usage,
            extra: &script.extra,
            ending: &script.ending,
        };
        let events = match asked.generate {
            true => render::responses_events(&turn),
            false => render::warm_up_events(&turn),
        };
        events.into_iter().map(|event| event.data).collect()
    }

    async fn fault(&mut self, fault: &SocketFault) -> bool {
        match fault {
            SocketFault::Frame(text) => self.write(&frames::message(frames::TEXT, text.as_bytes(), 1)).await,
            SocketFault::Binary => self.write(&frames::message(frames::BINARY, b"\x00\x01", 1)).await,
            SocketFault::Close(code) => {
                self.write(&frames::close(*code, "scripted")).await;
                false
            }
            SocketFault::HangUp(how) => {
                self.control.break_off(*how);
                false
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok() && self.writer.flush().await.is_ok()
    }
}

/// Ends the truth log's entry even when the socket's task is dropped in the middle of an answer.
struct Running {
    shared: Arc<Shared>,
    number: usize,
    ended: Ended,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.truth.close(self.number, self.ended);
        self.shared.announce();
    }
}
