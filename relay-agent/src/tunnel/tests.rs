//! The link against a hub's port behind a proxy that can swallow UDP. Real sockets, real certificates.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use relay_shared::{
    call::CallId,
    secret::Secret,
    tasks::Tasks,
    tls::{Clients, DeviceIdentity, HUB_NAME},
    tunnel::{
        CALL_ID, Transport,
        body::{InBody, OutBody, full},
        client::Identity,
        server::{Bound, Peer, Tunnel, TunnelConfig, TunnelLimits},
    },
};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{Link, LinkConfig, LinkDown, LinkMode};

type Ca = CertifiedIssuer<'static, KeyPair>;

struct World {
    ca: Ca,
    tasks: Tasks,
    hub_tasks: Tasks,
}

impl World {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test device CA");
        let ca = Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            ca,
            tasks: Tasks::new(),
            hub_tasks: Tasks::new(),
        }
    }

    fn identity(&self) -> Identity {
        let mut params = CertificateParams::default();
        let uri = DeviceIdentity::uri("ten_1", "dev_1");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.ca).unwrap();
        Identity {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn hub(&self, listen: SocketAddr) -> Tunnel {
        self.hub_within(listen, TunnelLimits::default())
    }

    fn hub_within(&self, listen: SocketAddr, limits: TunnelLimits) -> Tunnel {
        let params = CertificateParams::new(vec![HUB_NAME.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.ca).unwrap();
        let config = TunnelConfig {
            listen,
            ca: self.ca.der().clone(),
            clients: Clients::Devices,
            chain: vec![leaf.der().clone(), self.ca.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            quic_key: Secret::new([9; 32]),
            limits,
        };
        let bound = Bound::open(config).unwrap();
        bound.serve(answer, |_, _| async { Response::new(Bytes::new()) }, &self.hub_tasks)
    }

    fn link(&self, hub: SocketAddr, mode: LinkMode) -> Link {
        self.link_waiting(hub, mode, Duration::from_secs(5))
    }

    fn link_waiting(&self, hub: SocketAddr, mode: LinkMode, wait: Duration) -> Link {
        let ca = self.ca.der().clone();
        let config = LinkConfig {
            hub: hub.to_string(),
            mode,
            ca,
            identity: self.identity(),
            wait,
        };
        Link::start(config, &self.tasks).unwrap()
    }
}

/// Echoes; `/never` takes the request and says nothing, `/idle` begins an answer and says no more.
async fn answer(request: Request<InBody>, _: Peer) -> Response<OutBody> {
    if request.uri().path() == "/never" {
        return std::future::pending().await;
    }
    if request.uri().path() == "/idle" {
        let begun = Ok(http_body::Frame::data(Bytes::from_static(b"begun")));
        let body = futures_util::StreamExt::chain(futures_util::stream::iter([begun]), futures_util::stream::pending());
        return Response::new(http_body_util::StreamBody::new(body).boxed_unsync());
    }
    Response::new(request.into_body().boxed_unsync())
}

fn call(path: &str) -> Request<OutBody> {
    Request::post(path)
        .header(CALL_ID, CallId::random().to_string())
        .body(full("ping"))
        .unwrap()
}

async fn works(link: &Link) {
    let response = link.send(call("/")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ping");
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A port whose TCP and UDP lead to the hub; UDP can be swallowed.
struct Proxy {
    addr: SocketAddr,
    takes_udp: Arc<AtomicBool>,
    datagrams: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(hub: SocketAddr, takes_udp: bool, tasks: &Tasks) -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind(ANY).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let addr = udp.local_addr().unwrap();
        let takes_udp = Arc::new(AtomicBool::new(takes_udp));
        let datagrams = Arc::new(AtomicUsize::new(0));
        let relays = tasks.clone();
        tasks.spawn("tcp proxy", async move {
            while let Ok((mut near, _)) = tcp.accept().await {
                relays.spawn("tcp relay", async move {
                    let mut far = TcpStream::connect(hub).await.unwrap();
                    let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        let udp = UdpProxy {
            near: Arc::new(udp),
            hub,
            takes: Arc::clone(&takes_udp),
            seen: Arc::clone(&datagrams),
        };
        tasks.spawn("udp proxy", udp.run(tasks.clone()));
        Self {
            addr,
            takes_udp,
            datagrams,
        }
    }
}

struct UdpProxy {
    near: Arc<UdpSocket>,
    hub: SocketAddr,
    takes: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
}

impl UdpProxy {
    async fn run(self, tasks: Tasks) {
        let mut fars: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut packet = vec![0; 65536];
        while let Ok((length, from)) = self.near.recv_from(&mut packet).await {
            self.seen.fetch_add(1, Ordering::Relaxed);
            if !self.takes.load(Ordering::Relaxed) {
                continue;
            }
            if let std::collections::hash_map::Entry::Vacant(place) = fars.entry(from) {
                let far = Arc::new(UdpSocket::bind(ANY).await.unwrap());
                far.connect(self.hub).await.unwrap();
                place.insert(Arc::clone(&far));
                tasks.spawn(
                    "udp relay",
                    back(far, Arc::clone(&self.near), from, Arc::clone(&self.takes)),
                );
            }
            // A hub that is gone answers with ICMP, which shows up here as an error.
            let _gone = fars[&from].send(&packet[..length]).await;
        }
    }
}

async fn back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, to: SocketAddr, takes: Arc<AtomicBool>) {
    let mut packet = vec![0; 65536];
    loop {
        if let Ok(length) = far.recv(&mut packet).await
            && takes.load(Ordering::Relaxed)
        {
            near.send_to(&packet[..length], to).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_over_quic_where_it_works() {
    let world = World::new();
    let hub = world.hub(ANY);
    let link = world.link(hub.local_addr(), LinkMode::Auto);
    works(&link).await;
    let status = link.status();
    assert_eq!((status.state.as_str(), status.transport), ("up", Some(Transport::Quic)));
    assert!(
        status.rtt.is_some() && status.last_error.is_none() && status.calls == 0,
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_udp_dropped_before_the_start_the_first_call_takes_less_than_two_seconds() {
    let world = World::new();
    let hub = world.hub(ANY);
    let proxy = Proxy::start(hub.local_addr(), false, &world.tasks).await;
    let started = Instant::now();
    let link = world.link(proxy.addr, LinkMode::Auto);
    works(&link).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(link.status().transport, Some(Transport::H2));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_udp_dropped_in_the_middle_the_next_call_works_within_five_seconds() {
    let world = World::new();
    let hub = world.hub(ANY);
    let proxy = Proxy::start(hub.local_addr(), true, &world.tasks).await;
    let link = world.link(proxy.addr, LinkMode::Auto);
    works(&link).await;
    assert_eq!(link.status().transport, Some(Transport::Quic));
    proxy.takes_udp.store(false, Ordering::Relaxed);
    let dropped = Instant::now();
    works(&link).await;
    assert!(dropped.elapsed() < Duration::from_secs(5), "{:?}", dropped.elapsed());
    assert_eq!(link.status().transport, Some(Transport::H2));
    proxy.takes_udp.store(true, Ordering::Relaxed);
    link.reconnect();
    while link.status().transport != Some(Transport::Quic) {
        works(&link).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_is_kept_strictly() {
    let world = World::new();
    let hub = world.hub(ANY);
    let proxy = Proxy::start(hub.local_addr(), false, &world.tasks).await;
    let quic = world.link(proxy.addr, LinkMode::Quic);
    let down = quic.send(call("/")).await.err().unwrap();
    assert!(!down.is_sent && down.retry_after >= Duration::from_secs(1), "{down:?}");
    let before = proxy.datagrams.swap(0, Ordering::Relaxed);
    assert!(before > 0);
    let other = Proxy::start(hub.local_addr(), true, &world.tasks).await;
    let h2 = world.link(other.addr, LinkMode::H2);
    works(&h2).await;
    assert_eq!(h2.status().transport, Some(Transport::H2));
    assert_eq!(other.datagrams.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_a_hub_that_comes() {
    let world = World::new();
    let addr = world.hub(ANY).local_addr();
    world.hub_tasks.shutdown(Duration::from_secs(5)).await;
    let world = World {
        hub_tasks: Tasks::new(),
        ..world
    };
    let link = world.link(addr, LinkMode::Auto);
    while link.status().last_error.is_none() {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let (sent, _hub) = tokio::join!(link.send(call("/")), async { world.hub(addr) });
    assert!(sent.is_ok(), "{:?}", sent.err());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_hub_costs_three_seconds_and_its_calls_are_not_repeated_at_the_next() {
    for mode in [LinkMode::Quic, LinkMode::H2] {
        let world = World::new();
        let hub = world.hub(ANY);
        let addr = hub.local_addr();
        let link = world.link(addr, mode);
        works(&link).await;
        let begun = hub.clone();
        let killing = async {
            while begun.counts().calls == 0 {
                tokio::task::yield_now().await;
            }
            begun.abort();
            // Its sockets are closed one after the other.
            while std::net::TcpListener::bind(addr).is_err() || std::net::UdpSocket::bind(addr).is_err() {
                tokio::task::yield_now().await;
            }
            (Instant::now(), world.hub(addr))
        };
        let (sent, (killed, _restarted)) = tokio::join!(link.send(call("/never")), killing);
        let down: LinkDown = sent.err().unwrap();
        assert!(down.is_sent, "{mode:?} {down:?}");
        assert!(
            killed.elapsed() < Duration::from_secs(3),
            "{mode:?} {:?}",
            killed.elapsed()
        );
        works(&link).await;
        assert!(
            killed.elapsed() < Duration::from_secs(3),
            "{mode:?} {:?}",
            killed.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_leaves_running_calls_alone() {
    let world = World::new();
    let hub = world.hub(ANY);
    let link = world.link(hub.local_addr(), LinkMode::Auto);
    let (feed, fed) = tokio::sync::oneshot::channel::<()>();
    let body = async move {
        let _fed = fed.await;
        Ok(http_body::Frame::data(Bytes::from_static(b"late")))
    };
    let body = http_body_util::StreamBody::new(futures_util::stream::once(body)).boxed_unsync();
    let running = link.send(Request::post("/").body(body).unwrap()).await.unwrap();
    link.reconnect();
    while hub.counts().quic < 2 {
        tokio::task::yield_now().await;
    }
    works(&link).await;
    feed.send(()).unwrap();
    assert_eq!(running.into_body().collect().await.unwrap().to_bytes(), "late");
    while hub.counts().quic > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_does_not_know_the_device_is_named_as_the_reason() {
    let world = World::new();
    let hub = world.hub(ANY);
    let ca = world.ca.der().clone();
    let identity = World::new().identity();
    let wait = Duration::from_millis(1500);
    let config = LinkConfig {
        hub: hub.local_addr().to_string(),
        mode: LinkMode::Auto,
        ca,
        identity,
        wait,
    };
    let link = Link::start(config, &world.tasks).unwrap();
    let down = link.send(call("/")).await.err().unwrap();
    assert!(down.reason.contains("do not trust each other"), "{down:?}");
    link.replace_identity(world.identity()).unwrap();
    works(&link).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_streams_are_open_at_once_as_the_hub_allows_and_one_more_is_told() {
    for mode in [LinkMode::Quic, LinkMode::H2] {
        let world = World::new();
        let limits = TunnelLimits {
            calls_per_connection: 1_100,
            ..TunnelLimits::default()
        };
        let hub = world.hub_within(ANY, limits);
        let link = world.link_waiting(hub.local_addr(), mode, Duration::from_secs(2));
        works(&link).await;
        let open = |count| futures_util::future::join_all((0..count).map(|_| begun(&link)));
        let mut held = open(1_050).await;
        assert_eq!((hub.counts().calls, link.status().calls), (1_050, 1_050), "{mode:?}");
        works(&link).await;
        held.extend(open(50).await);
        let down: LinkDown = link.send(call("/idle")).await.err().unwrap();
        assert!(down.is_full && !down.is_sent, "{mode:?} {down:?}");
        held.clear();
        works(&link).await;
        assert_eq!(
            hub.counts().quic + hub.counts().h2,
            1,
            "{mode:?}: the connection is still the first"
        );
    }
}

async fn begun(link: &Link) -> InBody {
    let mut body = link.send(call("/idle")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
    body
}
