//! Ways out through real proxies: HTTP CONNECT, the same in TLS, SOCKS5, each with and without a login.

use std::{fs, time::Duration};

use relay_tests::{
    client::Client,
    proxy::{Kind, Login, Place, Proxy, TlsFront},
    within::within,
    world::World,
};

use crate::{ask, setup};

const LOGIN: Login<'static> = Some(("me", "canary-pass"));

async fn fresh_client(world: &World) -> Client {
    let key = world.hub.add_key(&world.tenant).await;
    Client::new(&format!("http://{}/v1", world.hub.http()), &key)
}

/// Gives the account its one way out.
async fn way(world: &World, url: &str, password: Option<&str>) {
    let file = world.scratch().join("proxy-password");
    let file = file.display().to_string();
    let mut arguments = vec!["way", "add", "proxied", "--account", "main", "--proxy", url];
    if let Some(word) = password {
        fs::write(&file, word).unwrap();
        arguments.extend(["--password-file", &file]);
    }
    world.hub.command(&arguments).await.succeeded();
}

async fn refused(world: &World) -> Vec<Duration> {
    let client = fresh_client(world).await;
    let mut took = Vec::new();
    for n in 0..5 {
        let answer = client.post("/responses", ask(n % 2 == 0)).await.unwrap();
        took.push(answer.head_after);
        let answer = answer.rest().await;
        let told = (answer.status.as_u16(), answer.error_code());
        assert_eq!(told, (503, "egress_unavailable".to_owned()), "{}", answer.text());
    }
    took.sort();
    took
}

/// Calls go by the proxy and leave by its address; a wrong login, and then its death, mean that none leaves at all.
async fn carries(world: &World, kind: Kind, is_tls: bool, login: Login<'_>, leaves_by: &str) {
    let Some(path) = kind.find() else { return };
    let place = Place::here(world.scratch(), leaves_by);
    let mut proxy = Proxy::start(kind, &path, place, login).await;
    let tls = world.hub.home.join("tls");
    let front = if is_tls {
        Some(TlsFront::start(&tls.join("server.crt"), &tls.join("server.key"), proxy.addr()).await)
    } else {
        None
    };
    let scheme = match (kind, is_tls) {
        (Kind::Microsocks, _) => "socks5",
        (Kind::Tinyproxy | Kind::Squid, false) => "http",
        (Kind::Tinyproxy | Kind::Squid, true) => "https",
    };
    let at = front.as_ref().map_or(proxy.addr(), TlsFront::addr);
    let user = login.map_or_else(String::new, |(user, _)| format!("{user}@"));
    let url = format!("{scheme}://{user}{at}");
    let what = format!("{kind:?}, TLS {is_tls}, login {}", login.is_some());

    if login.is_some() {
        let accepted = world.vendor.accepted();
        way(world, &url, Some("wrong")).await;
        refused(world).await;
        world.hub.command(&["way", "remove", "proxied"]).await.succeeded();
        assert_eq!(world.vendor.accepted(), accepted, "{what}");
    }

    way(world, &url, login.map(|(_, word)| word)).await;
    let client = fresh_client(world).await;
    for stream in [false, true] {
        let answer = client.post("/responses", ask(stream)).await.unwrap().rest().await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    }
    let rows = world.books().rows().await;
    assert_eq!(rows.last().unwrap().left_by.1, "proxied", "{what}");
    assert!(world.vendor.peers().contains(&leaves_by.parse().unwrap()), "{what}");

    proxy.kill().await;
    let (accepted, peers) = (world.vendor.accepted(), world.vendor.peers());
    let took = refused(world).await;
    assert!(took[2] < within(Duration::from_millis(100)), "{what}: {took:?}");
    assert_eq!(
        (world.vendor.accepted(), world.vendor.peers()),
        (accepted, peers),
        "{what}"
    );
    world.hub.command(&["way", "remove", "proxied"]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn real_proxies_carry_calls_and_dead_ones_let_nothing_leave() {
    let mut world = setup().start().await;
    // A proxy in TLS shows the hub's own certificate, whose authority is trusted towards vendors and proxies alike.
    let extra = world.hub.home.join("tls/ca.crt").display().to_string();
    world
        .hub
        .configure(world.chaos.addr(), &format!("[egress]\nextra_ca = \"{extra}\"\n"));
    world.hub.program().terminate().await;
    world.hub.serve().await;
    let mut last = 50;
    for (kind, is_tls) in [
        (Kind::Tinyproxy, false),
        (Kind::Tinyproxy, true),
        (Kind::Microsocks, false),
    ] {
        for login in [None, LOGIN] {
            last += 1;
            carries(&world, kind, is_tls, login, &format!("127.0.0.{last}")).await;
        }
    }
    let log = fs::read_to_string(world.hub.log_file()).unwrap();
    assert!(!log.contains("canary-pass"), "a password is in the log");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}
