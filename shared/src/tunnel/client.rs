//! The agent's end of the tunnel: dials a hub and sends requests. Knows no retries and no choice of transport.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    Transport,
    body::{InBody, OutBody},
};
use crate::{tasks::Tasks, tls::TlsError};

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
#[derive(thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// Nothing of the request reached the hub's handler: it may be sent again elsewhere.
    pub is_safe_to_retry: bool,
    /// What happened.
    pub reason: String,
    /// The request itself, when it was not touched and can be sent again as it is.
    pub unsent: Option<Box<Request<OutBody>>>,
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("is_safe_to_retry", &self.is_safe_to_retry)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Makes connections to hubs.
#[derive(Clone)]
pub struct Dialer {
    tasks: Tasks,
}

impl Dialer {
    /// A dialer that trusts `ca` and shows `identity`.
    ///
    /// # Errors
    /// When key and certificates do not fit.
    pub fn new(ca: &CertificateDer<'static>, identity: Identity, tasks: &Tasks) -> Result<Self, TlsError> {
        let _ = (ca, identity);
        Ok(Self { tasks: tasks.clone() })
    }

    /// Connects over QUIC, says hello and hears the answer.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn quic(&self, addr: SocketAddr) -> Result<Connection, DialError> {
        let _ = &self.tasks;
        std::future::ready(()).await;
        Err(DialError::Network {
            addr,
            transport: Transport::Quic,
            reason: "not built".to_owned(),
        })
    }

    /// Connects over TCP, says hello and hears the answer.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn h2(&self, addr: SocketAddr) -> Result<Connection, DialError> {
        std::future::ready(()).await;
        Err(DialError::Network {
            addr,
            transport: Transport::H2,
            reason: "not built".to_owned(),
        })
    }
}

/// One connection to a hub; clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    transport: Transport,
    since: Instant,
}

impl Connection {
    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When there is none; says whether trying elsewhere is safe.
    pub async fn send(&self, request: Request<OutBody>) -> Result<Response<InBody>, SendError> {
        std::future::ready(()).await;
        Err(SendError {
            is_safe_to_retry: true,
            reason: "not built".into(),
            unsent: Some(Box::new(request)),
        })
    }

    /// What carries it.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// When it came up.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.0.since
    }

    /// The round trip as last measured.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        Duration::ZERO
    }

    /// Calls running on it.
    #[must_use]
    pub fn calls(&self) -> usize {
        0
    }

    /// Whether it takes requests: not closed, and the hub has not said that it goes away.
    #[must_use]
    pub fn is_open(&self) -> bool {
        false
    }

    /// Waits until it takes no more requests; says why.
    pub async fn ended(&self) -> String {
        std::future::pending().await
    }

    /// Closes it; running calls are cut.
    pub fn close(&self) {}
}

/// How the agent knows the hub before it has a certificate of its own.
pub enum HubTrust {
    /// By the SHA-256 of its CA, from an enrolment token.
    Fingerprint([u8; 32]),
    /// By its CA, kept from enrolment.
    Ca(CertificateDer<'static>),
}

/// One request of the enrolment protocol: POSTs JSON to `hub` (host and port), gives status and body (at most 64 KiB).
///
/// # Errors
/// When the hub cannot be reached, is not the one trusted, or does not answer within 15 s.
pub async fn enrol(hub: &str, trust: HubTrust, path: &str, json: Bytes) -> Result<(StatusCode, Bytes), String> {
    let _ = (trust, path, json);
    std::future::ready(()).await;
    Err(format!("cannot reach {hub}"))
}
