//! A call's body that can be sent again while nobody has answered: what has gone out is kept, up to a bound.
//! Knows no transport. Holds bodies in memory only, and forgets them with the head of the answer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use relay_shared::tunnel::body::{BodyError, OutBody};

/// The body and what has been taken of it.
pub(super) struct Replay(Arc<Mutex<Kept>>);

struct Kept {
    source: OutBody,
    parts: Vec<Bytes>,
    bytes: usize,
    is_keeping: bool,
    is_broken: bool,
}

impl Replay {
    pub(super) fn new(source: OutBody) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            source,
            parts: Vec::new(),
            bytes: 0,
            is_keeping: true,
            is_broken: false,
        })))
    }

    /// The body from its beginning. Only the last one made may be read.
    pub(super) fn body(&self) -> OutBody {
        Again {
            kept: Arc::clone(&self.0),
            at: 0,
        }
        .boxed_unsync()
    }

    /// Whether [`Replay::body`] can still begin at the beginning.
    pub(super) fn is_whole(&self) -> bool {
        let kept = lock(&self.0);
        kept.is_keeping && !kept.is_broken
    }

    /// Nothing needs to be kept any more.
    pub(super) fn close(&self) {
        lock(&self.0).stop_keeping();
    }
}

impl Kept {
    fn stop_keeping(&mut self) {
        self.is_keeping = false;
        // Places stay counted, the bytes go.
        self.parts.iter_mut().for_each(|part| *part = Bytes::new());
        self.bytes = 0;
    }

    fn keep(&mut self, part: &Bytes) {
        self.bytes += part.len();
        if self.bytes > MOST {
            self.stop_keeping();
        }
        if self.is_keeping {
            self.parts.push(part.clone());
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Again {
    kept: Arc<Mutex<Kept>>,
    at: usize,
}

impl Body for Again {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut kept = lock(&this.kept);
        if kept.is_keeping && this.at < kept.parts.len() {
            let part = kept.parts[this.at].clone();
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        loop {
            match ready!(Pin::new(&mut kept.source).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(part) = frame.into_data() else { continue };
                    kept.keep(&part);
                    this.at = kept.parts.len();
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
                Some(Err(error)) => {
                    kept.is_broken = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let kept = lock(&self.kept);
        self.at >= kept.parts.len() && kept.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.kept).source.size_hint()
    }
}

/// Codex's largest bodies are a few megabytes; what is larger is sent once.
const MOST: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt as _;
    use relay_shared::tunnel::body::full;

    use super::{MOST, Replay};

    #[tokio::test]
    async fn a_body_begins_again_as_often_as_wanted_until_closed() {
        let replay = Replay::new(full("once and again"));
        for _ in 0..3 {
            assert!(replay.is_whole());
            assert_eq!(replay.body().collect().await.unwrap().to_bytes(), "once and again");
        }
        replay.close();
        assert!(!replay.is_whole());
    }

    #[tokio::test]
    async fn a_body_too_large_is_sent_once_and_whole() {
        let large = Bytes::from(vec![7; MOST + 1]);
        let replay = Replay::new(full(large.clone()));
        assert_eq!(replay.body().collect().await.unwrap().to_bytes(), large);
        assert!(!replay.is_whole());
    }
}
