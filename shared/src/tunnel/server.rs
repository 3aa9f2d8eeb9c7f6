//! The hub's end of the tunnel: one port, UDP and TCP, that takes requests of enrolled devices, and enrolment.
//! Knows devices by their certificate only; who is revoked it is told.

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use quinn::{Endpoint, VarInt};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    ALPN_ENROL, ALPN_H2, ALPN_H3, CALL_ID, CALLS, DUPLICATE, HELLO_PATH, INSTANCE, Transport,
    accept::{Tls, accept_quic, accept_tcp},
    body::{self, InBody, OutBody},
    calls::Calls,
    params,
    registry::Registry,
    seen::Seen,
};
use crate::{
    call::CallId,
    holder::Protocol,
    http::remove_hop_by_hop,
    secret::Secret,
    tasks::Tasks,
    tls::{self, Clients, DeviceIdentity, Shown, TlsError},
};

/// What the tunnel's port needs.
pub struct TunnelConfig {
    /// Address for both UDP and TCP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The device CA.
    pub ca: CertificateDer<'static>,
    /// Whose certificates of that CA open the port. Only where devices do is there enrolment.
    pub clients: Clients,
    /// The hub's certificate and what is above it, the CA last.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Kept over restarts, so that a restarted hub tells agents at once that their connection is gone.
    pub quic_key: Secret<[u8; 32]>,
    /// Sizes and times.
    pub limits: TunnelLimits,
}

/// Bounds of the tunnel's port.
#[derive(Clone, Debug)]
pub struct TunnelLimits {
    /// Longest TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// Largest head of a request in bytes. Default 64 KiB: Codex's is about 1.5 KB, but grows with the workspace.
    pub head_bytes: u32,
    /// Calls at once on one connection. Agents are told; the transports take a few more. Default 512.
    pub calls_per_connection: u32,
    /// Connections at once, over both transports, handshakes included. Default 20,000.
    pub connections: usize,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            head_bytes: HEAD_BYTES,
            calls_per_connection: 512,
            connections: 20_000,
        }
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The device, out of its verified certificate.
    pub identity: Arc<DeviceIdentity>,
    /// Its address when it connected.
    pub addr: SocketAddr,
    /// What carried it.
    pub transport: Transport,
}

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system said no.
    #[error("cannot listen on {addr} ({protocol})")]
    Io {
        /// Where.
        addr: SocketAddr,
        /// On what.
        protocol: Protocol,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Keys and certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The open port, not served yet.
pub struct Bound {
    addr: SocketAddr,
    tcp: TcpListener,
    endpoint: Endpoint,
    mutual: Arc<ServerConfig>,
    plain: Option<Arc<ServerConfig>>,
    shown: Arc<Shown>,
    clients: Clients,
    limits: TunnelLimits,
}

impl Bound {
    /// Opens the port on UDP and TCP. Needs the runtime.
    ///
    /// # Errors
    /// When it is taken or the certificates do not fit.
    pub fn open(config: TunnelConfig) -> Result<Self, BindError> {
        let TunnelConfig {
            listen,
            ca,
            clients,
            chain,
            key,
            quic_key,
            limits,
        } = config;
        let shown = Arc::new(Shown::new(chain.clone(), key.clone_key())?);
        let mutual = |alpn| tls::server_mutual(&ca, Arc::clone(&shown), clients, &[alpn]);
        let quic = quinn::crypto::rustls::QuicServerConfig::try_from(mutual(ALPN_H3)?);
        let quic = quic.map_err(|e| TlsError::Ca(e.to_string()))?;
        let h2 = Arc::new(mutual(ALPN_H2)?);
        let plain = match clients {
            Clients::Devices => Some(Arc::new(tls::server_plain(chain, key, &[ALPN_ENROL])?)),
            Clients::Hub => None,
        };
        let (tcp, udp, addr) = bind(listen)?;
        let endpoint = params::hub_endpoint(udp, quic, &quic_key, limits.calls_per_connection, limits.connections);
        let endpoint = endpoint.map_err(|source| BindError::Io {
            addr,
            protocol: Protocol::Udp,
            source,
        })?;
        Ok(Self {
            addr,
            tcp,
            endpoint,
            mutual: h2,
            plain,
            shown,
            clients,
            limits,
        })
    }

    /// The address bound, with the real port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves: `handle` answers requests of devices, `enrol` those of the enrolment protocol (whole bodies, at most
    /// 64 KiB, JSON). When a handler's future is dropped or panics the stream is reset.
    pub fn serve<H, HF, E, EF>(self, handle: H, enrol: E, tasks: &Tasks) -> Tunnel
    where
        H: Fn(Request<InBody>, Peer) -> HF + Send + Sync + 'static,
        HF: Future<Output = Response<OutBody>> + Send + 'static,
        E: Fn(Request<Bytes>, SocketAddr) -> EF + Send + Sync + 'static,
        EF: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let served = Arc::new(Served {
            handle: Box::new(move |request, peer| Box::pin(handle(request, peer))),
            enrol: Box::new(move |request, addr| Box::pin(enrol(request, addr))),
            calls: Arc::default(),
            seen: Seen::default(),
            instance: instance(),
            draining: CancellationToken::new(),
            aborted: CancellationToken::new(),
            registry: Registry::default(),
            places: Arc::new(Semaphore::new(self.limits.connections)),
            clients: self.clients,
            limits: self.limits,
            tasks: tasks.clone(),
        });
        tasks.spawn("tunnel udp", accept_quic(self.endpoint.clone(), Arc::clone(&served)));
        let tls = Tls {
            mutual: self.mutual,
            plain: self.plain,
        };
        tasks.spawn("tunnel tcp", accept_tcp(self.tcp, tls, Arc::clone(&served)));
        Tunnel {
            addr: self.addr,
            endpoint: self.endpoint,
            shown: self.shown,
            served,
        }
    }
}

/// The same port on TCP and UDP. With port 0 the system chooses for TCP, and UDP may be taken there: then again.
fn bind(listen: SocketAddr) -> Result<(TcpListener, std::net::UdpSocket, SocketAddr), BindError> {
    let failed = |protocol, source| BindError::Io {
        addr: listen,
        protocol,
        source,
    };
    let mut tries = if listen.port() == 0 { 16 } else { 1 };
    loop {
        tries -= 1;
        let tcp = std::net::TcpListener::bind(listen).map_err(|e| failed(Protocol::Tcp, e))?;
        tcp.set_nonblocking(true).map_err(|e| failed(Protocol::Tcp, e))?;
        let addr = tcp.local_addr().map_err(|e| failed(Protocol::Tcp, e))?;
        match params::udp_socket(addr, params::HUB_BUFFER) {
            Ok(udp) => {
                return Ok((
                    TcpListener::from_std(tcp).map_err(|e| failed(Protocol::Tcp, e))?,
                    udp,
                    addr,
                ));
            }
            Err(_) if tries > 0 => {}
            Err(source) => return Err(failed(Protocol::Udp, source)),
        }
    }
}

type Handler = dyn Fn(Request<InBody>, Peer) -> Pin<Box<dyn Future<Output = Response<OutBody>> + Send>> + Send + Sync;
type Enroller =
    dyn Fn(Request<Bytes>, SocketAddr) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync;

/// What all connections of the port share.
pub(super) struct Served {
    handle: Box<Handler>,
    pub(super) enrol: Box<Enroller>,
    pub(super) calls: Arc<Calls>,
    seen: Seen,
    instance: HeaderValue,
    pub(super) draining: CancellationToken,
    pub(super) aborted: CancellationToken,
    pub(super) registry: Registry,
    pub(super) places: Arc<Semaphore>,
    pub(super) clients: Clients,
    pub(super) limits: TunnelLimits,
    pub(super) tasks: Tasks,
}

impl Served {
    /// The answer to one request; what the tunnel answers itself never reaches the handler.
    pub(super) async fn respond(&self, request: Request<InBody>, peer: Peer) -> Response<OutBody> {
        if request.uri().path() == HELLO_PATH {
            let mut response = status(StatusCode::NO_CONTENT);
            let calls = self.limits.calls_per_connection.into();
            response.headers_mut().insert(INSTANCE, self.instance.clone());
            response.headers_mut().insert(CALLS, calls);
            return response;
        }
        let id = request
            .headers()
            .get(CALL_ID)
            .and_then(|id| CallId::parse(id.to_str().ok()?));
        if id.is_some_and(|id| !self.seen.is_first(&peer.identity.device, id)) {
            let mut response = status(StatusCode::CONFLICT);
            response.headers_mut().insert(DUPLICATE, HeaderValue::from_static("1"));
            return response;
        }
        let mut response = (self.handle)(request, peer).await;
        remove_hop_by_hop(response.headers_mut());
        response
    }
}

fn instance() -> HeaderValue {
    HeaderValue::from_str(&CallId::random().to_string()).expect("hexadecimal digits are a header value")
}

fn status(status: StatusCode) -> Response<OutBody> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

/// What goes first when a connection has more to send than it may: words somebody waits for before bulk.
pub(super) fn priority(headers: &HeaderMap) -> i32 {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let length = body::announced(headers);
    match length {
        _ if kind.starts_with("text/event-stream") => 100,
        Some(length) if length <= 64 * 1024 => 50,
        Some(_) => 0,
        // Neither events nor a known length: a WebSocket, mostly.
        None => 100,
    }
}

/// How many of what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open QUIC connections.
    pub quic: usize,
    /// Open HTTP/2 connections.
    pub h2: usize,
    /// Running calls on all of them.
    pub calls: usize,
}

/// The port while it is served; clones share it.
#[derive(Clone)]
pub struct Tunnel {
    addr: SocketAddr,
    endpoint: Endpoint,
    shown: Arc<Shown>,
    served: Arc<Served>,
}

impl Tunnel {
    /// Shows another certificate to those who connect from here on.
    ///
    /// # Errors
    /// When key and chain do not fit together; then the one before stays.
    pub fn show(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), TlsError> {
        self.shown.replace(chain, key)
    }

    /// The address bound.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What there is now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            calls: self.served.calls.running(),
            ..Counts::default()
        };
        for (peer, _) in self.served.registry.entries().values() {
            match peer.transport {
                Transport::Quic => counts.quic += 1,
                Transport::H2 => counts.h2 += 1,
            }
        }
        counts
    }

    /// Closes all connections of a device at once (it was revoked). Returns how many.
    pub fn close_device(&self, device: &str) -> usize {
        let entries = self.served.registry.entries();
        let of_device = entries.values().filter(|(peer, _)| peer.identity.device == device);
        of_device.map(|(_, closer)| closer.close("device revoked")).count()
    }

    /// Devices with an open connection, once for each connection.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<DeviceIdentity>> {
        self.served
            .registry
            .entries()
            .values()
            .map(|(peer, _)| Arc::clone(&peer.identity))
            .collect()
    }

    /// Takes no new connections and requests, lets running calls finish for up to `patience`, then closes all.
    /// Returns how many calls were cut.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.served.draining.cancel();
        let all_gone = async {
            self.served.calls.idle().await;
            // Connections end when the last bytes are through; those that linger are closed below.
            let _lingering = tokio::time::timeout(2 * LINGER, self.served.registry.empty()).await;
        };
        let is_through = tokio::time::timeout(patience, all_gone).await.is_ok();
        let cut = if is_through { 0 } else { self.served.calls.running() };
        for (_, closer) in self.served.registry.entries().values() {
            closer.close("hub is going away");
        }
        self.endpoint.close(NO_ERROR, b"hub is going away");
        cut
    }

    /// Closes everything without a word to agents on QUIC, as a crash would. For tests.
    pub fn abort(&self) {
        self.served.aborted.cancel();
        // quinn listens on the socket before the last one, too: after two moves the port is free and nobody hears.
        for _ in 0..2 {
            if let Ok(nowhere) = params::udp_socket((std::net::Ipv4Addr::LOCALHOST, 0).into(), 4096) {
                let _moved = self.endpoint.rebind(nowhere);
            }
        }
    }
}

/// Largest head of an answer, and of a request unless set otherwise.
pub(super) const HEAD_BYTES: u32 = 64 * 1024;
/// How long the head of a request may take from its first byte.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a drained connection waits for its agent to close it.
pub(super) const LINGER: Duration = Duration::from_secs(2);
pub(super) const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// Our own: the device may not (any more).
pub(super) const ACCESS_DENIED: VarInt = VarInt::from_u32(0x1000);
