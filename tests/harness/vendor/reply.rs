//! The body of an answer: sent at the pace of its script, broken off where that says so. Knows no request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc;

use super::script::{Break, Script};
use super::truth::Ended;
use super::wire::Control;
use super::{Sent, Shared};

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

/// Why a connection ends without an answer: hyper drops it, and `Control` has said how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scripted;

impl std::fmt::Display for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script breaks the connection")
    }
}

impl std::error::Error for Scripted {}

pub(super) fn json_reply(status: StatusCode, body: &Value) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Some(body.to_string().into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// Sends the writes of one answer at the pace of its script, and keeps the truth.
pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    pub(super) sender: mpsc::Sender<Result<Bytes, Break>>,
    pub(super) chunks: Vec<Bytes>,
    pub(super) script: Script,
    pub(super) number: usize,
    pub(super) sent: Sent,
}

impl Pump {
    pub(super) async fn run(self) {
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
