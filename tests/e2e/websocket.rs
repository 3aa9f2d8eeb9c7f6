//! One client socket is one vendor socket: frames pass as they came, each `response.create` is paid for, the
//! warm-up is not.

use std::time::{Duration, Instant};

use relay_tests::vendor::{Ended, Gate, Output, Script, SocketFault, Upgrade};
use relay_tests::world::World;
use relay_tests::{
    socket::{Message, Opened, Socket},
    within::within,
};
use serde_json::{Value, json};

use crate::{MODEL, setup};

fn create(mut more: Value) -> String {
    let mut frame =
        json!({"type": "response.create", "model": MODEL, "input": "Say something.", "max_output_tokens": 500});
    frame.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    frame.to_string()
}

async fn through_agent(world: &World) -> Socket {
    Socket::responses(world.agent.addr(), &world.agent.key).await.unwrap()
}

async fn through_hub(world: &World) -> Socket {
    Socket::responses(world.hub.http(), &world.key).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_pass_as_they_came_in_both_directions() {
    let world = setup().start().await;
    for mut socket in [through_agent(&world).await, through_hub(&world).await] {
        let before = world.vendor.posts().len();
        let big = Script::turn(vec![Output::Text(vec!["é".repeat(2_600_000)])]);
        for script in [
            Script::deltas(9, 30),
            Script::deltas(5, 500).fragments(3),
            Script::deltas(4, 9).write_size(7),
            big,
        ] {
            world.vendor.next(script);
            socket.send(&create(json!({"stream": true}))).await.unwrap();
            let answer = socket.answer().await.unwrap();
            assert!(answer.last().unwrap().contains("response.completed"));
        }
        world.vendor.next(Script::message("x "));
        let long = "y".repeat(1_080_000);
        socket.send_in_two(&create(json!({"input": long}))).await.unwrap();
        socket.answer().await.unwrap();
        let calls = world.vendor.posts().split_off(before);
        assert_eq!(calls.len(), 5);
        let sent: Vec<u8> = calls.iter().flat_map(|call| call.sent.bytes()).collect();
        let pong = b"\x8a\x0cstill there?";
        let at = socket
            .received
            .windows(pong.len())
            .position(|window| window == pong)
            .expect("a ping is answered");
        socket.received.drain(at..at + pong.len());
        assert!(
            socket.received == sent,
            "{} bytes received, {} sent",
            socket.received.len(),
            sent.len()
        );
        let text: Value = serde_json::from_slice(&calls[4].body).unwrap();
        assert_eq!(text["input"], long);
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_its_running_answer_when_its_account_is_disabled() {
    let world = setup().start().await;
    let gate = Gate::new(2);
    world.vendor.next(Script::message("a slow answer ").gate(&gate));
    let mut idle = through_agent(&world).await;
    let mut busy = through_hub(&world).await;
    busy.send(&create(json!({}))).await.unwrap();
    let Message::Text(first) = busy.next().await.unwrap() else {
        panic!("no event")
    };
    assert!(first.contains("response.created"), "{first}");

    world.hub.command(&["account", "disable", "main"]).await.succeeded();
    assert!(
        matches!(idle.next().await.unwrap(), Message::Close(Some(1001))),
        "an idle one ends at once"
    );
    gate.release(100);
    let answer = busy.answer().await.unwrap();
    assert!(answer.last().unwrap().contains("response.completed"), "{answer:?}");
    assert!(matches!(busy.next().await.unwrap(), Message::Close(Some(1001))));
    let rows = world.books().settled(1).await;
    assert_eq!(rows[0].ending, "completed");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_sends_reaches_the_vendor_frame_by_frame() {
    let world = setup().start().await;
    for way in ["agent", "hub"] {
        let mut socket = if way == "agent" {
            through_agent(&world).await
        } else {
            through_hub(&world).await
        };
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(
                socket
                    .send(&create(json!({"odd": "\u{e9}\\/ \u{1f600}"})))
                    .await
                    .unwrap(),
            );
            socket.answer().await.unwrap();
        }
        let log = world.vendor.sockets().pop().unwrap();
        let texts: Vec<Value> = world
            .vendor
            .posts()
            .iter()
            .rev()
            .take(3)
            .map(|call| serde_json::from_slice(&call.body).unwrap())
            .collect();
        assert!(texts.iter().all(|text| text["odd"] == "\u{e9}\\/ \u{1f600}"), "{way}");
        let received = log.received.bytes();
        assert_eq!(received.len(), sent.concat().len(), "{way}: as many bytes");
        assert_eq!(
            log.headers["authorization"],
            format!("Bearer {}", relay_tests::world::VENDOR_SECRET),
            "{way}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_is_forwarded_and_not_billed() {
    let world = setup().start().await;
    for mut socket in [through_agent(&world).await, through_hub(&world).await] {
        socket.send(&create(json!({"generate": false}))).await.unwrap();
        socket.answer().await.unwrap();
        socket.send(&create(json!({}))).await.unwrap();
        socket.answer().await.unwrap();
    }
    let rows = world.books().settled(4).await;
    let warm: Vec<_> = rows.iter().filter(|row| row.ending == "warmup").collect();
    assert_eq!(warm.len(), 2, "{rows:#?}");
    assert!(warm.iter().all(|row| row.charged == 0), "{rows:#?}");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asked_by_an_alias_is_told_of_no_other_model() {
    let world = crate::Setup {
        hub_toml: "[aliases]\n\"ours\" = \"test-model\"".to_owned(),
        ..setup()
    }
    .start()
    .await;
    let events = |model: &str| {
        [
            format!(
                r#"{{"type":"response.metadata", "headers":{{"OpenAI-Model": "{model}","x-request-id":"req_é"}}}}"#
            ),
            r#"{"type":"response.output_text.delta","delta":"\"headers\":{\"openai-model\":\"test-model\"}"}"#
                .to_owned(),
            format!(
                r#"{{"type":"response.completed","response":{{"id":"resp_1","headers":{{"openai-model":["{model}"]}},"model":"test-model","usage":{{"input_tokens":9,"output_tokens":3}}}}}}"#
            ),
        ]
    };
    for way in ["agent", "hub"] {
        world.vendor.next_upgrade(Upgrade::AcceptWith("openai-model", MODEL));
        let mut socket = match way {
            "agent" => through_agent(&world).await,
            _ => through_hub(&world).await,
        };
        assert!(!socket.head.contains("openai-model"), "{way}: {}", socket.head);
        for (asked, told) in [("ours", "ours"), (MODEL, MODEL)] {
            let chunks = events(MODEL).map(bytes::Bytes::from).to_vec();
            world.vendor.next(Script::chunks("text/event-stream", chunks));
            socket.send(&create(json!({"model": asked}))).await.unwrap();
            assert_eq!(socket.answer().await.unwrap(), events(told), "{way}, {asked}");
        }
    }
    let told_elsewhere = "gpt-of-nobody-s-alias";
    world
        .vendor
        .next_upgrade(Upgrade::AcceptWith("openai-model", told_elsewhere));
    let socket = through_hub(&world).await;
    assert!(socket.head.contains(told_elsewhere), "{}", socket.head);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_socket_at_the_vendor_the_client_is_told_at_once_to_use_http() {
    let world = crate::Setup {
        websocket: false,
        ..setup()
    }
    .start()
    .await;
    for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        // The first call may wait for the link; the promise is about the vendor.
        let _link_is_up = world.through_agent().get("/models").await.unwrap();
        let began = Instant::now();
        let opened = Socket::open(addr, "/v1/responses", &[format!("authorization: Bearer {key}")])
            .await
            .unwrap();
        let Opened::Refused(status, answer) = opened else {
            panic!("a socket to nowhere")
        };
        assert_eq!(status, 426, "{answer}");
        assert!(
            began.elapsed() < within(Duration::from_secs(1)),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(world.vendor.sockets().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_refuses_an_upgrade_is_answered_for() {
    let world = setup().start().await;
    let _link_is_up = world.through_agent().get("/models").await.unwrap();
    let refuse = |script: Script| Upgrade::Refuse(Box::new(script));
    let quota = Script::error(429, "insufficient_quota", Some("insufficient_quota"), "No quota.");
    for (upgrade, wanted) in [
        (refuse(quota), 429),
        (refuse(Script::text(400, "Plain words.")), 400),
        // From here on the relay knows that this vendor has none.
        (refuse(Script::error(426, "invalid_request_error", None, "no")), 426),
        (Upgrade::Accept, 426),
    ] {
        world.vendor.next_upgrade(upgrade);
        let lines = [format!("authorization: Bearer {}", world.agent.key)];
        let opened = Socket::open(world.agent.addr(), "/v1/responses", &lines).await.unwrap();
        let Opened::Refused(status, answer) = opened else {
            panic!("a socket to a vendor that said {wanted}")
        };
        assert_eq!(status, wanted, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_its_socket_cancels_the_vendor_within_a_second() {
    let world = setup().start().await;
    for way in ["agent", "hub"] {
        let gate = Gate::new(3);
        world.vendor.next(Script::deltas(50, 20).gate(&gate));
        let mut socket = if way == "agent" {
            through_agent(&world).await
        } else {
            through_hub(&world).await
        };
        socket.send(&create(json!({}))).await.unwrap();
        let Message::Text(_) = socket.next().await.unwrap() else {
            panic!("{way}: no event")
        };
        let number = world.vendor.truth().entries().len() - 1;
        // No close frame: a killed client just ends its connection.
        drop(socket);
        let gone = |vendor: &relay_tests::vendor::Vendor| vendor.truth().entries()[number].ended == Ended::ClientGone;
        world.vendor.until("the cancel", Duration::from_secs(1), gone).await;
    }
    let rows = world.books().settled(2).await;
    assert!(rows.iter().all(|row| row.ending == "client_gone"), "{rows:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_breaks_off_becomes_an_error_with_one_status() {
    let world = setup().start().await;
    for way in ["agent", "hub"] {
        for how in [relay_tests::vendor::Break::Fin, relay_tests::vendor::Break::Reset] {
            let mut socket = if way == "agent" {
                through_agent(&world).await
            } else {
                through_hub(&world).await
            };
            world.vendor.next(Script::deltas(50, 20).cut(3_000, how));
            socket.send(&create(json!({}))).await.unwrap();
            let mut last = None;
            let end = loop {
                match socket.next().await.unwrap() {
                    Message::Text(text) => last = Some(text),
                    other => break other,
                }
            };
            let error: Value = serde_json::from_str(&last.unwrap()).unwrap();
            assert_eq!(error["type"], "error", "{way}, {how:?}: {error}");
            assert!(
                error["status"].is_u64() && error["status_code"].is_null(),
                "{way}, {how:?}: {error}"
            );
            assert!(
                matches!(end, Message::Close(Some(_)) | Message::Cut),
                "{way}, {how:?}: {end:?}"
            );
        }
    }
    let rows = world.books().settled(4).await;
    assert!(rows.iter().all(|row| row.ending == "vendor_cut"), "{rows:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_and_error_frames_of_the_vendor_pass_unrenamed() {
    let world = setup().start().await;
    let error = json!({"type": "error", "status": 400, "error": {"code": "previous_response_not_found",
        "message": "no such response", "type": "invalid_request_error"}})
    .to_string();
    for way in ["agent", "hub"] {
        let open = async || {
            if way == "agent" {
                through_agent(&world).await
            } else {
                through_hub(&world).await
            }
        };
        let mut socket = open().await;
        world
            .vendor
            .next(Script::socket_fault(SocketFault::Frame(error.clone())));
        socket.send(&create(json!({}))).await.unwrap();
        assert_eq!(socket.answer().await.unwrap(), std::slice::from_ref(&error), "{way}");
        // The socket goes on after an error.
        socket.send(&create(json!({}))).await.unwrap();
        assert!(
            socket
                .answer()
                .await
                .unwrap()
                .last()
                .unwrap()
                .contains("response.completed"),
            "{way}"
        );
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_get_an_error_and_cost_nothing() {
    let world = setup().start().await;
    for way in ["agent", "hub"] {
        for frame in [
            "{",
            "[]",
            "{\"type\":\"response.create\"}",
            "{\"type\":\"response.create\",\"model\":7}",
        ] {
            let mut socket = if way == "agent" {
                through_agent(&world).await
            } else {
                through_hub(&world).await
            };
            socket.send(frame).await.unwrap();
            match socket.next().await.unwrap() {
                Message::Text(text) => {
                    let error: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(
                        (error["type"].as_str(), error["status"].as_u64()),
                        (Some("error"), Some(400)),
                        "{way}, {frame}"
                    );
                }
                other => panic!("{way}, {frame}: {other:?}"),
            }
        }
        let mut socket = if way == "agent" {
            through_agent(&world).await
        } else {
            through_hub(&world).await
        };
        socket
            .send(&json!({"type": "response.create", "model": "gpt-unheard-of"}).to_string())
            .await
            .unwrap();
        let Message::Text(text) = socket.next().await.unwrap() else {
            panic!("{way}")
        };
        assert!(
            text.contains("model_not_found") && text.contains("404"),
            "{way}: {text}"
        );
    }
    assert_eq!(world.vendor.posts().len(), 0, "a bad frame reached the vendor");
    let charged: i64 = world.books().rows().await.iter().map(|row| row.charged).sum();
    assert_eq!(charged, 0);
    world.assert_sound().await;
}
