//! Bodies on the tunnel. A body that was cut is an error at its reader, whatever the transport, never an end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};

/// A body to send. Ending it with an error, or dropping it before its end, resets the stream.
pub type OutBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The other side gave the stream up, with this code of its protocol.
    #[error("the other side cut the stream (code {0:#x})")]
    Reset(u64),
    /// The connection under the stream is gone.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The length announced and the bytes that came differ.
    #[error("{received} of {announced} bytes came")]
    Length {
        /// What `content-length` said.
        announced: u64,
        /// What came.
        received: u64,
    },
    /// Who made the body could not go on.
    #[error("the sender could not go on: {0}")]
    Source(String),
}

/// An empty body to send.
#[must_use]
pub fn empty() -> OutBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A whole body to send.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> OutBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes in. Dropping it before its end tells the other side to stop.
pub struct InBody {
    source: Source,
    announced: Option<u64>,
    received: u64,
    is_done: bool,
}

enum Source {
    Whole(Option<Bytes>),
    Hyper(hyper::body::Incoming),
}

impl InBody {
    /// A body already here.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = Some(bytes.into()).filter(|bytes| !bytes.is_empty());
        Self {
            is_done: bytes.is_none(),
            source: Source::Whole(bytes),
            announced: None,
            received: 0,
        }
    }

    /// A body of HTTP/1.1 or HTTP/2 as hyper reads it.
    #[must_use]
    pub fn hyper(incoming: hyper::body::Incoming) -> Self {
        let is_done = incoming.is_end_stream();
        Self {
            source: Source::Hyper(incoming),
            announced: None,
            received: 0,
            is_done,
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Hyper(incoming) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|e| BodyError::Lost(e.to_string()))))
            }
        }
    }
}

impl InBody {
    /// HTTP/3 leaves the comparison with `content-length` to us; hyper makes it itself.
    fn checked(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Option<Result<Frame<Bytes>, BodyError>> {
        match (&frame, self.announced) {
            (Some(Ok(part)), announced) => {
                self.received += part.data_ref().map_or(0, |data| data.len() as u64);
                match announced {
                    Some(announced) if self.received > announced => Some(Err(self.wrong_length(announced))),
                    Some(_) | None => frame,
                }
            }
            (None, Some(announced)) if self.received != announced => Some(Err(self.wrong_length(announced))),
            (None | Some(Err(_)), _) => frame,
        }
    }

    const fn wrong_length(&self, announced: u64) -> BodyError {
        BodyError::Length {
            announced,
            received: self.received,
        }
    }
}

impl Body for InBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_done {
            return Poll::Ready(None);
        }
        let frame = ready!(this.poll_source(cx));
        let frame = this.checked(frame);
        this.is_done = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Hyper(incoming) => incoming.size_hint(),
        }
    }
}
