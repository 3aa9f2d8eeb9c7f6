//! A device CA, a hub's port and dialers for the tests: real sockets on 127.0.0.1, real certificates.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use relay_shared::{
    secret::Secret,
    tasks::Tasks,
    tls::{Clients, DeviceIdentity, HUB_NAME},
    tunnel::{
        Transport,
        body::{BodyError, InBody, OutBody},
        client::{Connection, DialError, Dialer, Identity},
        server::{Bound, Peer, Tunnel, TunnelConfig, TunnelLimits},
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) const BOTH: [Transport; 2] = [Transport::Quic, Transport::H2];

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// What may be wrong with a device's certificate.
pub(crate) struct Flaws {
    pub(crate) uris: Vec<String>,
    pub(crate) is_expired: bool,
    pub(crate) usage: ExtendedKeyUsagePurpose,
}

impl Default for Flaws {
    fn default() -> Self {
        Self {
            uris: vec![DeviceIdentity::uri("ten_1", "dev_1")],
            is_expired: false,
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test device CA");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn server(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec![HUB_NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        (
            vec![leaf.der().clone(), self.der()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    pub(crate) fn device(&self, flaws: &Flaws) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = flaws
            .uris
            .iter()
            .map(|uri| SanType::URI(uri.as_str().try_into().unwrap()))
            .collect();
        params.extended_key_usages = vec![flaws.usage.clone()];
        if flaws.is_expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Identity {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

pub(crate) struct World {
    pub(crate) ca: Ca,
    pub(crate) hub: Tunnel,
    pub(crate) dialer: Dialer,
    pub(crate) tasks: Tasks,
    pub(crate) hub_tasks: Tasks,
}

impl World {
    pub(crate) fn new<H, F>(handle: H) -> Self
    where
        H: Fn(Request<InBody>, Peer) -> F + Send + Sync + 'static,
        F: Future<Output = Response<OutBody>> + Send + 'static,
    {
        Self::with_limits(handle, TunnelLimits::default())
    }

    pub(crate) fn with_limits<H, F>(handle: H, limits: TunnelLimits) -> Self
    where
        H: Fn(Request<InBody>, Peer) -> F + Send + Sync + 'static,
        F: Future<Output = Response<OutBody>> + Send + 'static,
    {
        let ca = Ca::new();
        let hub_tasks = Tasks::new();
        let hub = start_hub(&ca, (Ipv4Addr::LOCALHOST, 0).into(), limits, handle, &hub_tasks);
        let tasks = Tasks::new();
        let dialer = Dialer::new(&ca.der(), &ca.device(&Flaws::default()), &tasks).unwrap();
        Self {
            ca,
            hub,
            dialer,
            tasks,
            hub_tasks,
        }
    }

    pub(crate) async fn dial(&self, transport: Transport) -> Connection {
        dial(&self.dialer, transport, self.hub.local_addr()).await.unwrap()
    }

    /// Ends everything; a panic in any task fails the test.
    pub(crate) async fn end(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
        self.hub_tasks.shutdown(Duration::from_secs(5)).await;
        assert_eq!(self.tasks.panics() + self.hub_tasks.panics(), 0);
    }
}

pub(crate) fn start_hub<H, F>(ca: &Ca, listen: SocketAddr, limits: TunnelLimits, handle: H, tasks: &Tasks) -> Tunnel
where
    H: Fn(Request<InBody>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<OutBody>> + Send + 'static,
{
    let open = || {
        let (chain, key) = ca.server();
        let quic_key = Secret::new([9; 32]);
        Bound::open(TunnelConfig {
            listen,
            ca: ca.der(),
            clients: Clients::Devices,
            chain,
            key,
            quic_key,
            limits: limits.clone(),
        })
    };
    // A hub that comes again wants its old port: its first life may be about to close it, and so may another test that
    // was given it meanwhile.
    let since = std::time::Instant::now();
    let bound = loop {
        match open() {
            Err(_) if listen.port() != 0 && since.elapsed() < Duration::from_secs(10) => std::thread::yield_now(),
            bound => break bound.unwrap(),
        }
    };
    bound.serve(
        handle,
        |request: Request<Bytes>, _| async move { Response::new(request.into_body()) },
        tasks,
    )
}

pub(crate) async fn dial(dialer: &Dialer, transport: Transport, addr: SocketAddr) -> Result<Connection, DialError> {
    match transport {
        Transport::Quic => dialer.quic(addr).await,
        Transport::H2 => dialer.h2(addr).await,
    }
}

/// Answers with the request's own body, as it comes.
pub(crate) async fn echo(request: Request<InBody>, _peer: Peer) -> Response<OutBody> {
    Response::new(request.into_body().boxed_unsync())
}

pub(crate) fn post(body: OutBody) -> Request<OutBody> {
    Request::post("/v1/responses").body(body).unwrap()
}

/// The body's bytes, or why it did not come to its end, after how many.
pub(crate) async fn read(mut body: InBody) -> Result<Vec<u8>, (usize, BodyError)> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => all.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => return Err((all.len(), error)),
        }
    }
    Ok(all)
}

/// A body fed by hand.
pub(crate) fn channel() -> (tokio::sync::mpsc::Sender<Result<Bytes, BodyError>>, OutBody) {
    let (feed, mut fed) = tokio::sync::mpsc::channel(16);
    let stream = futures_util::stream::poll_fn(move |cx| fed.poll_recv(cx));
    let frames = futures_util::StreamExt::map(stream, |part: Result<Bytes, BodyError>| {
        part.map(http_body::Frame::data)
    });
    (feed, http_body_util::StreamBody::new(frames).boxed_unsync())
}

/// At most this long for what should take no time.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("this takes no 20 s")
}
