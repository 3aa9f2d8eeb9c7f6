//! The tasks of one connection of the agent: what moves it, and what notices that it is dead. Knows no requests but
//! hello.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    client::{Carrier, Connection, Ended, Sender},
    ear::{self, Ear},
    h2client, h3client,
    watch::{self, Watched},
};

pub(super) async fn drive_h3(driver: h3client::Driver, connection: Connection) {
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

pub(super) async fn drive_h2<T>(driver: h2::client::Connection<T, Bytes>, connection: Connection)
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

impl Connection {
    /// Ended from here on when it is dead, or retired and idle.
    pub(super) fn watched(self, ear: Option<Ear>) -> Self {
        let Carrier::Quic(quic) = &self.0.carrier else {
            return self;
        };
        let watched = WatchedQuic {
            quic: quic.clone(),
            connection: self.clone(),
        };
        self.0.tasks.spawn("quic watch", keep(self.clone(), watched, ear));
        self
    }

    /// The same over HTTP/2, which asks with `pings`.
    pub(super) fn watched_with(self, pings: h2::PingPong) -> Self {
        let Carrier::H2 { received, .. } = &self.0.carrier else {
            return self;
        };
        let watched = WatchedH2 {
            received: Arc::clone(received),
            pings,
            connection: self.clone(),
        };
        self.0.tasks.spawn("h2 watch", keep(self.clone(), watched, None));
        self
    }
}

/// Ends a connection that is dead, or retired and idle.
async fn keep(connection: Connection, watched: impl Watched, ear: Option<Ear>) {
    let token = connection.0.tasks.token();
    let retired = async {
        connection.0.retired.cancelled().await;
        connection.0.calls.idle().await;
    };
    tokio::select! {
        reason = watch::watch(watched, &connection.0.calls) => {
            connection.retire_as(Ended { reason, is_silent: true });
        }
        () = ear::refused(ear.as_ref()) => connection.retire("nobody listens there any more"),
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

const ASK_TIMEOUT: Duration = Duration::from_secs(3);
