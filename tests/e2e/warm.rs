//! A long conversation of the real Codex CLI, each turn a process of its own: through three accounts the vendor's cache is
//! as warm as without the relay, and when its account is gone the outcome is the one that `docs/routing.md` has.

use std::{collections::BTreeSet, fs};

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::{
    client::{Client, Whole},
    codex::{Codex, Conversation, Outcome, Run, Way},
    vendor::{Call, Extra, PLAIN, Script, Vendor},
    world::{Setup, World},
};
use serde_json::{Value, json};

use crate::{ask, setup};

const CODEX_MODEL: &str = "gpt-5.2-codex";
const ACCOUNTS: [&str; 3] = ["main", "second", "third"];
/// Of each long conversation.
const TURNS: usize = 20;
/// Codex tries many times what the relay refuses.
const FEW_RETRIES: &str = "request_max_retries = 1\nstream_max_retries = 0";

/// What every turn of Codex's model is: reasoning that only its account can read, and a message.
fn reasoned() -> Script {
    let tools = vec!["reasoning"];
    Script::message("That is how it is. ").extra(Extra { tools, ..PLAIN.clone() })
}

/// Input and cached tokens of each turn that was billed.
fn warmth(vendor: &Vendor) -> Vec<(u64, u64)> {
    let entries = vendor.truth().entries();
    let billed = entries.iter().filter_map(relay_tests::vendor::Entry::billed);
    billed.map(|usage| (usage.input, usage.cached)).collect()
}

/// In hundredths.
fn share(turns: &[(u64, u64)]) -> u64 {
    let (input, cached) = turns.iter().fold((0, 0), |sum, turn| (sum.0 + turn.0, sum.1 + turn.1));
    cached * 100 / input
}

fn credential(call: &Call) -> &str {
    call.headers["authorization"].to_str().unwrap()
}

fn credentials(calls: &[Call]) -> BTreeSet<&str> {
    calls.iter().map(credential).collect()
}

async fn turn(conversation: &mut Conversation<'_>, run: &Run<'_>, number: usize) -> Outcome {
    let prompt = format!("This is question {number} of a long conversation: what about it?");
    let run = Run {
        prompt: &prompt,
        provider_options: FEW_RETRIES,
        way: run.way.clone(),
        base_url: run.base_url.clone(),
        key: run.key.clone(),
        ..Run::new(Way::Custom, "", "")
    };
    conversation.turn(&run).await
}

async fn converse(conversation: &mut Conversation<'_>, run: &Run<'_>, turns: usize) {
    for number in 0..turns {
        let outcome = turn(conversation, run, number).await;
        assert_eq!(outcome.exit_code, Some(0), "turn {number}: {outcome:#?}");
        for trouble in ["Reconnecting", "Falling back", "ERROR"] {
            assert!(
                !outcome.stderr.contains(trouble),
                "turn {number}: {trouble}: {outcome:#?}"
            );
        }
        assert_eq!(outcome.stdout.trim(), "That is how it is.", "turn {number}");
    }
}

/// A world whose vendor remembers, with three accounts of it, each with a key of its own.
async fn three_accounts() -> World {
    let world = Setup {
        models: vec![CODEX_MODEL.to_owned(), crate::MODEL.to_owned()],
        hub_toml: "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned(),
        ..setup()
    };
    let world = world.start().await;
    world.hub.command(&["account", "remove", "main"]).await.succeeded();
    let base_url = world.vendor.base_url();
    for name in ACCOUNTS {
        let file = world.scratch().join("secret").display().to_string();
        fs::write(&file, format!("sk-of-{name}")).unwrap();
        let add = ["account", "add", name, "--vendor", "openai", "--base-url", &base_url];
        world
            .hub
            .command(&[&add[..], &["--secret-file", &file]].concat())
            .await
            .succeeded();
    }
    world.vendor.otherwise(reasoned());
    world.vendor.remembers();
    world.look().await;
    world
}

/// The account that has this credential.
fn named(credential: &str) -> &str {
    credential.strip_prefix("Bearer sk-of-").unwrap()
}

async fn call(client: &Client, thread: &str) -> Whole {
    let request = client.request(Method::POST, "/responses").header("thread-id", thread);
    let request = request
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(ask(false))))
        .unwrap();
    client.send(request).await.unwrap().rest().await
}

/// Other conversations of the same tenant, of which some are at other accounts.
async fn others_talk(world: &World) {
    let (client, before) = (world.through_hub(), world.vendor.posts().len());
    for thread in 0..12 {
        assert_eq!(call(&client, &format!("other-{thread}")).await.status, 200);
    }
    let posts = world.vendor.posts();
    assert!(credentials(&posts[before..]).len() > 1, "the pool is not used");
}

/// What the vendor counts for these calls when each comes by the next of three keys.
async fn by_turns(calls: &[Call]) -> Vec<(u64, u64)> {
    let vendor = Vendor::start().await;
    vendor.remembers();
    for (call, account) in calls.iter().zip(ACCOUNTS.iter().cycle()) {
        let client = Client::new(&vendor.base_url(), account);
        // It knows none of their reasoning.
        let body = String::from_utf8(call.body.to_vec()).unwrap();
        let body = body.replace("sealed-for-", "sealed-");
        let answer = client.post("/responses", body).await.unwrap().rest().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    warmth(&vendor)
}

fn cold(turns: &[(u64, u64)]) -> usize {
    turns.iter().filter(|(_, cached)| *cached == 0).count()
}

/// The conversation without the relay, with one key.
async fn directly(codex: &Codex, way: Way) -> (Vec<(u64, u64)>, Vec<Call>) {
    let vendor = Vendor::start().await;
    vendor.otherwise(reasoned());
    vendor.remembers();
    let run = Run::new(way, &vendor.base_url(), "key-of-the-baseline");
    converse(&mut codex.conversation(), &run, TURNS).await;
    (warmth(&vendor), vendor.posts())
}

async fn is_as_warm_as_direct<'a>(codex: &'a Codex, world: &World, way: Way) -> (Conversation<'a>, Run<'static>) {
    let (direct, calls) = directly(codex, way.clone()).await;
    assert_eq!(direct.len(), TURNS);
    let is_http = matches!(way, Way::Custom);
    if is_http {
        assert_eq!(cold(&direct), 1, "{direct:?}");
        assert_eq!(
            cold(&by_turns(&calls).await),
            3,
            "the vendor does not tell accounts apart"
        );
    }

    let run = Run::new(way, &world.agent.base_url(), &world.agent.key);
    let mut conversation = codex.conversation();
    let (first, before) = (world.vendor.posts().len(), warmth(&world.vendor).len());
    converse(&mut conversation, &run, TURNS).await;
    let (through, posts) = (warmth(&world.vendor).split_off(before), world.vendor.posts());
    assert_eq!(through, direct, "another warmth than without the relay");
    assert_eq!(
        credentials(&posts[first..]).len(),
        1,
        "one account serves one conversation"
    );
    eprintln!(
        "{TURNS} turns over {}: {} % of the input cached, directly {} %",
        if is_http { "HTTP" } else { "WebSocket" },
        share(&through),
        share(&direct)
    );
    (conversation, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codex_session_over_three_accounts_is_as_warm_as_direct_and_told_when_its_account_is_gone() {
    let Some(codex) = Codex::install().await else { return };
    let world = three_accounts().await;
    others_talk(&world).await;
    let (mut conversation, run) = is_as_warm_as_direct(&codex, &world, Way::Custom).await;
    others_talk(&world).await;
    let posts = world.vendor.posts();
    let home = posts
        .iter()
        .rev()
        .find(|call| call.path == "/v1/responses" && is_codex(call));
    let home = named(credential(home.unwrap())).to_owned();

    // Its account is gone: another one knows nothing of its reasoning.
    world.hub.command(&["account", "disable", &home]).await.succeeded();
    world.look().await;
    let refused = turn(&mut conversation, &run, 100).await;
    assert_eq!(refused.exit_code, Some(1), "{refused:#?}");
    let words = "The upstream account that served this conversation is gone";
    assert!(refused.stderr.contains(words), "{refused:#?}");
    assert_eq!(world.vendor.posts().len(), posts.len(), "nothing was sent elsewhere");
    let row = world.books().settled(posts.len() + 1).await.pop().unwrap();
    assert_eq!((row.status, row.charged), (409, 0), "{row:?}");

    // Its tenant may let it go on elsewhere, and hears what the vendor says of that.
    let allowed = ["tenant", "set", &world.tenant, "--repin", "allow"];
    world.hub.command(&allowed).await.succeeded();
    world.look().await;
    let refused = turn(&mut conversation, &run, 101).await;
    assert_eq!(refused.exit_code, Some(1), "{refused:#?}");
    assert!(
        refused.stderr.contains("The encrypted content could not be verified."),
        "{refused:#?}"
    );
    let last = world.vendor.posts().pop().unwrap();
    assert_ne!(named(credential(&last)), home);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

fn is_codex(call: &Call) -> bool {
    let agent = call.headers.get("user-agent").and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("codex"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codex_session_on_a_socket_over_three_accounts_is_as_warm_as_direct() {
    let Some(codex) = Codex::install().await else { return };
    let world = three_accounts().await;
    is_as_warm_as_direct(&codex, &world, Way::BuiltIn).await;
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codex_session_that_goes_on_elsewhere_is_cold_once_and_its_rows_say_what_was_lost() {
    let Some(codex) = Codex::install().await else { return };
    let world = three_accounts().await;
    world.vendor.otherwise(Script::message("That is how it is. "));
    let allowed = ["tenant", "set", &world.tenant, "--repin", "allow"];
    world.hub.command(&allowed).await.succeeded();
    world.look().await;
    let run = Run::new(Way::Custom, &world.agent.base_url(), &world.agent.key);
    let mut conversation = codex.conversation();
    converse(&mut conversation, &run, 2).await;
    let home = named(credential(&world.vendor.posts()[0])).to_owned();
    world.hub.command(&["account", "disable", &home]).await.succeeded();
    world.look().await;
    converse(&mut conversation, &run, 2).await;
    // The vendor forgets what no account of the relay lost.
    world.vendor.cools();
    converse(&mut conversation, &run, 2).await;

    let posts = world.vendor.posts();
    let moved: Vec<_> = posts.iter().map(|call| named(credential(call)) != home).collect();
    assert_eq!(moved, [false, false, true, true, true, true]);
    assert_eq!(credentials(&posts[2..]).len(), 1, "it moved once");
    let warm: Vec<_> = warmth(&world.vendor).iter().map(|(_, cached)| *cached > 0).collect();
    assert_eq!(warm, [false, true, false, true, false, true]);
    let rows = world.books().settled(6).await;
    let details: Vec<_> = rows.iter().map(|row| row.detail.clone().unwrap()).collect();
    let choices: Vec<_> = details.iter().map(|detail| detail["choice"].clone()).collect();
    assert_eq!(choices[1..], ["pinned", "repinned", "pinned", "pinned", "pinned"]);
    let is_lost = |detail: &Value| detail["flags"] == json!(["cache_lost"]);
    let lost: Vec<_> = details.iter().map(is_lost).collect();
    assert_eq!(lost, [false, false, false, false, true, false], "{rows:#?}");
    let metrics = Client::new(&format!("http://{}", world.hub.metrics().unwrap()), "");
    let told = metrics.get("/metrics").await.unwrap().rest().await.text();
    for line in [
        "relay_flagged_bills_total{flag=\"cache_lost\"} 1",
        "relay_conversation_turns_total{cached=\"0-10\"} 1",
        "relay_conversation_turns_total{cached=\"90-100\"} 3",
    ] {
        assert!(told.lines().any(|told| told == line), "no {line}: {told}");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}
