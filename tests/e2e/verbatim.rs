//! The bytes that arrive are the bytes that leave, in both directions, whatever they are and however they come.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, Whole, contains};
use relay_tests::vendor::{Break, Call, Ending, Output, Script, Usage};
use relay_tests::world::World;
use serde_json::json;

use crate::{MODEL, ask, ask_chat, events, setup};

/// JSON that nobody would write, and that any parse-and-write would change.
fn odd_body() -> String {
    format!(
        "\r\n{{ \"input\" : \"\\u00e9\\/ \u{00e9} \\ud83d\\ude00\",\t\"n_big\":12345678901234567890123,\"e\":1e3, \
         \"model\":\"{MODEL}\" , \"unknown\":{{\"deep\":[[[[{{\"x\":-0.0}}]]]]}},\"stream\":false,\"z\":1.10 }}\n\n"
    )
}

/// Every way into the relay.
fn ways(world: &World) -> Vec<(&'static str, Client)> {
    let authority = world.hub.certificate_authority();
    let tls = |http2| Client::tls(world.hub.https(), &world.key, &authority, http2);
    vec![
        ("agent", world.through_agent()),
        ("hub over http", world.through_hub()),
        ("hub over https, HTTP/1.1", tls(false)),
        ("hub over https, HTTP/2", tls(true)),
    ]
}

async fn post(client: &Client, path: &str, body: impl Into<Bytes>) -> Whole {
    client.post(path, body).await.unwrap().rest().await
}

fn last(world: &World) -> Call {
    world.vendor.posts().pop().expect("the vendor was called")
}

#[tokio::test(flavor = "multi_thread")]
async fn request_bodies_reach_the_vendor_byte_for_byte() {
    let world = setup().start().await;
    let megabytes = format!("{{\"input\":\"{}\",\"model\":\"{MODEL}\"}}", "äx\\n".repeat(500_000));
    for (way, client) in ways(&world) {
        for (path, body) in [
            ("/responses", odd_body()),
            ("/responses", megabytes.clone()),
            ("/responses/compact", odd_body()),
            ("/chat/completions", ask_chat(json!({"odd": [1e3, -0.0]}))),
        ] {
            let answer = post(&client, path, body.clone()).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.cut),
                (200, &None),
                "{way} {path}: {}",
                answer.text()
            );
            let call = last(&world);
            assert_eq!(call.path, format!("/v1{path}"), "{way}");
            assert!(
                call.body == body.as_bytes(),
                "{way} {path}: {} bytes became {}",
                body.len(),
                call.body.len()
            );
            assert_eq!(call.headers["content-length"], body.len().to_string(), "{way}");
        }
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_request_bodies_are_forwarded_as_they_came() {
    let world = setup().start().await;
    let text: String = (0..3_000u64)
        .map(|n| format!("{:x} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let plain = format!("{{\"input\":\"{text}\",\"model\":\"{MODEL}\"}}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(plain.as_bytes()).unwrap();
    let mut br = Vec::new();
    brotli::BrotliCompress(&mut plain.as_bytes(), &mut br, &Default::default()).unwrap();
    let zstd = zstd::encode_all(plain.as_bytes(), 3).unwrap();
    for (coding, body) in [("gzip", gzip.finish().unwrap()), ("br", br), ("zstd", zstd)] {
        for (way, client) in ways(&world) {
            let request = client
                .request(Method::POST, "/responses")
                .header("content-encoding", coding);
            let request = request.header("content-type", "application/json");
            let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
            let answer = client.send(request).await.unwrap().rest().await;
            assert_eq!(answer.status, 200, "{way} {coding}: {}", answer.text());
            let call = last(&world);
            assert_eq!(call.headers["content-encoding"], coding, "{way}");
            assert!(call.body == body, "{way} {coding}");
        }
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_carry_a_conversation_pass_and_credentials_do_not() {
    let world = setup().start().await;
    let client = world.through_agent();
    let pass = [
        ("user-agent", "codex_exec/0.169.0 (Debian 12.0.0; x86_64)"),
        ("originator", "codex_exec"),
        ("openai-beta", "responses_websockets=2026-02-06"),
        ("session-id", "01a1"),
        ("thread-id", "01a2"),
        ("x-client-request-id", "01a3"),
        ("x-codex-turn-state", "opaque=="),
        ("x-codex-window-id", "01a4:0"),
        ("accept", "text/event-stream"),
    ];
    let stop = [
        ("cookie", "a=b"),
        ("x-api-key", "somebody's"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("proxy-authorization", "Basic eDp5"),
        ("x-real-ip", "10.0.0.1"),
        ("via", "1.1 nowhere"),
    ];
    let mut request = client
        .request(Method::POST, "/responses")
        .header("content-type", "application/json");
    for (name, value) in pass.iter().chain(&stop) {
        request = request.header(*name, *value);
    }
    let answer = client
        .send(request.body(Full::new(ask(true).into())).unwrap())
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let call = last(&world);
    for (name, value) in pass {
        assert_eq!(
            call.headers.get(name).map(|found| found.to_str().unwrap()),
            Some(value),
            "{name}"
        );
    }
    for (name, _) in stop {
        assert!(
            call.headers.get(name).is_none(),
            "{name} reached the vendor: {:?}",
            call.headers
        );
    }
    let secret = format!("Bearer {}", relay_tests::world::VENDOR_SECRET);
    assert_eq!(call.headers["authorization"], secret);
    for name in ["set-cookie", "alt-svc", "strict-transport-security", "content-encoding"] {
        assert!(
            answer.headers.get(name).is_none(),
            "{name} reached the client: {:?}",
            answer.headers
        );
    }
    for name in ["x-request-id", "openai-processing-ms", "cf-ray"] {
        assert!(
            answer.headers.get(name).is_some(),
            "{name} did not reach the client: {:?}",
            answer.headers
        );
    }
}

/// Answers in every shape, and the path that asks for each.
fn answers() -> Vec<(&'static str, &'static str, String, Script)> {
    let call = Output::Call {
        name: "exec_command".to_owned(),
        arguments: "{\"cmd\":\"ls\"}".to_owned(),
    };
    let huge = Output::Text(vec!["é".repeat(2_600_000)]);
    let crlf = "event: response.created\r\ndata: {\"type\":\"response.created\"}\r\n\r\n: a comment\r\n\r\n";
    let end = "event: response.completed\r\ndata: {\"type\":\"response.completed\",\r\ndata: \"response\":\
               {\"id\":\"resp_crlf\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"total_tokens\":2}}}\r\n\r\n";
    let odd = Script::chunks("text/event-stream", vec![crlf.into(), end.into()]);
    vec![
        ("unary", "/responses", ask(false), Script::message("Plain and simple. ")),
        ("stream", "/responses", ask(true), Script::deltas(50, 40)),
        ("tool call", "/responses", ask(true), Script::turn(vec![call])),
        (
            "7-byte writes",
            "/responses",
            ask(true),
            Script::deltas(20, 40).write_size(7),
        ),
        (
            "unary in 7-byte writes",
            "/responses",
            ask(false),
            Script::deltas(20, 40).write_size(7),
        ),
        (
            "one event of 5 MB",
            "/responses",
            ask(true),
            Script::turn(vec![huge.clone()]),
        ),
        ("5 MB in one body", "/responses", ask(false), Script::turn(vec![huge])),
        ("CRLF, comments, two data lines", "/responses", ask(true), odd),
        (
            "incomplete",
            "/responses",
            ask(true),
            Script::incomplete("max_output_tokens"),
        ),
        (
            "failed",
            "/responses",
            ask(true),
            Script::failed("server_error", "It broke."),
        ),
        ("compact", "/responses/compact", ask(false), Script::message("x")),
        (
            "chat",
            "/chat/completions",
            ask_chat(json!({})),
            Script::message("Plain and simple. "),
        ),
        (
            "chat stream with usage",
            "/chat/completions",
            ask_chat(json!({"stream": true, "stream_options": {"include_usage": true}})),
            Script::deltas(20, 10),
        ),
        (
            "an error",
            "/responses",
            ask(true),
            Script::error(400, "invalid_request_error", None, "No: ünïcode."),
        ),
        (
            "an error as text",
            "/responses",
            ask(true),
            Script::text(400, "Plain words.\n"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_reach_the_client_byte_for_byte() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        for (what, path, body, script) in answers() {
            let status = script.status;
            world.vendor.next(script);
            let answer = post(&client, path, body).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.cut),
                (status, &None),
                "{way}, {what}: {}",
                answer.text()
            );
            let sent = last(&world).sent.bytes();
            let (got, sent) = (&answer.body, &sent);
            assert!(
                got == sent,
                "{way}, {what}: {} bytes of {}: {}",
                got.len(),
                sent.len(),
                difference(got, sent)
            );
        }
    }
    world.assert_sound().await;
}

/// Where two byte strings part.
fn difference(got: &[u8], sent: &[u8]) -> String {
    let at = got.iter().zip(sent).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let end = bytes.len().min(at + 120);
        String::from_utf8_lossy(&bytes[at.saturating_sub(60)..end]).into_owned()
    };
    format!("at {at}:\n got  {}\n sent {}", around(got), around(sent))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_stream_loses_nothing_but_the_usage_chunk_we_asked_for() {
    let world = setup().start().await;
    let usage = Usage {
        input: 77,
        cached: 11,
        output: 33,
        reasoning: 5,
    };
    for (way, client) in ways(&world) {
        world.vendor.next(Script::deltas(12, 10).usage(usage));
        let body = ask_chat(json!({"stream": true, "z": "the last"}));
        let answer = post(&client, "/chat/completions", body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.cut),
            (200, &None),
            "{way}: {}",
            answer.text()
        );
        let call = last(&world);
        let mut asked: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(asked["stream_options"]["include_usage"], true, "{way}");
        asked.as_object_mut().unwrap().remove("stream_options");
        assert_eq!(
            asked,
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
            "{way}: nothing else changed"
        );
        let sent = String::from_utf8(call.sent.bytes().to_vec()).unwrap();
        let kept: String = sent
            .split_inclusive("\n\n")
            .filter(|event| !event.contains("\"choices\":[]"))
            .collect();
        assert!(kept.len() < sent.len(), "the vendor sent a usage chunk");
        assert_eq!(answer.text(), kept, "{way}");
    }
    world.assert_billed_truly().await;
}

/// A stream of a few small events: short enough to cut it everywhere.
fn small_stream() -> Vec<Bytes> {
    let delta = |text: &str| {
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"{text}\"}}\n\n"
        )
    };
    let end = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_cut\",\
               \"usage\":{\"input_tokens\":9,\"output_tokens\":3,\"total_tokens\":12}}}\n\n";
    vec![delta("a\\nb").into(), delta("é").into(), end.to_owned().into()]
}

/// Cut anywhere: the client gets the whole events before the cut, then one event that says so, and a clean end.
async fn cut_everywhere(link: &'static str, offsets: impl Iterator<Item = usize>) {
    let whole = small_stream().concat();
    let model = |at: usize| format!("cut-{at}");
    let offsets: Vec<usize> = offsets.filter(|at| *at > 0 && *at < whole.len()).collect();
    let models = offsets.iter().map(|at| model(*at)).collect();
    let world = crate::Setup {
        link,
        models,
        ..setup()
    }
    .start()
    .await;
    let client = world.through_agent();
    for at in &offsets {
        let how = if at % 2 == 0 { Break::Fin } else { Break::Reset };
        world.vendor.on_model(
            &model(*at),
            Script::chunks("text/event-stream", small_stream()).cut(*at, how),
        );
    }
    futures_util::stream::iter(offsets)
        .for_each_concurrent(8, |at| {
            let (client, whole) = (&client, &whole);
            async move {
                let body = json!({"model": model(at), "input": "x", "stream": true}).to_string();
                let answer = post(client, "/responses", body).await;
                assert_eq!(
                    (answer.status.as_u16(), &answer.cut),
                    (200, &None),
                    "cut at {at}: {}",
                    answer.text()
                );
                let boundary = whole[..at]
                    .windows(2)
                    .rposition(|two| two == b"\n\n")
                    .map_or(0, |end| end + 2);
                let (before, after) = answer.body.split_at(boundary.min(answer.body.len()));
                assert_eq!(before, &whole[..boundary], "cut at {at}");
                let added = events(after);
                assert_eq!(
                    added.len(),
                    1,
                    "cut at {at}: one event of ours: {}",
                    String::from_utf8_lossy(after)
                );
                assert_eq!(added[0]["type"], "response.failed", "cut at {at}");
                assert_eq!(added[0]["response"]["error"]["code"], "server_error", "cut at {at}");
            }
        })
        .await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_at_any_byte_ends_with_an_error_over_quic() {
    let length = small_stream().concat().len();
    cut_everywhere("quic", 1..length).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_at_any_byte_ends_with_an_error_over_http2() {
    let length = small_stream().concat().len();
    cut_everywhere("h2", (1..length).step_by(7)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_its_last_event_ends_with_an_error() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        world.vendor.next(Script::deltas(5, 10).ending(Ending::Missing));
        let answer = post(&client, "/responses", ask(true)).await;
        assert_eq!(answer.cut, None, "{way}");
        let sent = last(&world).sent.bytes();
        assert!(answer.body.starts_with(&sent), "{way}: what came is delivered");
        assert_eq!(
            events(&answer.body[sent.len()..])[0]["type"],
            "response.failed",
            "{way}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_arrives_when_it_is_sent() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        let gate = relay_tests::vendor::Gate::new(0);
        world.vendor.next(Script::deltas(5, 10).gate(&gate));
        gate.release(1);
        let mut answer = client.post("/responses", ask(true)).await.unwrap();
        let mut seen = answer.until("response.created").await.unwrap().to_vec();
        // Each further event is let go only when the one before has arrived: nothing may be held back.
        for _ in 0..12 {
            gate.release(1);
            match tokio::time::timeout(Duration::from_secs(5), answer.next())
                .await
                .expect(way)
                .unwrap()
            {
                Some(data) => seen.extend_from_slice(&data),
                None => break,
            }
        }
        assert!(contains(&seen, b"response.completed"), "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_no_lost_connection() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        world.vendor.next(Script::chunks("text/event-stream", Vec::new()));
        let answer = post(&client, "/responses", ask(true)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.cut),
            (200, &None),
            "{way}: {}",
            answer.text()
        );
        world.vendor.next(Script::chunks("application/json", Vec::new()));
        let answer = post(&client, "/responses", ask(false)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.cut),
            (200, &None),
            "{way}: {}",
            answer.text()
        );
    }
}
