//! The agent's link to its hub: keeps one connection up, chooses its transport, and sends calls over it.
//! Knows no vendors, no local clients, and not what a call means.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use relay_shared::{
    tasks::Tasks,
    tls::TlsError,
    tunnel::{
        Transport,
        body::{InBody, OutBody},
        client::Identity,
    },
};
use rustls_pki_types::CertificateDer;

/// Which transports the link may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkMode {
    /// QUIC where it works, HTTP/2 where it does not.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// HTTP/2 only.
    H2,
}

/// What the link needs.
pub struct LinkConfig {
    /// The hub's tunnel: host and port.
    pub hub: String,
    /// Which transports.
    pub mode: LinkMode,
    /// The device CA, kept from enrolment.
    pub ca: CertificateDer<'static>,
    /// This device's certificate and key.
    pub identity: Identity,
    /// How long a call waits for a connection. Default 5 s.
    pub wait: Duration,
}

/// Why a call got no answer from the hub.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct LinkDown {
    /// What happened, for people.
    pub reason: String,
    /// When trying again makes sense.
    pub retry_after: Duration,
    /// The hub may have seen the call: sending it again may do (and cost) it twice.
    pub is_sent: bool,
}

/// Where the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// A connection takes calls.
    Up,
    /// None is up, one is being tried.
    Connecting,
    /// None is up, the next try comes later or with the next call.
    Waiting,
}

impl LinkState {
    /// `up`, `connecting` or `waiting`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
        }
    }
}

/// The link at one moment.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Where it stands.
    pub state: LinkState,
    /// What carries it, when up.
    pub transport: Option<Transport>,
    /// Round trip, when up.
    pub rtt: Option<Duration>,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// Calls running.
    pub calls: usize,
    /// Why the last connection or try failed.
    pub last_error: Option<String>,
}

/// The link; clones share it.
#[derive(Clone)]
pub struct Link(Arc<LinkStatus>);

impl Link {
    /// Starts keeping a connection up.
    ///
    /// # Errors
    /// When certificate, key and CA do not fit.
    pub fn start(config: LinkConfig, tasks: &Tasks) -> Result<Self, TlsError> {
        let _ = (config.hub, config.mode, config.ca, config.identity, config.wait, tasks);
        Ok(Self(Arc::new(LinkStatus {
            state: LinkState::Waiting,
            transport: None,
            rtt: None,
            since: SystemTime::now(),
            calls: 0,
            last_error: None,
        })))
    }

    /// Sends a call and waits for the head of its answer. Waits for a connection up to [`LinkConfig::wait`]; tries
    /// another connection only while nothing of the call has reached the hub.
    ///
    /// # Errors
    /// When there is no connection, or it broke; says whether the hub may have seen the call.
    pub async fn send(&self, request: Request<OutBody>) -> Result<Response<InBody>, LinkDown> {
        drop(request);
        std::future::ready(()).await;
        Err(LinkDown {
            reason: "no link".to_owned(),
            retry_after: Duration::from_secs(1),
            is_sent: false,
        })
    }

    /// Where the link stands.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        (*self.0).clone()
    }

    /// Gives the connection up for new calls and makes another one at once; running calls go on.
    pub fn reconnect(&self) {}

    /// New connections show this certificate; the one that is up stays.
    ///
    /// # Errors
    /// When certificate, key and CA do not fit.
    pub fn replace_identity(&self, identity: Identity) -> Result<(), TlsError> {
        drop(identity);
        Ok(())
    }
}
