//! A local client's request body on its way to the hub.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use relay_shared::tasks::Tasks;
use relay_shared::tunnel::body::BodyError;

/// Reads the client's body as the hub takes it. When it is dropped unread (a refusal, an early answer), the rest is
/// read and thrown away for a while: closing a socket with unread bytes makes the kernel reset it, and the client
/// would lose the answer that explains why.
pub(crate) struct Upload {
    client: Option<Incoming>,
    tasks: Tasks,
}

impl Upload {
    pub(crate) fn new(client: Incoming, tasks: Tasks) -> Self {
        Self {
            client: Some(client),
            tasks,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(client) = &mut self.client else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(client).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.client = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::Source(error.to_string()))))
    }

    fn is_end_stream(&self) -> bool {
        self.client.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.client
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(rest) = self.client.take()
            && !rest.is_end_stream()
        {
            self.tasks.spawn("discard", discard(rest));
        }
    }
}

async fn discard(mut rest: Incoming) {
    let reading = async {
        let mut left = DISCARDED;
        while let Some(Ok(frame)) = rest.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        tracing::debug!("a refused client went on sending");
    }
}

const DISCARDED: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(5);
