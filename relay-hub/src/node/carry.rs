//! Answers a CONNECT and carries its bytes both ways. Each direction takes no more than the other end takes from it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use relay_shared::{
    tasks::Tasks,
    tunnel::{
        FAMILY, LEFT_BY, REASON,
        body::{self, InBody, OutBody},
        stream::{CallStream, upload},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tracing::debug;

use super::connect::{Exit, Refused};
use crate::way::Family;

/// Carries connections to vendors.
pub(super) struct Carrier {
    exit: Exit,
    idle: Duration,
    tasks: Tasks,
}

impl Carrier {
    pub(super) const fn new(exit: Exit, idle: Duration, tasks: Tasks) -> Self {
        Self { exit, idle, tasks }
    }

    /// The answer to one request of the hub.
    pub(super) async fn answer(self: Arc<Self>, request: Request<InBody>) -> Response<OutBody> {
        self.carried(request).await.unwrap_or_else(|Refused(status, words)| {
            debug!(%status, words, "a connection was refused");
            let mut answer = Response::new(body::empty());
            *answer.status_mut() = status;
            if let Ok(words) = HeaderValue::try_from(words) {
                answer.headers_mut().insert(REASON, words);
            }
            answer
        })
    }

    async fn carried(&self, request: Request<InBody>) -> Result<Response<OutBody>, Refused> {
        if request.method() != Method::CONNECT {
            let words = "an egress node answers CONNECT alone".to_owned();
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, words));
        }
        let (vendor, left_by) = self.exit.connect(request.uri(), first(request.headers())).await?;
        let (up, answer) = upload();
        let hub = CallStream::new(up, request.into_body());
        self.tasks.spawn("egress-call", carry(hub, vendor, self.idle));
        let mut answer = Response::new(answer);
        if let Ok(left_by) = HeaderValue::try_from(left_by.to_string()) {
            answer.headers_mut().insert(LEFT_BY, left_by);
        }
        Ok(answer)
    }
}

/// Which of the vendor's addresses the hub wants tried first.
fn first(headers: &HeaderMap) -> Option<Family> {
    Family::parse(headers.get(FAMILY)?.to_str().ok()?.parse().ok()?)
}

/// Until both have said all, one breaks off, or nothing moved for `idle`. What is dropped before its end is cut at the
/// other side too.
async fn carry(mut hub: CallStream, vendor: TcpStream, idle: Duration) {
    let moved = AtomicU64::new(0);
    let mut vendor = Watched {
        tcp: vendor,
        moved: &moved,
    };
    let copied = tokio::io::copy_bidirectional_with_sizes(&mut hub, &mut vendor, BUFFER, BUFFER);
    tokio::select! {
        // Who broke off, both ends know by their streams.
        _ended = copied => {}
        () = silent(&moved, idle) => debug!("a connection to a vendor was idle for too long"),
    }
}

/// Ends when nothing has moved for `idle`, and within twice of it.
async fn silent(moved: &AtomicU64, idle: Duration) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(idle).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// Counts what moves.
struct Watched<'a> {
    tcp: TcpStream,
    moved: &'a AtomicU64,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.tcp).poll_read(cx, buf);
        if read.is_ready() {
            this.moved.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.tcp).poll_write(cx, buf);
        if written.is_ready() {
            this.moved.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

const BUFFER: usize = 16 * 1024;
