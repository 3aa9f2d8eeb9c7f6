//! An egress node: a small CONNECT proxy in another region that serves its own hub and nobody else, over HTTP/3 and
//! HTTP/2 with mutual TLS, to the vendors on its list. Knows no account, no call, and no byte of what it carries: the
//! vendor's TLS is between hub and vendor.

mod allow;
mod carry;
mod connect;
mod home;
mod renew;

use std::{net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use relay_shared::{
    enrolment::{EnrolError, TokenError},
    tasks::Tasks,
    tls::{Clients, TlsError},
    tunnel::server::{BindError, Bound, Tunnel, TunnelConfig, TunnelLimits},
};

pub use self::{
    allow::{AllowList, Pattern, PatternError},
    home::{Enrolled, NodeHome, enrol},
};
use self::{carry::Carrier, connect::Exit};

/// How a node runs.
pub struct Settings {
    /// What it enrolled with.
    pub home: NodeHome,
    /// Where it listens, on UDP and TCP.
    pub listen: SocketAddr,
    /// Where it may lead.
    pub allow: AllowList,
    /// The vendors may be at addresses that are not public.
    pub allows_private: bool,
    /// The address of this machine to leave by; without one, the system's own.
    pub source: Option<IpAddr>,
    /// Connections to vendors at once, for each connection of the hub.
    pub streams: u32,
    /// A connection to a vendor on which nothing moved for so long is closed.
    pub idle: Duration,
    /// How long running connections may go on after the node was told to end.
    pub patience: Duration,
}

/// Why a node does not enrol or start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no certificate yet.
    #[error("this is no egress node yet: {0} holds no enrolment")]
    NotEnrolled(String),
    /// A file that cannot be read or written, or does not hold what it should.
    #[error("cannot use {path}: {problem}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The text is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The hub cannot be reached, or is not the one that the token names.
    #[error("the hub at {hub} cannot be asked: {reason}")]
    Hub {
        /// Host and port.
        hub: String,
        /// What happened.
        reason: String,
    },
    /// The hub said no.
    #[error("the hub refused: {}", .0.message)]
    Refused(EnrolError),
    /// No key or request could be made.
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
    /// Key and certificate do not fit.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A node that serves.
pub struct Running {
    listen: SocketAddr,
    who: Enrolled,
    port: Tunnel,
    patience: Duration,
    tasks: Tasks,
}

/// Starts a node that was enrolled.
///
/// # Errors
/// It was not enrolled, its files are damaged, or its port is taken.
pub fn start(settings: Settings) -> Result<Running, NodeError> {
    let Settings {
        home,
        listen,
        allow,
        allows_private,
        source,
        streams,
        idle,
        patience,
    } = settings;
    let (who, papers, tasks) = (home.enrolled()?, home.papers()?, Tasks::new());
    let bound = Bound::open(TunnelConfig {
        listen,
        ca: papers.ca,
        clients: Clients::Hub,
        chain: papers.chain,
        key: papers.key,
        quic_key: home.quic_key()?,
        limits: TunnelLimits {
            calls_per_connection: streams,
            connections: CONNECTIONS,
            ..TunnelLimits::default()
        },
    })?;
    let listen = bound.local_addr();
    let exit = Exit::new(allow, allows_private, source);
    let carrier = Arc::new(Carrier::new(exit, idle, tasks.clone()));
    let handle = move |request, _| carrier.clone().answer(request);
    let port = bound.serve(handle, no_enrolment, &tasks);
    tasks.spawn(
        "renew",
        renew::keep_fresh(home, who.clone(), port.clone(), tasks.token()),
    );
    Ok(Running {
        listen,
        who,
        port,
        patience,
        tasks,
    })
}

/// Nobody comes here: a port for hubs has no enrolment.
async fn no_enrolment(_: Request<Bytes>, _: SocketAddr) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

impl Running {
    /// What a script waits for: one JSON object.
    pub fn ready_line(&self) -> String {
        let Enrolled { node, name, hub } = &self.who;
        serde_json::json!({"ready": true, "listen": self.listen, "node": node, "name": name, "hub": hub}).to_string()
    }

    /// Takes no new connection, lets the running ones finish within the patience, and ends. How many were cut.
    pub async fn shutdown(self) -> usize {
        let cut = self.port.drain(self.patience).await;
        self.tasks.shutdown(LAST_WORDS).await;
        cut
    }
}

/// A hub has one connection, a second while it changes over; the rest is room for handshakes.
const CONNECTIONS: usize = 64;
const LAST_WORDS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
