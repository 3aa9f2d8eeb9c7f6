//! The two bodies of an exchange as the entrances and the meter see them. Knows no wire and no money.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use relay_shared::tunnel::body::InBody;
use tokio::sync::mpsc;

/// A body ended before its end: it must not look complete on any transport.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut")]
pub struct Cut;

/// What a client sends, from whichever entrance.
#[derive(Default)]
pub enum ClientBody {
    /// HTTP/1.1 or 2 on the public entrance.
    Public(Box<InBody>),
    /// HTTP/3 or 2 through the tunnel.
    Tunnel(Box<InBody>),
    /// What a message of a socket asks, as the body of the same call over HTTP.
    Message(Option<Bytes>),
    /// None, or one that was taken.
    #[default]
    Taken,
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let frame = match self.get_mut() {
            Self::Public(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(|_| Cut)),
            Self::Tunnel(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(|_| Cut)),
            Self::Message(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Taken => None,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Public(body) => body.is_end_stream(),
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Message(bytes) => bytes.is_none(),
            Self::Taken => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Public(body) => body.size_hint(),
            Self::Tunnel(body) => body.size_hint(),
            Self::Message(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Taken => SizeHint::with_exact(0),
        }
    }
}

impl ClientBody {
    /// Reads on and throws away, up to `most` bytes and for up to `patience`: a client that still writes when its
    /// connection is closed loses the answer that it was given.
    pub(super) async fn discard(mut self, most: usize, patience: Duration) {
        let read = async {
            let mut left = most;
            while let Some(Ok(frame)) = self.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    return;
                }
            }
        };
        // Whoever is not done by then is cut.
        tokio::time::timeout(patience, read).await.unwrap_or_default();
    }
}

/// Chunks that may wait between the meter and a slow client.
const CHUNKS_WAITING: usize = 2;

enum Part {
    Data(Bytes),
    End,
}

/// What goes back to the client. A stream whose [`Sender`] is dropped without [`Sender::end`] is an error.
pub enum ReplyBody {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// As the meter lets it through.
    Stream(Stream),
}

/// The client's end of a streamed answer.
pub struct Stream(Option<mpsc::Receiver<Part>>);

/// The meter's end of a streamed answer.
pub struct Sender(mpsc::Sender<Part>);

impl ReplyBody {
    /// A streamed body: dropping it tells the meter that the client has gone.
    pub fn stream() -> (Sender, Self) {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        (Sender(sender), Self::Stream(Stream(Some(receiver))))
    }

    /// A complete body.
    pub const fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl Sender {
    /// Waits until the client takes `bytes`.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Cut> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.send(Part::Data(bytes)).await.map_err(|_| Cut)
    }

    /// Ends the body cleanly; without this it ends as cut.
    pub async fn end(self) {
        // A client that has gone needs no end.
        drop(self.0.send(Part::End).await);
    }

    /// Resolves when the client has gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(stream) => stream.0.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(receiver) = &mut self.0 else {
            return Poll::Ready(None);
        };
        match ready!(receiver.poll_recv(cx)) {
            Some(Part::Data(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Part::End) => {
                self.0 = None;
                Poll::Ready(None)
            }
            None => {
                self.0 = None;
                Poll::Ready(Some(Err(Cut)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_meter_that_dies_leaves_a_cut_body_and_not_a_complete_one() {
        let (sender, body) = ReplyBody::stream();
        sender.send(Bytes::from_static(b"data: x\n\n")).await.unwrap();
        drop(sender);
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn an_ended_body_is_complete() {
        let (sender, body) = ReplyBody::stream();
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        sender.end().await;
        assert_eq!(body.collect().await.unwrap().to_bytes(), "x");
    }
}
