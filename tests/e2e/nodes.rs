//! Calls that leave at an egress node: by QUIC, by TCP where UDP is closed, and nowhere else when the node is gone.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use relay_tests::{
    books::Row,
    chaos::Chaos,
    client::{Client, Whole, contains},
    node::Node,
    proxy::TlsFront,
    vendor::{Gate, Script},
    within::within,
    world::{VENDOR_SECRET, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{ask, setup};

const FREE: &str = "127.0.0.1:0";
/// The same at an address that nobody else here listens on or leaves by: its port is still free when a node comes back.
const KEPT: &str = "127.0.0.43:0";
/// What the node leaves by; nobody else does.
const FAR: &str = "127.0.0.41";

/// A world whose account leaves by a node that the hub dials at `chaos`.
async fn behind(chaos: &Chaos) -> (World, Node, Client) {
    let world = setup().start().await;
    let mut node = Node::enrol(&world, "far", chaos.addr()).await;
    let allow = world.vendor.addr().to_string();
    node.serve(FREE.parse().unwrap(), &allow, &["--source", FAR]).await;
    chaos.towards(node.listen());
    let client = leaving_by(&world, &node).await;
    (world, node, client)
}

/// Gives the account the node for its way out; a client with a key that the hub has not seen, so that it looks first.
async fn leaving_by(world: &World, node: &Node) -> Client {
    let arguments = ["way", "add", "by-node", "--account", "main", "--node", node.name];
    world.hub.command(&arguments).await.succeeded();
    let key = world.hub.add_key(&world.tenant).await;
    Client::new(&format!("http://{}/v1", world.hub.http()), &key)
}

async fn call(client: &Client, stream: bool) -> Whole {
    client.post("/responses", ask(stream)).await.unwrap().rest().await
}

fn peers(world: &World) -> BTreeSet<String> {
    world.vendor.peers().iter().map(ToString::to_string).collect()
}

/// The log of a hub says how its nodes were reached.
fn transports(world: &World) -> Vec<String> {
    let log = std::fs::read_to_string(world.hub.log_file()).unwrap();
    let lines = log.lines().filter(|line| line.contains("connected to an egress node"));
    let named = lines.filter_map(|line| Some(line.split_once("transport=")?.1.to_owned()));
    named
        .map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_leave_at_the_node_by_one_tunnel_over_quic_or_where_udp_is_closed_over_tcp() {
    for (is_closed, transport) in [(false, "quic"), (true, "h2")] {
        let chaos = Chaos::start().await;
        chaos.drop_udp(is_closed);
        let (world, _node, client) = behind(&chaos).await;
        assert_eq!(call(&client, false).await.status, 200);
        // Larger than what may be on its way at once, in one direction.
        let long = ask(false).replace("Say", &"so ".repeat(1_000_000));
        assert_eq!(client.post("/responses", long).await.unwrap().rest().await.status, 200);
        let many = (0..20).map(|n| call(&client, n % 2 == 0));
        for answer in futures_util::future::join_all(many).await {
            assert_eq!((answer.status.as_u16(), &answer.cut), (200, &None), "{}", answer.text());
        }
        assert_eq!(peers(&world), BTreeSet::from([FAR.to_owned()]));
        let rows = world.books().settled(22).await;
        let left_by = |row: &Row| (row.left_by.1.clone(), row.left_by.2.clone());
        let there = ("by-node".to_owned(), FAR.to_owned());
        assert!(rows.iter().all(|row| left_by(row) == there), "{rows:#?}");
        assert_eq!(transports(&world), [transport]);
        let tested = world.hub.json(&["way", "test", "by-node"]).await;
        assert_eq!(tested["local_address"], FAR);
        world.assert_billed_truly().await;
        world.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_means_egress_unavailable_at_once_and_no_packet_by_another_way() {
    for closed_udp in [false, true] {
        let world = setup().start().await;
        let chaos = Chaos::start().await;
        let mut node = Node::enrol(&world, "far", chaos.addr()).await;
        let allow = world.vendor.addr().to_string();
        node.serve(KEPT.parse().unwrap(), &allow, &["--source", FAR]).await;
        let at = node.listen();
        if closed_udp {
            chaos.drop_udp(true);
            chaos.towards(at);
        } else {
            // The token is of no use; the node is dialled at its own address from here on.
            drop(node.token(&world, at).await);
        }
        let client = leaving_by(&world, &node).await;
        for stream in [false, true] {
            assert_eq!(call(&client, stream).await.status, 200);
        }
        assert_eq!(transports(&world), [if closed_udp { "h2" } else { "quic" }]);

        node.program().kill().await;
        let accepted = world.vendor.accepted();
        let mut took = Vec::new();
        for n in 0..9 {
            let answer = client.post("/responses", ask(n % 2 == 0)).await.unwrap();
            took.push(answer.head_after);
            let answer = answer.rest().await;
            let told = (answer.status.as_u16(), answer.error_code());
            assert_eq!(
                told,
                (503, "egress_unavailable".to_owned()),
                "call {n}: {}",
                answer.text()
            );
            assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        }
        took.sort();
        assert!(took[4] < within(Duration::from_millis(100)), "{took:?}");
        // The one that finds it out too: its machine says at once that nobody is there. Of UDP it hears nothing.
        let found_out = Duration::from_millis(if closed_udp { 3500 } else { 1500 });
        assert!(took[8] < found_out, "{took:?}");
        assert_eq!(world.vendor.accepted(), accepted);
        assert_eq!(peers(&world), BTreeSet::from([FAR.to_owned()]));

        // It is looked at again, and taken as soon as it is back.
        node.serve(at, &allow, &["--source", FAR]).await;
        let back = async { while call(&client, false).await.status != 200 {} };
        tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
        let rows = world.books().settled(12).await;
        assert!(
            rows.iter().all(|row| row.status == 200 || row.charged == 0),
            "{rows:#?}"
        );
        world.assert_billed_truly().await;
        world.assert_sound().await;
    }
}

/// Passes on what comes, and keeps all bytes of both directions.
async fn record(listener: TcpListener, to: SocketAddr, kept: Arc<Mutex<Vec<u8>>>) {
    let mut passing = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(to).await.unwrap();
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        for (mut from, mut to) in [(from_client, to_server), (from_server, to_client)] {
            let kept = kept.clone();
            passing.spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(read @ 1..) = from.read(&mut buffer).await {
                    kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                    if to.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_s_tls_is_between_hub_and_vendor_and_the_node_sees_none_of_it() {
    let mut world = setup().start().await;
    let tls = world.hub.home.join("tls");
    let extra = tls.join("ca.crt").display().to_string();
    let more = format!("[egress]\nextra_ca = \"{extra}\"\n");
    world.hub.configure(world.chaos.addr(), &more);
    world.hub.program().terminate().await;
    world.hub.serve().await;
    world.chaos.towards(world.hub.tunnel());
    let front = TlsFront::start(&tls.join("server.crt"), &tls.join("server.key"), world.vendor.addr()).await;
    let listener = TcpListener::bind(FREE).await.unwrap();
    let (at, kept) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let mut recording = JoinSet::new();
    recording.spawn(record(listener, front.addr(), kept.clone()));

    // What the vendor is reached by shows all that the node carries.
    world.hub.command(&["account", "remove", "main"]).await.succeeded();
    let plain = world.vendor.addr().to_string();
    let base_url = world
        .vendor
        .base_url()
        .replace("http://", "https://")
        .replace(&plain, &at.to_string());
    let secret = world.scratch().join("vendor-secret").display().to_string();
    let add = [
        "account",
        "add",
        "main",
        "--vendor",
        "openai",
        "--base-url",
        &base_url,
        "--secret-file",
        &secret,
    ];
    world.hub.command(&add).await.succeeded();
    let chaos = Chaos::start().await;
    let mut node = Node::enrol(&world, "far", chaos.addr()).await;
    node.serve(FREE.parse().unwrap(), &at.to_string(), &[]).await;
    chaos.towards(node.listen());
    let client = leaving_by(&world, &node).await;
    for stream in [false, true] {
        let answer = call(&client, stream).await;
        assert_eq!((answer.status.as_u16(), &answer.cut), (200, &None), "{}", answer.text());
    }
    let kept = kept.lock().unwrap().clone();
    assert!(kept.len() > 2_000, "only {} bytes were carried", kept.len());
    for words in [
        VENDOR_SECRET,
        "Say something",
        "/v1/responses",
        "response.completed",
        "authorization",
    ] {
        assert!(!contains(&kept, words.as_bytes()), "`{words}` can be read on the way");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leads_nowhere_but_to_the_vendors_on_its_list() {
    let world = setup().start().await;
    let chaos = Chaos::start().await;
    let mut node = Node::enrol(&world, "far", chaos.addr()).await;
    node.serve(
        FREE.parse().unwrap(),
        "api.openai.com",
        &["--allow", "*.openai.azure.com:443"],
    )
    .await;
    chaos.towards(node.listen());
    let client = leaving_by(&world, &node).await;
    let answer = call(&client, false).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error_code().as_str()),
        (503, "egress_unavailable")
    );
    assert_eq!(world.vendor.accepted(), 0);
    let told = world.hub.command(&["way", "test", "by-node"]).await.failed();
    assert!(told.stderr.contains("is not on the node's list"), "{}", told.stderr);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_by_a_revoked_node_and_it_gets_no_certificate() {
    let chaos = Chaos::start().await;
    let (world, node, client) = behind(&chaos).await;
    assert_eq!(call(&client, false).await.status, 200);
    let (gate, before) = (Gate::new(1), world.vendor.posts().len());
    world.vendor.next(Script {
        gate: Some(gate.clone()),
        ..Script::message("Something.")
    });
    let mut running = client.post("/responses", ask(true)).await.unwrap();
    world
        .vendor
        .until("the call arrives", Duration::from_secs(30), |vendor| {
            vendor.posts().len() > before
        })
        .await;

    world.hub.command(&["node", "revoke", "far"]).await.succeeded();
    let accepted = world.vendor.accepted();
    // What it carries ends.
    while let Ok(Some(_)) = running.next().await {}
    let refused = async {
        loop {
            let answer = call(&client, false).await;
            if answer.status == 503 {
                break answer.error_code();
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
    assert_eq!(refused, "egress_unavailable");
    assert!(world.vendor.accepted() <= accepted + 1);
    assert_eq!(world.hub.json(&["node", "list"]).await[0]["name"], "far");
    let told = world
        .hub
        .command(&["node", "token", "far", "--address", "127.0.0.1:1"])
        .await
        .failed();
    assert!(told.stderr.contains("was revoked"), "{}", told.stderr);
    let told = node.command(&["node", "enrol", "crt1_nonsense"]).await.failed();
    assert!(told.stderr.contains("token is damaged"), "{}", told.stderr);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_end_lets_running_calls_finish_and_takes_no_other() {
    let chaos = Chaos::start().await;
    let (world, mut node, client) = behind(&chaos).await;
    let (gate, before) = (Gate::new(1), world.vendor.posts().len());
    world.vendor.next(Script {
        gate: Some(gate.clone()),
        ..Script::message("Something.")
    });
    let running = client.post("/responses", ask(true)).await.unwrap();
    world
        .vendor
        .until("the call arrives", Duration::from_secs(30), |vendor| {
            vendor.posts().len() > before
        })
        .await;
    node.program().ask_to_end().await;
    let refused = async { while call(&client, false).await.status != 503 {} };
    tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
    gate.release(1_000);
    let finished = running.rest().await;
    assert_eq!(
        (finished.status.as_u16(), &finished.cut),
        (200, &None),
        "{}",
        finished.text()
    );
    assert!(finished.text().contains("response.completed"), "{}", finished.text());
    assert!(
        node.program().ends_within(Duration::from_secs(20)).await,
        "it waited for what was idle"
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_one_owner_and_commands_say_what_is_wrong() {
    let world = setup().start().await;
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let node = Node::enrol(&world, "far", address).await;
    leaving_by(&world, &node).await;
    let listed = world.hub.json(&["way", "list"]).await;
    assert_eq!(listed[0]["node_address"], "127.0.0.1:9");
    for (arguments, told) in [
        (
            &["way", "add", "two", "--account", "main", "--node", "far"][..],
            "belongs to one account only",
        ),
        (
            &["way", "add", "two", "--account", "main", "--node", "near"],
            "there is no egress node `near`",
        ),
        (
            &["node", "token", "near", "--address", "nowhere"],
            "is no host with a port",
        ),
        (&["node", "revoke", "near"], "there is no egress node `near`"),
    ] {
        let ended = world.hub.command(arguments).await.failed();
        assert!(
            ended.stderr.contains(told) && ended.stderr.contains("hint: "),
            "{}",
            ended.stderr
        );
    }
    let bad = [
        "egress",
        "--allow",
        "*.com",
        "--allow",
        "a.*.example",
        "--allow",
        "https://x",
    ];
    let told = node.command(&bad).await;
    assert_eq!(told.exit_code, Some(2), "{told:#?}");
    assert!(told.stderr.contains("there are 3 problems"), "{}", told.stderr);
    // A device's token enrols no node, nor a node's token a device.
    let token = world.hub.device_token(&world.tenant).await;
    let told = node.command(&["node", "enrol", &token]).await.failed();
    assert!(told.stderr.contains("does not know this token"), "{}", told.stderr);
    let token = node.token(&world, address).await;
    let told = world.agent.command(&["enroll", &token, "--force"]).await.failed();
    assert!(told.stderr.contains("does not know this token"), "{}", told.stderr);
    world.assert_sound().await;
}
