//! Bodies on the tunnel. A body that was cut is an error at its reader, whatever the transport, never an end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use h3::error::StreamError;
use http::{HeaderMap, Version, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use tokio_util::sync::DropGuard;

use super::{calls::Call, h3quic};

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
    /// How the body ends, when that was seen while looking for more of it.
    end: Option<Option<BodyError>>,
    /// What lives as long as the body does: the count of running calls, and the upload that goes with it.
    attached: Option<(Option<Call>, Option<DropGuard>)>,
}

pub(super) enum Source {
    Whole(Bytes),
    H3Client(h3::client::RequestStream<h3quic::RecvStream, Bytes>),
    H3Server(h3::server::RequestStream<h3quic::RecvStream, Bytes>),
    H2(h2::RecvStream),
    Hyper1(hyper::body::Incoming),
    Hyper2(hyper::body::Incoming),
}

type Part = Option<Result<Bytes, BodyError>>;

impl InBody {
    /// A body already here.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let is_done = bytes.is_empty();
        Self {
            source: Source::Whole(bytes),
            announced: None,
            received: 0,
            is_done,
            end: None,
            attached: None,
        }
    }

    /// A body as hyper reads it, of a message with this `version`.
    #[must_use]
    pub fn hyper(incoming: hyper::body::Incoming, version: Version) -> Self {
        let is_done = incoming.is_end_stream();
        let source = if version == Version::HTTP_2 {
            Source::Hyper2(incoming)
        } else {
            Source::Hyper1(incoming)
        };
        Self {
            source,
            announced: None,
            received: 0,
            is_done,
            end: None,
            attached: None,
        }
    }

    pub(super) fn tunnel(source: Source, announced: Option<u64>, attached: (Option<Call>, Option<DropGuard>)) -> Self {
        Self {
            source,
            announced,
            received: 0,
            is_done: false,
            end: None,
            attached: Some(attached),
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Part> {
        match &mut self.source {
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Source::H3Client(stream) => Poll::Ready(h3_part(ready!(stream.poll_recv_data(cx)))),
            Source::H3Server(stream) => Poll::Ready(h3_part(ready!(stream.poll_recv_data(cx)))),
            Source::H2(stream) => poll_h2(stream, cx),
            Source::Hyper1(incoming) => poll_hyper(incoming, cx),
            Source::Hyper2(incoming) => match ready!(poll_hyper(incoming, cx)) {
                // hyper shows a stream reset with CANCEL or NO_ERROR as an end; h2 below it knows better.
                None if !incoming.is_end_stream() => Poll::Ready(Some(Err(BodyError::Reset(CANCEL)))),
                part => Poll::Ready(part),
            },
        }
    }

    /// Small pieces that have come already make one large one: each costs its reader more than the copy. An end that
    /// has come is known with the last piece, so that the reader can pass both on at once.
    fn join_what_is_here(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        if !matches!(self.source, Source::H3Client(_) | Source::H3Server(_) | Source::H2(_)) {
            return first;
        }
        let mut first = first;
        let mut joined = BytesMut::new();
        while first.len().max(joined.len()) < ENOUGH {
            let Poll::Ready(part) = self.poll_source(cx) else { break };
            match self.checked(part) {
                Some(Ok(more)) => {
                    if joined.is_empty() {
                        // Full packets announce more of them; a few words do not.
                        let both = first.len() + more.len();
                        joined.reserve(if both > 2048 { ENOUGH + both } else { 2 * both });
                        joined.extend_from_slice(&std::mem::take(&mut first));
                    }
                    joined.extend_from_slice(&more);
                }
                Some(Err(error)) => {
                    self.end = Some(Some(error));
                    break;
                }
                None => {
                    self.end = Some(None);
                    break;
                }
            }
        }
        if joined.is_empty() { first } else { joined.freeze() }
    }

    fn finish(&mut self) {
        self.is_done = true;
        self.attached = None;
    }

    fn checked(&mut self, part: Part) -> Part {
        match (part, self.announced) {
            (Some(Ok(bytes)), announced) => {
                self.received += bytes.len() as u64;
                match announced {
                    Some(announced) if self.received > announced => Some(Err(self.wrong_length(announced))),
                    Some(_) | None => Some(Ok(bytes)),
                }
            }
            (None, Some(announced)) if self.received != announced => Some(Err(self.wrong_length(announced))),
            (part @ (None | Some(Err(_))), _) => part,
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
        if let Some(end) = this.end.take() {
            this.finish();
            return Poll::Ready(end.map(Err));
        }
        let part = ready!(this.poll_source(cx));
        let part = match this.checked(part) {
            Some(Ok(first)) => Some(Ok(Frame::data(this.join_what_is_here(first, cx)))),
            Some(Err(error)) => {
                this.finish();
                Some(Err(error))
            }
            None => {
                this.finish();
                None
            }
        };
        Poll::Ready(part)
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || self.end == Some(None)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Hyper1(incoming) | Source::Hyper2(incoming) => incoming.size_hint(),
            Source::H3Client(_) | Source::H3Server(_) | Source::H2(_) => match self.announced {
                Some(announced) => SizeHint::with_exact(announced.saturating_sub(self.received)),
                None => SizeHint::default(),
            },
        }
    }
}

fn h3_part(part: Result<Option<impl Buf>, StreamError>) -> Part {
    match part {
        Ok(part) => part.map(|mut part| Ok(part.copy_to_bytes(part.remaining()))),
        Err(error) => Some(Err(h3_error(&error))),
    }
}

fn poll_h2(stream: &mut h2::RecvStream, cx: &mut Context<'_>) -> Poll<Part> {
    loop {
        return match ready!(stream.poll_data(cx)) {
            // An empty frame carries the end, mostly.
            Some(Ok(bytes)) if bytes.is_empty() => continue,
            Some(Ok(bytes)) => {
                // Only what was taken is given back: a slow reader slows the sender.
                let released = stream.flow_control().release_capacity(bytes.len());
                Poll::Ready(Some(released.map(|()| bytes).map_err(|error| h2_error(&error))))
            }
            // A server may answer in full, then reset what it did not read (RFC 9113, 8.1).
            Some(Err(_)) | None if stream.is_end_stream() => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(h2_error(&error)))),
            None => Poll::Ready(Some(Err(BodyError::Reset(CANCEL)))),
        };
    }
}

fn poll_hyper(incoming: &mut hyper::body::Incoming, cx: &mut Context<'_>) -> Poll<Part> {
    loop {
        match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // Trailers are of no use to anyone here.
                if let Ok(bytes) = frame.into_data() {
                    return Poll::Ready(Some(Ok(bytes)));
                }
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Lost(error.to_string())))),
            None => return Poll::Ready(None),
        }
    }
}

pub(super) fn h3_error(error: &StreamError) -> BodyError {
    match error {
        StreamError::RemoteTerminate { code } => BodyError::Reset(code.value()),
        StreamError::ConnectionError(error) => BodyError::Lost(error.to_string()),
        // The enum is open.
        other => BodyError::Lost(other.to_string()),
    }
}

pub(super) fn h2_error(error: &h2::Error) -> BodyError {
    match error.reason() {
        Some(reason) if error.is_reset() => BodyError::Reset(u32::from(reason).into()),
        Some(_) | None => BodyError::Lost(error.to_string()),
    }
}

/// What `content-length` says, when it can be read.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// HTTP/2's CANCEL.
const CANCEL: u64 = 8;
/// From this many bytes on more is not looked for.
const ENOUGH: usize = 16 * 1024;
