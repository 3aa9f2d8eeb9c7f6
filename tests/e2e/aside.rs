//! A socket on which models of several vendors are asked: those of its own account on the vendor's socket, all others aside,
//! each as a call of its own.

use relay_protocol::VendorWire;
use relay_tests::{
    codex::{Codex, Run, Way},
    socket::{Message, Socket},
    vendor::{Gate, Script},
    world::{Setup, World},
};
use serde_json::{Value, json};

use crate::{MODEL, lanes::at, setup};

/// A model whose name tells who makes it.
const CLAUDE: &str = "claude-test-9";
const GPT: &str = "gpt-test-9";

/// A world with an account of OpenAI's and one of Anthropic's.
async fn world() -> World {
    let models = [MODEL, CLAUDE, GPT].map(str::to_owned).to_vec();
    let world = Setup { models, ..setup() }.start().await;
    world.connect("anthropic").await;
    world
}

async fn sockets(world: &World) -> [Socket; 2] {
    [
        Socket::responses(world.agent.addr(), &world.agent.key).await.unwrap(),
        Socket::responses(world.hub.http(), &world.key).await.unwrap(),
    ]
}

fn create(model: &str, mut more: Value) -> String {
    let mut message = json!({"type": "response.create", "model": model, "max_output_tokens": 500, "store": false});
    message.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    message.to_string()
}

async fn answer(socket: &mut Socket) -> Vec<Value> {
    let told = socket.answer().await.unwrap();
    told.iter().map(|told| serde_json::from_str(told).unwrap()).collect()
}

async fn ask(socket: &mut Socket, model: &str, more: Value) -> Vec<Value> {
    socket.send(&create(model, more)).await.unwrap();
    answer(socket).await
}

/// The id of an answer that is complete.
fn id(told: &[Value]) -> Value {
    let last = told.last().unwrap();
    assert_eq!(last["type"], "response.completed", "{last}");
    last["response"]["id"].clone()
}

fn is_unknown(told: &[Value]) -> bool {
    told[0]["status"] == 400 && told[0]["error"]["code"] == "previous_response_not_found"
}

fn says(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_another_vendor_is_asked_aside_while_the_vendors_socket_stays() {
    let world = world().await;
    for socket in &mut sockets(&world).await {
        for text in ["One. ", "Two. ", "Three. ", "Four. "] {
            world.vendor.next(Script::message(text));
        }
        let own = id(&ask(socket, MODEL, json!({"input": says("a")})).await);
        let first = id(&ask(socket, CLAUDE, json!({"input": says("b")})).await);
        assert_eq!(world.vendor.posts().pop().unwrap().path, "/v1/messages");
        let second = json!({"input": says("c"), "previous_response_id": first});
        let second = id(&ask(socket, CLAUDE, second).await);
        let asked: Value = serde_json::from_slice(&world.vendor.posts().pop().unwrap().body).unwrap();
        let said = asked["messages"].as_array().unwrap().iter();
        let said: Vec<_> = said
            .map(|message| message["content"][0]["text"].as_str().unwrap())
            .collect();
        assert_eq!(said, ["b", "Two. ", "c"], "{asked}");

        // Neither knows what the other was told: the client sends the whole then.
        let before = world.vendor.posts().len();
        let crossed = json!({"input": says("d"), "previous_response_id": second});
        assert!(is_unknown(&ask(socket, MODEL, crossed).await));
        let crossed = json!({"input": says("d"), "previous_response_id": own});
        assert!(is_unknown(&ask(socket, CLAUDE, crossed).await));
        assert_eq!(world.vendor.posts().len(), before);

        let back = json!({"input": says("e"), "previous_response_id": own});
        id(&ask(socket, MODEL, back).await);
        let asked: Value = serde_json::from_slice(&world.vendor.posts().pop().unwrap().body).unwrap();
        assert_eq!(
            (&asked["type"], &asked["previous_response_id"]),
            (&json!("response.create"), &own)
        );
    }
    assert_eq!(world.vendor.sockets().len(), 2, "one for each client's");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_aside_waits_for_the_answer_before_it_and_pings_are_answered_meanwhile() {
    let world = world().await;
    for mut socket in sockets(&world).await {
        let gates = [Gate::new(2), Gate::new(2)];
        for gate in &gates {
            world.vendor.next(Script::message("one after the other ").gate(gate));
        }
        socket.send(&create(MODEL, json!({"input": "x"}))).await.unwrap();
        let Message::Text(first) = socket.next().await.unwrap() else {
            panic!("no event")
        };
        assert!(first.contains("response.created"), "{first}");
        socket
            .send_in_two(&create(CLAUDE, json!({"input": "x"})))
            .await
            .unwrap();
        gates[0].release(100);
        let rest = socket.answer().await.unwrap();
        assert!(rest.last().unwrap().contains("response.completed"));
        gates[1].release(100);
        let mut told = Vec::new();
        let mut pongs = 0;
        while !told
            .last()
            .is_some_and(|told: &String| told.contains("response.completed"))
        {
            match socket.next().await.unwrap() {
                Message::Text(text) => told.push(text),
                Message::Other(0x0a, _) => pongs += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(told[0].contains("response.created"), "{}", told[0]);
        let pong = b"\x8a\x0cstill there?";
        let pongs = pongs
            + socket
                .received
                .windows(pong.len())
                .filter(|window| window == pong)
                .count();
        assert!(pongs > 0);
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_aside_ends_with_its_client_and_not_with_the_sockets_account() {
    let world = world().await;
    let [mut leaves, mut stays] = sockets(&world).await;
    let gates = [Gate::new(2), Gate::new(2)];
    for (socket, gate) in [&mut leaves, &mut stays].into_iter().zip(&gates) {
        world.vendor.next(Script::message("a slow answer ").gate(gate));
        socket.send(&create(CLAUDE, json!({"input": "x"}))).await.unwrap();
        assert!(matches!(socket.next().await.unwrap(), Message::Text(text) if text.contains("response.created")));
    }
    drop(leaves);
    world.hub.command(&["account", "disable", "main"]).await.succeeded();
    world.look().await;
    gates[1].release(100);
    id(&answer(&mut stays).await);
    assert!(matches!(stays.next().await.unwrap(), Message::Close(Some(1001))));
    let rows = world.books().settled(2).await;
    let endings: Vec<_> = rows.iter().map(|row| row.ending.as_str()).collect();
    assert!(
        endings.contains(&"client_gone") && endings.contains(&"completed"),
        "{endings:?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_aside_is_told_and_the_socket_goes_on() {
    let world = world().await;
    for mut socket in sockets(&world).await {
        let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        world.vendor.next(Script::json(529, &overloaded));
        let told = ask(&mut socket, CLAUDE, json!({"input": "x"})).await;
        assert_eq!(
            (&told[0]["type"], &told[0]["status"], &told[0]["error"]["code"]),
            (&json!("error"), &json!(503), &json!("server_is_overloaded"))
        );
        world.hub.command(&["account", "revive", "anthropic"]).await.succeeded();
        world.look().await;
        for (model, text) in [(CLAUDE, "Well. "), (GPT, "Too. ")] {
            world.vendor.next(Script::message(text));
            id(&ask(&mut socket, model, json!({"input": "x"})).await);
        }
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_without_a_vendors_own_asks_a_vendor_of_responses_over_http() {
    let models = [MODEL, CLAUDE, GPT].map(str::to_owned).to_vec();
    let world = at(VendorWire::Messages, Setup { models, ..setup() }).await;
    let sockets = sockets(&world).await;
    world.connect("openai").await;
    for mut socket in sockets {
        for text in ["One. ", "Two. ", "Three. "] {
            world.vendor.next(Script::message(text));
        }
        let first = id(&ask(&mut socket, CLAUDE, json!({"input": says("a")})).await);
        assert_eq!(world.vendor.posts().pop().unwrap().path, "/v1/messages");
        let next = json!({"input": says("b"), "previous_response_id": first});
        let second = id(&ask(&mut socket, GPT, next).await);
        let call = world.vendor.posts().pop().unwrap();
        let asked: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            (call.path.as_str(), asked["input"].as_array().unwrap().len()),
            ("/v1/responses", 3)
        );
        let next = json!({"input": says("c"), "previous_response_id": second});
        id(&ask(&mut socket, CLAUDE, next).await);
    }
    assert!(world.vendor.sockets().is_empty());
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_does_its_tool_round_with_a_model_that_another_account_serves() {
    let Some(codex) = Codex::install().await else { return };
    let world = world().await;
    world.vendor.otherwise(Script::tool_round(
        "echo marker-$((6*7))",
        "The command printed a marker. ",
    ));
    let run = Run {
        model: CLAUDE,
        ..Run::new(Way::BuiltIn, &world.agent.base_url(), &world.agent.key)
    };
    let outcome = codex.exec(&run).await;
    assert_eq!(outcome.exit_code, Some(0), "{outcome:#?}");
    assert_eq!(outcome.stdout.trim(), "The command printed a marker.", "{outcome:#?}");
    assert!(
        outcome.stderr.contains("marker-42"),
        "the tool did not run: {outcome:#?}"
    );
    let troubles = ["Falling back", "Reconnecting", "ERROR"];
    let trouble = troubles.iter().find(|word| outcome.stderr.contains(**word));
    assert_eq!(trouble, None, "{outcome:#?}");
    let posts = world.vendor.posts();
    assert!(posts.iter().all(|call| call.path == "/v1/messages"));
    assert_eq!((posts.len(), world.vendor.sockets().len()), (2, 1));
    world.assert_billed_truly().await;
    world.assert_sound().await;
}
