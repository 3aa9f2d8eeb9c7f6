//! Connects to a vendor by one way out: resolve, TCP, a proxy's tunnel, TLS. Knows nothing of what is sent.

mod proxied;
mod stream;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use relay_shared::fault;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

pub(super) use self::stream::VendorStream;
use self::stream::{Link, MaybeTls};
use super::{EgressError, reach::Reach, unreachable};
use crate::way::{Family, Through, WayOut, bare};

/// Connects by one way out; without one, by whatever address the system chooses.
pub(super) struct Connector {
    tls: TlsConnector,
    timeout: Duration,
    out: Option<Arc<WayOut>>,
    tcp: HttpConnector<Reach>,
}

impl Connector {
    pub(super) fn new(
        tls: Arc<rustls::ClientConfig>,
        timeout: Duration,
        out: Option<Arc<WayOut>>,
        allows_private: bool,
    ) -> Self {
        let source = out.as_ref().and_then(|out| match out.through {
            Through::Source(address) => Some(address),
            Through::Proxy(_) => None,
        });
        let mut tcp = HttpConnector::new_with_resolver(Reach {
            only: source.map(Family::of),
            first: out.as_ref().and_then(|out| out.prefers),
            allows_private: out
                .as_ref()
                .map_or(allows_private, |out| out.allows_private || allows_private),
        });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_local_address(source);
        Self {
            tls: tls.into(),
            timeout,
            out,
            tcp,
        }
    }

    /// Connects to the host of `origin`, with TLS when its scheme is `https`. Tells the address it left by.
    ///
    /// # Errors
    /// [`EgressError::WayDown`] where this way is at fault, else what is the vendor's fault.
    pub(super) async fn connect(&self, origin: &Uri) -> Result<(VendorStream, SocketAddr), EgressError> {
        let link = match self.out.as_deref() {
            None => self.vendor(origin).await?,
            Some(out) => match &out.through {
                Through::Source(address) => {
                    is_here(*address).map_err(down)?;
                    reaches(*address, origin).map_err(down)?;
                    self.vendor(origin).await?
                }
                Through::Proxy(proxy) => {
                    let tunnel = self.tunnel(proxy, out.password.as_ref(), origin);
                    let link = tokio::time::timeout(self.timeout, tunnel).await;
                    link.map_err(|late| down(io::Error::new(io::ErrorKind::TimedOut, late)))??
                }
            },
        };
        let local = link.tcp().local_addr().map_err(unreachable)?;
        let stream = self.in_time(self.secured(link, origin)).await?;
        fault::point("vendor connected");
        Ok((stream, local))
    }

    async fn vendor(&self, origin: &Uri) -> Result<Link, EgressError> {
        let dialled = self.in_time(async { self.dial(origin.clone()).await.map_err(unreachable) });
        Ok(MaybeTls::Plain(dialled.await?))
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, EgressError>>) -> Result<T, EgressError> {
        let done = tokio::time::timeout(self.timeout, work).await;
        done.map_err(|_| EgressError::ConnectTimeout(self.timeout))?
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

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(bare(host).to_owned()).map_err(io::Error::other)
}

/// Whether the address is one of this machine's: what cannot be bound is not left by.
fn is_here(address: IpAddr) -> io::Result<()> {
    UdpSocket::bind((address, 0)).map(drop)
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
