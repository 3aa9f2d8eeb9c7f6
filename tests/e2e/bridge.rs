//! A socket of Responses on an account that speaks another wire, and the real Codex over both: its tool round ends as it
//! does on a vendor of its own wire.

use relay_protocol::VendorWire;
use relay_tests::{
    codex::{Codex, Outcome, Run, Way},
    socket::{Message, Socket},
    vendor::{Extra, Gate, Output, PLAIN, Script, Usage, signature},
    world::{Setup, World},
};
use serde_json::{Value, json};

use crate::{MODEL, codex::CODEX_MODEL, lanes::at, setup};

fn assert_untroubled(outcome: &Outcome) {
    let troubles = ["Falling back", "Reconnecting", "ERROR"];
    let trouble = troubles.iter().find(|word| outcome.stderr.contains(**word));
    assert_eq!((outcome.exit_code, trouble), (Some(0), None), "{outcome:#?}");
}

/// Codex's tool round; its calls reach the vendor as posts to a path with these words in it.
async fn codex(vendor: VendorWire, path: &str, way: Way) {
    let Some(codex) = Codex::install().await else { return };
    let models = vec![CODEX_MODEL.to_owned()];
    let world = at(vendor, Setup { models, ..setup() }).await;
    world.vendor.otherwise(Script::tool_round(
        "echo marker-$((6*7))",
        "The command printed a marker. ",
    ));
    let run = Run::new(way, &world.agent.base_url(), &world.agent.key);
    let outcome = codex.exec(&run).await;
    assert_eq!(outcome.stdout.trim(), "The command printed a marker.", "{outcome:#?}");
    assert!(
        outcome.stderr.contains("marker-42"),
        "the tool did not run: {outcome:#?}"
    );
    assert_untroubled(&outcome);
    let posts = world.vendor.posts();
    assert!(posts.iter().all(|call| call.path.contains(path)), "{path}");
    assert_eq!((posts.len(), world.vendor.sockets().len()), (2, 0));
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_over_http_does_its_tool_round_on_a_vendor_of_chat() {
    codex(VendorWire::Chat, "/chat/completions", Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_over_http_does_its_tool_round_on_a_vendor_of_messages() {
    codex(VendorWire::Messages, "/v1/messages", Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_over_http_does_its_tool_round_on_a_vendor_of_gemini() {
    codex(VendorWire::Gemini, ":streamGenerateContent", Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_over_http_does_its_tool_round_on_bedrock() {
    codex(VendorWire::Converse, "/converse-stream", Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_on_a_socket_does_its_tool_round_on_bedrock() {
    codex(VendorWire::Converse, "/converse-stream", Way::BuiltIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_on_a_socket_does_its_tool_round_on_a_vendor_of_chat() {
    codex(VendorWire::Chat, "/chat/completions", Way::BuiltIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_on_a_socket_does_its_tool_round_on_a_vendor_of_messages() {
    codex(VendorWire::Messages, "/v1/messages", Way::BuiltIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_on_a_socket_does_its_tool_round_on_a_vendor_of_gemini() {
    codex(VendorWire::Gemini, ":streamGenerateContent", Way::BuiltIn).await;
}

/// What a vendor thought comes back to it, in the same turn and in a later process of Codex.
async fn codex_brings_back_what_was_thought(vendor: VendorWire, way: Way) {
    let Some(codex) = Codex::install().await else { return };
    let models = vec![CODEX_MODEL.to_owned()];
    let world = at(vendor, Setup { models, ..setup() }).await;
    let thinks = Extra {
        tools: vec!["reasoning"],
        ..PLAIN.clone()
    };
    let script = Script::tool_round("echo marker-$((6*7))", "The command printed a marker. ");
    world.vendor.otherwise(script.extra(thinks));
    let run = Run::new(way, &world.agent.base_url(), &world.agent.key);
    let mut conversation = codex.conversation();
    for _ in 0..2 {
        let outcome = conversation.turn(&run).await;
        assert_eq!(outcome.stdout.trim(), "The command printed a marker.", "{outcome:#?}");
        assert_untroubled(&outcome);
    }
    let (posts, truth) = (world.vendor.posts(), world.vendor.truth().entries());
    assert_eq!((posts.len(), truth.len()), (3, 3));
    let of_the_call = signature(&truth[0].response_id);
    for post in &posts[1..] {
        let body = String::from_utf8_lossy(&post.body);
        assert_eq!(body.matches(&of_the_call).count(), 1, "{vendor:?}: {body}");
        assert!(!body.contains("relay."), "{vendor:?}: {body}");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_brings_back_what_a_vendor_of_messages_thought() {
    codex_brings_back_what_was_thought(VendorWire::Messages, Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_brings_back_what_a_vendor_of_gemini_thought() {
    codex_brings_back_what_was_thought(VendorWire::Gemini, Way::BuiltIn).await;
}

/// A conversation that is too long is summed up by the vendor in the middle of a turn, and Codex goes on from the summary:
/// asked for in words (`Way::Custom`), or as what OpenAI alone offers (`Way::BuiltIn`).
async fn codex_goes_on_when_its_conversation_is_too_long(vendor: VendorWire, way: Way) {
    let Some(codex) = Codex::install().await else { return };
    let models = vec![CODEX_MODEL.to_owned()];
    let world = at(vendor, Setup { models, ..setup() }).await;
    let too_long = Usage {
        input: 60_000,
        cached: 0,
        output: 20,
        reasoning: 0,
    };
    let call = Output::Call {
        name: "exec_command".to_owned(),
        arguments: r#"{"cmd":"echo marker"}"#.to_owned(),
    };
    world.vendor.next(Script::turn(vec![call]).usage(too_long));
    world.vendor.next(Script::message("All of it in short. "));
    world.vendor.next(Script::message("It is done. "));
    let run = Run {
        arguments: &["-c", "model_auto_compact_token_limit=30000"],
        ..Run::new(way, &world.agent.base_url(), &world.agent.key)
    };
    let outcome = codex.exec(&run).await;
    assert_eq!(outcome.stdout.trim(), "It is done.", "{outcome:#?}");
    assert_untroubled(&outcome);
    let posts = world.vendor.posts();
    assert_eq!(posts.len(), 3, "{outcome:#?}");
    let told = String::from_utf8_lossy(&posts[2].body);
    assert!(told.contains("All of it in short."), "{told}");
    assert!(
        !told.contains("echo marker"),
        "what was summed up is sent again: {told}"
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_sums_up_in_words_at_a_vendor_of_chat() {
    codex_goes_on_when_its_conversation_is_too_long(VendorWire::Chat, Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_sums_up_in_words_at_a_vendor_of_messages() {
    codex_goes_on_when_its_conversation_is_too_long(VendorWire::Messages, Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_sums_up_remotely_at_a_vendor_of_chat() {
    codex_goes_on_when_its_conversation_is_too_long(VendorWire::Chat, Way::BuiltIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_sums_up_remotely_at_a_vendor_of_messages() {
    codex_goes_on_when_its_conversation_is_too_long(VendorWire::Messages, Way::BuiltIn).await;
}

fn create(mut more: Value) -> String {
    let mut message = json!({"type": "response.create", "model": MODEL, "max_output_tokens": 500, "store": false});
    message.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    message.to_string()
}

/// By both ways in.
async fn sockets(world: &World) -> [Socket; 2] {
    [
        Socket::responses(world.agent.addr(), &world.agent.key).await.unwrap(),
        Socket::responses(world.hub.http(), &world.key).await.unwrap(),
    ]
}

async fn ask(socket: &mut Socket, more: Value) -> Vec<Value> {
    socket.send(&create(more)).await.unwrap();
    let told = socket.answer().await.unwrap();
    told.iter().map(|told| serde_json::from_str(told).unwrap()).collect()
}

fn says(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_from_the_answer_that_its_client_names() {
    let world = at(VendorWire::Chat, setup()).await;
    for (socket, calls) in sockets(&world).await.iter_mut().zip(0..) {
        for text in ["One. ", "Two. "] {
            world.vendor.next(Script::message(text));
        }
        let warm = ask(socket, json!({"input": [says("a")], "generate": false})).await;
        let id = warm.last().unwrap()["response"]["id"].clone();
        assert_eq!(world.vendor.posts().len(), 3 * calls, "nothing was generated");
        let first = ask(socket, json!({"input": [says("b")], "previous_response_id": id})).await;
        let kinds: Vec<_> = first.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            (kinds[0], *kinds.last().unwrap()),
            ("response.created", "response.completed")
        );
        let deltas = first
            .iter()
            .filter(|event| event["type"] == "response.output_text.delta");
        assert_eq!(
            deltas.map(|event| event["delta"].as_str().unwrap()).collect::<String>(),
            "One. "
        );
        let id = first.last().unwrap()["response"]["id"].clone();
        let second = ask(socket, json!({"input": [says("c")], "previous_response_id": id})).await;
        assert_eq!(second.last().unwrap()["type"], "response.completed");
        let asked: Value = serde_json::from_slice(&world.vendor.posts().pop().unwrap().body).unwrap();
        let said = asked["messages"].as_array().unwrap().iter();
        let said: Vec<_> = said.map(|message| message["content"].as_str().unwrap()).collect();
        assert_eq!(said, ["a", "b", "One. ", "c"], "{asked}");
        // What is not known here is asked for again, in the words that Codex knows.
        let unknown = ask(
            socket,
            json!({"input": [says("d")], "previous_response_id": "resp_other"}),
        )
        .await;
        assert_eq!(
            (&unknown[0]["status"], &unknown[0]["error"]["code"]),
            (&json!(400), &json!("previous_response_not_found"))
        );
        let whole = ask(socket, json!({"input": "e"})).await;
        assert_eq!(whole.last().unwrap()["type"], "response.completed");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_told_with_one_status_and_the_socket_goes_on() {
    let world = at(VendorWire::Messages, setup()).await;
    for mut socket in sockets(&world).await {
        let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        world.vendor.next(Script::json(529, &overloaded));
        let cases = [
            (create(json!({"input": "x"})), 503, "server_is_overloaded"),
            (
                create(json!({"input": "x", "model": "unknown"})),
                404,
                "model_not_found",
            ),
            (create(json!({"input": 7})), 400, "invalid_request"),
            (json!({"type": "response.other"}).to_string(), 400, "invalid_request"),
            ("{".to_owned(), 400, "invalid_request"),
        ];
        for (message, status, code) in cases {
            socket.send(&message).await.unwrap();
            let told: Value = serde_json::from_str(&socket.answer().await.unwrap()[0]).unwrap();
            assert_eq!(
                (&told["type"], &told["status"]),
                (&json!("error"), &json!(status)),
                "{told}"
            );
            assert_eq!(told["error"]["code"], code, "{told}");
            assert!(told["error"]["message"].is_string(), "{told}");
        }
        world.vendor.next(Script::message("Well. "));
        let answer = ask(&mut socket, json!({"input": "x"})).await;
        assert_eq!(answer.last().unwrap()["type"], "response.completed");
        socket.close().await.unwrap();
        assert!(matches!(socket.next().await.unwrap(), Message::Close(Some(1000))));
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_its_socket_cancels_the_call_at_the_vendor() {
    let world = at(VendorWire::Chat, setup()).await;
    for (mut socket, calls) in sockets(&world).await.into_iter().zip(1..) {
        let gate = Gate::new(3);
        world.vendor.next(Script::deltas(50, 20).gate(&gate));
        socket.send(&create(json!({"input": "x"}))).await.unwrap();
        assert!(matches!(socket.next().await.unwrap(), Message::Text(text) if text.contains("response.created")));
        drop(socket);
        let rows = world.books().settled(calls).await;
        assert_eq!(rows.last().unwrap().ending, "client_gone");
    }
    world.assert_sound().await;
}
