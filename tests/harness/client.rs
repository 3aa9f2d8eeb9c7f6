//! HTTP clients that look closely: at the head, at each piece of the body as it comes, and at whether the body
//! ended or was cut. HTTP/1.1 over TCP and TLS, HTTP/2 over TLS. Know nothing of the relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// No answer of a test takes longer to make its next move.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends calls, each on a new connection, as Codex does.
#[derive(Clone)]
pub struct Client {
    addr: SocketAddr,
    authority: String,
    prefix: String,
    key: Option<String>,
    tls: Option<(Arc<rustls::ClientConfig>, bool)>,
}

/// An answer whose body is still coming.
pub struct Live {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// From the request to the head.
    pub head_after: Duration,
    body: Incoming,
    /// The connection: dropped with the answer.
    _connection: JoinSet<()>,
}

/// An answer to its end.
#[derive(Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Why the body did not end as HTTP says it must; `None` when it did.
    pub cut: Option<String>,
}

impl Client {
    /// For a base URL such as `http://127.0.0.1:8787/v1`, with this key as bearer.
    pub fn new(base_url: &str, key: &str) -> Self {
        let uri: Uri = base_url.parse().expect("a base URL");
        let authority = uri.authority().expect("a base URL has a host").to_string();
        let addr = authority.parse().expect("the host is an IP address with a port");
        let key = (!key.is_empty()).then(|| format!("Bearer {key}"));
        Self {
            addr,
            authority,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            key,
            tls: None,
        }
    }

    /// Over TLS to `addr` as `localhost`, trusting the certificates of this PEM text; HTTP/2 if asked for.
    pub fn tls(addr: SocketAddr, key: &str, trusted_pem: &str, http2: bool) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trusted_pem.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("a certificate authority");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the default versions fit the default provider")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let base = format!("http://127.0.0.1:{}/v1", addr.port());
        let mut client = Self {
            tls: Some((Arc::new(config), http2)),
            ..Self::new(&base, key)
        };
        client.authority = format!("localhost:{}", addr.port());
        client
    }

    /// A request for `path` below the base URL's own.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let mut builder = Request::builder().method(method).uri(format!("{}{path}", self.prefix));
        if let Some(key) = &self.key {
            builder = builder.header("authorization", key);
        }
        builder
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Live> {
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/json");
        self.send(request.body(Full::new(body.into()))?).await
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Live> {
        self.send(self.request(Method::GET, path).body(Full::default())?).await
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Live> {
        let began = Instant::now();
        let stream = TcpStream::connect(self.addr).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut connection = JoinSet::new();
        let sending = async {
            match &self.tls {
                None => self.send_http1(TokioIo::new(stream), request, &mut connection).await,
                Some((config, http2)) => {
                    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                    let name = ServerName::try_from("localhost").context("localhost is a name")?;
                    let stream = TokioIo::new(connector.connect(name, stream).await.context("TLS failed")?);
                    if !http2 {
                        return self.send_http1(stream, request, &mut connection).await;
                    }
                    let path = request.uri().to_string();
                    *request.uri_mut() = format!("https://{}{path}", self.authority).parse()?;
                    let (mut sender, driver) = http2::handshake(TokioExecutor::new(), stream).await?;
                    connection.spawn(async move {
                        let _ended = driver.await;
                    });
                    Ok(sender.send_request(request).await?)
                }
            }
        };
        let response = tokio::time::timeout(PATIENCE, sending)
            .await
            .context("no answer in time")??;
        let (head, body) = response.into_parts();
        Ok(Live {
            status: head.status,
            headers: head.headers,
            head_after: began.elapsed(),
            body,
            _connection: connection,
        })
    }

    async fn send_http1<T>(
        &self,
        stream: TokioIo<T>,
        mut request: Request<Full<Bytes>>,
        connection: &mut JoinSet<()>,
    ) -> anyhow::Result<http::Response<Incoming>>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", self.authority.parse()?);
        }
        let (mut sender, driver) = http1::handshake(stream).await?;
        connection.spawn(async move {
            let _ended = driver.await;
        });
        Ok(sender.send_request(request).await?)
    }
}

impl Live {
    /// The next piece of the body; `None` when it ended as it must.
    ///
    /// # Errors
    /// When the body was cut, or nothing came for long.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .context("the body fell silent")?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => bail!("the body was cut: {error:?}"),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads until `needle` has come; returns all read so far.
    pub async fn until(&mut self, needle: &str) -> anyhow::Result<BytesMut> {
        let mut read = BytesMut::new();
        while !contains(&read, needle.as_bytes()) {
            match self.next().await? {
                Some(data) => read.extend_from_slice(&data),
                None => bail!("the body ended without {needle:?}: {}", String::from_utf8_lossy(&read)),
            }
        }
        Ok(read)
    }

    /// Reads the rest.
    pub async fn rest(mut self) -> Whole {
        let mut body = BytesMut::new();
        let cut = loop {
            match self.next().await {
                Ok(Some(data)) => body.extend_from_slice(&data),
                Ok(None) => break None,
                Err(error) => break Some(format!("{error:#}")),
            }
        };
        Whole {
            status: self.status,
            headers: self.headers,
            body: body.freeze(),
            cut,
        }
    }
}

impl Whole {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `error.code` of an OpenAI error body.
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Whether `needle` is in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}
