//! Enrolment on the tunnel's TCP port: one HTTP/1.1 request on a TLS connection without a client certificate.
//! Knows no tokens and no certificates requests, only bytes and their bounds.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{ALPN_ENROL, params, server::Served};
use crate::tls::{self, HUB_NAME};

/// How the agent knows the hub before it has a certificate of its own.
pub enum HubTrust {
    /// By the SHA-256 of its CA, from an enrolment token.
    Fingerprint([u8; 32]),
    /// By its CA, kept from enrolment.
    Ca(CertificateDer<'static>),
}

/// One request of the enrolment protocol: POSTs JSON to `hub` (host and port), gives status and body (at most 64 KiB).
///
/// # Errors
/// When the hub cannot be reached, is not the one trusted, or does not answer within 15 s.
pub async fn enrol(hub: &str, trust: HubTrust, path: &str, json: Bytes) -> Result<(StatusCode, Bytes), String> {
    let asked = tokio::time::timeout(CLIENT_TIMEOUT, ask(hub, trust, path, json)).await;
    asked.unwrap_or_else(|_| Err(format!("{hub} did not answer within {} s", CLIENT_TIMEOUT.as_secs())))
}

async fn ask(hub: &str, trust: HubTrust, path: &str, json: Bytes) -> Result<(StatusCode, Bytes), String> {
    let config = match trust {
        HubTrust::Fingerprint(fingerprint) => tls::client_pinned(fingerprint, &[ALPN_ENROL]),
        HubTrust::Ca(ca) => tls::client_plain(&ca, &[ALPN_ENROL]),
    };
    let config = Arc::new(config.map_err(|e| e.to_string())?);
    let unreachable = |e: std::io::Error| format!("cannot reach the hub at {hub}: {e}");
    let tcp = TcpStream::connect(hub).await.map_err(unreachable)?;
    params::tune_tcp(&tcp).map_err(unreachable)?;
    let name = ServerName::try_from(HUB_NAME).map_err(|e| e.to_string())?;
    let tls = TlsConnector::from(config).connect(name, tcp).await;
    let tls = tls.map_err(|e| format!("{hub} is not the hub this device was told to trust: {e}"))?;
    let broken = |e: hyper::Error| format!("the hub at {hub} broke off: {e}");
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(tls))
        .await
        .map_err(broken)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, HUB_NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(json))
        .map_err(|e| e.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        Ok((
            status,
            body.map_err(|e| format!("the hub's answer cannot be read: {e}"))?
                .to_bytes(),
        ))
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => { ended.map_err(broken)?; exchange.await }
    }
}

/// Serves one enrolment connection.
pub(super) async fn serve<T>(io: T, addr: SocketAddr, served: Arc<Served>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, LARGEST).collect()).await;
        let response = match body {
            Ok(Ok(body)) => (served.enrol)(Request::from_parts(head, body.to_bytes()), addr).await,
            Ok(Err(_)) => status(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => status(StatusCode::REQUEST_TIMEOUT),
        };
        Ok::<_, Infallible>(response.map(Full::new))
    });
    let mut builder = server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(BODY_TIMEOUT)
        .max_buf_size(LARGEST)
        .keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(io), service);
    if let Err(error) = connection.await {
        tracing::debug!(%addr, %error, "an enrolment connection broke");
    }
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

const LARGEST: usize = 64 * 1024;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
