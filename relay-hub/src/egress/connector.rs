//! Connects to a vendor by one way out: resolve, TCP, a tunnel through a proxy or an egress node, TLS. Knows nothing of
//! what is sent.

mod node;
mod proxied;
mod source;
mod stream;
mod tcp;

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use http::{Uri, uri::Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use relay_shared::{fault, tasks::Tasks};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

pub use self::node::DialNode;
pub(super) use self::stream::VendorStream;
use self::{
    node::NodeLink,
    source::Source,
    stream::{Base, Link, MaybeTls},
    tcp::Tcp,
};
use super::{
    EgressError, Exits,
    pool::Pool,
    reach::{Reach, may_be_written},
    unreachable,
};
use crate::way::{Family, Proxy, Through, WayOut, bare};

/// What every way out connects with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) timeout: Duration,
    pub(super) nodes: DialNode,
    pub(super) tasks: Tasks,
}

/// Connects by one way out; without one, by whatever address the system chooses.
pub(super) struct Connector {
    tls: TlsConnector,
    timeout: Duration,
    out: Option<Arc<WayOut>>,
    tcp: HttpConnector<Reach>,
    /// The address of this machine that it leaves by, where it is one.
    source: Option<Source>,
    /// It may lead to addresses that are not public.
    allows_private: bool,
    /// The tunnel to the egress node, where the way leads through one.
    node: Option<NodeLink>,
}

/// A connection to the vendor.
pub(super) struct Opened {
    pub(super) io: VendorStream,
    /// The address that it left by: of this machine, or of the egress node.
    pub(super) local: IpAddr,
    /// What it took, up to TLS with the vendor.
    pub(super) connect: Duration,
    /// What TLS took, where there is any.
    pub(super) tls: Option<Duration>,
}

/// A peer of which nothing is heard, not even that it got what was sent, is taken for dead after this; one that owes no
/// bytes is asked as often.
const UNHEARD: Duration = Duration::from_secs(10);

/// Else a connection whose address was taken away, or whose vendor vanished, would take calls and hold them until no
/// answer can come in time.
fn notice_death(tcp: &mut HttpConnector<Reach>) {
    tcp.set_keepalive(Some(UNHEARD));
    tcp.set_keepalive_interval(Some(UNHEARD / 4));
    tcp.set_keepalive_retries(Some(3));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(Some(UNHEARD));
}

impl Connector {
    /// `idle` are the way's idle connections, which end with the tunnel that carries them.
    pub(super) fn new(means: &Means, out: Option<Arc<WayOut>>, exits: Exits<'_>, idle: Weak<Pool>) -> Self {
        let source = out.as_ref().and_then(|out| match out.through {
            Through::Source(address) => Some(address),
            Through::Proxy(_) | Through::Node(_) => None,
        });
        let reach = Reach {
            only: source.map(Family::of),
            first: out.as_ref().map_or(exits.prefers, |out| out.prefers),
            allows_private: exits.allows_private || out.as_ref().is_some_and(|out| out.allows_private),
        };
        let mut tcp = HttpConnector::new_with_resolver(reach);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        notice_death(&mut tcp);
        tcp.set_local_address(source);
        Self {
            tls: means.tls.clone().into(),
            timeout: means.timeout,
            node: out.as_ref().and_then(|out| NodeLink::of(out, reach, means, idle)),
            out,
            tcp,
            source: source.map(Source::new),
            allows_private: reach.allows_private,
        }
    }

    /// Connects to the host of `origin`, with TLS when its scheme is `https`.
    ///
    /// # Errors
    /// [`EgressError::WayDown`] where this way is at fault, else what is the vendor's fault.
    pub(super) async fn connect(&self, origin: &Uri) -> Result<Opened, EgressError> {
        let began = Instant::now();
        let link = self.link(origin).await?;
        let local = link.local().map_err(unreachable)?;
        let (connect, is_secure) = (began.elapsed(), origin.scheme() == Some(&Scheme::HTTPS));
        let io = self.in_time(self.secured(link, origin)).await?;
        fault::point("vendor connected");
        let tls = is_secure.then(|| began.elapsed().saturating_sub(connect));
        Ok(Opened {
            io,
            local,
            connect,
            tls,
        })
    }

    async fn link(&self, origin: &Uri) -> Result<Link, EgressError> {
        let Some(out) = self.out.as_deref() else {
            return self.vendor(origin).await;
        };
        match &out.through {
            Through::Source(address) => {
                self.check_source().map_err(down)?;
                reaches(*address, origin).map_err(down)?;
                let link = self.vendor(origin).await;
                // It may have gone since.
                if link.is_err() {
                    self.check_source().map_err(down)?;
                }
                link
            }
            Through::Proxy(proxy) => {
                let tunnel = self.tunnel(proxy, out.password.as_ref(), origin);
                self.by_others(tunnel).await
            }
            Through::Node(_) => match &self.node {
                // Boxed: no call by another way keeps room for it.
                Some(node) => self.by_others(Box::pin(node.open(origin, out.prefers))).await,
                None => Err(down(io::ErrorKind::NotFound.into())),
            },
        }
    }

    /// Who leaves in our place and is late is at fault: it has a shorter time for the vendor than we have for it.
    async fn by_others(&self, tunnel: impl Future<Output = Result<Link, EgressError>>) -> Result<Link, EgressError> {
        let link = tokio::time::timeout(self.timeout, tunnel).await;
        link.map_err(|late| down(io::Error::new(io::ErrorKind::TimedOut, late)))?
    }

    /// Whether the address to leave by is this machine's still; a proxy or a node is asked by connecting.
    pub(super) fn is_here(&self) -> bool {
        self.check_source().is_ok()
    }

    fn check_source(&self) -> io::Result<()> {
        self.source.as_ref().map_or(Ok(()), Source::is_here)
    }

    /// Whether the way itself broke under what it carried.
    pub(super) fn has_broken(&self, error: &(dyn std::error::Error + 'static)) -> bool {
        match self.out.as_deref().map(|out| &out.through) {
            Some(Through::Source(_)) => !self.is_here(),
            Some(Through::Node(_)) => self.node.as_ref().is_some_and(|node| node.has_broken(error)),
            Some(Through::Proxy(_)) | None => false,
        }
    }

    /// Ends what it carries, and takes nothing any more: its egress node was revoked.
    pub(super) fn revoke(&self) {
        if let Some(node) = &self.node {
            node.revoke();
        }
    }

    async fn vendor(&self, origin: &Uri) -> Result<Link, EgressError> {
        let dialled = self.in_time(async { self.dial(origin.clone()).await.map_err(unreachable) });
        Ok(MaybeTls::Plain(Base::Tcp(Tcp::new(dialled.await?))))
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, EgressError>>) -> Result<T, EgressError> {
        let done = tokio::time::timeout(self.timeout, work).await;
        done.map_err(|_| EgressError::ConnectTimeout(self.timeout))?
    }

    /// An address is not resolved, so where it leads is looked at here.
    fn judge(&self, proxy: &Proxy) -> io::Result<()> {
        if may_be_written(&proxy.host, self.allows_private) {
            return Ok(());
        }
        let words = "the proxy is at an address that is not public";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
    }

    async fn dial(&self, to: Uri) -> io::Result<TcpStream> {
        let dialled = self.tcp.clone().call(to).await;
        Ok(dialled.map_err(io::Error::other)?.into_inner())
    }

    async fn secured(&self, link: Link, origin: &Uri) -> Result<VendorStream, EgressError> {
        if origin.scheme() != Some(&Scheme::HTTPS) {
            return Ok(MaybeTls::Plain(link));
        }
        let name = server_name(origin.host().unwrap_or_default()).map_err(unreachable)?;
        let secured = self.tls.connect(name, link).await.map_err(unreachable)?;
        Ok(MaybeTls::Tls(Box::new(secured)))
    }
}

/// What to connect to, the host as a URL has it.
fn host_and_port(origin: &Uri) -> (&str, u16) {
    let usual = if origin.scheme() == Some(&Scheme::HTTP) {
        80
    } else {
        443
    };
    (origin.host().unwrap_or_default(), origin.port_u16().unwrap_or(usual))
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(bare(host).to_owned()).map_err(io::Error::other)
}

/// An address in a URL is not resolved, so its family is looked at here.
fn reaches(source: IpAddr, origin: &Uri) -> io::Result<()> {
    match bare(origin.host().unwrap_or_default()).parse::<IpAddr>() {
        Ok(address) if Family::of(address) != Family::of(source) => {
            let words = "the vendor's address is of another family than the one to leave by";
            Err(io::Error::new(io::ErrorKind::AddrNotAvailable, words))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn down(error: io::Error) -> EgressError {
    EgressError::WayDown(Box::new(error))
}
