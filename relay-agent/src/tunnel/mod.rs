//! The agent's link to its hub: keeps one connection up, chooses its transport, and sends calls over it.
//! Knows no vendors, no local clients, and not what a call means.

mod driver;
mod replay;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode};
pub use relay_shared::tunnel::supervisor::Mode as LinkMode;
use relay_shared::{
    tasks::Tasks,
    tls::TlsError,
    tunnel::{
        CALL_ID, DUPLICATE, Transport,
        body::{InBody, OutBody},
        client::{Connection, Dialer, Identity, SendError},
    },
};
use rustls_pki_types::CertificateDer;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use self::replay::Replay;

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
    /// How long a call waits for a connection, and for a place on it. Default 5 s.
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
    /// The link is there, but carries as many calls as the hub allows, and none of them ended in time.
    pub is_full: bool,
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
pub struct Link(Arc<Shared>);

struct Shared {
    current: watch::Sender<Option<Connection>>,
    waiting: AtomicUsize,
    wake: Notify,
    start_over: Notify,
    news: Mutex<News>,
    dialer: ArcSwap<Dialer>,
    ca: CertificateDer<'static>,
    tasks: Tasks,
    wait: Duration,
}

struct News {
    state: LinkState,
    since: SystemTime,
    last_error: Option<String>,
    next_try: Option<Instant>,
    /// Connections that only finish their calls.
    retired: Vec<Connection>,
}

impl Shared {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Starts keeping a connection up.
    ///
    /// # Errors
    /// When certificate, key and CA do not fit.
    pub fn start(config: LinkConfig, tasks: &Tasks) -> Result<Self, TlsError> {
        let LinkConfig {
            hub,
            mode,
            ca,
            identity,
            wait,
        } = config;
        let dialer = Dialer::new(&ca, &identity, tasks)?;
        let news = News {
            state: LinkState::Connecting,
            since: SystemTime::now(),
            last_error: None,
            next_try: None,
            retired: Vec::new(),
        };
        let shared = Arc::new(Shared {
            current: watch::Sender::new(None),
            waiting: AtomicUsize::new(0),
            wake: Notify::new(),
            start_over: Notify::new(),
            news: Mutex::new(news),
            dialer: ArcSwap::from_pointee(dialer),
            ca,
            tasks: tasks.clone(),
            wait,
        });
        tasks.spawn("link", driver::run(hub, mode, Arc::clone(&shared)));
        Ok(Self(shared))
    }

    /// Sends a call and waits for the head of its answer. Waits for a connection up to [`LinkConfig::wait`], and as long
    /// for another call to end when the hub takes no more. When a
    /// connection breaks before the head came, the call is sent again over another one if nothing of it reached the
    /// hub, or if it has a call id and the same hub is there to refuse it should it have come already.
    ///
    /// # Errors
    /// When there is no connection or no place on it, or it broke; says whether the hub may have seen the call.
    pub async fn send(&self, request: Request<OutBody>) -> Result<Response<InBody>, LinkDown> {
        let (head, body) = request.into_parts();
        let has_id = head.headers.contains_key(CALL_ID);
        let replay = Replay::new(body);
        let mut last: Option<(Connection, SendError)> = None;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let is_sent = last.as_ref().is_some_and(|(_, error)| !error.is_safe_to_retry);
            let wait = if is_sent {
                self.0.wait.min(RESEND_WAIT)
            } else {
                self.0.wait
            };
            let connection = match self.connection(wait).await {
                Ok(connection) => connection,
                Err(down) => return Err(last.map_or(down, |(_, error)| self.down(&error))),
            };
            if let Some((before, error)) = &last
                && !error.is_safe_to_retry
                && !connection.is_same_hub(before)
            {
                return Err(self.down(error));
            }
            match connection
                .send_within(self.0.wait, Request::from_parts(head.clone(), replay.body()))
                .await
            {
                Ok(response) if response.status() == StatusCode::CONFLICT && is_duplicate(&response) => {
                    let error = last.map_or_else(unexpected_duplicate, |(_, error)| error);
                    return Err(LinkDown {
                        is_sent: true,
                        ..self.down(&error)
                    });
                }
                Ok(response) => {
                    replay.close();
                    return Ok(response);
                }
                Err(error) => {
                    let is_known = has_id && error.is_connection_lost;
                    let may_repeat = (error.is_safe_to_retry || is_known)
                        && !error.is_full
                        && replay.is_whole()
                        && attempts < ATTEMPTS;
                    let was_sent = last.as_ref().is_some_and(|(_, error)| !error.is_safe_to_retry);
                    let error = SendError {
                        is_safe_to_retry: error.is_safe_to_retry && !was_sent,
                        ..error
                    };
                    if !may_repeat {
                        return Err(self.down(&error));
                    }
                    last = Some((connection, error));
                }
            }
        }
    }

    /// Where the link stands.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        let current = self.0.current.borrow().clone().filter(Connection::is_open);
        let news = self.0.news();
        LinkStatus {
            state: if current.is_some() { LinkState::Up } else { news.state },
            transport: current.as_ref().map(Connection::transport),
            rtt: current.as_ref().map(Connection::rtt),
            since: news.since,
            calls: news.retired.iter().chain(&current).map(Connection::calls).sum(),
            last_error: news.last_error.clone(),
        }
    }

    /// Gives the connection up for new calls and makes another one at once; running calls go on.
    pub fn reconnect(&self) {
        self.0.start_over.notify_one();
    }

    /// New connections show this certificate; the one that is up stays.
    ///
    /// # Errors
    /// When certificate, key and CA do not fit.
    pub fn replace_identity(&self, identity: Identity) -> Result<(), TlsError> {
        let dialer = Dialer::new(&self.0.ca, &identity, &self.0.tasks)?;
        self.0.dialer.store(Arc::new(dialer));
        Ok(())
    }

    /// The connection in use, as soon as there is one.
    async fn connection(&self, wait: Duration) -> Result<Connection, LinkDown> {
        if let Some(connection) = self
            .0
            .current
            .borrow()
            .as_ref()
            .filter(|connection| connection.is_open())
        {
            return Ok(connection.clone());
        }
        let _waiting = Waiting::begin(&self.0);
        let mut current = self.0.current.subscribe();
        let is_open = |current: &Option<Connection>| current.as_ref().is_some_and(Connection::is_open);
        match tokio::time::timeout(wait, current.wait_for(is_open)).await {
            Ok(Ok(connection)) => Ok(connection.clone().ok_or_else(|| self.no_connection())?),
            Ok(Err(_)) | Err(_) => Err(self.no_connection()),
        }
    }

    fn no_connection(&self) -> LinkDown {
        let reason = self.0.news().last_error.clone();
        let reason = reason.unwrap_or_else(|| "there was no answer yet".to_owned());
        LinkDown {
            reason: format!("no link to the hub: {reason}"),
            retry_after: self.retry_after(),
            is_sent: false,
            is_full: false,
        }
    }

    fn down(&self, error: &SendError) -> LinkDown {
        LinkDown {
            reason: match error.is_full {
                true => error.reason.clone(),
                false => format!("the link to the hub broke: {}", error.reason),
            },
            retry_after: self.retry_after(),
            is_sent: !error.is_safe_to_retry,
            is_full: error.is_full,
        }
    }

    fn retry_after(&self) -> Duration {
        let next = self
            .0
            .news()
            .next_try
            .map(|next| next.saturating_duration_since(Instant::now()));
        // A call that comes sooner makes the link try sooner, so a long wait would be a wrong promise.
        next.unwrap_or_default()
            .clamp(Duration::from_secs(1), Duration::from_secs(5))
    }
}

fn is_duplicate(response: &Response<InBody>) -> bool {
    response.headers().contains_key(DUPLICATE)
}

fn unexpected_duplicate() -> SendError {
    let reason = "the hub had this call already".to_owned();
    SendError {
        is_safe_to_retry: false,
        is_connection_lost: false,
        is_full: false,
        reason,
    }
}

/// A call that waits for a connection; the driver hurries while there is one.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a call that the hub may have seen waits for the same hub to come back: its client should learn of a hub
/// that died within three seconds, of which noticing takes up to two.
const RESEND_WAIT: Duration = Duration::from_millis(500);
/// How often one call is tried before its caller hears of it.
const ATTEMPTS: usize = 4;
