//! A TCP connection to a vendor, watched by the runtime of the call that it carries.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use relay_shared::cores::{bring_here, here};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Id,
};

/// Idle connections are any call's. One that begins to send on another runtime than the call before it brings the
/// connection along, or each of its answers would be told there first.
pub(in crate::egress) struct Tcp {
    stream: TcpStream,
    watcher: Option<Id>,
}

impl Tcp {
    /// Of the caller's runtime.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            watcher: here(),
        }
    }

    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    fn sender(&mut self) -> Pin<&mut TcpStream> {
        let here = here();
        // What cannot be brought along serves from where it is.
        if here != self.watcher && bring_here(&mut self.stream).is_ok() {
            self.watcher = here;
        }
        Pin::new(&mut self.stream)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.sender().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sender().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
