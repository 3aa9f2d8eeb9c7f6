//! Each account leaves by its own addresses: seen by the vendor, written on every row, and by no other when they fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::{
    client::{Client, Whole},
    vendor::Script,
    world::World,
};

use crate::{ask, setup, shown};

async fn second_account(world: &World) {
    let base_url = world.vendor.base_url();
    let secret = world.scratch().join("vendor-secret").display().to_string();
    let arguments = [
        "account",
        "add",
        "second",
        "--vendor",
        "openai",
        "--base-url",
        &base_url,
    ];
    let more = ["--secret-file", &secret];
    world.hub.command(&[&arguments[..], &more].concat()).await.succeeded();
}

async fn way(world: &World, name: &str, account: &str, source: &str, more: &[&str]) {
    let arguments = ["way", "add", name, "--account", account, "--source", source];
    world.hub.command(&[&arguments[..], more].concat()).await.succeeded();
}

/// A client with a key that the hub has not seen: it looks for it, and sees all that was changed before.
async fn fresh_client(world: &World) -> Client {
    let key = world.hub.add_key(&world.tenant).await;
    Client::new(&format!("http://{}/v1", world.hub.http()), &key)
}

async fn from_region(client: &Client, region: &str) -> Whole {
    let request = client
        .request(Method::POST, "/responses")
        .header("content-type", "application/json");
    let request = request
        .header("x-relay-region", region)
        .body(Full::new(Bytes::from(ask(false))))
        .unwrap();
    client.send(request).await.unwrap().rest().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_leaves_by_its_own_address() {
    let world = setup().start().await;
    second_account(&world).await;
    way(&world, "one", "main", "127.0.0.31", &[]).await;
    way(&world, "two", "second", "127.0.0.32", &[]).await;
    let before = world.vendor.peers();

    // Tenants are spread over both accounts.
    let mut calls = 0;
    let mut seen = BTreeMap::<String, BTreeSet<(String, String)>>::new();
    while seen.len() < 2 {
        assert!(calls < 64, "all tenants have one account");
        let tenant = world.hub.add_tenant(&format!("tenant-{calls}"), "10").await;
        let key = world.hub.add_key(&tenant).await;
        let client = Client::new(&format!("http://{}/v1", world.hub.http()), &key);
        for stream in [false, true] {
            let answer = client.post("/responses", ask(stream)).await.unwrap().rest().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            calls += 1;
        }
        for row in world.books().settled(calls).await {
            let (account, way, address) = row.left_by;
            seen.entry(account).or_default().insert((way, address));
        }
    }
    let ways: BTreeSet<_> = seen.into_values().collect();
    let pair = |way: &str, address: &str| BTreeSet::from([(way.to_owned(), address.to_owned())]);
    assert_eq!(
        ways,
        BTreeSet::from([pair("one", "127.0.0.31"), pair("two", "127.0.0.32")])
    );
    let shown = async {
        while let Some(way) = world
            .hub
            .json(&["way", "list"])
            .await
            .as_array()
            .unwrap()
            .iter()
            .find(|way| {
                let health = &way["health"];
                health["state"] != "up" || health["connect_us"].as_u64().is_none()
            })
        {
            assert_ne!(way["health"]["state"], "down", "{way}");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), shown).await.unwrap();
    let peers: Vec<_> = world
        .vendor
        .peers()
        .difference(&before)
        .map(ToString::to_string)
        .collect();
    assert_eq!(peers, ["127.0.0.31", "127.0.0.32"]);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_way_out_is_gone_is_refused_and_leaves_by_no_other() {
    let world = setup().start().await;
    // Of a network for documentation, so no machine has it.
    way(&world, "gone", "main", "192.0.2.1", &[]).await;
    let client = fresh_client(&world).await;
    for stream in [false, true] {
        let answer = client.post("/responses", ask(stream)).await.unwrap().rest().await;
        assert_eq!(
            (answer.status.as_u16(), answer.error_code().as_str()),
            (503, "egress_unavailable")
        );
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    }
    assert_eq!(world.vendor.accepted(), 0);
    let rows = world.books().settled(2).await;
    assert!(
        rows.iter()
            .all(|row| row.charged == 0 && row.left_by.1 == "gone" && row.left_by.2.is_empty())
    );

    let shown = async {
        loop {
            let listed = world.hub.json(&["way", "list"]).await;
            if listed[0]["health"]["state"] == "down" {
                break listed[0]["health"]["failure"].as_str().unwrap().to_owned();
            }
        }
    };
    let failure = tokio::time::timeout(Duration::from_secs(30), shown).await.unwrap();
    assert!(failure.contains("the way out cannot be used: "), "{failure}");
    let told = world.hub.command(&["way", "test", "gone"]).await.failed();
    assert!(told.stderr.contains("this way is at fault"), "{}", told.stderr);
    world.hub.command(&["way", "remove", "gone"]).await.succeeded();
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_the_client_s_choice_then_the_tenant_s() {
    let world = setup().start().await;
    way(
        &world,
        "frankfurt",
        "main",
        "127.0.0.33",
        &["--region", "eu", "--priority", "1"],
    )
    .await;
    way(&world, "ohio", "main", "127.0.0.34", &["--region", "us"]).await;
    world
        .hub
        .command(&["tenant", "set", &world.tenant, "--region", "us"])
        .await
        .succeeded();
    let client = fresh_client(&world).await;
    assert_eq!(from_region(&client, "EU").await.status, 200);
    assert_eq!(
        client.post("/responses", ask(false)).await.unwrap().rest().await.status,
        200
    );
    let through_agent = world.through_agent();
    assert_eq!(from_region(&through_agent, "eu").await.status, 200);
    for (region, code) in [("jp", 400), ("not a region", 400)] {
        assert_eq!(from_region(&client, region).await.status, code, "{region}");
    }
    let rows = world.books().settled(5).await;
    let ways: Vec<_> = rows
        .iter()
        .filter(|row| row.status == 200)
        .map(|row| row.left_by.1.as_str())
        .collect();
    assert_eq!(ways, ["frankfurt", "ohio", "frankfurt"]);
    world.assert_sound().await;
}

/// A call whose account fails finds the one other that can be asked, and is told of its own where there is none.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_without_a_way_in_the_region_do_not_end_the_search_for_another() {
    let world = setup().start().await;
    way(&world, "one", "main", "127.0.0.41", &["--region", "eu"]).await;
    let client = fresh_client(&world).await;
    assert_eq!(from_region(&client, "eu").await.status, 200, "it is the tenant's home");
    let (base_url, secret) = (world.vendor.base_url(), world.scratch().join("vendor-secret"));
    let secret = secret.display().to_string();
    for at in 2..8 {
        let name = format!("account-{at}");
        let add = ["account", "add", &name, "--vendor", "openai", "--base-url", &base_url];
        world
            .hub
            .command(&[&add[..], &["--secret-file", &secret]].concat())
            .await
            .succeeded();
        let region = if at == 7 { "eu" } else { "us" };
        way(
            &world,
            &format!("way-{at}"),
            &name,
            &format!("127.0.0.4{at}"),
            &["--region", region],
        )
        .await;
    }
    let client = fresh_client(&world).await;
    world.vendor.next(Script::error(500, "server_error", None, "no"));
    let answer = from_region(&client, "eu").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = shown(&world, answer.headers["relay-call-id"].to_str().unwrap()).await;
    assert_eq!(
        (&told[0]["egress"], &told[0]["local_address"]),
        (&"way-7".into(), &"127.0.0.47".into()),
        "{told}"
    );
    assert_eq!(told[0]["attempts"].as_array().unwrap().len(), 2, "{told}");

    world.hub.command(&["account", "remove", "account-7"]).await.succeeded();
    world.hub.command(&["account", "revive", "main"]).await.succeeded();
    let client = fresh_client(&world).await;
    world.vendor.next(Script::error(500, "server_error", None, "no"));
    let answer = from_region(&client, "eu").await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    let rows = world.books().settled(3).await;
    let refused: Vec<_> = rows.iter().filter(|row| row.status == 500).collect();
    assert!(matches!(refused[..], [row] if row.left_by.1 == "one"), "{refused:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_has_one_owner_and_commands_say_what_is_wrong() {
    let world = setup().start().await;
    second_account(&world).await;
    way(&world, "one", "main", "127.0.0.35", &["--region", "EU"]).await;
    let listed = world.hub.json(&["way", "list", "--account", "main"]).await;
    assert_eq!(listed[0]["through"], "source 127.0.0.35");
    assert_eq!(listed[0]["region"], "eu");
    let tested = world.hub.json(&["way", "test", "one"]).await;
    assert_eq!(tested["local_address"], "127.0.0.35");

    for (arguments, told) in [
        (
            &["two", "--account", "second", "--source", "::ffff:127.0.0.35"][..],
            "belongs to one account only",
        ),
        (
            &["one", "--account", "second", "--source", "127.0.0.36"],
            "already a way out named `one`",
        ),
        (
            &["two", "--account", "nobody", "--source", "127.0.0.36"],
            "there is no account `nobody`",
        ),
        (
            &["two", "--account", "main", "--source", "0.0.0.0"],
            "not an address that a machine can leave by",
        ),
        (
            &["two", "--account", "main", "--proxy", "socks5://me@proxy.example"],
            "has no password",
        ),
        (
            &["two", "--account", "main", "--proxy", "http://me:canary@proxy.example"],
            "holds a password",
        ),
        (
            &["two", "--account", "main", "--proxy", "gopher://proxy.example"],
            "scheme",
        ),
        (
            &["two", "--account", "main", "--source", "127.0.0.36", "--region", "a b"],
            "is no region",
        ),
        (
            &["direct", "--account", "main", "--source", "127.0.0.36"],
            "cannot be a way's name",
        ),
    ] {
        let ended = world.hub.command(&[&["way", "add"], arguments].concat()).await.failed();
        assert!(ended.stderr.contains(told), "{arguments:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("hint: ") || told.contains("name"),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
    world.assert_sound().await;
}
