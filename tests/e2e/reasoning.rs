//! Reasoning that only its account can read goes back to that account, though its client names no conversation.

use std::fs;

use relay_tests::{
    client::{Client, Whole},
    socket::{Opened, Socket},
    vendor::{Call, Extra, PLAIN, Script},
    world::World,
};
use serde_json::{Value, json};

use crate::{MODEL, setup};

/// Two accounts of a vendor that refuses reasoning which they did not make.
async fn two_accounts() -> World {
    let world = setup().start().await;
    world.hub.command(&["account", "remove", "main"]).await.succeeded();
    let base_url = world.vendor.base_url();
    for name in ["one", "two"] {
        let file = world.scratch().join("secret").display().to_string();
        fs::write(&file, format!("sk-of-{name}")).unwrap();
        let add = ["account", "add", name, "--vendor", "openai", "--base-url", &base_url];
        let add = [&add[..], &["--secret-file", &file]].concat();
        world.hub.command(&add).await.succeeded();
    }
    let tools = vec!["reasoning"];
    let answer = Script::message("That is how it is. ").extra(Extra { tools, ..PLAIN.clone() });
    world.vendor.otherwise(answer);
    world.vendor.remembers();
    world.look().await;
    world
}

/// What failed in the test is forgotten.
async fn revive(world: &World) {
    for name in ["one", "two"] {
        world.hub.command(&["account", "revive", name]).await.succeeded();
    }
    world.look().await;
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn body(input: &[Value], stream: bool) -> String {
    json!({"model": MODEL, "store": false, "include": ["reasoning.encrypted_content"], "stream": stream,
        "max_output_tokens": 500, "input": input})
    .to_string()
}

async fn ask(client: &Client, input: &[Value], stream: bool) -> Whole {
    client
        .post("/responses", body(input, stream))
        .await
        .unwrap()
        .rest()
        .await
}

/// The items of an answer that is one document, or of events.
fn output<'a>(events: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
    let events = events
        .into_iter()
        .filter_map(|text| serde_json::from_str::<Value>(text).ok());
    let done = events.filter(|event| event["type"] == "response.output_item.done");
    done.map(|event| event["item"].clone()).collect()
}

fn items(answer: &Whole, stream: bool) -> Vec<Value> {
    if stream {
        return output(answer.text().lines().filter_map(|line| line.strip_prefix("data: ")));
    }
    answer.json()["output"].as_array().unwrap().clone()
}

fn name(call: &Call) -> String {
    let credential = call.headers["authorization"].to_str().unwrap();
    credential.strip_prefix("Bearer sk-of-").unwrap().to_owned()
}

fn last(world: &World) -> String {
    name(world.vendor.posts().last().unwrap())
}

/// The account that is not the tenant's own makes reasoning: the other one fails at the call. Returns both, and what goes
/// on from there.
async fn made_elsewhere(world: &World, stream: bool) -> (String, String, Vec<Value>) {
    revive(world).await;
    world
        .vendor
        .next(Script::error(500, "server_error", None, "The vendor has a headache."));
    let answer = ask(&world.through_hub(), &[user("first")], stream).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let posts = world.vendor.posts();
    let [.., failed, made] = posts.as_slice() else {
        panic!("two attempts")
    };
    let mut input = vec![user("first")];
    input.extend(items(&answer, stream));
    input.push(user("second"));
    assert!(
        input.iter().any(|item| item["encrypted_content"].is_string()),
        "{input:?}"
    );
    (name(failed), name(made), input)
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_goes_back_to_its_account_and_is_refused_as_documented_when_that_is_gone() {
    let mut world = two_accounts().await;
    let client = world.through_hub();
    let mut known = Vec::new();
    for stream in [false, true] {
        let (home, maker, input) = made_elsewhere(&world, stream).await;
        assert_ne!(home, maker);
        // It is true that nobody else can read it.
        let straight = Client::new(&world.vendor.base_url(), &format!("sk-of-{home}"));
        assert_eq!(
            ask(&straight, &input, stream).await.error_code(),
            "invalid_encrypted_content"
        );
        revive(&world).await;
        for _ in 0..3 {
            let answer = ask(&client, &input, stream).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(last(&world), maker);
        }
        // What sends none back is the tenant's own account's.
        assert_eq!(ask(&client, &[user("other")], stream).await.status, 200);
        assert_eq!(last(&world), home);
        known.push((maker, input));
    }
    let row = &world.books().settled(10).await[8];
    assert_eq!(row.detail.as_ref().unwrap()["choice"], "reasoning");
    let shown = world.hub.command(&["usage", "show", &row.call]).await.succeeded();
    assert!(shown.stdout.contains("made the reasoning"), "{}", shown.stdout);

    assert_eq!(world.hub.program().terminate().await, Some(0));
    world.hub.serve().await;
    let client = world.through_hub();
    for (maker, input) in &known {
        assert_eq!(ask(&client, input, false).await.status, 200);
        assert_eq!(last(&world), *maker, "over restarts too");
    }
    let (maker, input) = &known[0];
    world.hub.command(&["account", "disable", maker]).await.succeeded();
    world.look().await;
    let before = world.vendor.posts().len();
    let refused = ask(&client, input, false).await;
    let told = (refused.status.as_u16(), refused.error_code());
    assert_eq!(told, (409, "conversation_account_gone".to_owned()));
    assert_eq!(world.vendor.posts().len(), before, "nothing was sent elsewhere");
    let allowed = ["tenant", "set", &world.tenant, "--repin", "allow"];
    world.hub.command(&allowed).await.succeeded();
    world.look().await;
    let refused = ask(&client, input, false).await;
    assert_eq!(refused.error_code(), "invalid_encrypted_content", "its vendor says so");
    assert_ne!(last(&world), *maker);
    world.assert_sound().await;
}

fn create(input: &[Value]) -> String {
    json!({"type": "response.create", "model": MODEL, "store": false, "input": input, "max_output_tokens": 500})
        .to_string()
}

async fn answered(socket: &mut Socket, input: &[Value]) -> Vec<String> {
    socket.send(&create(input)).await.unwrap();
    socket.answer().await.unwrap()
}

async fn open(world: &World, thread: &str) -> Socket {
    let headers = [
        format!("authorization: Bearer {}", world.key),
        format!("session-id: {thread}"),
    ];
    match Socket::open(world.hub.http(), "/v1/responses", &headers).await.unwrap() {
        Opened::Socket(socket) => *socket,
        Opened::Refused(status, answer) => panic!("refused with {status}: {answer}"),
    }
}

/// At which account the last socket is.
fn at(world: &World) -> String {
    let sockets = world.vendor.sockets();
    let credential = sockets.last().unwrap().headers["authorization"].to_str().unwrap();
    credential.strip_prefix("Bearer sk-of-").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_on_a_socket_is_its_accounts_and_another_ones_is_refused_before_it_is_sent() {
    let world = two_accounts().await;
    let (home, maker, input) = made_elsewhere(&world, false).await;
    revive(&world).await;
    let mut socket = Socket::responses(world.hub.http(), &world.key).await.unwrap();
    assert_eq!(at(&world), home, "nothing is asked yet");
    let told = answered(&mut socket, &input).await;
    assert!(told.last().unwrap().contains("conversation_account_gone"), "{told:?}");
    // The socket goes on, and what is made on it is known.
    let told = answered(&mut socket, &[user("third")]).await;
    let mut own = vec![user("third")];
    own.extend(output(told.iter().map(String::as_str)));
    own.push(user("fourth"));
    let told = answered(&mut socket, &own).await;
    assert!(told.last().unwrap().contains("response.completed"), "{told:?}");
    let client = world.through_hub();
    for (input, account) in [(&own, &home), (&input, &maker)] {
        assert_eq!(ask(&client, input, false).await.status, 200);
        assert_eq!(last(&world), *account);
    }

    // A conversation that begins with another one's reasoning: its next socket is at that one's account.
    let mut begun = None;
    for number in 0..64 {
        let thread = format!("forked-{number}");
        let socket = open(&world, &thread).await;
        if at(&world) == home {
            begun = Some((thread, socket));
            break;
        }
    }
    let (thread, mut socket) = begun.expect("of 64 conversations some are at each account");
    let told = answered(&mut socket, &input).await;
    assert!(told.last().unwrap().contains("conversation_account_gone"), "{told:?}");
    let mut socket = open(&world, &thread).await;
    assert_eq!(at(&world), maker);
    let told = answered(&mut socket, &input).await;
    assert!(told.last().unwrap().contains("response.completed"), "{told:?}");
    world.assert_sound().await;
}
