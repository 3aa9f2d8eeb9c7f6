//! The sending half of an HTTP/2 stream, at both ends, and how both ends set HTTP/2 up. On the h2 crate itself: hyper
//! shows a stream that was reset with CANCEL as one that ended. Knows nothing of requests.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::select;
use h2::{Reason, SendStream};

use super::{
    body::{BodyError, h2_error},
    pump::Outlet,
};
use crate::written::Followed;

/// Credit the hub gives to one stream, as for QUIC.
pub(super) const STREAM_WINDOW: u32 = 8 * 1024 * 1024;
/// And to a connection.
pub(super) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// With h2's 20 a few dozen clients that leave together would end the connection for all others.
pub(super) const RESETS: usize = 16 * 1024;
/// What may wait unsent on one stream.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// The direction we write. Dropped before its end it is reset.
pub(super) struct Out {
    stream: SendStream<Bytes>,
    /// Tells what was written, where the bytes before a cut are of use.
    followed: Option<Followed>,
    sent: u64,
    is_over: bool,
}

impl Out {
    pub(super) const fn new(stream: SendStream<Bytes>) -> Self {
        Self {
            stream,
            followed: None,
            sent: 0,
            is_over: false,
        }
    }

    /// For a direction whose bytes before a cut are of use; it is followed since before its head.
    pub(super) fn of_answer(stream: SendStream<Bytes>, followed: Followed) -> Self {
        let mut this = Self::new(stream);
        this.followed = Some(followed);
        this
    }

    fn end(&mut self, data: Bytes) -> Result<(), BodyError> {
        self.is_over = true;
        self.stream.send_data(data, true).map_err(|error| h2_error(&error))
    }

    /// Waits for credit for some of `wanted` bytes.
    async fn credit(&mut self, wanted: usize) -> Result<usize, BodyError> {
        self.stream.reserve_capacity(wanted);
        loop {
            if self.stream.capacity() > 0 {
                return Ok(self.stream.capacity());
            }
            match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(h2_error(&error)),
                None => return Err(BodyError::Reset(u32::from(Reason::STREAM_CLOSED).into())),
            }
        }
    }
}

impl Outlet for Out {
    async fn send(&mut self, mut data: Bytes, is_last: bool) -> Result<(), BodyError> {
        self.sent += data.len() as u64;
        loop {
            let credit = self.credit(data.len()).await?;
            if credit >= data.len() {
                break;
            }
            self.stream
                .send_data(data.split_to(credit), false)
                .map_err(|error| h2_error(&error))?;
        }
        if is_last {
            self.end(data)
        } else {
            self.stream.send_data(data, false).map_err(|error| h2_error(&error))
        }
    }

    async fn finish(&mut self) -> Result<(), BodyError> {
        std::future::ready(self.end(Bytes::new())).await
    }

    /// h2 throws away what is queued when a stream is reset.
    async fn cut(&mut self) {
        if let Some(followed) = &self.followed {
            let gone = poll_fn(|cx| self.stream.poll_reset(cx));
            select(pin!(followed.all(self.sent)), pin!(gone)).await;
        }
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.is_over {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}
