//! An answer that is passed as it comes. When it is cut, the client's connection is cut: it never looks complete.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::calls::Running;
use super::uplink::BoxError;

/// The hub's body, with the call it belongs to.
pub(crate) struct Whole<B> {
    hub: B,
    _running: Running,
}

impl<B> Whole<B> {
    pub(crate) fn new(hub: B, running: Running) -> Self {
        Self { hub, _running: running }
    }
}

impl<B> Body for Whole<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.hub).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.hub.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.hub.size_hint()
    }
}
