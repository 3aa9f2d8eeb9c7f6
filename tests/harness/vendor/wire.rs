//! The vendor's side of one TCP connection: limits the size of a write, resets instead of closing, and tells
//! when all that HTTP had buffered is on its way. Knows no HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::script::Break;

/// What a script may ask of the connection it runs on.
pub(super) struct Control {
    write_size: AtomicUsize,
    reset: AtomicBool,
    garbage: Mutex<Option<Bytes>>,
    flushed: watch::Sender<u64>,
}

impl Control {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            write_size: AtomicUsize::new(usize::MAX),
            reset: AtomicBool::new(false),
            garbage: Mutex::new(None),
            flushed: watch::Sender::new(0),
        })
    }

    pub(super) fn limit_writes(&self, size: Option<usize>) {
        self.write_size
            .store(size.unwrap_or(usize::MAX).max(1), Ordering::SeqCst);
    }

    /// The connection ends like this when it is dropped next.
    pub(super) fn break_off(&self, how: Break) {
        self.reset.store(how == Break::Reset, Ordering::SeqCst);
    }

    /// These bytes are written when the connection is dropped next.
    pub(super) fn spoil(&self, garbage: Bytes) {
        *self.garbage.lock().expect("no holder panics") = Some(garbage);
    }

    /// Resolves after the next moment in which nothing is left to write.
    pub(super) async fn written(&self) {
        let mut flushed = self.flushed.subscribe();
        let seen = *flushed.borrow_and_update();
        let _closed = flushed.wait_for(|count| *count > seen).await;
    }
}

pub(super) struct Wire {
    stream: TcpStream,
    control: Arc<Control>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, control: Arc<Control>) -> Self {
        Self { stream, control }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let limit = self.control.write_size.load(Ordering::Relaxed).min(buf.len());
        Pin::new(&mut self.stream).poll_write(cx, &buf[..limit])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.control.write_size.load(Ordering::Relaxed) == usize::MAX {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.control.flushed.send_if_modified(|count| {
            *count += 1;
            true
        });
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.reset.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(garbage) = self.control.garbage.lock().ok().and_then(|mut bytes| bytes.take()) {
            let _too_late = self.stream.try_write(&garbage);
        }
        if self.control.reset.load(Ordering::SeqCst) {
            let _closed = self.stream.set_zero_linger();
        }
    }
}
