//! Carries out what the supervisor decides: dials, takes connections into use, and notices when they end.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use relay_shared::{
    backoff,
    tunnel::{
        Transport,
        client::{Connection, Dialer, Ended},
        supervisor::{Mode, Supervisor, Verdict},
    },
};
use tokio::time::Instant;
use tracing::{debug, info};

use super::{LinkState, Shared};

/// Runs until the process shuts down.
pub(super) async fn run(hub: String, mode: Mode, shared: Arc<Shared>) {
    let token = shared.tasks.token();
    let mut driver = Driver {
        supervisor: Supervisor::new(mode, std::time::Instant::now()),
        events: FuturesUnordered::new(),
        hub,
        shared,
    };
    tokio::select! {
        () = driver.drive() => {}
        () = token.cancelled() => {}
    }
    driver.close();
}

struct Driver {
    supervisor: Supervisor,
    events: FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>,
    hub: String,
    shared: Arc<Shared>,
}

enum Event {
    Dialled(Transport, Result<Connection, String>),
    Ended(Connection, Ended),
}

impl Driver {
    async fn drive(&mut self) {
        loop {
            let is_wanted = self.shared.waiting.load(Ordering::Relaxed) > 0;
            for transport in self.supervisor.due(std::time::Instant::now(), is_wanted) {
                debug!(%transport, "dialling the hub");
                let dialling = dial(Arc::clone(&self.shared), self.hub.clone(), transport);
                self.events
                    .push(Box::pin(async move { Event::Dialled(transport, dialling.await) }));
            }
            let next = self.supervisor.next(is_wanted).map(Instant::from_std);
            self.tell(next);
            tokio::select! {
                Some(event) = self.events.next() => self.take(event),
                () = self.shared.wake.notified() => {}
                () = self.shared.start_over.notified() => self.start_over(),
                () = tokio::time::sleep_until(next.unwrap_or_else(far)) => {}
            }
        }
    }

    fn take(&mut self, event: Event) {
        let now = std::time::Instant::now();
        match event {
            Event::Dialled(transport, Ok(connection)) => match self.supervisor.came_up(transport, now) {
                Verdict::Use => self.put_to_use(connection),
                Verdict::Close => connection.close(),
            },
            Event::Dialled(transport, Err(reason)) => {
                debug!(%transport, reason, "no connection to the hub");
                self.shared.news().last_error = Some(reason);
                self.supervisor.failed(transport, now, backoff::random());
            }
            Event::Ended(connection, ended) => {
                let is_current = self.current().is_some_and(|current| current.is(&connection));
                self.shared.news().retired.push(connection);
                if is_current {
                    info!(reason = ended.reason, "the link to the hub is lost");
                    self.shared.news().last_error = Some(ended.reason);
                    self.shared.current.send_replace(None);
                    self.supervisor.lost(now, ended.is_silent, backoff::random());
                }
            }
        }
    }

    fn put_to_use(&mut self, connection: Connection) {
        info!(transport = %connection.transport(), "the link to the hub is up");
        let watched = connection.clone();
        self.events.push(Box::pin(async move {
            let ended = watched.ended().await;
            Event::Ended(watched, ended)
        }));
        self.shared.news().since = SystemTime::now();
        if let Some(before) = self.shared.current.send_replace(Some(connection)) {
            before.drain();
        }
    }

    fn start_over(&mut self) {
        if let Some(before) = self.shared.current.send_replace(None) {
            before.drain();
        }
        self.supervisor.start_over(std::time::Instant::now());
    }

    fn current(&self) -> Option<Connection> {
        self.shared.current.borrow().clone()
    }

    /// What `status` shows.
    fn tell(&self, next: Option<Instant>) {
        let state = match (self.current(), self.supervisor.is_dialling()) {
            (Some(_), _) => LinkState::Up,
            (None, true) => LinkState::Connecting,
            (None, false) => LinkState::Waiting,
        };
        let mut news = self.shared.news();
        news.retired.retain(|connection| connection.calls() > 0);
        news.next_try = next;
        if news.state != state {
            news.state = state;
            news.since = SystemTime::now();
        }
    }

    fn close(&self) {
        let retired = std::mem::take(&mut self.shared.news().retired);
        for connection in retired.into_iter().chain(self.shared.current.send_replace(None)) {
            connection.close();
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Tries the hub's addresses, each a quarter of a second after the one before; the first that answers wins.
async fn dial(shared: Arc<Shared>, hub: String, transport: Transport) -> Result<Connection, String> {
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, async {
        let found = tokio::net::lookup_host(&hub)
            .await
            .map_err(|e| format!("cannot find {hub}: {e}"))?;
        let dialer = shared.dialer.load_full();
        let mut racing: FuturesUnordered<_> = found
            .zip(0..)
            .map(|(addr, place)| dial_one(&dialer, transport, addr, STAGGER * place))
            .collect();
        let mut reason = format!("{hub} has no address");
        while let Some(dialled) = racing.next().await {
            match dialled {
                Ok(connection) => return Ok(connection),
                Err(why) => reason = why,
            }
        }
        Err(reason)
    });
    dialled
        .await
        .unwrap_or_else(|_| Err(format!("no answer from {hub} over {transport} within {DIAL_TIMEOUT:?}")))
}

async fn dial_one(
    dialer: &Dialer,
    transport: Transport,
    addr: SocketAddr,
    after: Duration,
) -> Result<Connection, String> {
    tokio::time::sleep(after).await;
    let dialled = match transport {
        Transport::Quic => dialer.quic(addr).await,
        Transport::H2 => dialer.h2(addr).await,
    };
    dialled.map_err(|error| error.to_string())
}

/// Short, because a hub that comes back answers the first packet of a new try sooner than a late one of an old try.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
const STAGGER: Duration = Duration::from_millis(250);
