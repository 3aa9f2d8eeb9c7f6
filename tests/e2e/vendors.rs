//! Each vendor gets the authorisation that it asks for, at the address where it asks for it, and bills what the books say.

use std::time::Duration;

use http::{HeaderMap, Method};
use relay_tests::{
    client::Client,
    oauth::TokenEndpoint,
    socket::Socket,
    vendor::{Script, Usage},
    world::{VENDOR_SECRET, World},
};
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{MODEL, ask, ask_chat, setup, shown};

/// Puts an account like this in the place of the world's own, and gives a client that sees it.
async fn instead(world: &World, name: &str, secret: &str, words: &[&str]) -> Client {
    world.hub.command(&["account", "remove", "main"]).await;
    add(world, name, secret, words).await;
    fresh_client(world).await
}

async fn add(world: &World, name: &str, secret: &str, words: &[&str]) {
    let file = world.scratch().join(format!("secret-of-{name}"));
    std::fs::write(&file, secret).unwrap();
    let file = file.display().to_string();
    let add = ["account", "add", name, "--secret-file", &file];
    world.hub.command(&[&add[..], words].concat()).await.succeeded();
}

/// A client with a key that the hub has not seen: it looks for it, and sees all that was changed before.
async fn fresh_client(world: &World) -> Client {
    let key = world.hub.add_key(&world.tenant).await;
    Client::new(&format!("http://{}/v1", world.hub.http()), &key)
}

fn root(world: &World) -> String {
    format!("http://{}", world.vendor.addr())
}

async fn responses(client: &Client, stream: bool) -> u16 {
    let answer = client.post("/responses", ask(stream)).await.unwrap().rest().await;
    answer.status.as_u16()
}

async fn chat(client: &Client, stream: bool) -> u16 {
    let body = ask_chat(json!({"stream": stream, "max_completion_tokens": 50}));
    let answer = client.post("/chat/completions", body).await.unwrap().rest().await;
    answer.status.as_u16()
}

fn is(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get_all(name).iter().collect::<Vec<_>>() == [value]
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_by_key_speaks_both_wires_at_its_v1_address() {
    let world = setup().start().await;
    world.vendor.guard(|_, path, headers, _| {
        path.starts_with("/openai/v1/") && is(headers, "api-key", "azure-key") && !headers.contains_key("authorization")
    });
    let client = instead(
        &world,
        "azure",
        "azure-key",
        &["--vendor", "azure", "--base-url", &root(&world)],
    )
    .await;
    for stream in [false, true] {
        assert_eq!(
            (responses(&client, stream).await, chat(&client, stream).await),
            (200, 200)
        );
    }
    let paths: Vec<_> = world.vendor.posts().into_iter().map(|call| call.path).collect();
    let wanted = ["/openai/v1/responses", "/openai/v1/chat/completions"];
    assert_eq!(paths, [wanted, wanted].concat());
    let tested = world.hub.json(&["account", "test", "azure"]).await;
    assert_eq!(tested["asked"], "GET /openai/v1/models");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_by_entra_calls_deployments_with_tokens_that_end_and_none_is_refused() {
    let world = setup().start().await;
    let entra = TokenEndpoint::start(
        Duration::from_secs(5),
        None,
        &[
            ("client_id", "the-app"),
            ("client_secret", "s3cr&t=+"),
            ("scope", "https://cognitiveservices.azure.com/.default"),
        ],
    )
    .await;
    let verified = entra.verifier();
    world.vendor.guard(move |method, path, headers, _| {
        let wanted = match *method {
            Method::GET => "/openai/models?api-version=2024-10-21".to_owned(),
            _ => format!("/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21"),
        };
        path == wanted && verified(headers)
    });
    let words = [
        "--vendor",
        "azure",
        "--api-version",
        "2024-10-21",
        "--credential",
        "client-credentials",
    ];
    let url = entra.url();
    let more = [
        "--client-id",
        "the-app",
        "--token-url",
        &url,
        "--base-url",
        &root(&world),
    ];
    let client = instead(&world, "azure", "s3cr&t=+", &[&words[..], &more].concat()).await;
    let mut calls = 0;
    // The hub's own tokens, over the end of two.
    while entra.issued() < 3 {
        assert_eq!(chat(&client, calls % 2 == 0).await, 200, "call {calls}");
        calls += 1;
    }
    // Its deployments have chat completions alone: the other wire is translated.
    assert_eq!(responses(&client, false).await, 200);
    assert_eq!(world.hub.json(&["account", "test", "azure"]).await["works"], true);
    assert_eq!(entra.refusals(), 0);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_vendor_refuses_is_replaced_once_for_all_and_the_calls_go_on() {
    let world = setup().start().await;
    let entra = TokenEndpoint::start(Duration::from_secs(3600), None, &[("client_id", "app")]).await;
    let verified = entra.verifier();
    world.vendor.guard(move |_, _, headers, _| verified(headers));
    let (url, base) = (entra.url(), world.vendor.base_url());
    let words = [
        "--vendor",
        "compatible",
        "--credential",
        "client-credentials",
        "--client-id",
        "app",
    ];
    let more = ["--token-url", &url, "--base-url", &base];
    let client = instead(&world, "app", "secret", &[&words[..], &more].concat()).await;
    assert_eq!(responses(&client, true).await, 200);
    assert_eq!(entra.issued(), 1);

    // It would be good for an hour more, but its vendor takes it no longer.
    entra.revoke();
    let calls = (0..8).map(|at| responses(&client, at % 2 == 0));
    assert_eq!(futures_util::future::join_all(calls).await, [200; 8]);
    assert_eq!(entra.issued(), 2, "asked for once, for all calls");
    let told = world.hub.json(&["account", "health"]).await;
    assert_eq!(told[0]["state"], "in use", "{told}");

    // A socket is opened with a fresh one too.
    entra.revoke();
    assert!(Socket::responses(world.hub.http(), &world.key).await.is_ok());
    assert_eq!(entra.issued(), 3);

    // Where no token is good the client hears the vendor's word, once.
    world.vendor.guard(|_, _, _, _| false);
    let before = world.vendor.posts().len();
    let refused = client.post("/responses", ask(false)).await.unwrap().rest().await;
    assert_eq!(refused.status, 401);
    assert_eq!(world.vendor.posts().len() - before, 2);
    let told = shown(&world, refused.headers["relay-call-id"].to_str().unwrap()).await;
    let attempts = told[0]["attempts"].as_array();
    assert_eq!(attempts.map(Vec::len), Some(2), "each attempt is a row: {told}");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

/// Makes an account the tenant's own; a client of that tenant.
async fn give(world: &World, account: &str) -> Client {
    let words = ["account", "share", account, "--exclusive", "acme"];
    world.hub.command(&words).await.succeeded();
    fresh_client(world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_used_once_over_tests_and_restarts() {
    let mut world = setup().start().await;
    let endpoint = TokenEndpoint::start(
        Duration::from_secs(3600),
        Some("refresh-first"),
        &[("client_id", "cli")],
    )
    .await;
    let verified = endpoint.verifier();
    world.vendor.guard(move |_, _, headers, _| verified(headers));
    let words = [
        "--vendor",
        "compatible",
        "--credential",
        "refresh-token",
        "--client-id",
        "cli",
    ];
    let (url, base) = (endpoint.url(), world.vendor.base_url());
    let more = ["--token-url", &url, "--base-url", &base];
    let client = instead(&world, "person", "refresh-first", &[&words[..], &more].concat()).await;
    assert_eq!(responses(&client, true).await, 503, "it is nobody's yet");
    let client = give(&world, "person").await;
    assert_eq!(responses(&client, true).await, 200);
    world.hub.add_tenant("other", "1").await;
    for words in [&["--all"][..], &["--with", "acme"], &["--exclusive", "other"]] {
        let refused = world
            .hub
            .command(&[&["account", "share", "person"], words].concat())
            .await;
        let told = refused.failed().stderr;
        assert!(told.contains("personal"), "{words:?}: {told}");
    }
    assert_eq!(world.hub.json(&["account", "test", "person"]).await["works"], true);
    world.hub.program().terminate().await;
    world.hub.serve().await;
    let client = fresh_client(&world).await;
    assert_eq!(responses(&client, false).await, 200);
    assert_eq!(
        (endpoint.issued(), endpoint.refusals()),
        (3, 0),
        "the hub, a test, the hub again"
    );
    // What is good now is in the store, sealed.
    let dump = world.books().dump().await;
    let current = endpoint.refresh_token().unwrap();
    assert!(!dump.contains(&current) && !dump.contains("access-"), "in clear");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

/// Of four accounts three get no access token: no conversation is theirs, whichever ranks first for it.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_without_an_access_token_leave_their_calls_to_the_others() {
    let world = setup().start().await;
    let refusing = TokenEndpoint::start(Duration::from_secs(60), None, &[("client_id", "somebody else")]).await;
    // Nobody listens there.
    let nowhere = "http://127.0.0.1:9/token".to_owned();
    let base = world.vendor.base_url();
    for (name, url) in [("one", refusing.url()), ("two", refusing.url()), ("three", nowhere)] {
        let words = ["--vendor", "compatible", "--credential", "client-credentials"];
        let more = ["--client-id", "app", "--token-url", &url, "--base-url", &base];
        add(&world, name, "canary", &[&words[..], &more].concat()).await;
    }
    let client = fresh_client(&world).await;
    for at in 0..16 {
        let request = client.request(Method::POST, "/responses");
        let request = request
            .header("content-type", "application/json")
            .header("session-id", format!("session-{at}"))
            .body(http_body_util::Full::new(bytes::Bytes::from(ask(at % 2 == 0))))
            .unwrap();
        let answer = client.send(request).await.unwrap().rest().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_not_accepted_is_told_and_costs_nothing() {
    let world = setup().start().await;
    let endpoint = TokenEndpoint::start(Duration::from_secs(60), Some("other"), &[]).await;
    let words = [
        "--vendor",
        "compatible",
        "--credential",
        "refresh-token",
        "--client-id",
        "cli",
    ];
    let (url, base) = (endpoint.url(), world.vendor.base_url());
    let more = ["--token-url", &url, "--base-url", &base];
    instead(&world, "person", "refresh-canary", &[&words[..], &more].concat()).await;
    let client = give(&world, "person").await;
    let refused = client.post("/responses", ask(false)).await.unwrap().rest().await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("no valid access token"), "{}", refused.text());
    let told = world
        .hub
        .command(&["account", "test", "person", "--json"])
        .await
        .failed();
    assert!(
        told.stderr.contains("token_refused") && told.stderr.contains("invalid_grant"),
        "{}",
        told.stderr
    );
    let log = std::fs::read_to_string(world.hub.log_file()).unwrap();
    for text in [&told.stderr, &log] {
        assert!(
            !text.contains("refresh-canary") && !text.contains("a sentence with a secret"),
            "{text}"
        );
    }
    assert!(log.contains("no access token for the account"), "{log}");
    assert_eq!(world.vendor.posts().len(), 0);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_is_a_vendor_and_both_books_are_true() {
    let (front, back) = tokio::join!(setup().start(), setup().start());
    let base = format!("http://{}/v1", back.hub.http());
    let client = instead(
        &front,
        "relay",
        &back.key,
        &["--vendor", "compatible", "--base-url", &base],
    )
    .await;
    let usage = Usage {
        input: 4_321,
        cached: 1_000,
        output: 77,
        reasoning: 5,
    };
    back.vendor.otherwise(Script::message("by way of two ").usage(usage));
    for stream in [false, true] {
        assert_eq!(
            (responses(&client, stream).await, chat(&client, stream).await),
            (200, 200)
        );
    }
    let tested = front.hub.json(&["account", "test", "relay"]).await;
    assert_eq!(tested["works"], true);
    back.assert_billed_truly().await;
    let rows = front.books().settled(4).await;
    assert!(rows.iter().all(|row| row.usage == Some(usage)), "{rows:#?}");
    assert_eq!(
        front.books().balance(&front.tenant).await,
        back.books().balance(&back.tenant).await
    );
    front.assert_sound().await;
    back.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_one_wire_serves_clients_of_the_other_too() {
    let world = setup().start().await;
    let base = world.vendor.base_url();
    let client = instead(
        &world,
        "chat",
        "k",
        &["--vendor", "compatible", "--wires", "chat", "--base-url", &base],
    )
    .await;
    assert_eq!((responses(&client, true).await, chat(&client, true).await), (200, 200));
    assert!(
        world
            .vendor
            .posts()
            .iter()
            .all(|call| call.path.ends_with("/chat/completions"))
    );
    // Beside one that speaks it each call finds its own.
    add(&world, "all", "k", &["--vendor", "openai", "--base-url", &base]).await;
    let client = fresh_client(&world).await;
    assert_eq!((responses(&client, true).await, chat(&client, true).await), (200, 200));
    assert!(
        world
            .vendor
            .posts()
            .iter()
            .any(|call| call.path.ends_with("/responses"))
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

/// Writes into the database behind the hub's back.
pub(crate) async fn sql(world: &World, sql: &str) {
    let options = SqliteConnectOptions::new().filename(world.hub.home.join("hub.sqlite"));
    let options = options.busy_timeout(Duration::from_secs(10));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

const SWAP: &str = "CREATE TEMP TABLE before AS SELECT id, secret FROM vendor_account; \
                    UPDATE vendor_account SET secret = (SELECT secret FROM before WHERE before.id <> vendor_account.id)";

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_database_gives_no_credential_and_swapped_ones_do_not_open() {
    let world = setup().start().await;
    add(
        &world,
        "second",
        "sk-second-canary",
        &["--vendor", "openai", "--base-url", &world.vendor.base_url()],
    )
    .await;
    let client = fresh_client(&world).await;
    assert_eq!(responses(&client, false).await, 200);

    sql(&world, SWAP).await;
    let client = fresh_client(&world).await;
    let refused = client.post("/responses", ask(false)).await.unwrap().rest().await;
    assert!(refused.text().contains("No upstream account"), "{}", refused.text());
    let told = world.hub.command(&["account", "test", "second"]).await.failed();
    assert!(told.stderr.contains("cannot be used"), "{}", told.stderr);
    sql(&world, SWAP).await;
    let client = fresh_client(&world).await;
    assert_eq!(responses(&client, false).await, 200);

    // A thief has the database and makes keys of his own.
    let thief = setup().start().await;
    for file in ["hub.sqlite", "hub.sqlite-wal", "hub.flight"] {
        let bytes = std::fs::read(world.hub.home.join(file)).unwrap_or_default();
        for secret in [VENDOR_SECRET, "sk-second-canary"] {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
                "{file}"
            );
        }
    }
    let copy = thief.scratch().join("hub/stolen.sqlite");
    let vacuum = format!("VACUUM INTO '{}'", copy.display());
    let options = SqliteConnectOptions::new().filename(world.hub.home.join("hub.sqlite"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(vacuum))
        .execute(&mut connection)
        .await
        .unwrap();
    let mut thief = thief;
    thief.hub.program().terminate().await;
    for file in ["hub.sqlite-wal", "hub.sqlite-shm", "hub.flight"] {
        drop(std::fs::remove_file(thief.hub.home.join(file)));
    }
    std::fs::rename(&copy, thief.hub.home.join("hub.sqlite")).unwrap();
    for account in ["main", "second"] {
        let told = thief.hub.command(&["account", "test", account]).await.failed();
        assert!(told.stderr.contains("cannot be used"), "{}", told.stderr);
    }
    world.assert_sound().await;
}
