//! An operator's accounts: tested, taken out of use and brought back while the hub serves.

use std::time::{Duration, Instant};

use relay_tests::{
    client::Client,
    vendor::{Gate, Script, Vendor},
    within::within,
    world::{VENDOR_SECRET, World},
};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{ask, setup};

/// What a failed `account test` says to a program.
async fn fault(world: &World, name: &str) -> (String, String) {
    let told = world.hub.command(&["account", "test", name, "--json"]).await.failed();
    assert!(!told.stderr.contains(VENDOR_SECRET), "{}", told.stderr);
    let told: Value = serde_json::from_str(&told.stderr).unwrap();
    let text = |field: &str| told["error"][field].as_str().unwrap_or_default().to_owned();
    assert!(!text("hint").is_empty(), "{told}");
    (text("kind"), text("message"))
}

async fn add(world: &World, name: &str, base_url: &str) {
    let secret = world.scratch().join("vendor-secret").display().to_string();
    let arguments = ["account", "add", name, "--vendor", "openai", "--base-url", base_url];
    let more = ["--secret-file", &secret];
    world.hub.command(&[&arguments[..], &more].concat()).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_of_an_account_says_what_failed() {
    let world = setup().start().await;
    let told = world.hub.json(&["account", "test", "main"]).await;
    assert_eq!(
        (&told["works"], &told["asked"], &told["models"]),
        (&true.into(), &"GET /v1/models".into(), &4.into())
    );
    let call = world.vendor.calls().pop().unwrap();
    assert_eq!(call.headers["authorization"], format!("Bearer {VENDOR_SECRET}"));

    for (status, kind) in [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (302, "redirected"),
        (429, "rate_limited"),
        (503, "vendor_failing"),
        (418, "refused"),
    ] {
        let refusal = Script::error(status, "some_error", Some("some_code"), &format!("no: {VENDOR_SECRET}"));
        world
            .vendor
            .models(refusal.header("location", "https://elsewhere.example/"));
        let (told, message) = fault(&world, "main").await;
        assert_eq!(told, kind);
        assert!(message.contains(&format!("{status} `some_code`")), "{message}");
    }
    // One that repeats what it was sent is not repeated.
    world
        .vendor
        .models(Script::error(401, "some_error", Some(VENDOR_SECRET), "no"));
    assert_eq!(fault(&world, "main").await.0, "unauthorized");
    for body in ["<html>welcome</html>", "{}", ""] {
        world.vendor.models(Script::text(200, body));
        assert_eq!(fault(&world, "main").await.0, "not_the_vendor", "{body}");
    }
    world.vendor.models(Script::garbage(b"SSH-2.0-OpenSSH_9.9\r\n"));
    assert_eq!(fault(&world, "main").await.0, "unreachable");

    add(&world, "nowhere", "https://vendor.invalid").await;
    assert_eq!(fault(&world, "nowhere").await.0, "name");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    // A number is a name to be resolved, and this one leads here.
    add(&world, "inside", &format!("https://2130706433:{}", free.port())).await;
    assert_eq!(fault(&world, "inside").await.0, "not_allowed");
    add(&world, "refused", &format!("http://{free}")).await;
    assert_eq!(fault(&world, "refused").await.0, "connection_refused");
    add(&world, "plain", &world.vendor.base_url().replace("http:", "https:")).await;
    assert_eq!(fault(&world, "plain").await.0, "tls");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_new_account_or_way_is_told_at_once() {
    let world = setup().start().await;
    let account = [
        "account add a/b --vendor anthropic --base-url https://me:canary@api.example --secret-env NO_SUCH_SECRET",
        "--wires chat --key-id AKIA --client-secret-file /no/such/file",
    ];
    let words = [
        "name: ",
        "--base-url: ",
        "--secret: ",
        "--wires: ",
        "--key-id: ",
        "--client-secret: ",
    ];
    let way = [
        "way add a/b --account nobody --proxy http://me:canary@proxy.example/x --region e!u --prefer 5",
        "--password-env NO_SUCH_SECRET",
    ];
    let ways = [
        "name: ",
        "--account: ",
        "--proxy: ",
        "--region: ",
        "--prefer: ",
        "--password-…: ",
    ];
    for (line, wanted) in [(account, &words[..]), (way, &ways)] {
        let line = line.join(" ");
        let told = world
            .hub
            .command(&line.split(' ').collect::<Vec<_>>())
            .await
            .failed()
            .stderr;
        for word in wanted {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(!told.contains("canary"), "{told}");
    }
    // Nor does a proxy lead where no vendor may.
    let way = ["way", "add", "a", "--account", "main", "--proxy"];
    for (url, more, is_fit) in [
        ("http://169.254.169.254", None, false),
        ("socks5://[::ffff:10.0.0.1]", None, false),
        ("http://10.0.0.1:3128", Some("--allow-private"), true),
    ] {
        let ended = world.hub.command(&[&way[..], &[url], more.as_slice()].concat()).await;
        if is_fit {
            ended.succeeded();
        } else {
            let told = ended.failed().stderr;
            assert!(
                told.contains("not public") && told.contains("--allow-private"),
                "{told}"
            );
        }
    }
}

/// Asks until the answer has this status: a change must reach a running hub within a second.
async fn until_status(client: &Client, status: u16) -> String {
    let began = Instant::now();
    loop {
        let answer = client.post("/responses", ask(false)).await.unwrap().rest().await;
        if answer.status == status {
            return answer.text();
        }
        assert!(began.elapsed() < within(Duration::from_secs(1)), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_disabled_for_a_time_comes_back_by_itself() {
    let world = setup().start().await;
    let client = world.through_hub();
    let began = Instant::now();
    let told = world.hub.json(&["account", "disable", "main", "--for", "3s"]).await;
    assert!(told["disabled_until_ms"].is_i64(), "{told}");
    until_status(&client, 503).await;
    let listed = world.hub.command(&["account", "list"]).await;
    assert!(listed.stdout.contains(", until "), "{}", listed.stdout);
    while client.post("/responses", ask(false)).await.unwrap().rest().await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not come back");
    }
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(world.hub.json(&["account", "show", "main"]).await["disabled_ms"].is_null());
    let wrong = world
        .hub
        .command(&["account", "disable", "main", "--for", "soon"])
        .await
        .failed();
    assert!(wrong.stderr.contains("30m"), "{}", wrong.stderr);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_account_gets_no_new_call_and_ends_its_running_ones() {
    let world = setup().start().await;
    let client = world.through_hub();
    let gate = Gate::new(2);
    world.vendor.next(Script::message("a slow answer ").gate(&gate));
    let mut running = client.post("/responses", ask(true)).await.unwrap();
    running.until("response.in_progress").await.unwrap();

    world.hub.command(&["account", "disable", "main"]).await.succeeded();
    let refused = until_status(&client, 503).await;
    assert!(refused.contains("No upstream account"), "{refused}");
    gate.release(100);
    let rest = running.rest().await;
    assert!(rest.text().contains("response.completed"), "{}", rest.text());

    // Another account takes over, and gives the tenant back.
    let second = Vendor::start().await;
    add(&world, "second", &second.base_url()).await;
    until_status(&client, 200).await;
    assert_eq!(second.posts().len(), 1);
    world.hub.command(&["account", "disable", "second"]).await.succeeded();
    world.hub.command(&["account", "enable", "main"]).await.succeeded();
    world.look().await;
    let main = world.vendor.posts().len();
    until_status(&client, 200).await;
    assert_eq!(world.vendor.posts().len(), main + 1, "the first one serves again");
    world.assert_sound().await;
}
