//! Proxies and an egress node on a machine of their own, and a vendor on a third. A shorter cable leads straight to the
//! vendor, and the hub knows that way: nothing goes over it, not even a question for a name, when what an account leaves by
//! is gone.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use relay_tests::{
    client::Client,
    namespace::{self, End, Machine},
    node::Node,
    program::Program,
    proxy::{Kind, Login, Place, Proxy},
    socket::{Message, Socket},
    within::within,
    world::World,
};
use serde_json::{Value, json};

use crate::{MODEL, ask, setup};

const NAME: &str = "elsewhere::what_leaves_by_another_machine_leaves_by_nothing_else_when_that_dies";
const LOGIN: Login<'static> = Some(("me", "canary-pass"));
/// Of the machine in the middle, as the hub and as the vendor see it.
const MIDDLE: &str = "10.77.0.2";
const LEAVES_BY: &str = "10.78.0.1";
/// Of the vendor, as the machine in the middle and as the hub's own know it.
const VENDOR: &str = "10.78.0.2";
const SHORTCUT: &str = "10.79.0.2";
/// The hub's end of the cable that nothing may go over.
const SHORT: &str = "short0";

/// Three machines: the hub's, which is this one, that of the proxies, and the vendor's.
struct Land {
    middle: Machine,
    far: Machine,
    _vendor: Program,
    /// With the vendor's name, which each machine knows by another address.
    base_url: String,
    truth: PathBuf,
}

fn hosts(scratch: &Path, address: &str) -> PathBuf {
    let file = scratch.join(format!("hosts-{address}"));
    fs::write(&file, format!("127.0.0.1 localhost\n{address} vendor.far\n")).unwrap();
    file
}

const fn end<'a>(machine: Option<&'a Machine>, interface: &'a str, address: &'a str) -> End<'a> {
    End {
        machine,
        interface,
        address,
    }
}

impl Land {
    async fn lay(scratch: &Path) -> Self {
        namespace::name_hosts(&hosts(scratch, SHORTCUT));
        let middle = Machine::boot(&hosts(scratch, VENDOR));
        let far = Machine::boot(&hosts(scratch, "127.0.0.1"));
        let ends = [
            (end(None, "near0", "10.77.0.1/24"), Some(&middle), "near1", MIDDLE),
            (end(None, SHORT, "10.79.0.1/24"), Some(&far), "short1", SHORTCUT),
            (end(Some(&middle), "far0", "10.78.0.1/24"), Some(&far), "far1", VENDOR),
        ];
        for (one, machine, interface, address) in ends {
            let address = format!("{address}/24");
            namespace::lay(one, end(machine, interface, &address));
        }
        let truth = scratch.join("truth.json");
        let mut command = far.command(Path::new(env!("CARGO_BIN_EXE_scripted-vendor")), scratch);
        let (chain, key) = tls(scratch);
        command.args(["--listen", "0.0.0.0:0", "--truth-file"]).arg(&truth);
        command.arg("--tls-chain").arg(chain).arg("--tls-key").arg(key);
        let vendor = Program::start(&mut command, &scratch.join("vendor.log")).await.unwrap();
        let at: SocketAddr = vendor.ready["addr"].as_str().unwrap().parse().unwrap();
        Self {
            middle,
            far,
            _vendor: vendor,
            base_url: format!("https://vendor.far:{}/v1", at.port()),
            truth,
        }
    }

    /// What the vendor knows of, once it has as many calls as this and has ended them all: a call is counted when it comes,
    /// and billed when its answer has gone.
    async fn truth(&self, calls: u64) -> Value {
        let told = async {
            loop {
                let text = fs::read_to_string(&self.truth).unwrap_or_default();
                let truth: Value = serde_json::from_str(&text).unwrap_or_default();
                let has_all = |of: &str| truth["totals"][of].as_u64() >= Some(calls);
                if has_all("calls") && has_all("billed_calls") {
                    return truth;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.unwrap()
    }
}

/// A key that the hub has not seen: it looks for it, and sees all that was changed before.
async fn fresh_client(world: &World) -> (Client, String) {
    let key = world.hub.add_key(&world.tenant).await;
    (Client::new(&format!("http://{}/v1", world.hub.http()), &key), key)
}

/// How many calls [`assert_served`] makes.
const SERVED: u64 = 3;

/// Calls that come to the vendor by the middle, the last one on a socket, which stays open.
async fn assert_served(world: &World, land: &Land, what: &str) -> Socket {
    let ((client, key), before) = (fresh_client(world).await, land.far.received("far1"));
    for stream in [false, true] {
        let answer = client.post("/responses", ask(stream)).await.unwrap().rest().await;
        let told = (answer.status.as_u16(), &answer.cut);
        assert_eq!(told, (200, &None), "{what}: {}", answer.text());
    }
    let mut socket = Socket::responses(world.hub.http(), &key).await.unwrap();
    let create = json!({"type": "response.create", "model": MODEL, "input": "Say something."});
    socket.send(&create.to_string()).await.unwrap();
    let answer = socket.answer().await.unwrap();
    assert!(
        answer.last().unwrap().contains("response.completed"),
        "{what}: {answer:?}"
    );
    assert!(land.far.received("far1") > before, "{what}");
    let row = world.books().rows().await.pop().unwrap();
    assert_eq!(row.left_by.1, "by-middle", "{what}: {row:?}");
    assert_eq!(namespace::sent(SHORT), 0, "{what}");
    socket
}

/// Calls that do not leave, and are refused at once.
async fn assert_refused(world: &World, what: &str) {
    let ((client, key), mut took) = (fresh_client(world).await, Vec::new());
    for n in 0..9 {
        let answer = client.post("/responses", ask(n % 2 == 0)).await.unwrap();
        took.push(answer.head_after);
        let answer = answer.rest().await;
        let told = (answer.status.as_u16(), answer.error_code());
        assert_eq!(
            told,
            (503, "egress_unavailable".to_owned()),
            "{what}: {}",
            answer.text()
        );
        assert!(answer.headers.contains_key("retry-after"), "{what}");
    }
    took.sort();
    assert!(took[4] < within(Duration::from_millis(100)), "{what}: {took:?}");
    let Err(refused) = Socket::responses(world.hub.http(), &key).await else {
        panic!("{what}: a socket came up")
    };
    assert!(refused.to_string().contains("egress_unavailable"), "{what}: {refused}");
    assert_eq!(namespace::sent(SHORT), 0, "{what}");
}

/// The socket that went by what is dead ends, and is not continued elsewhere.
async fn assert_ended(mut socket: Socket, what: &str) {
    let last = socket.next().await.unwrap();
    assert!(matches!(last, Message::Close(_) | Message::Cut), "{what}: {last:?}");
}

async fn way(world: &World, through: [&str; 2], password: Option<&str>) {
    let file = world.scratch().join("proxy-password").display().to_string();
    let mut words = vec!["way", "add", "by-middle", "--account", "far"];
    words.extend(through);
    if let Some(word) = password {
        fs::write(&file, word).unwrap();
        words.extend(["--password-file", &file]);
    }
    world.hub.command(&words).await.succeeded();
}

async fn no_way(world: &World) {
    world.hub.command(&["way", "remove", "by-middle"]).await.succeeded();
}

/// Calls go by the proxy; with a wrong login, and after its death, none does, and none goes elsewhere.
async fn carries(world: &World, land: &Land, (kind, scheme): (Kind, &str), login: Login<'_>) -> Option<()> {
    let path = kind.find()?;
    let (chain, key) = tls(world.scratch());
    let place = Place {
        scratch: world.scratch(),
        machine: Some(&land.middle),
        listens_at: MIDDLE.parse().unwrap(),
        leaves_by: LEAVES_BY,
        tls: (scheme == "https").then_some((&*chain, &*key)),
    };
    let mut proxy = Proxy::start(kind, &path, place, login).await;
    let user = login.map_or_else(String::new, |(user, _)| format!("{user}@"));
    let url = format!("{scheme}://{user}{}", proxy.addr());
    let what = format!("{scheme} by {kind:?}, login {}", login.is_some());
    if login.is_some() {
        let before = land.far.received("far1");
        way(world, ["--proxy", &url], Some("wrong")).await;
        assert_refused(world, &format!("{what}, wrong")).await;
        no_way(world).await;
        assert_eq!(land.far.received("far1"), before, "{what}");
    }
    way(world, ["--proxy", &url], login.map(|(_, word)| word)).await;
    let socket = assert_served(world, land, &what).await;
    proxy.kill().await;
    assert_refused(world, &what).await;
    assert_ended(socket, &what).await;
    no_way(world).await;
    eprintln!("{what}: carried, and nothing left without it");
    Some(())
}

/// Where the chain and the key of the vendor and of the proxies are.
fn tls(scratch: &Path) -> (PathBuf, PathBuf) {
    (scratch.join("far.crt"), scratch.join("far.key"))
}

fn certify(scratch: &Path) {
    let made = rcgen::generate_simple_self_signed(["vendor.far".to_owned(), MIDDLE.to_owned()]).unwrap();
    let (chain, key) = tls(scratch);
    fs::write(chain, made.cert.pem()).unwrap();
    fs::write(key, made.signing_key.serialize_pem()).unwrap();
}

/// First the node dies, then, when it is there again, the machine that it is on no longer answers.
async fn carries_by_node(world: &World, land: &Land, mut node: Node) {
    let (listen, allow) = (node_at(), land.base_url.replace("https://", "").replace("/v1", ""));
    let more = ["--allow-private", "--source", LEAVES_BY];
    for what in ["egress node, killed", "egress node, cut off"] {
        node.serve_on(&land.middle, listen, &allow, &more).await;
        way(world, ["--node", node.name], None).await;
        let socket = assert_served(world, land, what).await;
        let row = world.books().rows().await.pop().unwrap();
        assert_eq!(row.left_by.2, LEAVES_BY, "{row:?}");
        if what.ends_with("killed") {
            node.program().kill().await;
        } else {
            land.middle.ip(&["link", "set", "near1", "down"]);
        }
        assert_refused(world, what).await;
        assert_ended(socket, what).await;
        no_way(world).await;
        eprintln!("{what}: carried, and nothing left without it");
    }
    land.middle.ip(&["link", "set", "near1", "up"]);
}

fn node_at() -> SocketAddr {
    SocketAddr::new(MIDDLE.parse::<IpAddr>().unwrap(), 8_443)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_by_another_machine_leaves_by_nothing_else_when_that_dies() {
    if namespace::runs_elsewhere(NAME).await {
        return;
    }
    let mut world = setup().start().await;
    certify(world.scratch());
    let land = Land::lay(world.scratch()).await;
    let node = Node::enrol(&world, "far", node_at()).await;
    let extra = format!("[egress]\nextra_ca = \"{}\"\n", tls(world.scratch()).0.display());
    world.hub.configure(world.chaos.addr(), &extra);
    world.hub.program().terminate().await;
    world.hub.serve().await;
    world.hub.command(&["account", "remove", "main"]).await.succeeded();
    let secret = world.scratch().join("vendor-secret").display().to_string();
    let add = ["account", "add", "far", "--vendor", "openai", "--allow-private"];
    let more = ["--base-url", &land.base_url, "--secret-file", &secret];
    world.hub.command(&[&add[..], &more].concat()).await.succeeded();

    carries_by_node(&world, &land, node).await;
    let mut carried = 2 * SERVED;
    for of in [
        (Kind::Tinyproxy, "http"),
        (Kind::Squid, "https"),
        (Kind::Microsocks, "socks5"),
    ] {
        for login in [None, LOGIN] {
            if carries(&world, &land, of, login).await.is_some() {
                carried += SERVED;
            }
        }
    }
    // The short way was open all the time: an account without a way of its own takes it.
    let (client, _) = fresh_client(&world).await;
    let answer = client.post("/responses", ask(false)).await.unwrap().rest().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(namespace::sent(SHORT) > 0, "packets are not counted");

    let truth = land.truth(carried + 1).await;
    assert_eq!(truth["totals"]["calls"], carried + 1, "{truth:#}");
    let rows = world.books().settled(usize::try_from(carried).unwrap() + 1).await;
    let charged = rows.iter().filter(|row| row.charged > 0).count();
    assert_eq!(truth["totals"]["billed_calls"], charged, "{rows:#?}");
    let log = fs::read_to_string(world.hub.log_file()).unwrap();
    assert!(!log.contains("canary-pass"), "a password is in the log");
    world.assert_sound().await;
}
