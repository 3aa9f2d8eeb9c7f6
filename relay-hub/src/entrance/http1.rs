//! One connection of HTTP/1.1 at the public entrance: how long it may wait, and how it ends. Knows nothing of calls.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::TryFutureExt as _;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use relay_shared::waits::{Answering, Pace, Waits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::sips::Sips;

/// Between two requests a client may take its time: libraries and balancers keep connections for a minute or two, and
/// one that is closed under a request loses it.
pub(super) const WAITS: Waits = Waits {
    head: super::public::HEAD_TIMEOUT,
    idle: Duration::from_secs(180),
};
/// Above the head that is refused in the client's dialect, so that it can be told.
const HEAD_BUFFER_FACTOR: usize = 2;

/// Answers with `service` until the client leaves, keeps silent for too long, or all is told to drain: then the answer
/// that has begun is the last.
pub(super) async fn serve<T, S, B>(io: T, service: S, waits: Waits, head_bytes: usize, drain: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let pace = Pace::of_stranger(waits);
    let calls = pace.clone();
    let service = service_fn(|request| {
        let busy = calls.busy();
        let answer = service.call(request);
        answer.map_ok(|answer| answer.map(|body| Answering::new(body, busy)))
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(head_bytes.saturating_mul(HEAD_BUFFER_FACTOR).max(8192))
        .serve_connection(TokioIo::new(Sips::of(pace.watch(io))), service)
        .with_upgrades();
    drive(Box::pin(connection), pace.overdue(), drain, |running| {
        running.graceful_shutdown()
    })
    .await;
}

/// Runs a connection to its end, or until it is `overdue`. Once drained, it ends with the answers that it has begun.
pub(super) async fn drive<C: Future>(
    mut connection: Pin<Box<C>>,
    overdue: impl Future<Output = ()>,
    drain: CancellationToken,
    end: impl Fn(Pin<&mut C>),
) {
    let mut overdue = pin!(overdue);
    let mut is_ending = false;
    loop {
        tokio::select! {
            biased;
            // A client that breaks off has its call ended by its body's fate; there is nothing else to tell.
            _ = connection.as_mut() => return,
            () = overdue.as_mut() => return,
            () = drain.cancelled(), if !is_ending => {
                is_ending = true;
                end(connection.as_mut());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Waits = Waits {
        head: SHORT,
        idle: Duration::from_secs(60),
    };
    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    async fn serve_ok(io: DuplexStream, drain: CancellationToken) {
        let service = service_fn(|_| std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))));
        serve(io, service, LONG, 64 * 1024, drain).await;
    }

    async fn ask(client: &mut DuplexStream) {
        client.write_all(HEAD).await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\nok") {
            assert!(
                client.read_buf(&mut read).await.unwrap() > 0,
                "closed before the answer"
            );
        }
    }

    #[tokio::test]
    async fn a_kept_connection_outlives_the_time_for_a_head_and_a_half_head_does_not() {
        let (mut client, server) = duplex(1 << 16);
        let talking = async {
            ask(&mut client).await;
            tokio::time::sleep(4 * SHORT).await;
            ask(&mut client).await;
            client.write_all(&HEAD[..9]).await.unwrap();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        };
        tokio::join!(serve_ok(server, CancellationToken::new()), talking);
    }

    #[tokio::test]
    async fn a_drained_connection_is_closed_between_two_requests() {
        let (mut client, server) = duplex(1 << 16);
        let drain = CancellationToken::new();
        let talking = async {
            ask(&mut client).await;
            drain.cancel();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        };
        tokio::join!(serve_ok(server, drain.clone()), talking);
    }
}
