//! The ways out: each account leaves through its own connection pool and connector.
//! Knows sockets and TLS; knows no tenant, no money and no wire.

mod connector;
mod pool;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Empty, Full};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use relay_shared::tasks::Tasks;

pub use self::pool::Answer;
use self::{
    connector::Connector,
    pool::{Carrier, Pool},
};

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(5);
/// The largest read from a vendor's connection: bounds the memory of a stream.
const READ_BUFFER: usize = 64 * 1024;

/// Why a call did not leave, or was not answered.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The vendor refused the connection, could not be resolved, or broke off before it answered.
    #[error("the vendor could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connector gave up in time.
    #[error("connecting to the vendor took longer than {0:?}")]
    ConnectTimeout(Duration),
}

/// What all ways out share.
pub struct Egress {
    tls: Arc<rustls::ClientConfig>,
    connect_timeout: Duration,
    tasks: Tasks,
    ways: Mutex<HashMap<String, Arc<Way>>>,
}

impl Egress {
    /// `extra_roots` are trusted besides the public roots: for vendors inside a company.
    ///
    /// # Errors
    /// A root that is not a certificate.
    pub fn new(
        extra_roots: &[rustls_pki_types::CertificateDer<'static>],
        connect_timeout: Duration,
        tasks: Tasks,
    ) -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for root in extra_roots {
            roots.add(root.clone())?;
        }
        let mut tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            connect_timeout,
            tasks,
            ways: Mutex::default(),
        })
    }

    /// The way out of the account with this id to `origin`, made at its first use.
    pub fn way(&self, account: &str, origin: &Uri) -> Arc<Way> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = ways.get(account).filter(|way| way.origin == *origin) {
            return way.clone();
        }
        let connector = Connector::new(self.tls.clone(), self.connect_timeout);
        let way = Arc::new(Way::new(connector, origin.clone(), self.tasks.clone()));
        ways.insert(account.to_owned(), way.clone());
        way
    }

    /// Forgets the ways out of accounts that are no more, and with them their idle connections.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.ways
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|account, _| is_known(account));
    }
}

/// One way out of one account. Requests on it name a path alone, and the vendor's host in their head.
pub struct Way {
    origin: Uri,
    pool: Arc<Pool>,
    connector: Connector,
    tasks: Tasks,
}

impl Way {
    fn new(connector: Connector, origin: Uri, tasks: Tasks) -> Self {
        let pool = Arc::new(Pool::default());
        let (idle, stop) = (Arc::downgrade(&pool), tasks.token());
        tasks.spawn("idle-vendors", async move {
            stop.run_until_cancelled(sweep(idle)).await;
        });
        Self {
            origin,
            pool,
            connector,
            tasks,
        }
    }

    /// The name that stands on the usage row.
    pub const fn name(&self) -> &'static str {
        "direct"
    }

    /// Sends one request; the answer's body comes unbuffered. A redirect is an answer and is not followed.
    ///
    /// # Errors
    /// The vendor could not be reached, or broke off before its head was complete.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Response<Answer>, EgressError> {
        let mut request = request;
        while let Some(idle) = self.pool.take() {
            match idle.call(request, &self.pool).await {
                Ok(answer) => return Ok(answer),
                // The vendor had closed it: the next one.
                Err(mut unanswered) => match unanswered.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(unanswered.into_error())),
                },
            }
        }
        let io = self.connector.connect(&self.origin).await?;
        let fresh = Carrier::begin(io, READ_BUFFER).await.map_err(broken)?;
        let answer = fresh.call(request, &self.pool).await;
        answer.map_err(|unanswered| broken(unanswered.into_error()))
    }

    /// Opens a connection of its own and asks for an upgrade: `Ok((head, Some(bytes)))` after a 101.
    ///
    /// # Errors
    /// As for [`Way::call`].
    pub async fn upgrade(&self, request: Request<Empty<Bytes>>) -> Result<Upgrade, EgressError> {
        let io = self.connector.connect(&self.origin).await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(READ_BUFFER)
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

/// The vendor's word on an upgrade.
pub enum Upgrade {
    /// 101: the socket is up.
    Switched(http::response::Parts, TokioIo<Upgraded>),
    /// Any other status, with its body.
    Refused(Response<Incoming>),
}

fn unreachable(error: io::Error) -> EgressError {
    EgressError::Unreachable(Box::new(error))
}

fn broken(error: hyper::Error) -> EgressError {
    EgressError::Unreachable(Box::new(error))
}

/// Closes connections that were idle for too long, while the way out is in use.
async fn sweep(idle: Weak<Pool>) {
    while let Some(pool) = idle.upgrade() {
        pool.sweep();
        drop(pool);
        tokio::time::sleep(SWEEP).await;
    }
}

#[cfg(test)]
mod tests;
