//! How an agent comes to a connection to its hub, and a hub to one of its egress nodes: certificates, handshake, hello.
//! Knows no retries and no choice of transport.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{
    ALPN_H2, ALPN_H3, Transport,
    client::{Carrier, Connection, NO_ERROR, Sender},
    counted::Counted,
    ear, h2client, h3client,
    params::{self, Stays},
    upkeep::{drive_h2, drive_h3},
};
use crate::{
    tasks::Tasks,
    tls::{self, HUB_NAME, TlsError},
};

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

/// Makes connections to hubs.
#[derive(Clone)]
pub struct Dialer(Arc<Dials>);

struct Dials {
    quic: quinn::ClientConfig,
    h2: TlsConnector,
    /// The name that the other end's certificate must have.
    name: String,
    stays: Stays,
    tasks: Tasks,
}

impl Dialer {
    /// A dialer that trusts `ca` and shows `identity`.
    ///
    /// # Errors
    /// When key and certificates do not fit.
    pub fn new(ca: &CertificateDer<'static>, identity: &Identity, tasks: &Tasks) -> Result<Self, TlsError> {
        Self::towards(HUB_NAME, Stays::Nowhere, ca, identity, tasks)
    }

    /// A hub's dialer to the egress node of this name.
    ///
    /// # Errors
    /// When key and certificates do not fit.
    pub fn to_node(
        name: &str,
        ca: &CertificateDer<'static>,
        identity: &Identity,
        tasks: &Tasks,
    ) -> Result<Self, TlsError> {
        Self::towards(name, Stays::Here, ca, identity, tasks)
    }

    fn towards(
        name: &str,
        stays: Stays,
        ca: &CertificateDer<'static>,
        identity: &Identity,
        tasks: &Tasks,
    ) -> Result<Self, TlsError> {
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
            name: name.to_owned(),
            stays,
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
        let opened = params::agent_endpoint(addr, self.0.stays);
        let (endpoint, ear) = opened.map_err(|e| network(e.to_string()))?;
        let connecting = endpoint.connect_with(self.0.quic.clone(), addr, &self.0.name);
        let connecting = connecting.map_err(|e| network(e.to_string()))?;
        let quic = tokio::select! {
            connected = connecting => connected.map_err(|e| quic_error(addr, &e))?,
            () = ear::refused(ear.as_ref()) => return Err(network("nobody listens there".to_owned())),
        };
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
        Ok(connection.watched(ear))
    }

    async fn dial_h2(&self, addr: SocketAddr) -> Result<Connection, DialError> {
        let network = |reason: String| DialError::Network {
            addr,
            transport: Transport::H2,
            reason,
        };
        let tcp = TcpStream::connect(addr).await.map_err(|e| network(e.to_string()))?;
        params::tune_tcp(&tcp).map_err(|e| network(e.to_string()))?;
        let name = ServerName::try_from(self.0.name.clone()).map_err(|e| network(e.to_string()))?;
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

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
