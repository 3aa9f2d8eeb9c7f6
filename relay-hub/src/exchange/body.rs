//! The two bodies of an exchange as the entrances and the meter see them. Knows no wire and no money.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
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
/// From so many bytes on the meter waits until the client has taken them and asks for more.
const MOST_UNASKED: usize = 16 << 10;

enum Part {
    Data(Bytes),
    /// Taken once the client, with all before it, asks for more.
    Asked,
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
pub struct Sender {
    parts: mpsc::Sender<Part>,
    /// Bytes sent since the client was seen to ask for more.
    unasked: AtomicUsize,
}

impl ReplyBody {
    /// A streamed body: dropping it tells the meter that the client has gone.
    pub fn stream() -> (Sender, Self) {
        let (parts, receiver) = mpsc::channel(CHUNKS_WAITING);
        let sender = Sender {
            parts,
            unasked: AtomicUsize::new(0),
        };
        (sender, Self::Stream(Stream(Some(receiver))))
    }

    /// A complete body.
    pub const fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl Sender {
    /// Waits until there is room for `bytes`; and where many wait by then, until the client has taken them and asks for
    /// more, so that nothing else is read for it meanwhile.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Cut> {
        if bytes.is_empty() {
            return Ok(());
        }
        let unasked = self.unasked.load(Ordering::Relaxed) + bytes.len();
        let bytes = match bytes.len() < MOST_UNASKED {
            // Something else is read while it waits, into the same room.
            true => Bytes::copy_from_slice(&bytes),
            false => bytes,
        };
        self.parts.send(Part::Data(bytes)).await.map_err(|_| Cut)?;
        self.unasked.store(unasked, Ordering::Relaxed);
        if unasked >= MOST_UNASKED {
            self.asked().await;
        }
        Ok(())
    }

    /// Waits until the client asks for more. One that has all that was announced does not, and has not gone.
    async fn asked(&self) {
        if self.parts.send(Part::Asked).await.is_ok() {
            drop(self.parts.reserve_many(CHUNKS_WAITING).await);
        }
        self.unasked.store(0, Ordering::Relaxed);
    }

    /// Ends the body cleanly; without this it ends as cut.
    pub async fn end(self) {
        // A client that has gone needs no end.
        drop(self.parts.send(Part::End).await);
    }

    /// Resolves when the client has gone.
    pub async fn gone(&self) {
        self.parts.closed().await;
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
        loop {
            let last = match ready!(receiver.poll_recv(cx)) {
                Some(Part::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Part::Asked) => continue,
                Some(Part::End) => None,
                None => Some(Err(Cut)),
            };
            self.0 = None;
            return Poll::Ready(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_meter_that_dies_leaves_a_cut_body_and_not_a_complete_one() {
        let (sender, body) = ReplyBody::stream();
        sender.send(Bytes::from_static(b"data: x\n\n")).await.unwrap();
        drop(sender);
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_meter_that_sent_much_waits_until_the_client_asks_for_more() {
        let (sender, mut body) = ReplyBody::stream();
        let half = Bytes::from(vec![1; MOST_UNASKED / 2]);
        for _ in 0..3 {
            assert!(sender.send(half.clone()).now_or_never().unwrap().is_ok());
            let mut sending = pin!(sender.send(half.clone()));
            assert!(sending.as_mut().now_or_never().is_none());
            for _ in 0..2 {
                body.frame().await.unwrap().unwrap();
            }
            assert!(
                sending.as_mut().now_or_never().is_none(),
                "taken, and nothing more is asked for"
            );
            assert!(body.frame().now_or_never().is_none());
            assert!(sending.as_mut().now_or_never().unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn a_short_piece_keeps_nothing_of_what_was_read_with_it() {
        let (sender, mut body) = ReplyBody::stream();
        let read = Bytes::from(vec![1; 4 * MOST_UNASKED]);
        sender.send(read.slice(5..MOST_UNASKED)).await.unwrap();
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece, read.slice(5..MOST_UNASKED));
        assert!(read.is_unique());
    }

    #[tokio::test]
    async fn a_client_that_needs_nothing_more_has_not_gone() {
        let (sender, mut body) = ReplyBody::stream();
        let mut sending = pin!(sender.send(vec![1; MOST_UNASKED].into()));
        assert!(sending.as_mut().now_or_never().is_none());
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert!(sending.await.is_ok());
        assert!(sender.send(Bytes::from_static(b"x")).await.is_err());
    }

    #[tokio::test]
    async fn an_ended_body_is_complete() {
        let (sender, body) = ReplyBody::stream();
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        sender.end().await;
        assert_eq!(body.collect().await.unwrap().to_bytes(), "x");
    }
}
