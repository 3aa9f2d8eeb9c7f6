//! Which account serves: shared, pinned, gone; seen in the books and at the vendor.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::{
    client::{Client, Whole},
    vendor::{Script, Usage},
    world::World,
};
use serde_json::json;

use crate::{MODEL, ask, setup};

async fn account(world: &World, name: &str) {
    let base_url = world.vendor.base_url();
    let secret = world.scratch().join("vendor-secret").display().to_string();
    let words = ["account", "add", name, "--vendor", "openai", "--base-url", &base_url];
    let words = [&words[..], &["--secret-file", &secret]].concat();
    world.hub.command(&words).await.succeeded();
}

/// A client with a key that the hub has not seen: it looks for it, and sees all that was changed before.
async fn fresh_client(world: &World, tenant: &str) -> Client {
    let key = world.hub.add_key(tenant).await;
    Client::new(&format!("http://{}/v1", world.hub.http()), &key)
}

async fn call(client: &Client, headers: &[(&str, &str)], body: String) -> Whole {
    let mut request = client.request(Method::POST, "/responses");
    for (name, value) in headers.iter().chain(&[("content-type", "application/json")]) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    client.send(request).await.unwrap().rest().await
}

async fn three_accounts() -> World {
    let world = setup().start().await;
    for name in ["second", "third"] {
        account(&world, name).await;
    }
    world
}

/// The name of the account that has this id.
async fn named(world: &World, id: &str) -> String {
    let accounts = world.hub.json(&["account", "list"]).await;
    let mut accounts = accounts.as_array().unwrap().iter();
    let account = accounts.find(|account| account["id"] == id).unwrap();
    account["name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_keeps_to_one_account_over_restarts_and_ends_as_documented_when_that_is_gone() {
    let mut world = three_accounts().await;
    world
        .vendor
        .otherwise(Script::message("x ").header("x-codex-turn-state", "state-of-one-account"));
    let client = fresh_client(&world, &world.tenant).await;
    let turn = |client: Client| async move { call(&client, &[("thread-id", "one")], ask(true)).await };
    for _ in 0..12 {
        let answer = turn(client.clone()).await;
        assert_eq!(answer.headers["x-codex-turn-state"], "state-of-one-account");
    }
    // Every turn after the first was written with its conversation; a hub that starts again knows it.
    assert_eq!(world.hub.program().terminate().await, Some(0));
    account(&world, "fourth").await;
    world.hub.serve().await;
    let client = fresh_client(&world, &world.tenant).await;
    for _ in 0..8 {
        assert_eq!(turn(client.clone()).await.status, 200);
    }
    let rows = world.books().settled(20).await;
    let homes: BTreeSet<_> = rows.iter().map(|row| row.left_by.0.clone()).collect();
    assert_eq!(homes.len(), 1, "twenty turns, one account");
    assert_eq!(rows[19].detail.as_ref().unwrap()["choice"], "pinned");
    // Others are spread.
    for thread in 0..16 {
        let thread = thread.to_string();
        assert_eq!(call(&client, &[("session_id", &thread)], ask(false)).await.status, 200);
    }
    let rows = world.books().settled(36).await;
    assert!(
        rows.iter()
            .map(|row| row.left_by.0.clone())
            .collect::<BTreeSet<_>>()
            .len()
            > 1
    );

    let home = named(&world, homes.first().unwrap()).await;
    world.hub.command(&["account", "remove", &home]).await.succeeded();
    let client = fresh_client(&world, &world.tenant).await;
    let state = [("thread-id", "one"), ("x-codex-turn-state", "state-of-one-account")];
    let answer = call(&client, &state, ask(true)).await;
    let told = (answer.status.as_u16(), answer.error_code());
    assert_eq!(told, (409, "conversation_account_gone".to_owned()));
    assert_eq!(answer.headers["x-should-retry"], "false");
    let allowed = ["tenant", "set", &world.tenant, "--repin", "allow"];
    world.hub.command(&allowed).await.succeeded();
    let client = fresh_client(&world, &world.tenant).await;
    assert_eq!(call(&client, &state, ask(true)).await.status, 200);
    let last = world.vendor.posts().pop().unwrap();
    assert!(
        !last.headers.contains_key("x-codex-turn-state"),
        "never to another account"
    );
    let rows = world.books().settled(38).await;
    let row = rows.last().unwrap();
    assert_eq!(row.detail.as_ref().unwrap()["choice"], "repinned");
    let shown = world.hub.command(&["usage", "show", &row.call]).await.succeeded();
    assert!(
        shown.stdout.contains("is out of use, and the tenant allows another"),
        "{}",
        shown.stdout
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_where_the_answer_is_stored_and_where_none_is_nothing_is_remembered() {
    let world = three_accounts().await;
    let client = fresh_client(&world, &world.tenant).await;
    let said = |more: serde_json::Value| {
        let mut body = json!({"model": MODEL, "input": "hello"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    assert_eq!(call(&client, &[], said(json!({}))).await.status, 200);
    let home = world.books().settled(1).await[0].left_by.0.clone();
    // A conversation that another account has than the one for calls that name nothing.
    let mut rows = 1;
    let thread = loop {
        let thread = rows.to_string();
        assert_eq!(call(&client, &[("thread-id", &thread)], ask(false)).await.status, 200);
        rows += 1;
        if world.books().settled(rows).await[rows - 1].left_by.0 != home {
            break thread;
        }
    };
    for (store, choice) in [(json!(null), "bound"), (json!(true), "bound"), (json!(false), "tenant")] {
        let first = call(&client, &[("thread-id", &thread)], said(json!({"store": store}))).await;
        let id = first.json()["id"].as_str().unwrap().to_owned();
        let next = call(&client, &[], said(json!({"previous_response_id": id}))).await;
        assert_eq!(next.status, 200, "{}", next.text());
        rows += 2;
        let books = world.books().settled(rows).await;
        let [first, next] = &books[rows - 2..] else {
            unreachable!()
        };
        assert_ne!(first.left_by.0, home);
        assert_eq!(next.left_by.0 == home, choice == "tenant", "{store}");
        assert_eq!(next.detail.as_ref().unwrap()["choice"], choice, "{store}");
    }
    world.assert_sound().await;
}

/// The accounts that served the last calls.
async fn served_last(world: &World, of: usize, calls: usize) -> BTreeSet<String> {
    let rows = world.books().settled(of).await;
    rows[of - calls..].iter().map(|row| row.left_by.0.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_stays_with_its_account_when_others_are_added_and_the_hub_starts_again() {
    let mut world = setup().start().await;
    let call_some = async |world: &World| {
        let client = fresh_client(world, &world.tenant).await;
        for at in 0..8 {
            assert_eq!(call(&client, &[], ask(at % 2 == 0)).await.status, 200);
        }
    };
    call_some(&world).await;
    let home = served_last(&world, 8, 8).await;
    for name in ["b", "c", "d", "e", "f", "g", "h"] {
        account(&world, name).await;
    }
    call_some(&world).await;
    assert_eq!(served_last(&world, 16, 8).await, home, "they take nothing of it");
    assert_eq!(world.hub.program().terminate().await, Some(0));
    world.hub.serve().await;
    call_some(&world).await;
    assert_eq!(served_last(&world, 24, 8).await, home, "over restarts too");
    let tenants = world.hub.json(&["tenant", "list"]).await;
    assert_eq!(tenants[0]["home"], json!(["main"]));

    // Without it the tenant goes to another, and stays there when it is back.
    world.hub.command(&["account", "disable", "main"]).await.succeeded();
    call_some(&world).await;
    let other = served_last(&world, 32, 8).await;
    assert!(other.len() == 1 && other != home, "{other:?}");
    world.hub.command(&["account", "enable", "main"]).await.succeeded();
    call_some(&world).await;
    assert_eq!(served_last(&world, 40, 8).await, other);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_serves_the_tenants_that_it_is_shared_with_and_no_other() {
    let world = three_accounts().await;
    let other = world.hub.add_tenant("other", "10").await;
    for (account, tenant) in [("main", "acme"), ("second", "other")] {
        let words = ["account", "share", account, "--exclusive", tenant];
        world.hub.command(&words).await.succeeded();
    }
    let words = ["account", "share", "third", "--with", "acme"];
    let told = world.hub.command(&words).await.succeeded();
    assert!(told.stdout.contains("named: acme"), "{}", told.stdout);
    let mut seen: HashMap<&str, BTreeSet<String>> = HashMap::new();
    let mut calls = 0;
    for (name, tenant) in [("acme", &world.tenant), ("other", &other)] {
        let client = fresh_client(&world, tenant).await;
        for thread in 0..12 {
            let thread = thread.to_string();
            assert_eq!(call(&client, &[("thread-id", &thread)], ask(false)).await.status, 200);
            calls += 1;
            let row = world.books().settled(calls).await.pop().unwrap();
            seen.entry(name)
                .or_default()
                .insert(named(&world, &row.left_by.0).await);
        }
    }
    assert_eq!(seen["acme"], BTreeSet::from(["main".to_owned(), "third".to_owned()]));
    assert_eq!(seen["other"], BTreeSet::from(["second".to_owned()]));

    let nobody = world.hub.add_tenant("nobody", "10").await;
    let client = fresh_client(&world, &nobody).await;
    assert_eq!(call(&client, &[], ask(false)).await.status, 503);
    for (words, told) in [
        (&["account", "share", "main", "--with", "nobody-known"][..], "no tenant"),
        (&["account", "set", "main", "--weight", "101", "--rpm", "0"], "--rpm"),
        (&["account", "set", "absent", "--weight", "2"], "no account"),
    ] {
        let failed = world.hub.command(words).await.failed();
        assert!(failed.stderr.contains(told), "{}", failed.stderr);
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_collapses_flags_the_row() {
    let world = three_accounts().await;
    let client = fresh_client(&world, &world.tenant).await;
    let body = || {
        json!({"model": MODEL, "input": "x", "prompt_cache_key": "the session", "max_output_tokens": 500}).to_string()
    };
    for cached in [0, 8_000, 9_000, 0, 0] {
        let usage = Usage {
            input: 10_000,
            cached,
            output: 10,
            reasoning: 0,
        };
        world.vendor.next(Script::message("x ").usage(usage));
        assert_eq!(call(&client, &[], body()).await.status, 200);
    }
    let rows = world.books().settled(5).await;
    let flags: Vec<_> = rows
        .iter()
        .map(|row| row.detail.as_ref().unwrap()["flags"].clone())
        .collect();
    let lost = |flags: &serde_json::Value| *flags == json!(["cache_lost"]);
    assert_eq!(
        flags.iter().map(lost).collect::<Vec<_>>(),
        [false, false, false, true, false]
    );
    world.assert_sound().await;
}
