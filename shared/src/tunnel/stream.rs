//! A byte stream over one call: what is written is the body that goes out, what is read the body that comes in. A stream
//! that is dropped before [`AsyncWrite::poll_shutdown`] is cut at its other end, never ended. Knows no transport.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_util::sync::PollSender;

use super::body::{BodyError, InBody, OutBody};

/// Both directions of a call.
pub struct CallStream {
    up: Upload,
    down: InBody,
    /// What was read and did not fit.
    held: Bytes,
}

/// The direction that is written; [`upload`] makes it.
pub struct Upload(PollSender<Piece>);

enum Piece {
    Data(Bytes),
    End,
}

/// A direction to write, and the body that carries it.
#[must_use]
pub fn upload() -> (Upload, OutBody) {
    let (sender, pieces) = mpsc::channel(QUEUE);
    (
        Upload(PollSender::new(sender)),
        Written { pieces, is_over: false }.boxed_unsync(),
    )
}

impl CallStream {
    /// Of the direction that is written and the one that is read.
    #[must_use]
    pub const fn new(up: Upload, down: InBody) -> Self {
        let held = Bytes::new();
        Self { up, down, held }
    }
}

impl AsyncRead for CallStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.held.is_empty() {
            match ready!(Pin::new(&mut this.down).poll_frame(cx)) {
                Some(Ok(frame)) => this.held = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(cut(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let some = this.held.len().min(buf.remaining());
        let (head, _) = this.held.split_at(some);
        buf.put_slice(head);
        this.held.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CallStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let up = &mut self.get_mut().up.0;
        ready!(up.poll_reserve(cx)).map_err(nobody_reads)?;
        let (some, _) = buf.split_at(buf.len().min(LARGEST));
        up.send_item(Piece::Data(Bytes::copy_from_slice(some)))
            .map_err(nobody_reads)?;
        Poll::Ready(Ok(some.len()))
    }

    /// Nothing waits here for a flush: who carries the body sends what is there.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let up = &mut self.get_mut().up.0;
        // Closed: it was shut down before, or nobody reads.
        if !up.is_closed() && ready!(up.poll_reserve(cx)).is_ok() {
            up.send_item(Piece::End).map_err(nobody_reads)?;
            up.close();
        }
        Poll::Ready(Ok(()))
    }
}

struct Written {
    pieces: mpsc::Receiver<Piece>,
    is_over: bool,
}

impl Body for Written {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let piece = ready!(this.pieces.poll_recv(cx));
        Poll::Ready(match piece {
            Some(Piece::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => {
                this.is_over = true;
                None
            }
            None => {
                this.is_over = true;
                Some(Err(BodyError::Source("who wrote it gave it up".to_owned())))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

fn cut(error: BodyError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

fn nobody_reads<T>(_: tokio_util::sync::PollSendError<T>) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Pieces that wait for credit of the connection; who writes more than that waits too.
const QUEUE: usize = 4;
/// More is not taken at once.
const LARGEST: usize = 32 * 1024;
