//! The tunnel to an egress node of the operator's own: one connection, over QUIC or where UDP is blocked over TCP, that
//! carries a CONNECT for each connection to a vendor. Knows nothing of what these carry.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri};
use relay_shared::{
    tasks::Tasks,
    tunnel::{
        FAMILY, LEFT_BY, REASON, Transport,
        body::{BodyError, InBody},
        client::{Connection, DialError, Dialer, SendError},
        stream::{CallStream, Upload, upload},
    },
};
use tracing::info;

use super::{Base, EgressError, Link, MaybeTls, Means, Pool, Reach, down, host_and_port, unreachable};
use crate::{
    ids::NodeId,
    way::{Family, NodeAt, Through, WayOut},
};

/// Makes what dials an egress node, with the certificate that the hub comes with.
pub type DialNode = Arc<dyn Fn(&NodeId) -> Result<Dialer, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// QUIC has so long before TCP is tried beside it.
const HEAD_START: Duration = Duration::from_secs(1);
/// After QUIC did not work, TCP goes first for so long.
const NO_QUIC: Duration = Duration::from_secs(300);
/// How long a CONNECT waits for a place where the node carries as many as it may.
const PLACE: Duration = Duration::from_secs(2);

/// The tunnel to the node behind one way out.
pub(super) struct NodeLink {
    node: NodeId,
    at: NodeAt,
    name: Arc<str>,
    reach: Reach,
    dial: DialNode,
    tasks: Tasks,
    idle: Weak<Pool>,
    is_revoked: AtomicBool,
    current: Mutex<Option<Connection>>,
    /// Held by the one that dials.
    dialled: tokio::sync::Mutex<Dialled>,
}

/// What came of dialling.
#[derive(Default)]
struct Dialled {
    no_quic_until: Option<Instant>,
    failed: Option<(Instant, String)>,
}

impl NodeLink {
    /// The link of a way, where that leads through a node.
    pub(super) fn of(out: &WayOut, reach: Reach, means: &Means, idle: Weak<Pool>) -> Option<Self> {
        let (Through::Node(node), Some(at)) = (&out.through, &out.node) else {
            return None;
        };
        Some(Self {
            node: node.clone(),
            at: at.clone(),
            name: out.name.clone(),
            reach,
            dial: means.nodes.clone(),
            tasks: means.tasks.clone(),
            idle,
            is_revoked: AtomicBool::new(at.is_revoked),
            current: Mutex::new(None),
            dialled: tokio::sync::Mutex::default(),
        })
    }

    /// A connection to the host of `origin` that leaves at the node.
    ///
    /// # Errors
    /// [`EgressError::WayDown`] where the node cannot be reached or does not serve this, [`EgressError::Unreachable`]
    /// where it says that the vendor cannot.
    pub(super) async fn open(&self, origin: &Uri, prefers: Option<Family>) -> Result<Link, EgressError> {
        let (host, port) = host_and_port(origin);
        let to: Uri = format!("{host}:{port}")
            .parse()
            .map_err(|error| unreachable(io::Error::other(error)))?;
        let connection = self.connection().await.map_err(down)?;
        let asked = match ask(&connection, to.clone(), prefers).await {
            // The tunnel ended meanwhile, or was found dead. Nothing is in it yet: another one, once.
            Err(error) if error.is_connection_lost || !connection.is_open() => {
                let another = self.connection().await.map_err(down)?;
                ask(&another, to, prefers).await
            }
            asked => asked,
        };
        let (answer, up) = asked.map_err(|error| {
            // A node that is full serves others well.
            let blame = if error.is_full { unreachable } else { down };
            blame(io::Error::other(error))
        })?;
        carried(answer, up)
    }

    /// The tunnel as it is, or another one.
    async fn connection(&self) -> io::Result<Connection> {
        if let Some(connection) = self.usable()? {
            return Ok(connection);
        }
        let asked = Instant::now();
        let mut dialled = self.dialled.lock().await;
        if let Some(connection) = self.usable()? {
            return Ok(connection);
        }
        // Those who waited for somebody else's attempt share what came of it.
        if let Some((_, reason)) = dialled.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(io::Error::other(reason.clone()));
        }
        // Boxed: it is rare, and large.
        match Box::pin(self.dialled(&mut dialled.no_quic_until)).await {
            Ok(connection) => {
                self.keep(&connection);
                Ok(connection)
            }
            Err(error) => {
                dialled.failed = Some((Instant::now(), error.to_string()));
                Err(error)
            }
        }
    }

    fn usable(&self) -> io::Result<Option<Connection>> {
        if self.is_revoked.load(Ordering::Relaxed) {
            return Err(io::Error::other("the egress node was revoked"));
        }
        Ok(self.current().clone().filter(Connection::is_open))
    }

    fn current(&self) -> MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dialled(&self, no_quic_until: &mut Option<Instant>) -> io::Result<Connection> {
        let dialer = (self.dial)(&self.node).map_err(io::Error::other)?;
        let is_tcp_first = no_quic_until.is_some_and(|until| Instant::now() < until);
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in self.reach.resolve(&self.at.host, self.at.port).await? {
            match Box::pin(dial(&dialer, address, is_tcp_first)).await {
                Ok(connection) => {
                    let now = Instant::now();
                    let is_tcp = connection.transport() == Transport::H2;
                    *no_quic_until = is_tcp.then(|| now.checked_add(NO_QUIC)).flatten();
                    return Ok(connection);
                }
                Err(error) => failed = io::Error::other(words(error)),
            }
        }
        Err(failed)
    }

    /// Idle connections to the vendor end with the tunnel that carries them.
    fn keep(&self, connection: &Connection) {
        info!(way = %self.name, node = %self.node, transport = %connection.transport(), "connected to an egress node");
        *self.current() = Some(connection.clone());
        let (connection, idle, name) = (connection.clone(), self.idle.clone(), self.name.clone());
        self.tasks.spawn("egress-node", async move {
            let ended = connection.ended().await;
            info!(way = %name, reason = ended.reason, "the connection to an egress node takes no more");
            if let Some(idle) = idle.upgrade() {
                idle.clear();
            }
        });
    }

    /// Whether it was the tunnel that broke, and not what it carried.
    pub(super) fn has_broken(&self, error: &(dyn Error + 'static)) -> bool {
        let is_over = self.current().as_ref().is_none_or(|current| !current.is_open());
        is_over || has_lost(error)
    }

    /// Takes nothing any more, and ends what it carries.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
        if let Some(connection) = self.current().take() {
            connection.close();
        }
    }
}

impl Drop for NodeLink {
    fn drop(&mut self) {
        if let Some(connection) = self.current().take() {
            connection.drain();
        }
    }
}

/// Whether one of the causes is that the tunnel was lost.
fn has_lost(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(BodyError::Lost(_)) = inner.and_then(|inner| inner.downcast_ref()) {
            return true;
        }
        next = error.source();
    }
    false
}

/// One address of the node, by QUIC and by TCP.
async fn dial(dialer: &Dialer, address: SocketAddr, is_tcp_first: bool) -> Result<Connection, DialError> {
    if is_tcp_first {
        return match Box::pin(dialer.h2(address)).await {
            Ok(connection) => Ok(connection),
            // It did not work a moment ago: it has no longer than it had then.
            Err(error) => match tokio::time::timeout(HEAD_START, dialer.quic(address)).await {
                Ok(dialled) => dialled,
                Err(_) => Err(error),
            },
        };
    }
    let mut quic = pin!(dialer.quic(address));
    let mut tcp = pin!(async {
        tokio::time::sleep(HEAD_START).await;
        dialer.h2(address).await
    });
    tokio::select! {
        biased;
        up = &mut quic => match up {
            Ok(connection) => Ok(connection),
            // It says so at once where nobody listens on UDP.
            Err(_) => dialer.h2(address).await,
        },
        up = &mut tcp => match up {
            Ok(connection) => Ok(connection),
            Err(_) => quic.await,
        },
    }
}

/// The tunnel's words speak of devices and hubs.
fn words(error: DialError) -> String {
    match error {
        DialError::Trust { addr, reason } => {
            format!("the egress node at {addr} and this hub do not trust each other: {reason}")
        }
        error => error.to_string(),
    }
}

async fn ask(
    connection: &Connection,
    to: Uri,
    prefers: Option<Family>,
) -> Result<(Response<InBody>, Upload), SendError> {
    let (up, body) = upload();
    let mut request = Request::new(body);
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = to;
    if let Some(family) = prefers {
        request.headers_mut().insert(FAMILY, family.number().into());
    }
    Ok((connection.send_within(PLACE, request).await?, up))
}

/// The node's word on a CONNECT.
fn carried(answer: Response<InBody>, up: Upload) -> Result<Link, EgressError> {
    let (head, down_body) = answer.into_parts();
    let told = |name: &HeaderName| told(&head.headers, name);
    match head.status {
        status if status.is_success() => {
            let left_by: Option<IpAddr> = told(&LEFT_BY).parse().ok();
            let left_by = left_by.ok_or_else(|| down(io::ErrorKind::InvalidData.into()))?;
            let stream = CallStream::new(up, down_body);
            Ok(MaybeTls::Plain(Base::Node(Box::new(stream), left_by)))
        }
        status => {
            let error = io::Error::other(format!("the egress node answered {status}: {}", told(&REASON)));
            match status {
                // Its word on the vendor.
                StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Err(unreachable(error)),
                _ => Err(down(error)),
            }
        }
    }
}

fn told<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
