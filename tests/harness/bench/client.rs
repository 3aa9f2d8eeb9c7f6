//! A keep-alive HTTP/1.1 client that does only what a measurement needs: one request at a time on a
//! connection, the body handed on as it comes. Plain TCP or TLS.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::To;

/// Where connections go.
#[derive(Clone)]
pub(crate) struct Target {
    address: String,
    authorization: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    pub(crate) fn new(to: &To) -> Result<Self> {
        let (scheme, rest) = to.url.split_once("://").context("the URL has no scheme")?;
        let address = rest.trim_end_matches('/').to_owned();
        let authorization = to
            .key
            .as_ref()
            .map(|key| format!("authorization: Bearer {key}\r\n"))
            .unwrap_or_default();
        let tls = match scheme {
            "http" => None,
            "https" => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let name = to.server_name.clone().unwrap_or_else(|| host.to_owned());
                Some((connector(to)?, ServerName::try_from(name)?))
            }
            other => bail!("unknown scheme {other}"),
        };
        Ok(Self {
            address,
            authorization,
            tls,
        })
    }

    /// The bytes of one call.
    pub(crate) fn request(&self, body: &str) -> Vec<u8> {
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            self.authorization,
            body.len()
        );
        [head.as_bytes(), body.as_bytes()].concat()
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let tcp = TcpStream::connect(&self.address)
            .await
            .with_context(|| format!("cannot reach {}", self.address))?;
        tcp.set_nodelay(true)?;
        let io: Box<dyn Io> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
        };
        Ok(Connection {
            io,
            buffer: Vec::with_capacity(BUFFER),
        })
    }
}

fn connector(to: &To) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    let file = to.ca.as_ref().context("an https address needs --ca")?;
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// One connection, at most one call at a time.
pub(crate) struct Connection {
    io: Box<dyn Io>,
    /// What has been read and not been used.
    buffer: Vec<u8>,
}

/// The head of an answer; its body is to be read next.
pub(crate) struct Head {
    body: Body,
}

enum Body {
    Length(usize),
    Chunked,
}

impl Connection {
    /// Sends the request and reads the head of the answer; any status but 200 is an error.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<Head> {
        self.io.write_all(request).await?;
        self.io.flush().await?;
        let end = loop {
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await.context("the connection ended before an answer")?;
        };
        let head = std::str::from_utf8(&self.buffer[..end])?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        ensure!(
            status == "200",
            "status {status}: {}",
            String::from_utf8_lossy(&self.buffer)
        );
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = match value("content-length:") {
            Some(length) => Body::Length(length.parse()?),
            None if value("transfer-encoding:") == Some("chunked") => Body::Chunked,
            None => bail!("an answer without a length"),
        };
        self.buffer.drain(..end);
        Ok(Head { body })
    }

    /// Hands on the body until its end, or until `on` says that it has enough.
    pub(crate) async fn body(&mut self, head: &Head, mut on: impl FnMut(&[u8]) -> bool) -> Result<()> {
        match head.body {
            Body::Length(length) => self.exactly(length, &mut on).await.map(drop),
            Body::Chunked => loop {
                let size = self.chunk_size().await?;
                let go_on = self.exactly(size, &mut on).await?;
                self.line_end().await?;
                if size == 0 || !go_on {
                    return Ok(());
                }
            },
        }
    }

    /// Waits until the peer sends more or closes.
    pub(crate) async fn stay(&mut self) {
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }

    async fn exactly(&mut self, mut length: usize, on: &mut impl FnMut(&[u8]) -> bool) -> Result<bool> {
        let mut go_on = true;
        while length > 0 {
            if self.buffer.is_empty() {
                self.fill().await.context("the connection ended within a body")?;
            }
            let now = length.min(self.buffer.len());
            go_on &= on(&self.buffer[..now]);
            self.buffer.drain(..now);
            length -= now;
        }
        Ok(go_on)
    }

    async fn chunk_size(&mut self) -> Result<usize> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = std::str::from_utf8(&self.buffer[..end])?;
                let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16)?;
                self.buffer.drain(..=end);
                return Ok(size);
            }
            self.fill().await.context("the connection ended between two chunks")?;
        }
    }

    async fn line_end(&mut self) -> Result<()> {
        while self.buffer.len() < 2 {
            self.fill().await.context("the connection ended after a chunk")?;
        }
        ensure!(self.buffer.starts_with(b"\r\n"), "a chunk without its end");
        self.buffer.drain(..2);
        Ok(())
    }

    async fn fill(&mut self) -> Result<()> {
        let read = self.io.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "end of stream");
        Ok(())
    }
}

const BUFFER: usize = 64 * 1024;
