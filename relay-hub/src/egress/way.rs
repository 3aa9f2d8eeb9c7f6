//! One way out of one account: its idle connections, and whether it works.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Empty, Full};
use hyper_util::rt::TokioIo;
use relay_shared::{
    clock::{Clock as _, SystemClock},
    tasks::Tasks,
};
use tracing::{info, warn};

use super::{
    EgressError, Exits, Upgrade, broken,
    connector::{Connector, Means, Opened, VendorStream},
    pool::{Answer, Carrier, Pool, Reads},
};
use crate::way::{Connected, Health, Region, WayOut};

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(5);
/// A way that failed is tried again after this long, then after twice as long, and so on.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LATEST_LOOK: Duration = Duration::from_secs(30);

/// One way out. Requests on it name a path alone, and the vendor's host in their head.
pub struct Way {
    out: Option<Arc<WayOut>>,
    origin: Uri,
    pool: Arc<Pool>,
    connector: Connector,
    /// It failed; somebody looks whether it works again.
    is_down: AtomicBool,
    /// Touched by fresh connections alone.
    health: Mutex<Health>,
    tasks: Tasks,
}

impl Way {
    pub(super) fn new(means: &Means, out: Option<Arc<WayOut>>, exits: Exits<'_>) -> Arc<Self> {
        let pool = Arc::new(Pool::new(
            out.as_ref().map_or_else(|| DIRECT.into(), |out| out.name.clone()),
        ));
        let connector = Connector::new(means, out.clone(), exits, Arc::downgrade(&pool));
        let tasks = means.tasks.clone();
        let (idle, stop) = (Arc::downgrade(&pool), tasks.token());
        tasks.spawn("idle-vendors", async move {
            stop.run_until_cancelled(sweep(idle)).await;
        });
        Arc::new(Self {
            out,
            origin: exits.origin.clone(),
            pool,
            connector,
            is_down: AtomicBool::new(false),
            health: Mutex::default(),
            tasks,
        })
    }

    /// The name that stands on the usage row.
    pub(super) fn name(&self) -> &Arc<str> {
        self.pool.way()
    }

    pub(super) fn out(&self) -> Option<&Arc<WayOut>> {
        self.out.as_ref()
    }

    /// Whether it leaves in the region that is asked for, where one is.
    pub(super) fn is_in(&self, region: Option<&Region>) -> bool {
        let own = self.out.as_ref().and_then(|out| out.region.as_ref());
        region.is_none() || own == region
    }

    pub(super) fn is_up(&self) -> bool {
        !self.is_down.load(Ordering::Relaxed)
    }

    /// How it did lately.
    pub(super) fn health(&self) -> Health {
        Health {
            is_down: !self.is_up(),
            ..self.noted().clone()
        }
    }

    fn noted(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, and notes what came of it.
    async fn dial(&self) -> Result<Opened, EgressError> {
        let opened = self.connector.connect(&self.origin).await;
        let at = SystemClock.wall();
        match &opened {
            Ok(Opened { connect, tls, .. }) => {
                let (connect, tls) = (*connect, *tls);
                self.noted().connected = Some(Connected { at, connect, tls });
            }
            Err(error) => self.noted().failed = Some((at, reason(error))),
        }
        opened
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Sends the request, over an idle connection where there is one. What it leaves in `request` was not sent.
    pub(super) async fn call(
        self: &Arc<Self>,
        request: &mut Option<Request<Full<Bytes>>>,
        reads: Reads,
    ) -> Result<Response<Answer>, EgressError> {
        while let Some(idle) = self.pool.take(reads) {
            if !self.connector.is_here() {
                // What lies idle left by the address that is gone: it would take the call and be silent.
                self.pool.clear();
                break;
            }
            let Some(sent) = request.take() else { break };
            match idle.call(sent, &self.pool).await {
                Ok(answer) => return Ok(answer),
                // The vendor had closed it: the next one.
                Err(mut unanswered) => match unanswered.take_message() {
                    Some(unsent) => *request = Some(unsent),
                    None => return Err(self.blamed(unanswered.into_error())),
                },
            }
        }
        let age = self.pool.age();
        // Boxed: most calls find an idle connection, and every call would keep room for it.
        let Opened { io, local, .. } = Box::pin(self.connect()).await?;
        let fresh = Carrier::begin(io, local, age, reads).await.map_err(broken)?;
        let Some(sent) = request.take() else {
            return Err(EgressError::AllDown);
        };
        let answer = fresh.call(sent, &self.pool).await;
        answer.map_err(|unanswered| self.blamed(unanswered.into_error()))
    }

    /// Who is at fault for a call that was sent and not answered.
    fn blamed(&self, error: hyper::Error) -> EgressError {
        if self.connector.has_broken(&error) {
            EgressError::WayBroke(Box::new(error))
        } else {
            broken(error)
        }
    }

    /// Ends what it carries and takes nothing any more: its egress node was revoked.
    pub(super) fn revoke(&self) {
        self.connector.revoke();
    }

    /// A fresh connection. Where the way itself fails, it is not taken again until it works.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Opened, EgressError> {
        let connected = self.dial().await;
        if let Err(EgressError::WayDown(cause)) = &connected
            && !self.is_down.swap(true, Ordering::Relaxed)
        {
            warn!(way = %self.name(), error = &**cause, "a way out does not work: it is left out until it does");
            let (way, stop) = (Arc::downgrade(self), self.tasks.token());
            self.tasks.spawn("way-down", async move {
                stop.run_until_cancelled(look_again(way)).await;
            });
        }
        connected
    }

    /// Asks for an upgrade on a connection of its own.
    pub(super) async fn upgrade(
        &self,
        io: VendorStream,
        request: Request<Empty<Bytes>>,
    ) -> Result<Upgrade, EgressError> {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(Reads::Small.most())
            .handshake(TokioIo::new(io))
            .await
            .map_err(broken)?;
        self.tasks.spawn("vendor-socket", async move {
            // The other end of the connection reports its failure to whoever waits for the answer.
            drop(connection.with_upgrades().await);
        });
        let mut answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgrade::Refused(answer));
        }
        let upgraded = hyper::upgrade::on(&mut answer).await.map_err(broken)?;
        let (head, _) = answer.into_parts();
        Ok(Upgrade::Switched(head, TokioIo::new(upgraded)))
    }
}

/// An error with its causes, in one short line.
fn reason(error: &EgressError) -> String {
    let mut words = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let told = cause.to_string();
        if !words.ends_with(&told) {
            words.push_str(": ");
            words.push_str(&told);
        }
        next = cause.source();
    }
    words.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()
}

/// Looks whether a way works again, ever more seldom, as long as anybody may take it.
async fn look_again(way: Weak<Way>) {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LATEST_LOOK);
        let Some(way) = way.upgrade() else { return };
        // A vendor that cannot be reached is not the way's fault.
        if !matches!(way.dial().await, Err(EgressError::WayDown(_))) {
            way.is_down.store(false, Ordering::Relaxed);
            info!(way = %way.name(), "a way out works again");
            return;
        }
    }
}

/// Closes connections that were idle for too long, while the way out is in use.
async fn sweep(idle: Weak<Pool>) {
    while let Some(pool) = idle.upgrade() {
        pool.sweep();
        drop(pool);
        tokio::time::sleep(SWEEP).await;
    }
}

const LONGEST_REASON: usize = 300;
/// What stands on the usage row where an account has no way out of its own.
const DIRECT: &str = "direct";
