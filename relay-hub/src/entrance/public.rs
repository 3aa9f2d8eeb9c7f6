//! The public entrance: HTTPS with HTTP/1.1 and 2, or plain HTTP on loopback. Callers show an API key.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use futures_util::TryFutureExt as _;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use relay_shared::{
    call::CallId,
    cores::{Cores, bring_here},
    tasks::Tasks,
    tunnel::body::InBody,
    written::{InTurn, MOST_UNWRITTEN, Telling},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    Arrival,
    address::bound,
    admit, api_key, cors,
    http1::{self, WAITS},
    socket_upgrade,
};
use crate::{
    config::PublicRules,
    exchange::{
        Exchange,
        body::{ClientBody, ReplyBody},
    },
    ledger::Link,
};

/// A client that has not sent its head, or shaken hands, by then is cut.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept: a hub out of file descriptors must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at a preface that comes in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
const H2_STREAMS: u32 = 256;
const H2_WINDOW: u32 = 1 << 20;
/// What may wait in TLS, encrypted, for a client that is slow to read.
const TLS_UNWRITTEN: usize = 16 << 10;

/// One public listener.
pub struct Public {
    pub listener: TcpListener,
    /// `None`: plain HTTP, on loopback only.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What it heeds of a request's head.
    pub rules: Arc<PublicRules>,
    /// Cancelled when no new connection is taken and idle ones are closed.
    pub drain: CancellationToken,
    /// Where calls of HTTP/1.1 run.
    pub cores: Cores,
    pub tasks: Tasks,
}

/// Accepts until drained.
pub async fn serve_public(public: Public, exchange: Arc<Exchange>) {
    let acceptor = public.tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            accepted = public.listener.accept() => accepted,
            () = public.drain.cancelled() => return,
        };
        let Ok((tcp, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if tcp.set_nodelay(true).is_err() {
            continue;
        }
        let connection = Connection {
            exchange: exchange.clone(),
            rules: public.rules.clone(),
            from: from.ip(),
            drain: public.drain.clone(),
            cores: public.cores.clone(),
            tasks: public.tasks.clone(),
        };
        match acceptor.clone() {
            None => public.tasks.spawn("public-connection", connection.plain(tcp)),
            Some(acceptor) => public.tasks.spawn("public-connection", connection.tls(tcp, acceptor)),
        };
    }
}

/// The version of HTTP that a client speaks.
#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

/// How HTTP/2 begins where no handshake announced it. No method of HTTP/1 does.
const PREFACE: [u8; 4] = *b"PRI ";

struct Connection {
    exchange: Arc<Exchange>,
    rules: Arc<PublicRules>,
    from: IpAddr,
    drain: CancellationToken,
    cores: Cores,
    tasks: Tasks,
}

impl Connection {
    async fn plain(self, mut tcp: TcpStream) {
        let version = tokio::select! {
            version = tokio::time::timeout(HEAD_TIMEOUT, foretold(&tcp)) => version,
            () = self.drain.cancelled() => return,
        };
        match version {
            Ok(Ok(Version::One)) => {
                let core = self.core(&mut tcp);
                self.move_to(&core, tcp, Link::Http);
            }
            Ok(Ok(Version::Two)) => self.speak(Version::Two, tcp, Link::Http).await,
            Ok(Err(_)) | Err(_) => {}
        }
    }

    async fn tls(self, tcp: TcpStream, acceptor: TlsAcceptor) {
        // Boxed: the room of the handshake is given back after it.
        let shaken = Box::pin(tokio::time::timeout(HEAD_TIMEOUT, handshake(tcp, acceptor)));
        match shaken.await {
            Ok(Ok((Version::One, mut tls))) => {
                let core = self.core(tls.get_mut().0);
                self.move_to(&core, tls, Link::Https);
            }
            Ok(Ok((Version::Two, tls))) => self.speak(Version::Two, tls, Link::Https).await,
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// A core, which watches the connection from now on.
    fn core(&self, tcp: &mut TcpStream) -> Handle {
        let core = self.cores.next();
        {
            let _there = core.enter();
            // One that cannot be moved is watched from where it is.
            drop(bring_here(tcp));
        }
        core
    }

    /// One call after the other comes on a connection of HTTP/1.1, all on one core. Those of HTTP/2 come side by side, and
    /// are shared out as they come.
    fn move_to(self, core: &Handle, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, link: Link) {
        let tasks = self.tasks.clone();
        tasks.spawn_on(core, "public-connection", self.speak(Version::One, io, link));
    }

    async fn speak(self, version: Version, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, link: Link) {
        let (exchange, rules, from) = (self.exchange, self.rules, self.from);
        let head_bytes = exchange.limits.head_bytes;
        let (io, written) = Telling::new(io);
        let service = service_fn(move |request: Request<Incoming>| {
            let (version, written) = (request.version(), written.clone());
            // Boxed: a connection would keep the room of the future for as long as its answer streams.
            let answer = Box::pin(answer(exchange.clone(), rules.clone(), request, from, link));
            answer.map_ok(move |answer| answer.map(|body| InTurn::new(body, version, written)))
        });
        match version {
            Version::One => {
                http1::serve(io, service, WAITS, head_bytes, self.drain).await;
            }
            Version::Two => {
                let connection = http2(head_bytes).serve_connection(TokioIo::new(io), service);
                http1::drive(Box::pin(connection), std::future::pending(), self.drain, |running| {
                    running.graceful_shutdown()
                })
                .await;
            }
        }
    }
}

async fn handshake(tcp: TcpStream, acceptor: TlsAcceptor) -> io::Result<(Version, Box<TlsStream<TcpStream>>)> {
    let mut tls = acceptor.accept(tcp).await?;
    tls.get_mut().1.set_buffer_limit(Some(TLS_UNWRITTEN));
    let version = match tls.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::Two,
        Some(_) | None => Version::One,
    };
    Ok((version, Box::new(tls)))
}

/// Waits for what a client says first, and leaves it to be read.
async fn foretold(tcp: &TcpStream) -> io::Result<Version> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = tcp.peek(&mut first).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        } else if first == PREFACE {
            return Ok(Version::Two);
        } else if first.get(..seen) != PREFACE.get(..seen) {
            return Ok(Version::One);
        }
        // A preface in pieces: the socket stays readable, so there is nothing to wait for but time.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

fn http2(head_bytes: usize) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_WINDOW)
        .max_send_buf_size(MOST_UNWRITTEN)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn answer(
    exchange: Arc<Exchange>,
    rules: Arc<PublicRules>,
    mut request: Request<Incoming>,
    address: IpAddr,
    link: Link,
) -> Result<Response<ReplyBody>, Infallible> {
    let page = cors::admitted(&rules.cors_origins, request.headers());
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let (head, body) = request.into_parts();
    let asked = page.as_ref().and_then(|_| cors::preflight(&head));
    let mut response = match asked {
        Some(response) => response,
        None => {
            let body = InBody::hyper(body, head.version);
            let arrival = Arrival {
                credential: api_key(&head.headers),
                host: bound(&rules.hosts, &head),
                socket: socket_upgrade(&head, upgrade),
                head,
                body: ClientBody::Public(Box::new(body)),
                call: CallId::random(),
                address,
                link,
                is_socket_post: false,
            };
            admit(&exchange, arrival).await
        }
    };
    if !rules.cors_origins.is_empty() {
        cors::open(&mut response, page);
    }
    Ok(response)
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
