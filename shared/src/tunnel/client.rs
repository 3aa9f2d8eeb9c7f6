//! The agent's end of the tunnel: one connection to a hub, and the requests on it. Knows no retries and no choice of
//! transport.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, uri::PathAndQuery};
use quinn::VarInt;
use tokio_util::sync::CancellationToken;

use super::{
    CALLS, HELLO_PATH, INSTANCE, Transport,
    body::{self, BodyError, InBody, OutBody},
    calls::{Call, Calls, Full},
    h2client, h3client,
};
use crate::{http::remove_hop_by_hop, tasks::Tasks, tls::HUB_NAME};

pub use super::{
    dial::{DialError, Dialer, Identity},
    enrol::{HubTrust, enrol},
};

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

fn full(Full(size): Full) -> SendError {
    SendError {
        is_full: true,
        ..SendError::safe(format!(
            "the hub takes {size} calls at once on one connection, and none ended in time"
        ))
    }
}

/// One connection to a hub; clones share it.
#[derive(Clone)]
pub struct Connection(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) sender: Sender,
    pub(super) carrier: Carrier,
    pub(super) calls: Arc<Calls>,
    since: Instant,
    rtt_micros: AtomicU64,
    pub(super) retired: CancellationToken,
    ended: OnceLock<Ended>,
    instance: OnceLock<HeaderValue>,
    pub(super) tasks: Tasks,
}

pub(super) enum Sender {
    H3(h3client::Sender),
    H2(h2client::Sender),
}

pub(super) enum Carrier {
    Quic(quinn::Connection),
    H2 {
        received: Arc<AtomicU64>,
        closed: CancellationToken,
    },
}

impl Connection {
    pub(super) fn new(sender: Sender, carrier: Carrier, tasks: &Tasks) -> Self {
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

    /// Sends a request and waits for the head of its answer. Only the path of the request's URI matters, of a CONNECT the
    /// host and port. When the hub
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
        if request.method() != Method::CONNECT {
            let path = request.uri().path_and_query().cloned();
            let uri = Uri::builder().scheme("https").authority(HUB_NAME);
            let uri = uri
                .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
                .build();
            *request.uri_mut() = uri.map_err(|e| SendError::safe(e.to_string()))?;
        }
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
    pub(super) fn retire(&self, reason: &str) {
        self.retire_as(Ended {
            reason: reason.to_owned(),
            is_silent: false,
        });
    }

    pub(super) fn retire_as(&self, ended: Ended) {
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
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport())
            .finish_non_exhaustive()
    }
}

/// H3_NO_ERROR.
pub(super) const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// How long a call waits for another one to end when the hub takes no more.
pub const PLACE_WAIT: Duration = Duration::from_secs(5);
