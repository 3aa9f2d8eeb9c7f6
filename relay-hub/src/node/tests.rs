//! Who may speak with a node, on real sockets.

use std::time::SystemTime;

use http::{Method, Request, Uri};
use rcgen::{CertificateParams, KeyPair};
use relay_shared::{
    enrolment::NodeReply,
    tls,
    tunnel::client::{Connection, DialError, Dialer, Identity},
};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;

use super::*;
use crate::{
    ca,
    config::DataDir,
    files,
    ids::{DeviceId, NodeId, TenantId},
};

/// A hub's authority, and a node of it that serves one vendor.
struct World {
    _dir: tempfile::TempDir,
    authority: ca::Authority,
    node: NodeId,
    running: Running,
    vendor: TcpListener,
    tasks: Tasks,
}

fn new_authority() -> (tempfile::TempDir, ca::Authority) {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::new(dir.path());
    files::make_private_directory(data.ca_key().parent().unwrap()).unwrap();
    let authority = ca::Authority::create(&data).unwrap();
    (dir, authority)
}

fn request(key: &KeyPair) -> ca::Request {
    let request = CertificateParams::default().serialize_request(key).unwrap();
    ca::Request::parse(&request.pem().unwrap()).unwrap()
}

impl World {
    async fn start(idle: Duration) -> Self {
        let (dir, authority) = new_authority();
        let (node, key) = (NodeId::random(), KeyPair::generate().unwrap());
        let issued = authority.sign_node(&request(&key), &node, SystemTime::now()).unwrap();
        let reply = NodeReply {
            node: node.to_string(),
            name: "far".to_owned(),
            certificate: issued.pem,
            ca: authority.pem().to_owned(),
            hub: "127.0.0.1:1".to_owned(),
        };
        let home = NodeHome::in_data(dir.path());
        home.keep(&key, &reply).unwrap();
        let vendor = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let allow = Pattern::parse(&vendor.local_addr().unwrap().to_string()).unwrap();
        let running = start(Settings {
            home,
            listen: "127.0.0.1:0".parse().unwrap(),
            allow: [allow].into_iter().collect(),
            allows_private: false,
            source: None,
            streams: 16,
            idle,
            patience: Duration::from_secs(1),
        });
        Self {
            _dir: dir,
            authority,
            node,
            running: running.unwrap(),
            vendor,
            tasks: Tasks::new(),
        }
    }

    /// Dials the node as whoever has this identity, believing `authority`, and expecting the node of this name.
    async fn dial(
        &self,
        name: &str,
        authority: &ca::Authority,
        identity: &Identity,
    ) -> [Result<Connection, DialError>; 2] {
        let dialer = Dialer::to_node(name, authority.certificate(), identity, &self.tasks).unwrap();
        [
            dialer.quic(self.running.listen).await,
            dialer.h2(self.running.listen).await,
        ]
    }
}

fn is_refused(dialled: [Result<Connection, DialError>; 2]) {
    for dialled in dialled {
        assert!(matches!(dialled, Err(DialError::Trust { .. })), "{dialled:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_its_hub_and_a_hub_takes_its_node_and_nobody_else() {
    let world = World::start(Duration::from_secs(60)).await;
    let (name, now) = (world.node.server_name(), SystemTime::now());
    let hub = world.authority.hub_client(now).unwrap();
    for dialled in world.dial(&name, &world.authority, &hub).await {
        assert!(dialled.unwrap().is_open());
    }
    // Another node of the same hub stands there.
    is_refused(
        world
            .dial(&NodeId::random().server_name(), &world.authority, &hub)
            .await,
    );
    // The hub of another authority, which believes the node in vain.
    let (_dir, other) = new_authority();
    is_refused(
        world
            .dial(&name, &world.authority, &other.hub_client(now).unwrap())
            .await,
    );
    is_refused(world.dial(&name, &other, &hub).await);

    let key = KeyPair::generate().unwrap();
    let shown = |pem: &str| Identity {
        chain: tls::certificates(pem.as_bytes()).unwrap(),
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    };
    let device = world
        .authority
        .sign_device(&request(&key), &TenantId::random(), &DeviceId::random(), now);
    is_refused(world.dial(&name, &world.authority, &shown(&device.unwrap().pem)).await);
    let node = world.authority.sign_node(&request(&key), &world.node, now);
    is_refused(world.dial(&name, &world.authority, &shown(&node.unwrap().pem)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_on_the_list_is_refused_and_what_is_idle_is_closed() {
    let world = World::start(Duration::from_millis(50)).await;
    let hub = world.authority.hub_client(SystemTime::now()).unwrap();
    for connection in world.dial(&world.node.server_name(), &world.authority, &hub).await {
        let connection = connection.unwrap();
        let ask = async |method: Method, to: String| {
            let (up, body) = relay_shared::tunnel::stream::upload();
            let mut request = Request::new(body);
            *request.method_mut() = method;
            *request.uri_mut() = to.parse::<Uri>().unwrap();
            (connection.send(request).await.unwrap(), up)
        };
        let here = world.vendor.local_addr().unwrap();
        let elsewhere = format!("{}:{}", here.ip(), here.port() ^ 1);
        assert_eq!(ask(Method::CONNECT, elsewhere).await.0.status(), 403);
        assert_eq!(ask(Method::GET, "/v1/responses".to_owned()).await.0.status(), 405);
        let (answer, _up) = ask(Method::CONNECT, here.to_string()).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[relay_shared::tunnel::LEFT_BY], "127.0.0.1");
        let (_tcp, _) = world.vendor.accept().await.unwrap();
        use http_body_util::BodyExt as _;
        assert!(
            answer.into_body().collect().await.is_err(),
            "an idle connection ends as one that was cut"
        );
    }
}
