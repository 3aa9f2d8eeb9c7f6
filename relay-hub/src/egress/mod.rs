//! The ways out: each account leaves through its own addresses, proxies and egress nodes, each with a connection pool of
//! its own.
//! Knows sockets and TLS; knows no tenant, no money and no wire.

mod connector;
mod pool;
mod reach;
mod way;

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{Empty, Full};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use relay_shared::tasks::Tasks;

use self::connector::{Means, Opened};
pub use self::{
    connector::DialNode,
    pool::{Answer, Reads},
    way::Way,
};
use crate::{
    ids::WayId,
    way::{Family, Health, Region, WayOut},
};
pub(crate) use reach::{Reach, may_be_written};

/// Why a call did not leave, or was not answered.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The vendor refused the connection, could not be resolved, or broke off before it answered.
    #[error("the vendor could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connector gave up in time.
    #[error("connecting to the vendor took longer than {0:?}")]
    ConnectTimeout(Duration),
    /// The way out itself does not work: its address is gone, or its proxy refuses.
    #[error("the way out cannot be used")]
    WayDown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The way out broke under the call, of which something may have reached the vendor.
    #[error("the way out broke before the answer came")]
    WayBroke(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// None of the account's ways out works.
    #[error("no way out of the account works")]
    AllDown,
    /// The account has no way out in this region.
    #[error("the account has no way out in region {0}")]
    NoRegion(Region),
}

impl EgressError {
    /// Whether the vendor may have seen the request. What failed while connecting did not leave.
    pub fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Unreachable(cause) => cause.is::<hyper::Error>(),
            Self::WayBroke(_) => true,
            Self::ConnectTimeout(_) | Self::WayDown(_) | Self::AllDown | Self::NoRegion(_) => false,
        }
    }
}

/// What all ways out share.
pub struct Egress {
    means: Means,
    ways: Mutex<HashMap<String, Arc<Ways>>>,
}

/// Where an account's calls lead, and by what.
#[derive(Clone, Copy)]
pub struct Exits<'a> {
    /// The account's id.
    pub account: &'a str,
    /// What to connect to.
    pub origin: &'a Uri,
    /// The account's own ways out, in their order; without any, the system's own address.
    pub outs: &'a [Arc<WayOut>],
    /// The vendor may be at an address that is not public.
    pub allows_private: bool,
    /// Which addresses are tried first where there is no way out that says so.
    pub prefers: Option<Family>,
}

impl Egress {
    /// `extra_roots` are trusted besides the public roots: for vendors inside a company. `nodes` dials egress nodes.
    ///
    /// # Errors
    /// A root that is not a certificate.
    pub fn new(
        extra_roots: &[rustls_pki_types::CertificateDer<'static>],
        connect_timeout: Duration,
        nodes: DialNode,
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
            means: Means {
                tls: Arc::new(tls),
                timeout: connect_timeout,
                nodes,
                tasks,
            },
            ways: Mutex::default(),
        })
    }

    /// The ways out of an account, made at their first use and kept while nothing about them changes.
    pub fn ways(&self, exits: Exits<'_>) -> Arc<Ways> {
        let mut known = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ways) = known.get(exits.account).filter(|ways| ways.are_of(exits)) {
            return ways.clone();
        }
        let ways = self.apart(exits);
        known.insert(exits.account.to_owned(), ways.clone());
        ways
    }

    /// The account's ways out to somebody else than its vendor, with connections that nobody shares.
    pub fn apart(&self, exits: Exits<'_>) -> Arc<Ways> {
        let way = |out: Option<Arc<WayOut>>| Way::new(&self.means, out, exits);
        let all = match exits.outs {
            [] => vec![way(None)],
            outs => outs.iter().cloned().map(Some).map(way).collect(),
        };
        Arc::new(Ways {
            origin: exits.origin.clone(),
            allows_private: exits.allows_private,
            prefers: exits.prefers,
            all,
        })
    }

    /// Forgets the ways out of accounts that are no more, and with them their idle connections.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.ways
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|account, _| is_known(account));
    }

    /// How the ways of accounts did that were used.
    pub fn health(&self) -> Vec<(WayId, Health)> {
        let known = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = known.values().flat_map(|ways| &ways.all);
        ways.filter_map(|way| Some((way.out()?.id.clone(), way.health())))
            .collect()
    }

    /// Ends what these ways carry, and takes nothing by them any more: their egress nodes were revoked.
    pub fn revoke(&self, revoked: &[WayId]) {
        let known = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        for way in known.values().flat_map(|ways| &ways.all) {
            if way.out().is_some_and(|out| revoked.contains(&out.id)) {
                way.revoke();
            }
        }
    }
}

/// The ways out of one account.
pub struct Ways {
    origin: Uri,
    allows_private: bool,
    prefers: Option<Family>,
    /// In the order in which they are taken; never empty.
    all: Vec<Arc<Way>>,
}

impl Ways {
    fn are_of(&self, exits: Exits<'_>) -> bool {
        let outs = self.all.iter().filter_map(|way| way.out());
        self.origin == *exits.origin
            && (self.allows_private, self.prefers) == (exits.allows_private, exits.prefers)
            && outs
                .map(|out| (&out.id, &out.node))
                .eq(exits.outs.iter().map(|out| (&out.id, &out.node)))
    }

    /// The ways that one call may take.
    ///
    /// # Errors
    /// The account has none in the region that was asked for.
    pub fn route(self: &Arc<Self>, region: Option<Region>) -> Result<Route, EgressError> {
        let mut fit = self.all.iter().filter(|way| way.is_in(region.as_ref()));
        match (fit.next().cloned(), region) {
            (Some(first), region) => Ok(Route {
                ways: self.clone(),
                first,
                region,
            }),
            (None, Some(region)) => Err(EgressError::NoRegion(region)),
            (None, None) => Err(EgressError::AllDown),
        }
    }

    /// Connects by the first way and sends nothing.
    ///
    /// # Errors
    /// Who failed: the way, or the vendor.
    pub async fn probe(&self) -> Result<Probe, EgressError> {
        let Some(way) = self.all.first() else {
            return Err(EgressError::AllDown);
        };
        let Opened {
            io: _,
            local,
            connect,
            tls,
        } = way.connect().await?;
        Ok(Probe { local, connect, tls })
    }
}

/// What a look at a way out found.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// The address that it left by.
    pub local: IpAddr,
    /// What it took to come to the vendor, up to TLS.
    pub connect: Duration,
    /// What TLS with the vendor took, where there is any.
    pub tls: Option<Duration>,
}

/// The ways that one call may take: its account's own, and no other.
pub struct Route {
    ways: Arc<Ways>,
    /// The one that is taken when all of them work.
    first: Arc<Way>,
    region: Option<Region>,
}

impl Route {
    fn candidates(&self) -> impl Iterator<Item = &Arc<Way>> {
        let fit = |way: &&Arc<Way>| way.is_up() && way.is_in(self.region.as_ref());
        self.ways.all.iter().filter(fit)
    }

    /// The way that is taken when all of them work.
    pub fn name(&self) -> &Arc<str> {
        self.first.name()
    }

    /// Sends one request; the answer's body comes unbuffered. A redirect is an answer and is not followed. Another way is
    /// taken only while nothing of the request was sent.
    ///
    /// # Errors
    /// The vendor could not be reached, or broke off before its head was complete; no way out works.
    pub async fn call(&self, request: Request<Full<Bytes>>, reads: Reads) -> Result<Response<Answer>, EgressError> {
        let mut unsent = Some(request);
        let mut failed = EgressError::AllDown;
        for way in self.candidates() {
            match way.call(&mut unsent, reads).await {
                Err(error) if unsent.is_some() => failed = worse(failed, error),
                done => return done,
            }
        }
        Err(failed)
    }

    /// Opens a connection of its own and asks for an upgrade. Tells by which way and which address.
    ///
    /// # Errors
    /// As for [`Route::call`].
    pub async fn upgrade(&self, request: Request<Empty<Bytes>>) -> Result<(Upgrade, Arc<str>, IpAddr), EgressError> {
        let mut failed = EgressError::AllDown;
        for way in self.candidates() {
            match way.connect().await {
                Ok(Opened { io, local, .. }) => {
                    return Ok((way.upgrade(io, request).await?, way.name().clone(), local));
                }
                Err(error) => failed = worse(failed, error),
            }
        }
        Err(failed)
    }
}

/// What a client is told where each way failed in its own manner: what one of them saw of the vendor.
fn worse(so_far: EgressError, error: EgressError) -> EgressError {
    match error {
        EgressError::WayDown(_) => so_far,
        error => error,
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

#[cfg(test)]
mod tests;
