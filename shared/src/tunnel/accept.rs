//! How a connection comes to the hub's port: handshakes, certificates, and who of the two protocols serves it. Knows no
//! requests.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::Endpoint;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    ALPN_ENROL, ALPN_H2, Transport, enrol, h2server, h3server, params,
    registry::Closer,
    server::{ACCESS_DENIED, NO_ERROR, Peer, Served},
};
use crate::tls::{Clients, DeviceIdentity};

pub(super) async fn accept_quic(endpoint: Endpoint, served: Arc<Served>) {
    let token = served.tasks.token();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = token.cancelled() => break,
        };
        let Some(incoming) = incoming else { break };
        let place = Arc::clone(&served.places).try_acquire_owned();
        match place {
            Ok(place) if !served.draining.is_cancelled() => {
                served
                    .tasks
                    .spawn("quic connection", quic_connection(incoming, Arc::clone(&served), place));
            }
            Ok(_) | Err(_) => incoming.refuse(),
        }
    }
    // Agents learn at once that the port is gone, and the last packets get out.
    endpoint.close(NO_ERROR, b"hub is going away");
    let _sent = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
}

async fn quic_connection(incoming: quinn::Incoming, served: Arc<Served>, _place: OwnedSemaphorePermit) {
    let addr = incoming.remote_address();
    let connection = match tokio::time::timeout(served.limits.handshake_timeout, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%addr, %error, "a QUIC handshake failed"),
        Err(_) => return tracing::debug!(%addr, "a QUIC handshake took too long"),
    };
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(identity) = chain.as_deref().and_then(|chain| identity(served.clients, chain)) else {
        return connection.close(ACCESS_DENIED, b"no device");
    };
    let peer = Peer {
        identity,
        addr,
        transport: Transport::Quic,
    };
    let _entry = served.registry.enter(&served, &peer, Closer::Quic(connection.clone()));
    h3server::serve(connection, peer, Arc::clone(&served)).await;
}

pub(super) struct Tls {
    pub(super) mutual: Arc<ServerConfig>,
    /// Enrolment, where there is any.
    pub(super) plain: Option<Arc<ServerConfig>>,
}

pub(super) async fn accept_tcp(listener: TcpListener, tls: Tls, served: Arc<Served>) {
    let tls = Arc::new(tls);
    let token = served.tasks.token();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The listener goes, so that new connections are refused instead of kept waiting.
            () = served.draining.cancelled() => return,
            () = served.aborted.cancelled() => return,
            () = token.cancelled() => return,
        };
        let (stream, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a TCP connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&served.places).try_acquire_owned() {
            let served = Arc::clone(&served);
            let tasks = served.tasks.clone();
            tasks.spawn(
                "tcp connection",
                tcp_connection(stream, addr, Arc::clone(&tls), served, place),
            );
        }
    }
}

async fn tcp_connection(
    stream: TcpStream,
    addr: SocketAddr,
    tls: Arc<Tls>,
    served: Arc<Served>,
    _place: OwnedSemaphorePermit,
) {
    let shaken = tokio::time::timeout(served.limits.handshake_timeout, handshake(stream, &tls)).await;
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%addr, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%addr, "a TLS handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() == Some(ALPN_ENROL) {
        return enrol::serve(stream, addr, served).await;
    }
    let Some(identity) = session
        .peer_certificates()
        .and_then(|chain| identity(served.clients, chain))
    else {
        return;
    };
    let peer = Peer {
        identity,
        addr,
        transport: Transport::H2,
    };
    let closed = served.aborted.child_token();
    let _entry = served.registry.enter(&served, &peer, Closer::H2(closed.clone()));
    let token = served.tasks.token();
    tokio::select! {
        () = h2server::serve(stream, peer, Arc::clone(&served), closed) => {}
        () = token.cancelled() => {}
    }
}

/// What the client says it wants to speak decides whether it needs a certificate.
async fn handshake(stream: TcpStream, tls: &Tls) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    params::tune_tcp(&stream)?;
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let is_enrolment = start
        .client_hello()
        .alpn()
        .is_some_and(|mut names| names.any(|name| name == ALPN_ENROL));
    let plain = tls.plain.as_ref().filter(|_| is_enrolment);
    let config = plain.unwrap_or(&tls.mutual);
    let stream = match start.into_stream(Arc::clone(config)).into_fallible().await {
        Ok(stream) => stream,
        Err((error, refused)) => {
            let_the_alert_be_read(refused).await;
            return Err(error);
        }
    };
    let agreed = stream.get_ref().1.alpn_protocol();
    if agreed == Some(ALPN_H2) || agreed == Some(ALPN_ENROL) {
        Ok(stream)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "no protocol was agreed on"))
    }
}

/// In TLS 1.3 a client sends on before its certificate is judged. With that unread, closing would reset the connection,
/// and the reset would take from the client the alert that says why.
async fn let_the_alert_be_read(mut refused: TcpStream) {
    let read_on = async {
        refused.shutdown().await?;
        tokio::io::copy(&mut refused.take(MOST_REFUSED), &mut tokio::io::sink()).await
    };
    // Who has not closed by then has had the time to read it.
    drop(tokio::time::timeout(REFUSED_FOR, read_on).await);
}

fn identity(clients: Clients, chain: &[CertificateDer<'_>]) -> Option<Arc<DeviceIdentity>> {
    Some(Arc::new(clients.read(chain.first()?).ok()?))
}

/// A refused client has so long to read why, and so much to say meanwhile.
const REFUSED_FOR: Duration = Duration::from_secs(1);
const MOST_REFUSED: u64 = 64 * 1024;
