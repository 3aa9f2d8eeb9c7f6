//! Every way in which a call can end costs what docs/endings.md says, is settled once, and gives its slot back.
//! Endings of answers that are whole, and refusals, are in `money`; the death of the hub is in `crash`.

use std::time::{Duration, Instant};

use relay_tests::client::{Client, Live};
use relay_tests::socket::{Message, Socket};
use relay_tests::vendor::{Break, Ended, Ending, Gate, Script, Usage, Vendor};
use relay_tests::world::World;
use relay_tests::{books::Row, within::within};
use serde_json::json;

use crate::{MODEL, ask, ask_chat, events, setup};

const PATIENCE: Duration = Duration::from_secs(10);
/// Events before the first text of a Responses stream.
const BEFORE_TEXT: usize = 4;

async fn on_abort(world: &World, policy: &str) {
    let words = ["tenant", "set", "acme", "--on-abort", policy];
    world.hub.command(&words).await.succeeded();
    seen(world).await;
}

/// A key that nobody has makes the hub look into its store.
async fn seen(world: &World) {
    let nobody = format!("rk_0000000000000000_{}", "A".repeat(43));
    let stranger = Client::new(&format!("http://{}/v1", world.hub.http()), &nobody);
    assert_eq!(stranger.get("/models").await.unwrap().status, 401);
}

/// One call at once: the next one runs when the slot of the one before is free.
async fn one_at_once(world: &World) {
    let words = ["limit", "set", "--tenant", "acme", "--concurrent-calls", "1"];
    world.hub.command(&words).await.succeeded();
    seen(world).await;
}

/// A call that runs at once; until it ends another waits.
async fn runs_within_a_second(client: &Client) {
    let began = Instant::now();
    let next = client.post("/responses", ask(true)).await.unwrap().rest().await;
    assert_eq!(next.status, 200, "{}", next.text());
    assert!(
        began.elapsed() < within(Duration::from_secs(1)),
        "{:?}",
        began.elapsed()
    );
}

/// Reads all that the vendor has sent of its newest call, which waits at a gate.
async fn all_sent(world: &World, answer: &mut Live, gate: &Gate) -> Vec<u8> {
    world.vendor.until("the gate", PATIENCE, |_| gate.waiting() == 1).await;
    let sent = world.vendor.truth().entries().last().unwrap().bytes_sent;
    let mut read = Vec::new();
    while read.len() < sent {
        read.extend_from_slice(&answer.next().await.unwrap().expect("more to come"));
    }
    assert_eq!(read.len(), sent);
    read
}

/// What the text of these events is estimated as, with a request of so many bytes: a token for four bytes.
fn estimate(body: &str, read: &[u8]) -> Usage {
    let text = |event: &serde_json::Value| {
        let delta = event["delta"]
            .as_str()
            .or(event["choices"][0]["delta"]["content"].as_str());
        delta.map_or(0, str::len)
    };
    let text: usize = events(read).iter().map(text).sum();
    Usage {
        input: body.len().div_ceil(4) as u64,
        output: text.div_ceil(4) as u64,
        ..Usage::default()
    }
}

async fn until_gone(vendor: &Vendor, limit: Duration) {
    let is_gone = |vendor: &Vendor| vendor.truth().entries().last().unwrap().ended == Ended::ClientGone;
    vendor.until("the cancel", within(limit), is_gone).await;
}

/// The newest row, once nothing is open.
async fn newest(world: &World, rows: usize) -> Row {
    let mut all = world.books().settled(rows).await;
    assert_eq!(all.len(), rows, "{all:#?}");
    all.pop().unwrap()
}

async fn assert_estimated(world: &World, row: &Row, ending: &str, usage: Usage) {
    let cost = world.books().cost(MODEL, usage).await;
    assert_eq!(
        (row.ending.as_str(), row.source.as_deref()),
        (ending, Some("estimated")),
        "{row:#?}"
    );
    assert_eq!((row.usage, row.charged), (Some(usage), cost), "{row:#?}");
}

fn assert_free(row: &Row, ending: &str) {
    assert_eq!(
        (row.ending.as_str(), row.charged, row.usage),
        (ending, 0, None),
        "{row:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vendor_breaks_off_is_free() {
    let hub_toml = "[limits]\nidle_timeout = \"1s\"\nfirst_byte_timeout = \"1s\"\n".to_owned();
    let world = crate::Setup { hub_toml, ..setup() }.start().await;
    let silent = |script: Script| script.silence(BEFORE_TEXT + 2, Duration::from_secs(600));
    let mut rows = 0;
    for client in [world.through_agent(), world.through_hub()] {
        for (script, ending) in [
            (Script::deltas(9, 40).cut(2_500, Break::Fin), "vendor_cut"),
            (Script::deltas(9, 40).cut(2_500, Break::Reset), "vendor_cut"),
            (Script::deltas(9, 40).ending(Ending::Missing), "vendor_cut"),
            (silent(Script::deltas(9, 40)), "vendor_timeout"),
            (Script::hang(), "vendor_timeout"),
            (Script::failed("server_error", "x"), "failed"),
            (Script::error(500, "server_error", None, "x"), "vendor_error"),
            (Script::hang_up(Break::Reset), "vendor_error"),
        ] {
            world.vendor.next(script);
            let answer = client.post("/responses", ask(true)).await.unwrap().rest().await;
            assert_eq!(answer.cut, None, "it ends in words: {answer:?}");
            rows += 1;
            assert_free(&newest(&world, rows).await, ending);
        }
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_charged_for_what_came_where_its_tenant_cuts() {
    let world = setup().start().await;
    one_at_once(&world).await;
    let mut rows = 0;
    for client in [world.through_agent(), world.through_hub()] {
        for (path, body) in [
            ("/responses", ask(true)),
            ("/chat/completions", ask_chat(json!({"stream": true}))),
        ] {
            let gate = Gate::new(BEFORE_TEXT + 7);
            world.vendor.next(Script::deltas(40, 30).gate(&gate));
            let mut answer = client.post(path, body.clone()).await.unwrap();
            let read = all_sent(&world, &mut answer, &gate).await;
            drop(answer);
            let left = Instant::now();
            until_gone(&world.vendor, Duration::from_secs(1)).await;
            eprintln!("{path}: the vendor's call was cancelled after {:?}", left.elapsed());
            rows += 1;
            let row = newest(&world, rows).await;
            assert!(estimate(&body, &read).output > 0);
            assert_estimated(&world, &row, "client_gone", estimate(&body, &read)).await;
            runs_within_a_second(&client).await;
            rows += 1;
        }
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_charged_to_the_unit_where_its_tenant_drains() {
    let world = setup().start().await;
    on_abort(&world, "drain").await;
    one_at_once(&world).await;
    for client in [world.through_agent(), world.through_hub()] {
        for (path, body) in [
            ("/responses", ask(true)),
            ("/chat/completions", ask_chat(json!({"stream": true}))),
        ] {
            let gate = Gate::new(BEFORE_TEXT + 7);
            world.vendor.next(Script::deltas(40, 30).gate(&gate));
            let mut answer = client.post(path, body).await.unwrap();
            all_sent(&world, &mut answer, &gate).await;
            drop(answer);
            runs_within_a_second(&client).await;
            gate.release(1_000);
        }
        // Before its head, of a stream and of a document.
        for stream in [true, false] {
            let gate = Gate::new(0);
            world
                .vendor
                .next(Script::deltas(3, 30).gate(&gate).delay(Duration::from_millis(300)));
            let before = world.vendor.posts().len();
            let call = client.post("/responses", ask(stream));
            tokio::select! {
                _ = call => panic!("the vendor waits"),
                () = world.vendor.until("the call", PATIENCE, |vendor| vendor.posts().len() > before) => {}
            }
            gate.release(1_000);
        }
    }
    let rows = world.books().settled(12).await;
    let ended = |ending| rows.iter().filter(|row| row.ending == ending).count();
    assert!(
        ended("client_gone") >= 4 && ended("client_gone") + ended("completed") == 12,
        "{rows:#?}"
    );
    assert!(
        rows.iter().all(|row| row.source.as_deref() == Some("reported")),
        "{rows:#?}"
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_models_tokenizer_is_known_it_counts_what_the_vendor_did_not() {
    let world = setup().start().await;
    let client = world.through_hub();
    // "Say something." and its JSON; the answer is known to have 2 tokens a time.
    let ask = |model: &str| ask(true).replace(MODEL, model);
    let words = "hello world ".repeat(50);
    let mut charged = Vec::new();
    for (model, script) in [
        ("gpt-5", Script::message(&words).no_usage()),
        (
            "gpt-5",
            Script::message(&words).usage(Usage {
                input: 5,
                cached: 6,
                output: 5,
                reasoning: 0,
            }),
        ),
        (MODEL, Script::message(&words).no_usage()),
    ] {
        world.vendor.next(script);
        let answer = client.post("/responses", ask(model)).await.unwrap().rest().await;
        assert_eq!((answer.status.as_u16(), answer.cut), (200, None));
        let row = newest(&world, charged.len() + 1).await;
        charged.push((row.usage.unwrap(), row.detail.unwrap()["flags"].clone(), row.source));
    }
    let [
        (counted, flags, _),
        (unsound, flags_of_unsound, _),
        (guessed, flags_of_guessed, _),
    ] = &charged[..]
    else {
        panic!("three")
    };
    // The last space stands alone.
    assert_eq!(counted.output, 101, "{charged:#?}");
    assert!((20..60).contains(&counted.input), "{charged:#?}");
    assert_eq!((unsound.input, unsound.output), (counted.input, counted.output));
    assert_eq!((flags, flags_of_unsound), (&json!(["unreported"]), &json!(["unsound"])));
    assert_eq!(guessed.output, (12 * 50) / 4);
    assert_eq!(flags_of_guessed, &json!(["unreported", "by_bytes"]));
    assert!(
        charged
            .iter()
            .all(|(_, _, source)| source.as_deref() == Some("estimated"))
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_on_for_a_client_that_left_ends_at_its_limits() {
    let hub_toml = "[limits]\nabort_drain_timeout = \"500ms\"\nabort_drain_bytes = \"4KiB\"\n".to_owned();
    let world = crate::Setup { hub_toml, ..setup() }.start().await;
    on_abort(&world, "drain").await;
    one_at_once(&world).await;
    let client = world.through_hub();
    // Time: the gate stays shut.
    let (body, gate) = (ask(true), Gate::new(BEFORE_TEXT + 7));
    world.vendor.next(Script::deltas(40, 30).gate(&gate));
    let mut answer = client.post("/responses", body.clone()).await.unwrap();
    let read = all_sent(&world, &mut answer, &gate).await;
    drop(answer);
    // While it is read on, its slot is free.
    runs_within_a_second(&client).await;
    let rows = world.books().settled(2).await;
    let row = rows.iter().find(|row| row.ending == "client_gone").unwrap();
    assert_estimated(&world, row, "client_gone", estimate(&body, &read)).await;
    // Bytes: far more than the limit follows.
    let gate = Gate::new(BEFORE_TEXT + 7);
    world.vendor.next(Script::deltas(2_000, 30).gate(&gate));
    let mut answer = client.post("/responses", body).await.unwrap();
    let read = all_sent(&world, &mut answer, &gate).await;
    drop(answer);
    runs_within_a_second(&client).await;
    gate.release(100_000);
    let rows = world.books().settled(4).await;
    let row = rows[2].clone();
    let charged = row.usage.unwrap().output;
    assert_eq!(
        (row.ending.as_str(), row.source.as_deref()),
        ("client_gone", Some("estimated"))
    );
    let least = estimate("", &read).output;
    assert!(
        (least..least + 1_024).contains(&charged),
        "{charged} of at least {least}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenants_running_calls_end_within_a_second_and_are_settled() {
    let world = setup().start().await;
    let mut rows = 0;
    for client in [world.through_agent(), world.through_hub()] {
        let (body, gate) = (ask(true), Gate::new(BEFORE_TEXT + 7));
        world.vendor.next(Script::deltas(40, 30).gate(&gate));
        let mut answer = client.post("/responses", body.clone()).await.unwrap();
        let read = all_sent(&world, &mut answer, &gate).await;
        world.hub.command(&["tenant", "suspend", "acme"]).await.succeeded();
        let told = Instant::now();
        let rest = answer.rest().await;
        let took = told.elapsed();
        until_gone(&world.vendor, Duration::from_secs(1)).await;
        assert!(took < within(Duration::from_secs(1)), "{took:?}");
        let last = events(&rest.body).pop().unwrap();
        assert_eq!(
            (rest.cut, last["type"].as_str()),
            (None, Some("response.failed")),
            "{last}"
        );
        assert!(last.to_string().contains("suspended"), "{last}");
        rows += 1;
        let row = newest(&world, rows).await;
        assert_estimated(&world, &row, "tenant_suspended", estimate(&body, &read)).await;
        world.hub.command(&["tenant", "resume", "acme"]).await.succeeded();
        seen(&world).await;
        runs_within_a_second(&client).await;
        rows += 1;
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_told_to_stop_cannot_wait_for_is_charged_as_far_as_it_came() {
    let hub_toml = "[limits]\ndrain_timeout = \"300ms\"\n".to_owned();
    let mut world = crate::Setup { hub_toml, ..setup() }.start().await;
    let (body, gate) = (ask(true), Gate::new(BEFORE_TEXT + 7));
    world.vendor.next(Script::deltas(40, 30).gate(&gate));
    let mut answer = world.through_hub().post("/responses", body.clone()).await.unwrap();
    let read = all_sent(&world, &mut answer, &gate).await;
    let (_, rest) = tokio::join!(world.hub.program().terminate(), answer.rest());
    let last = events(&rest.body).pop().unwrap();
    assert_eq!(
        (rest.cut, last["type"].as_str()),
        (None, Some("response.failed")),
        "{last}"
    );
    world.hub.command(&["ledger", "verify"]).await.succeeded();
    let row = newest(&world, 1).await;
    assert_estimated(&world, &row, "hub_draining", estimate(&body, &read)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_is_a_client_that_leaves() {
    // Over TCP the agent's machine says at once that it died.
    let mut world = crate::Setup { link: "h2", ..setup() }.start().await;
    let (body, gate) = (ask(true), Gate::new(BEFORE_TEXT + 7));
    world.vendor.next(Script::deltas(40, 30).gate(&gate));
    let mut answer = world.through_agent().post("/responses", body.clone()).await.unwrap();
    let read = all_sent(&world, &mut answer, &gate).await;
    world.agent.program().kill().await;
    until_gone(&world.vendor, PATIENCE).await;
    let row = newest(&world, 1).await;
    assert_estimated(&world, &row, "client_gone", estimate(&body, &read)).await;
    world.hub.command(&["ledger", "verify"]).await.succeeded();
}

fn create() -> String {
    json!({"type": "response.create", "model": MODEL, "input": "x", "max_output_tokens": 500}).to_string()
}

/// A socket with a call on it, of which a few words came.
async fn half_way(world: &World, at: std::net::SocketAddr, key: &str, gate: &Gate) -> Socket {
    world.vendor.next(Script::deltas(40, 30).gate(gate));
    let mut socket = Socket::responses(at, key).await.unwrap();
    socket.send(&create()).await.unwrap();
    world.vendor.until("the gate", PATIENCE, |_| gate.waiting() == 1).await;
    for _ in 0..BEFORE_TEXT + 7 {
        assert!(matches!(socket.next().await.unwrap(), Message::Text(_)));
    }
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_socket_too_a_client_that_leaves_is_cut_or_drained() {
    let world = setup().start().await;
    let ends = [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)];
    let seven = Usage {
        input: create().len().div_ceil(4) as u64,
        output: 7 * 30_u64.div_ceil(4),
        ..Usage::default()
    };
    let mut rows = 0;
    for (at, key) in ends {
        let gate = Gate::new(BEFORE_TEXT + 7);
        drop(half_way(&world, at, key, &gate).await);
        rows += 1;
        let row = newest(&world, rows).await;
        assert_eq!(
            (row.ending.as_str(), row.source.as_deref()),
            ("client_gone", Some("estimated"))
        );
        let usage = row.usage.unwrap();
        assert!(
            usage.input == seven.input && usage.output.abs_diff(seven.output) <= 7,
            "{row:#?}"
        );
    }
    on_abort(&world, "drain").await;
    one_at_once(&world).await;
    for (at, key) in ends {
        for closes in [false, true] {
            let gate = Gate::new(BEFORE_TEXT + 7);
            let mut socket = half_way(&world, at, key, &gate).await;
            if closes {
                socket.close().await.unwrap();
            }
            drop(socket);
            runs_within_a_second(&world.through_hub()).await;
            gate.release(1_000);
            rows += 2;
            let all = world.books().settled(rows).await;
            let truth = world.vendor.truth().entries();
            let drained = &truth[truth.len() - 2];
            let row = all
                .iter()
                .find(|row| row.response_id.as_ref() == Some(&drained.response_id));
            let row = row.unwrap();
            assert_eq!(
                (row.ending.as_str(), row.usage),
                ("client_gone", drained.billed()),
                "{row:#?}"
            );
        }
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenants_sockets_are_closed() {
    let world = setup().start().await;
    for (at, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        let gate = Gate::new(BEFORE_TEXT + 7);
        let mut socket = half_way(&world, at, key, &gate).await;
        world.hub.command(&["tenant", "suspend", "acme"]).await.succeeded();
        let told = Instant::now();
        let Message::Text(text) = socket.next().await.unwrap() else {
            panic!("an error frame")
        };
        assert!(text.contains("tenant_suspended"), "{text}");
        assert!(told.elapsed() < within(Duration::from_secs(1)), "{:?}", told.elapsed());
        world.hub.command(&["tenant", "resume", "acme"]).await.succeeded();
        seen(&world).await;
    }
    let rows = world.books().settled(2).await;
    assert!(
        rows.iter()
            .all(|row| row.ending == "tenant_suspended" && row.charged > 0),
        "{rows:#?}"
    );
    world.assert_sound().await;
}

/// Some who speak chat leave out `[DONE]`.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_answer_that_said_why_it_ends_is_whole_without_its_last_word() {
    let world = setup().start().await;
    let chunk = |delta: &str, finish: &str| {
        format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n")
    };
    let usage = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":9,\"total_tokens\":49}}\n\n";
    let begun = chunk("{\"content\":\"Hello\"}", "\"\"");
    let whole = format!("{begun}{}{usage}", chunk("{}", "\"stop\""));
    let sends = |body: &str| Script::chunks("text/event-stream", vec![body.to_owned().into()]);
    let client = world.through_hub();
    world.vendor.next(sends(&whole));
    let answer = client
        .post("/chat/completions", ask_chat(json!({"stream": true})))
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(answer.text(), whole.replace(usage, ""));
    let row = newest(&world, 1).await;
    assert_eq!(
        (row.ending.as_str(), row.source.as_deref()),
        ("completed", Some("reported"))
    );
    world.vendor.next(sends(&begun));
    let answer = client
        .post("/chat/completions", ask_chat(json!({"stream": true})))
        .await
        .unwrap()
        .rest()
        .await;
    assert!(answer.text().contains("broke off"), "{}", answer.text());
    assert_free(&newest(&world, 2).await, "vendor_cut");
    world.assert_sound().await;
}
