//! The public entrance: HTTPS with HTTP/1.1 and 2, or plain HTTP on loopback. Callers show an API key.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use futures_util::TryFutureExt as _;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use relay_shared::{
    call::CallId,
    tasks::Tasks,
    tunnel::body::InBody,
    written::{InTurn, Telling},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Arrival, admit, api_key, socket_upgrade};
use crate::{
    exchange::{
        Exchange,
        body::{ClientBody, ReplyBody},
    },
    ledger::Link,
};

/// A client that has not sent its head, or shaken hands, by then is cut.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Above the head that is refused in the client's dialect, so that it can be told.
const HEAD_BUFFER_FACTOR: usize = 4;
/// After a failed accept: a hub out of file descriptors must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const H2_STREAMS: u32 = 256;
const H2_WINDOW: u32 = 1 << 20;

/// One public listener.
pub struct Public {
    pub listener: TcpListener,
    /// `None`: plain HTTP, on loopback only.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Cancelled when no new connection is taken and idle ones are closed.
    pub drain: CancellationToken,
}

/// Accepts until drained.
pub async fn serve_public(public: Public, exchange: Arc<Exchange>, tasks: Tasks) {
    let acceptor = public.tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            accepted = public.listener.accept() => accepted,
            () = public.drain.cancelled() => return,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = Connection {
            exchange: exchange.clone(),
            drain: public.drain.clone(),
        };
        tasks.spawn("public-connection", connection.run(tcp, acceptor.clone()));
    }
}

struct Connection {
    exchange: Arc<Exchange>,
    drain: CancellationToken,
}

impl Connection {
    async fn run(self, tcp: TcpStream, acceptor: Option<TlsAcceptor>) {
        if tcp.set_nodelay(true).is_err() {
            return;
        }
        let Some(acceptor) = acceptor else {
            return self.speak(tcp, Link::Http).await;
        };
        if let Ok(Ok(tls)) = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(tcp)).await {
            self.speak(tls, Link::Https).await;
        }
    }

    async fn speak(self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, link: Link) {
        let exchange = self.exchange;
        let builder = builder(exchange.limits.head_bytes);
        let (io, written) = Telling::new(io);
        let service = service_fn(move |request: Request<Incoming>| {
            let (version, written) = (request.version(), written.clone());
            // Boxed: a connection would keep the room of the future for as long as its answer streams.
            let answer = Box::pin(answer(exchange.clone(), request, link));
            answer.map_ok(move |answer| answer.map(|body| InTurn::new(body, version, written)))
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // A client that breaks off has its call ended by its body's fate; there is nothing else to tell.
        drop(outcome);
    }
}

fn builder(head_bytes: usize) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(head_bytes.saturating_mul(HEAD_BUFFER_FACTOR).max(8192))
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_WINDOW)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn answer(
    exchange: Arc<Exchange>,
    mut request: Request<Incoming>,
    link: Link,
) -> Result<Response<ReplyBody>, Infallible> {
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let (head, body) = request.into_parts();
    let body = InBody::hyper(body, head.version);
    let arrival = Arrival {
        credential: api_key(&head.headers),
        socket: socket_upgrade(&head, upgrade),
        head,
        body: ClientBody::Public(Box::new(body)),
        call: CallId::random(),
        link,
        is_socket_post: false,
    };
    Ok(admit(&exchange, arrival).await)
}

/// Binds a public listener.
///
/// # Errors
/// The address is taken or not ours.
pub fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}
