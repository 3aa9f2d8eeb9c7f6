//! The agent's end of the tunnel: dials a hub and sends requests. Knows no retries and no choice of transport.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, uri::PathAndQuery};
use quinn::VarInt;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{
    ALPN_H2, ALPN_H3, CALLS, HELLO_PATH, INSTANCE, Transport,
    body::{self, BodyError, InBody, OutBody},
    calls::{Call, Calls, Full},
    h2client, h3client, params,
    watch::{self, Watched},
};
use crate::{
    http::remove_hop_by_hop,
    tasks::Tasks,
    tls::{self, HUB_NAME, TlsError},
};

pub use super::enrol::{HubTrust, enrol};

/// What the agent shows to the hub.
pub struct Identity {
    /// The device's certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Why no connection came up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answered in time.
    #[error("no answer from {addr} over {transport} within {after:?}")]
    Timeout {
        /// Where.
        addr: SocketAddr,
        /// How.
        transport: Transport,
        /// How long was waited.
        after: Duration,
    },
    /// The network said no.
    #[error("cannot reach {addr} over {transport}: {reason}")]
    Network {
        /// Where.
        addr: SocketAddr,
        /// How.
        transport: Transport,
        /// What the system or the other side said.
        reason: String,
    },
    /// Certificates were not accepted, by us or by the hub.
    #[error("the hub at {addr} and this device do not trust each other: {reason}")]
    Trust {
        /// Where.
        addr: SocketAddr,
        /// What TLS said.
        reason: String,
    },
}

/// Why a request got no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// Nothing of the request reached the hub's handler: it may be sent again elsewhere.
    pub is_safe_to_retry: bool,
    /// It is not the request that failed but the connection under it.
    pub is_connection_lost: bool,
    /// Nothing is wrong, but as many calls are running as the hub takes, and none of them ended in time.
    pub is_full: bool,
    /// What happened.
    pub reason: String,
}

impl SendError {
    pub(super) const fn safe(reason: String) -> Self {
        Self {
            is_safe_to_retry: true,
            is_connection_lost: false,
            is_full: false,
            reason,
        }
    }

    pub(super) fn sent(error: &BodyError) -> Self {
        let is_connection_lost = matches!(error, BodyError::Lost(_));
        Self {
            is_safe_to_retry: false,
            is_connection_lost,
            is_full: false,
            reason: error.to_string(),
        }
    }
}

/// How a connection came to take no more requests.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What happened, for people.
    pub reason: String,
    /// Nobody said so: it fell silent, as when the network swallows its packets.
    pub is_silent: bool,
}

/// Makes connections to hubs.
#[derive(Clone)]
pub struct Dialer(Arc<Dials>);

struct Dials {
    quic: quinn::ClientConfig,
    h2: TlsConnector,
    tasks: Tasks,
}

impl Dialer {
    /// A dialer that trusts `ca` and shows `identity`.
    ///
    /// # Errors
    /// When key and certificates do not fit.
    pub fn new(ca: &CertificateDer<'static>, identity: &Identity, tasks: &Tasks) -> Result<Self, TlsError> {
        let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
        let quic = tls::client_mutual(ca, chain.clone(), key.clone_key(), &[ALPN_H3])?;
        let quic = quinn::crypto::rustls::QuicClientConfig::try_from(quic);
        let quic = quic.map_err(|e| TlsError::Ca(e.to_string()))?;
        let mut quic = quinn::ClientConfig::new(Arc::new(quic));
        quic.transport_config(Arc::new(params::agent_transport()));
        let h2 = TlsConnector::from(Arc::new(tls::client_mutual(ca, chain, key, &[ALPN_H2])?));
        Ok(Self(Arc::new(Dials {
            quic,
            h2,
            tasks: tasks.clone(),
        })))
    }

    /// Connects over QUIC, says hello and hears the answer.
    ///
    /// # Errors
    /// When that does not work within 10 s.
    pub async fn quic(&self, addr: SocketAddr) -> Result<Connection, DialError> {
        within(addr, Transport::Quic, self.dial_quic(addr)).await
    }

    /// Connects over TCP, says hello and hears the answer.
    ///
    /// # Errors
    /// When that does not work within 10 s.
    pub async fn h2(&self, addr: SocketAddr) -> Result<Connection, DialError> {
        within(addr, Transport::H2, self.dial_h2(addr)).await
    }

    async fn dial_quic(&self, addr: SocketAddr) -> Result<Connection, DialError> {
        let network = |reason: String| DialError::Network {
            addr,
            transport: Transport::Quic,
            reason,
        };
        let endpoint = params::agent_endpoint(addr).map_err(|e| network(e.to_string()))?;
        let connecting = endpoint.connect_with(self.0.quic.clone(), addr, HUB_NAME);
        let quic = connecting
            .map_err(|e| network(e.to_string()))?
            .await
            .map_err(|e| quic_error(addr, &e))?;
        // Until hello is answered, giving up must not leave a connection behind.
        let closing = CloseOnDrop(Some(quic.clone()));
        let (driver, sender) = match h3client::start(quic.clone()).await {
            Ok(started) => started,
            Err(reason) => return Err(refusal(&quic, addr).unwrap_or_else(|| network(reason))),
        };
        let connection = Connection::new(Sender::H3(sender), Carrier::Quic(quic.clone()), &self.0.tasks);
        self.0.tasks.spawn("h3 driver", drive_h3(driver, connection.clone()));
        if let Err(error) = connection.hello().await {
            return Err(refusal(&quic, addr).unwrap_or_else(|| network(error.reason)));
        }
        closing.keep();
        Ok(connection.watched())
    }

    async fn dial_h2(&self, addr: SocketAddr) -> Result<Connection, DialError> {
        let network = |reason: String| DialError::Network {
            addr,
            transport: Transport::H2,
            reason,
        };
        let tcp = TcpStream::connect(addr).await.map_err(|e| network(e.to_string()))?;
        params::tune_tcp(&tcp).map_err(|e| network(e.to_string()))?;
        let name = ServerName::try_from(HUB_NAME).map_err(|e| network(e.to_string()))?;
        let tls = self.0.h2.connect(name, tcp).await.map_err(|e| tcp_error(addr, &e))?;
        let received = Arc::new(AtomicU64::new(0));
        let trouble = Arc::new(Mutex::new(None));
        let io = Counted {
            io: tls,
            received: Arc::clone(&received),
            trouble: Arc::clone(&trouble),
        };
        let (mut driver, sender) = h2client::start(io).await.map_err(|e| network(e.to_string()))?;
        let Some(pings) = driver.ping_pong() else {
            return Err(network("no pings".to_owned()));
        };
        let carrier = Carrier::H2 {
            received,
            closed: CancellationToken::new(),
        };
        let connection = Connection::new(Sender::H2(sender), carrier, &self.0.tasks);
        self.0.tasks.spawn("h2 driver", drive_h2(driver, connection.clone()));
        if let Err(error) = connection.hello().await {
            connection.close();
            // What TLS said about our certificate comes with the first read.
            let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(trouble.map_or_else(|| network(error.reason), |e| tcp_error(addr, &e)));
        }
        Ok(connection.watched_with(pings))
    }
}

async fn within(
    addr: SocketAddr,
    transport: Transport,
    dial: impl Future<Output = Result<Connection, DialError>>,
) -> Result<Connection, DialError> {
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, dial).await;
    dialled.unwrap_or(Err(DialError::Timeout {
        addr,
        transport,
        after: DIAL_TIMEOUT,
    }))
}

struct CloseOnDrop(Option<quinn::Connection>);

impl CloseOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(quic) = &self.0 {
            quic.close(NO_ERROR, b"not used");
        }
    }
}

fn full(Full(size): Full) -> SendError {
    SendError {
        is_full: true,
        ..SendError::safe(format!(
            "the hub takes {size} calls at once on one connection, and none ended in time"
        ))
    }
}

fn refusal(quic: &quinn::Connection, addr: SocketAddr) -> Option<DialError> {
    quic.close_reason().map(|error| quic_error(addr, &error))
}

fn quic_error(addr: SocketAddr, error: &quinn::ConnectionError) -> DialError {
    let code = match error {
        quinn::ConnectionError::TransportError(error) => u64::from(error.code),
        quinn::ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::ApplicationClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted => 0,
    };
    let reason = error.to_string();
    // RFC 9001, 4.8: a TLS alert is a code of 0x100 and the alert.
    if (0x100..0x200).contains(&code) {
        DialError::Trust { addr, reason }
    } else {
        DialError::Network {
            addr,
            transport: Transport::Quic,
            reason,
        }
    }
}

fn tcp_error(addr: SocketAddr, error: &io::Error) -> DialError {
    let reason = error.to_string();
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        DialError::Trust { addr, reason }
    } else {
        DialError::Network {
            addr,
            transport: Transport::H2,
            reason,
        }
    }
}

async fn drive_h3(driver: h3client::Driver, connection: Connection) {
    let Carrier::Quic(quic) = &connection.0.carrier else {
        return;
    };
    tokio::select! {
        () = driver.run(|| connection.retire("the hub is going away")) => {}
        _ = quic.closed() => {}
    }
    let error = quic.closed().await;
    let is_silent = error == quinn::ConnectionError::TimedOut;
    connection.retire_as(Ended {
        reason: error.to_string(),
        is_silent,
    });
}

async fn drive_h2<T>(driver: h2::client::Connection<T, Bytes>, connection: Connection)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (Carrier::H2 { closed, .. }, Sender::H2(sender)) = (&connection.0.carrier, &connection.0.sender) else {
        return;
    };
    let going = || connection.retire("the hub is going away");
    let ended = tokio::select! {
        ended = h2client::drive(driver, sender, going) => ended,
        () = closed.cancelled() => return connection.retire("closed"),
    };
    closed.cancel();
    match ended {
        Ok(()) => connection.retire("the hub closed the connection"),
        Err(error) => connection.retire(&error.to_string()),
    }
}

/// One connection to a hub; clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    sender: Sender,
    carrier: Carrier,
    calls: Arc<Calls>,
    since: Instant,
    rtt_micros: AtomicU64,
    retired: CancellationToken,
    ended: OnceLock<Ended>,
    instance: OnceLock<HeaderValue>,
    tasks: Tasks,
}

enum Sender {
    H3(h3client::Sender),
    H2(h2client::Sender),
}

enum Carrier {
    Quic(quinn::Connection),
    H2 {
        received: Arc<AtomicU64>,
        closed: CancellationToken,
    },
}

impl Connection {
    fn new(sender: Sender, carrier: Carrier, tasks: &Tasks) -> Self {
        Self(Arc::new(Shared {
            sender,
            carrier,
            calls: Arc::default(),
            since: Instant::now(),
            rtt_micros: AtomicU64::new(0),
            retired: CancellationToken::new(),
            ended: OnceLock::new(),
            instance: OnceLock::new(),
            tasks: tasks.clone(),
        }))
    }

    /// Sends a request and waits for the head of its answer. Only the path of the request's URI matters. When the hub
    /// takes no more calls, it waits for one to end, as long as [`PLACE_WAIT`].
    ///
    /// # Errors
    /// When there is no answer; says whether trying elsewhere is safe.
    pub async fn send(&self, request: Request<OutBody>) -> Result<Response<InBody>, SendError> {
        self.send_within(PLACE_WAIT, request).await
    }

    /// [`Connection::send`], with another bound of the wait for a place among the running calls.
    ///
    /// # Errors
    /// As there.
    pub async fn send_within(&self, wait: Duration, request: Request<OutBody>) -> Result<Response<InBody>, SendError> {
        let call = tokio::select! {
            biased;
            () = self.0.retired.cancelled() => return Err(SendError::safe(self.reason())),
            call = self.0.calls.enter(wait) => call.map_err(full)?,
        };
        self.pass(request, call).await
    }

    async fn pass(&self, mut request: Request<OutBody>, call: Call) -> Result<Response<InBody>, SendError> {
        if !self.is_open() {
            return Err(SendError::safe(self.reason()));
        }
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder().scheme("https").authority(HUB_NAME);
        let uri = uri
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build();
        *request.uri_mut() = uri.map_err(|e| SendError::safe(e.to_string()))?;
        remove_hop_by_hop(request.headers_mut());
        request.headers_mut().remove(http::header::HOST);
        let sent = match &self.0.sender {
            Sender::H3(sender) => sender.send(request, call, &self.0.tasks).await,
            Sender::H2(sender) => sender.send(request, call, &self.0.tasks).await,
        };
        sent.map_err(|error| {
            if error.is_connection_lost {
                // Its driver may not have come to say so: who hears of the loss must not be given this connection again.
                self.retire_as(Ended {
                    reason: error.reason.clone(),
                    is_silent: self.has_timed_out(),
                });
            }
            SendError {
                reason: self.ended_reason().unwrap_or(error.reason),
                ..error
            }
        })
    }

    fn has_timed_out(&self) -> bool {
        match &self.0.carrier {
            Carrier::Quic(quic) => matches!(quic.close_reason(), Some(quinn::ConnectionError::TimedOut)),
            Carrier::H2 { .. } => false,
        }
    }

    /// One question to the hub itself, and how long its answer took.
    ///
    /// # Errors
    /// When there was no answer, or another one than expected.
    pub async fn hello(&self) -> Result<Duration, SendError> {
        let mut request = Request::new(body::empty());
        *request.uri_mut() = Uri::from_static(HELLO_PATH);
        let asked = Instant::now();
        let answer = self.pass(request, self.0.calls.begin()).await?;
        if answer.status() != StatusCode::NO_CONTENT {
            return Err(SendError::safe(format!(
                "the hub answered hello with {}",
                answer.status()
            )));
        }
        if let Some(instance) = answer.headers().get(INSTANCE) {
            self.0.instance.get_or_init(|| instance.clone());
        }
        let calls = answer.headers().get(CALLS).and_then(|calls| calls.to_str().ok());
        if let Some(calls) = calls.and_then(|calls| calls.parse().ok()) {
            self.0.calls.allow(calls);
        }
        let took = asked.elapsed();
        self.0
            .rtt_micros
            .store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(took)
    }

    /// What carries it.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.0.carrier {
            Carrier::Quic(_) => Transport::Quic,
            Carrier::H2 { .. } => Transport::H2,
        }
    }

    /// When it came up.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.0.since
    }

    /// The round trip as last measured.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        match &self.0.carrier {
            Carrier::Quic(quic) => quic.rtt(),
            Carrier::H2 { .. } => Duration::from_micros(self.0.rtt_micros.load(Ordering::Relaxed)),
        }
    }

    /// Calls running on it.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.running()
    }

    /// Whether it takes requests: not closed, and the hub has not said that it goes away.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.retired.is_cancelled()
    }

    /// Waits until it takes no more requests; says why.
    pub async fn ended(&self) -> Ended {
        self.0.retired.cancelled().await;
        self.0.ended.get().cloned().unwrap_or_else(|| Ended {
            reason: self.reason(),
            is_silent: false,
        })
    }

    /// Whether `other` is this very connection.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the hub's process on the other end is the same as on `other`.
    #[must_use]
    pub fn is_same_hub(&self, other: &Self) -> bool {
        self.0
            .instance
            .get()
            .is_some_and(|instance| other.0.instance.get() == Some(instance))
    }

    /// Takes no more requests, lets running ones finish, then closes.
    pub fn drain(&self) {
        self.retire("given up for another connection");
    }

    /// Closes it; running calls are cut.
    pub fn close(&self) {
        self.retire("closed");
        match &self.0.carrier {
            Carrier::Quic(quic) => quic.close(NO_ERROR, b""),
            Carrier::H2 { closed, .. } => closed.cancel(),
        }
    }

    /// No new requests from here on; when the running ones are through, it is closed.
    fn retire(&self, reason: &str) {
        self.retire_as(Ended {
            reason: reason.to_owned(),
            is_silent: false,
        });
    }

    fn retire_as(&self, ended: Ended) {
        // The first reason is the true one.
        let _later = self.0.ended.set(ended);
        self.0.retired.cancel();
    }

    fn reason(&self) -> String {
        self.0
            .ended
            .get()
            .map_or_else(|| "the connection is closed".to_owned(), |ended| ended.reason.clone())
    }

    fn ended_reason(&self) -> Option<String> {
        (!self.is_open()).then(|| self.reason())
    }

    fn watched(self) -> Self {
        let Carrier::Quic(quic) = &self.0.carrier else {
            return self;
        };
        let watched = WatchedQuic {
            quic: quic.clone(),
            connection: self.clone(),
        };
        self.0.tasks.spawn("quic watch", keep(self.clone(), watched));
        self
    }

    fn watched_with(self, pings: h2::PingPong) -> Self {
        let Carrier::H2 { received, .. } = &self.0.carrier else {
            return self;
        };
        let watched = WatchedH2 {
            received: Arc::clone(received),
            pings,
            connection: self.clone(),
        };
        self.0.tasks.spawn("h2 watch", keep(self.clone(), watched));
        self
    }
}

/// Ends a connection that is dead, or retired and idle.
async fn keep(connection: Connection, watched: impl Watched) {
    let token = connection.0.tasks.token();
    let retired = async {
        connection.0.retired.cancelled().await;
        connection.0.calls.idle().await;
    };
    tokio::select! {
        reason = watch::watch(watched, &connection.0.calls) => {
            connection.retire_as(Ended { reason, is_silent: true });
        }
        () = retired => {}
        () = token.cancelled() => {}
    }
    connection.close();
}

struct WatchedQuic {
    quic: quinn::Connection,
    connection: Connection,
}

impl Watched for WatchedQuic {
    fn received(&self) -> u64 {
        self.quic.stats().udp_rx.datagrams
    }

    fn probe(&mut self) {
        // quinn has no ping; a datagram that nobody reads must be acknowledged all the same.
        if let Err(error) = self.quic.send_datagram(Bytes::from_static(&[0])) {
            tracing::debug!(%error, "no probe");
        }
    }

    async fn ask(&self) -> bool {
        matches!(
            tokio::time::timeout(ASK_TIMEOUT, self.connection.hello()).await,
            Ok(Ok(_))
        )
    }
}

struct WatchedH2 {
    received: Arc<AtomicU64>,
    pings: h2::PingPong,
    connection: Connection,
}

impl Watched for WatchedH2 {
    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn probe(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // The last pong has to be taken before another ping may go.
        let _pong = self.pings.poll_pong(&mut cx);
        // Fails while one is under way: then that is the probe.
        let _under_way = self.pings.send_ping(h2::Ping::opaque());
    }

    async fn ask(&self) -> bool {
        matches!(
            tokio::time::timeout(ASK_TIMEOUT, self.connection.hello()).await,
            Ok(Ok(_))
        )
    }
}

/// Counts what comes in, and keeps the first error, which h2 shows only in part.
struct Counted<T> {
    io: T,
    received: Arc<AtomicU64>,
    trouble: Arc<Mutex<Option<io::Error>>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let got = buf.filled().len() - before;
        if got > 0 {
            this.received.fetch_add(got as u64, Ordering::Relaxed);
        }
        if let Poll::Ready(Err(error)) = &read
            && let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            let copy = io::Error::new(error.kind(), tls.clone());
            this.trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(copy);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport())
            .finish_non_exhaustive()
    }
}

/// H3_NO_ERROR.
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// How long a call waits for another one to end when the hub takes no more.
pub const PLACE_WAIT: Duration = Duration::from_secs(5);
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
