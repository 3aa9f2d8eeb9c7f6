//! Asks a running agent, over its own listener and with the local key.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use relay_shared::secret::Secret;
use relay_shared::tasks::Tasks;
use tokio::net::TcpStream;

/// Where an agent listens, and the key it wants.
pub(crate) struct Agent<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) key: Option<&'a Secret<String>>,
}

/// Why an agent was not heard.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens there.
    #[error("nobody listens on {0}")]
    Nobody(SocketAddr),
    /// Somebody does, but it is no agent, or not a healthy one.
    #[error("what listens on {addr} does not answer as relay-agent does: {reason}")]
    Strange {
        /// Where.
        addr: SocketAddr,
        /// What it did.
        reason: String,
    },
}

/// The address in a base URL such as `http://127.0.0.1:8787/v1`.
pub(crate) fn addr_in(base_url: &str) -> Option<SocketAddr> {
    base_url.strip_prefix("http://")?.split('/').next()?.parse().ok()
}

impl Agent<'_> {
    /// Sends a request without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), AskError> {
        let Ok(Ok(stream)) = tokio::time::timeout(LIMIT, TcpStream::connect(self.addr)).await else {
            return Err(AskError::Nobody(self.addr));
        };
        let strange = |reason: String| AskError::Strange {
            addr: self.addr,
            reason,
        };
        match tokio::time::timeout(LIMIT, self.over(stream, method, path)).await {
            Ok(answer) => answer.map_err(strange),
            Err(_) => Err(strange(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }

    async fn over(&self, stream: TcpStream, method: Method, path: &str) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.addr.to_string());
        if let Some(key) = self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
        let tasks = Tasks::new();
        let driver = tasks.spawn("ask", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the agent hung up");
            }
        });
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), LARGEST)
            .collect()
            .await;
        driver.abort();
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }
}

/// Longer than a call waits for the link, which `GET /relay/echo` does as well.
const LIMIT: Duration = Duration::from_secs(8);
const LARGEST: usize = 1 << 20;
