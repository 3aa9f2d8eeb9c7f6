//! Server-sent events.

use super::*;
use crate::config::LocalKey;

#[tokio::test]
async fn events_come_through_at_once_and_the_terminal_one_ends_the_body() {
    let mut world = World::new().await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    answer.send(CREATED).await;
    client.until("response.created").await;
    answer.send(COMPLETED).await;
    // The hub has not ended its body, and yet the client's is complete.
    let text = client.until("\r\n0\r\n\r\n").await;
    assert_eq!(unchunked(&text), format!("{CREATED}{COMPLETED}"));
}

#[tokio::test]
async fn only_whole_events_go_out() {
    let mut world = World::new().await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    for byte in CREATED.as_bytes().chunks(7).chain(COMPLETED.as_bytes().chunks(7)) {
        answer.send(byte.to_vec()).await;
    }
    let text = client.until("\r\n0\r\n\r\n").await;
    assert_eq!(unchunked(&text), format!("{CREATED}{COMPLETED}"));
}

#[tokio::test]
async fn a_break_becomes_response_failed_and_a_clean_end() {
    let mut world = World::new().await;
    for half in ["", "event: response.output_text.delta\ndata: {\"type\":\"resp"] {
        let (mut client, call) = world.streaming("/v1/responses").await;
        let answer = call.answer(200, SSE);
        answer.send(CREATED).await;
        answer.send(half).await;
        client.until("response.created").await;
        answer.cut().await;
        let body = unchunked(&client.until("\r\n0\r\n\r\n").await);
        let failed = body.strip_prefix(CREATED).expect("what had come");
        assert!(failed.starts_with("event: response.failed\ndata: {"), "{failed}");
        assert!(failed.contains("server_error") && failed.ends_with("\n\n"), "{failed}");
    }
}

#[tokio::test]
async fn a_break_in_a_chat_becomes_an_error_event() {
    let mut world = World::new().await;
    let (mut client, call) = world.streaming("/v1/chat/completions").await;
    let answer = call.answer(200, SSE);
    let chunk = "data: {\"choices\":[]}\n\n";
    answer.send(chunk).await;
    client.until("choices").await;
    answer.cut().await;
    let body = unchunked(&client.until("\r\n0\r\n\r\n").await);
    let error = body.strip_prefix(chunk).expect("what had come");
    assert!(error.starts_with("data: {\"error\":"), "{error}");
}

#[tokio::test]
async fn a_break_inside_a_huge_event_breaks_the_connection() {
    let mut world = World::new().await;
    let (client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    answer
        .send(format!("data: {{\"type\":\"x\",\"pad\":\"{}", "y".repeat(200 << 10)))
        .await;
    answer.cut().await;
    let text = closed(client).await;
    assert!(
        !text.contains("\r\n0\r\n\r\n") && !text.contains("response.failed"),
        "it must not look complete"
    );
}

#[tokio::test]
async fn a_break_in_a_whole_answer_breaks_the_connection() {
    let mut world = World::new().await;
    for length in [
        &[("content-type", "application/json")][..],
        &[("content-length", "100")][..],
    ] {
        let (client, call) = world.streaming("/v1/responses").await;
        let answer = call.answer(200, length);
        answer.send("{\"half\":").await;
        answer.cut().await;
        let text = closed(client).await;
        assert!(!text.contains("\r\n0\r\n\r\n"), "it must not look complete: {text}");
    }
}

#[tokio::test]
async fn a_clean_end_without_a_terminal_event_stays_what_it_is() {
    let mut world = World::new().await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    answer.send(CREATED).await;
    answer.end();
    assert_eq!(unchunked(&client.until("\r\n0\r\n\r\n").await), CREATED);
}

#[tokio::test]
async fn silence_is_filled_with_events_that_clients_count_as_life() {
    let mut world = World::with(Duration::from_millis(40), LocalKey::Required).await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    answer.send(CREATED).await;
    // Half an event is held back, so that a sign of life may go out before it.
    answer.send(&COMPLETED.as_bytes()[..20]).await;
    let life = "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n";
    client.until("keepalive\"}").await;
    client.until(&format!("{life}\r\n")).await;
    answer.send(&COMPLETED.as_bytes()[20..]).await;
    let body = unchunked(&client.until("\r\n0\r\n\r\n").await);
    let lives = body.strip_prefix(CREATED).unwrap().strip_suffix(COMPLETED).unwrap();
    assert!(!lives.is_empty() && lives.replace(life, "").is_empty(), "{lives}");
}

#[tokio::test]
async fn no_sign_of_life_goes_out_inside_a_huge_event() {
    let mut world = World::with(Duration::from_millis(20), LocalKey::Required).await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    let huge = format!("data: {{\"type\":\"x\",\"pad\":\"{}\"}}\n\n", "y".repeat(200 << 10));
    let (first, last) = huge.split_at(150 << 10);
    answer.send(first.to_owned()).await;
    client.until("yyyy").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    answer.send(last.to_owned()).await;
    answer.send(COMPLETED).await;
    let body = unchunked(&client.until("\r\n0\r\n\r\n").await);
    assert!(body.starts_with(&huge) && body.ends_with(COMPLETED));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_end_cancels_the_answer() {
    let mut world = World::new().await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    answer.send(CREATED).await;
    client.until("response.created").await;
    drop(client);
    answer.cancelled().await;
}

#[tokio::test]
async fn a_client_that_leaves_after_the_terminal_event_cancels_nothing() {
    let mut world = World::new().await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    let answer = call.answer(200, SSE);
    answer.send(COMPLETED).await;
    client.until("response.completed").await;
    drop(client);
    // The agent still reads: more of these than any queue holds are taken.
    for _ in 0..200 {
        answer.send(": trailer\n\n").await;
    }
    answer.end();
}

#[tokio::test]
async fn sixty_four_clients_that_leave_together_hurt_nobody() {
    let mut world = World::new().await;
    let (mut stays, call) = world.streaming("/v1/responses").await;
    let kept = call.answer(200, SSE);
    let mut leaving = Vec::new();
    for _ in 0..64 {
        let (client, call) = world.streaming("/v1/responses").await;
        let answer = call.answer(200, SSE);
        answer.send(CREATED).await;
        leaving.push((client, answer));
    }
    let answers: Vec<_> = leaving
        .into_iter()
        .map(|(client, answer)| {
            drop(client);
            answer
        })
        .collect();
    for answer in &answers {
        answer.cancelled().await;
    }
    kept.send(COMPLETED).await;
    stays.until("\r\n0\r\n\r\n").await;
    assert_eq!(world.tasks.panics(), 0);
}
