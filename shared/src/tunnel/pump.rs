//! Moves a body onto a stream: small pieces that are there together go together, large ones in parts, and whatever ends
//! the body early resets the stream. Knows no transport but through [`Outlet`].

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http_body::Body as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::body::{BodyError, OutBody};
use crate::{tasks::Tasks, written::PATIENCE};

/// The sending half of a stream. Dropped before `finish` (or a last `send`) it must reset the stream.
pub(super) trait Outlet: Send + 'static {
    /// Sends `data`; with `is_last` the stream is finished after it.
    fn send(&mut self, data: Bytes, is_last: bool) -> impl Future<Output = Result<(), BodyError>> + Send;

    /// Finishes the stream.
    fn finish(&mut self) -> impl Future<Output = Result<(), BodyError>> + Send;

    /// The body cannot go on: waits until what was sent of it cannot be lost by a reset any more. For requests
    /// there is nothing to save: nobody acts on half of one.
    fn cut(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Ready when the other side wants no more.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Sends all of `body`, which must be as long as `announced`. When it breaks off, the stream is reset, but not before
/// the other side has what was sent, or [`PATIENCE`] is over.
pub(super) async fn pump<O: Outlet>(mut outlet: O, body: OutBody, announced: Option<u64>) -> Result<(), BodyError> {
    let mut source = Gather {
        body,
        large: Bytes::new(),
        end: None,
    };
    let mut sent = 0;
    loop {
        let next = poll_fn(|cx| match source.poll_next(cx) {
            Poll::Pending if outlet.poll_stopped(cx).is_ready() => Poll::Ready(Some(Err(STOPPED))),
            next => next,
        });
        match next.await {
            Some(Ok(data)) => {
                sent += data.len() as u64;
                let is_last = source.is_done() && announced.is_none_or(|announced| announced == sent);
                outlet.send(data, is_last).await?;
                if is_last {
                    return Ok(());
                }
            }
            Some(Err(STOPPED)) => return Err(STOPPED),
            Some(Err(error)) => return cut(&mut outlet, error).await,
            None => match announced {
                Some(announced) if announced != sent => {
                    let error = BodyError::Length {
                        announced,
                        received: sent,
                    };
                    return cut(&mut outlet, error).await;
                }
                Some(_) | None => return outlet.finish().await,
            },
        }
    }
}

async fn cut(outlet: &mut impl Outlet, error: BodyError) -> Result<(), BodyError> {
    // Bounded, for a peer that takes nothing; the reset comes either way.
    let _in_time = tokio::time::timeout(PATIENCE, outlet.cut()).await;
    Err(error)
}

/// Waits for `head` while `upload` runs; an upload that is not through by then goes on in a task of its own until the
/// guard is dropped. An upload that fails for want of its source fails the whole.
pub(super) async fn beside<T>(
    upload: Pin<Box<dyn Future<Output = Result<(), BodyError>> + Send>>,
    head: impl Future<Output = Result<T, BodyError>>,
    tasks: &Tasks,
) -> Result<(T, Option<DropGuard>), BodyError> {
    let head = pin!(head);
    match select(upload, head).await {
        Either::Left((Err(error @ (BodyError::Source(_) | BodyError::Length { .. })), _)) => Err(error),
        // The other side may have stopped reading because it answers early.
        Either::Left((Ok(()) | Err(_), head)) => Ok((head.await?, None)),
        Either::Right((head, upload)) => {
            let head = head?;
            let end = CancellationToken::new();
            let guard = end.clone().drop_guard();
            tasks.spawn("upload", async move {
                // How it ended, the other side knows by the stream.
                let _ended = end.run_until_cancelled(upload).await;
            });
            Ok((head, Some(guard)))
        }
    }
}

/// Reads a body ahead as far as it is there.
struct Gather {
    body: OutBody,
    large: Bytes,
    end: Option<Option<BodyError>>,
}

impl Gather {
    fn is_done(&self) -> bool {
        self.large.is_empty() && (self.end == Some(None) || self.end.is_none() && self.body.is_end_stream())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.large.is_empty() {
            return Poll::Ready(Some(Ok(self.next_part())));
        }
        let mut first = Bytes::new();
        let mut joined = BytesMut::new();
        while self.end.is_none() && first.len().max(joined.len()) < ENOUGH {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending if first.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => self.end = Some(None),
                Poll::Ready(Some(Err(error))) => self.end = Some(Some(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if first.is_empty() {
                        first = data;
                    } else {
                        if joined.is_empty() {
                            joined.reserve(ENOUGH);
                            joined.extend_from_slice(&first);
                        }
                        joined.extend_from_slice(&data);
                    }
                }
            }
        }
        self.large = if joined.is_empty() { first } else { joined.freeze() };
        if self.large.is_empty() {
            return Poll::Ready(self.end.take().flatten().map(Err));
        }
        Poll::Ready(Some(Ok(self.next_part())))
    }

    fn next_part(&mut self) -> Bytes {
        self.large.split_to(self.large.len().min(LARGEST))
    }
}

const STOPPED: BodyError = BodyError::Reset(0);
/// From this many bytes on more is not waited for.
const ENOUGH: usize = 4 * 1024;
/// More than this is not given to a stream at once, so that streams take turns.
const LARGEST: usize = 64 * 1024;
