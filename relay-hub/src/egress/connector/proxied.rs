//! A tunnel through a proxy: HTTP CONNECT, in TLS or not, and SOCKS5. The proxy resolves the vendor's name, and never
//! sees more than its name and what TLS shows.

use std::io;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use relay_shared::secret::Secret;
use tokio_socks::{Error as SocksError, tcp::Socks5Stream};

use super::{Base, Connector, EgressError, Link, MaybeTls, Tcp, down, host_and_port, server_name, unreachable};
use crate::way::{Proxy, ProxyKind, bare};

impl Connector {
    /// A connection to the host of `origin` through a proxy.
    ///
    /// # Errors
    /// [`EgressError::WayDown`] where the proxy is at fault, [`EgressError::Unreachable`] where it says that the vendor
    /// is.
    pub(super) async fn tunnel(
        &self,
        proxy: &Proxy,
        password: Option<&Secret<String>>,
        origin: &Uri,
    ) -> Result<Link, EgressError> {
        let link = self.to_proxy(proxy).await.map_err(down)?;
        let (host, port) = host_and_port(origin);
        let login = proxy
            .user
            .as_deref()
            .map(|user| (user, password.map_or("", |word| word.expose().as_str())));
        match proxy.kind {
            ProxyKind::Connect | ProxyKind::TlsConnect => connect(link, host, port, login).await,
            ProxyKind::Socks5 => socks(link, host, port, login).await,
        }
    }

    async fn to_proxy(&self, proxy: &Proxy) -> io::Result<Link> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(proxy.authority())
            .path_and_query("/")
            .build();
        self.judge(proxy)?;
        let tcp = self.dial(uri.map_err(io::Error::other)?).await?;
        match proxy.kind {
            ProxyKind::Connect | ProxyKind::Socks5 => Ok(MaybeTls::Plain(Base::Tcp(Tcp::new(tcp)))),
            ProxyKind::TlsConnect => {
                let secured = self
                    .tls
                    .connect(server_name(&proxy.host)?, Base::Tcp(Tcp::new(tcp)))
                    .await?;
                Ok(MaybeTls::Tls(Box::new(secured)))
            }
        }
    }
}

type Login<'a> = Option<(&'a str, &'a str)>;

/// RFC 9110, 9.3.6.
async fn connect(link: Link, host: &str, port: u16, login: Login<'_>) -> Result<Link, EgressError> {
    let request = ask(host, port, login).map_err(|error| down(io::Error::other(error)))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(link))
        .await
        .map_err(proxy_broke)?;
    // With the sender the connection ends too, where the proxy refuses.
    let asked = async move {
        let answer = sender.send_request(request).await.map_err(proxy_broke)?;
        match answer.status() {
            status if status.is_success() => hyper::upgrade::on(answer).await.map_err(proxy_broke),
            // The proxy's word on the vendor.
            status @ (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) => Err(unreachable(refused(status))),
            status => Err(down(refused(status))),
        }
    };
    // Only what moves the connection brings the answer.
    let (upgraded, _) = tokio::join!(asked, connection.with_upgrades());
    let parts = upgraded?
        .downcast::<TokioIo<Link>>()
        .map_err(|_| down(io::ErrorKind::InvalidData.into()))?;
    if !parts.read_buf.is_empty() {
        // The vendor speaks second: this is no tunnel to it.
        return Err(down(io::ErrorKind::InvalidData.into()));
    }
    Ok(parts.io.into_inner())
}

fn ask(host: &str, port: u16, login: Login<'_>) -> http::Result<Request<Empty<Bytes>>> {
    let to = format!("{host}:{port}");
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(to.as_str())
        .header(header::HOST, to.as_str());
    if let Some((user, password)) = login {
        let words = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut words = HeaderValue::try_from(format!("Basic {words}"))?;
        words.set_sensitive(true);
        request = request.header(header::PROXY_AUTHORIZATION, words);
    }
    request.body(Empty::new())
}

/// RFC 1928 and 1929.
async fn socks(link: Link, host: &str, port: u16, login: Login<'_>) -> Result<Link, EgressError> {
    let host = bare(host);
    let tunnel = match login {
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(link, (host, port), user, password).await
        }
        None => Socks5Stream::connect_with_socket(link, (host, port)).await,
    };
    tunnel.map(Socks5Stream::into_inner).map_err(|error| match error {
        SocksError::NetworkUnreachable | SocksError::HostUnreachable | SocksError::ConnectionRefused => {
            unreachable(io::Error::other(error))
        }
        error => down(io::Error::other(error)),
    })
}

fn proxy_broke(error: hyper::Error) -> EgressError {
    down(io::Error::other(error))
}

fn refused(status: StatusCode) -> io::Error {
    io::Error::other(format!("the proxy answered {status}"))
}
