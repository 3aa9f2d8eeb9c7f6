//! A real listener on a free port, a hub that the test plays, and clients that speak bytes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use relay_shared::tasks::Tasks;
use relay_shared::tunnel::body::OutBody;
use relay_shared::waits::Waits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::config::LocalKey;
use crate::forward::uplink::Uplink;
use crate::forward::{Calls, Forward, LocalBody, Patience};
use crate::listener::{Control, ExpectedKey, OwnNames, Router, bind, serve};
use crate::tunnel::LinkDown;

pub(super) const KEY: &str = "rl_test";
const SOON: Duration = Duration::from_secs(10);

pub(super) struct World {
    pub(super) addr: SocketAddr,
    pub(super) hub: mpsc::Receiver<Arrived>,
    pub(super) link_is_up: Arc<AtomicBool>,
    pub(super) tasks: Tasks,
    pub(super) calls: Calls,
}

/// A call as the hub sees it.
pub(super) struct Arrived {
    pub(super) request: Request<OutBody>,
    reply: oneshot::Sender<Result<Response<HubBody>, LinkDown>>,
}

/// The hub's end of an answer.
pub(super) struct Answer(Option<mpsc::Sender<io::Result<Bytes>>>);

pub(super) struct HubBody(mpsc::Receiver<io::Result<Bytes>>);

#[derive(Clone)]
pub(super) struct FakeHub {
    calls: mpsc::Sender<Arrived>,
    is_up: Arc<AtomicBool>,
}

impl Uplink for FakeHub {
    type Answer = HubBody;

    fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    async fn send(&self, request: Request<OutBody>) -> Result<Response<HubBody>, LinkDown> {
        let (reply, replied) = oneshot::channel();
        let down = |_| LinkDown {
            reason: "gone".into(),
            retry_after: Duration::from_secs(2),
            is_sent: true,
            is_full: false,
        };
        self.calls
            .send(Arrived { request, reply })
            .await
            .map_err(|_| ())
            .map_err(down)?;
        replied.await.map_err(|_| ()).map_err(down)?
    }
}

impl Body for HubBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0
            .poll_recv(cx)
            .map(|part| part.map(|bytes| bytes.map(Frame::data)))
    }
}

impl Arrived {
    pub(super) fn answer(self, status: u16, headers: &[(&str, &str)]) -> Answer {
        let (parts, body) = mpsc::channel(64);
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        assert!(
            self.reply.send(Ok(response.body(HubBody(body)).unwrap())).is_ok(),
            "the agent waits"
        );
        Answer(Some(parts))
    }

    /// The request's body, to be read on its own.
    pub(super) fn take_body(mut self) -> (Self, OutBody) {
        let body = std::mem::replace(self.request.body_mut(), relay_shared::tunnel::body::empty());
        (self, body)
    }

    pub(super) fn refuse(self, is_sent: bool) {
        self.fail(LinkDown {
            reason: "no link".into(),
            retry_after: Duration::from_secs(2),
            is_sent,
            is_full: false,
        });
    }

    pub(super) fn fail(self, down: LinkDown) {
        assert!(self.reply.send(Err(down)).is_ok(), "the agent waits");
    }

    /// Resolves when the agent gave the call up before its answer.
    pub(super) async fn given_up(mut self) {
        timeout(SOON, self.reply.closed()).await.expect("the call is cancelled");
    }
}

impl Answer {
    pub(super) async fn send(&self, bytes: impl Into<Bytes>) {
        self.0
            .as_ref()
            .unwrap()
            .send(Ok(bytes.into()))
            .await
            .expect("the agent reads");
    }

    /// The tunnel breaks.
    pub(super) async fn cut(mut self) {
        let parts = self.0.take().unwrap();
        parts
            .send(Err(io::ErrorKind::ConnectionReset.into()))
            .await
            .expect("the agent reads");
    }

    pub(super) fn end(mut self) {
        self.0 = None;
    }

    /// Resolves when the agent reads no more.
    pub(super) async fn cancelled(&self) {
        timeout(SOON, self.0.as_ref().unwrap().closed())
            .await
            .expect("the answer is cancelled");
    }
}

struct NoControl;

impl Control for NoControl {
    async fn answer(&self, _path: &str) -> Option<Response<LocalBody>> {
        None
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Duration::from_secs(60), LocalKey::Required).await
    }

    pub(super) async fn with(keepalive: Duration, key_rule: LocalKey) -> Self {
        let (calls, hub) = mpsc::channel(64);
        let link_is_up = Arc::new(AtomicBool::new(true));
        let (tasks, patience) = (
            Tasks::new(),
            Patience {
                socket_link: Duration::from_millis(300),
                socket_answer: Duration::from_millis(300),
                keepalive,
            },
        );
        let forward = Forward::new(
            FakeHub {
                calls,
                is_up: Arc::clone(&link_is_up),
            },
            patience,
            tasks.clone(),
        );
        let calls = forward.calls().clone();
        let listeners = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addrs: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let router = Router {
            names: OwnNames::new(&addrs),
            key: ExpectedKey::new(KEY),
            key_rule,
            forward,
            control: NoControl,
        };
        let waits = Waits {
            head: Duration::from_millis(500),
            idle: Duration::from_secs(60),
        };
        serve(listeners, &Arc::new(router), waits, &tasks);
        Self {
            addr: addrs[0],
            hub,
            link_is_up,
            tasks,
            calls,
        }
    }

    pub(super) async fn arrived(&mut self) -> Arrived {
        timeout(SOON, self.hub.recv())
            .await
            .expect("a call arrives")
            .expect("the agent runs")
    }

    /// Nothing reached the hub, and nothing will: the answers are in already.
    pub(super) fn assert_nothing_arrived(&mut self) {
        assert!(self.hub.try_recv().is_err(), "a call reached the hub");
    }

    pub(super) async fn client(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.addr).await.unwrap(),
            read: Vec::new(),
            host: self.addr,
        }
    }

    /// A client that has sent a streaming call, and the call as the hub has it.
    pub(super) async fn streaming(&mut self, path: &str) -> (Client, Arrived) {
        let mut client = self.client().await;
        client.post(path, "{\"stream\":true}").await;
        (client, self.arrived().await)
    }
}

/// A client that speaks bytes.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) read: Vec<u8>,
    host: SocketAddr,
}

impl Client {
    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn post(&mut self, path: &str, body: &str) {
        let head = self.head(
            "POST",
            path,
            &format!("authorization: Bearer {KEY}\r\ncontent-length: {}\r\n", body.len()),
        );
        self.write(format!("{head}{body}")).await;
    }

    pub(super) async fn get(&mut self, path: &str) {
        let head = self.head("GET", path, &format!("authorization: Bearer {KEY}\r\n"));
        self.write(head).await;
    }

    pub(super) fn head(&self, method: &str, path: &str, more: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{more}\r\n", self.host)
    }

    /// Reads until `text` has come; gives all that was read.
    pub(super) async fn until(&mut self, text: &str) -> String {
        while !self.text().contains(text) {
            assert!(self.more().await > 0, "closed before {text:?}: {:?}", self.text());
        }
        self.text()
    }

    /// Reads to the end of the connection; a reset is an end as well.
    pub(super) async fn rest(&mut self) -> String {
        while self.more().await > 0 {}
        self.text()
    }

    pub(super) async fn more(&mut self) -> usize {
        let reading = timeout(SOON, self.stream.read_buf(&mut self.read));
        reading
            .await
            .unwrap_or_else(|_| panic!("still open: {:?}", String::from_utf8_lossy(&self.read)))
            .unwrap_or(0)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

/// Without the chunk sizes of HTTP/1.1: the body as a client's library would give it. Panics when it is cut.
pub(super) fn unchunked(text: &str) -> String {
    let (_, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk size");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
}
