//! A body that was cut, reset or cancelled never looks complete, and those who leave hurt nobody who stays.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use relay_tests::vendor::{Break, Ended, Gate, Output, Script, Vendor};
use relay_tests::world::World;
use relay_tests::{
    client::{Client, Live, Whole},
    within::within,
};

use crate::{ask, events, setup};

/// Where the vendor breaks off: right after its head, in the first event, between and inside small events, and inside
/// one that is too large to be held back.
const CUTS: [usize; 5] = [0, 1, 700, 70_000, 400_000];
/// What the sockets' buffers hold surely: a reset vendor's kernel throws away what they did not.
const IN_FLIGHT: usize = 10_000;

fn huge() -> Script {
    Script::turn(vec![Output::Text(vec!["x".repeat(1_000_000)])])
}

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

async fn never_looks_complete(link: &'static str) {
    let world = crate::Setup { link, ..setup() }.start().await;
    for (way, client) in ways(&world) {
        for how in [Break::Fin, Break::Reset] {
            for cut in CUTS {
                let case = format!("{way}, {how:?} after {cut} bytes");
                let is_all_there = how == Break::Fin || cut <= IN_FLIGHT;
                let began = Instant::now();
                world.vendor.next(huge().cut(cut, how));
                let answer = client.post("/responses", ask(true)).await;
                let answer = answer.unwrap_or_else(|error| panic!("{case}: no head: {error:#}"));
                stream_is_cut(&case, &answer.rest().await, &written(&world), is_all_there);

                world.vendor.next(huge().cut(cut, how));
                let answer = client.post("/responses", ask(false)).await;
                let answer = answer.unwrap_or_else(|error| panic!("{case}: no head: {error:#}"));
                whole_is_cut(&case, &answer.rest().await, &written(&world));

                world
                    .vendor
                    .next(Script::message(&"x".repeat(2_000)).cut(cut.min(1_000), how));
                let answer = client.post("/responses", ask(false)).await;
                let answer = answer.unwrap_or_else(|error| panic!("{case}: no head: {error:#}"));
                let answer = answer.rest().await;
                let code = answer.error_code();
                assert_eq!((answer.status.as_u16(), code.as_str()), (502, "server_error"), "{case}");
                assert_eq!(answer.cut, None, "{case}");
                let took = began.elapsed();
                assert!(
                    took < within(Duration::from_secs(3)),
                    "{case}: three calls took {took:?}"
                );
            }
        }
    }
    world.assert_sound().await;
}

/// The bytes of the body that the vendor has written last.
fn written(world: &World) -> Vec<u8> {
    world.vendor.posts().last().unwrap().sent.bytes().to_vec()
}

/// Inside an event nothing of ours can follow: all that the vendor wrote, and a broken connection. Between events the
/// client is told, after all whole events.
fn stream_is_cut(case: &str, answer: &Whole, written: &[u8], is_all_there: bool) {
    assert_eq!(answer.status, 200, "{case}: {answer:?}");
    let is_told = events(&answer.body)
        .last()
        .is_some_and(|event| event["type"] == "response.failed");
    assert!(
        answer.cut.is_some() != is_told,
        "{case}: cut {:?}, told {is_told}, after {} bytes",
        answer.cut,
        answer.body.len()
    );
    let body = answer.text();
    let (passed, expected) = if is_told {
        let ours = body.rfind("event: response.failed").unwrap();
        let text = std::str::from_utf8(written).unwrap();
        (
            &answer.body[..ours],
            &written[..text.rfind("\n\n").map_or(0, |end| end + 2)],
        )
    } else {
        (&answer.body[..], written)
    };
    let is_right = if is_all_there {
        passed == expected
    } else {
        expected.starts_with(passed)
    };
    assert!(is_right, "{case}: {} of {} bytes came", passed.len(), expected.len());
}

fn whole_is_cut(case: &str, answer: &Whole, written: &[u8]) {
    let (status, code) = (answer.status.as_u16(), answer.error_code());
    let is_refusal = answer.cut.is_none() && (status, code.as_str()) == (502, "server_error");
    let is_cut = answer.cut.is_some() && status == 200 && written.starts_with(&answer.body);
    assert!(
        is_cut || is_refusal,
        "{case}: {status} {code} {:?}, {} of {} bytes",
        answer.cut,
        answer.body.len(),
        written.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_never_looks_complete_over_quic() {
    never_looks_complete("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_never_looks_complete_over_http2() {
    never_looks_complete("h2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_link_is_cut_never_looks_complete() {
    let mut world = crate::Setup { link: "h2", ..setup() }.start().await;
    let gate = Gate::new(6);
    world.vendor.next(Script::deltas(50, 20).gate(&gate));
    let client = world.through_agent();
    let mut answer = client.post("/responses", ask(true)).await.unwrap();
    answer.until("output_text.delta").await.unwrap();
    world.chaos.cut_tcp();
    let rest = tokio::time::timeout(Duration::from_secs(5), answer.rest())
        .await
        .expect("told within seconds");
    let is_failed = events(&rest.body)
        .last()
        .is_some_and(|event| event["type"] == "response.failed");
    assert!(rest.cut.is_some() || is_failed, "a silent end: {rest:?}");
    gate.release(100);
    let again = client.post("/responses", ask(true)).await.unwrap().rest().await;
    assert_eq!((again.status.as_u16(), again.cut), (200, None));
    assert!(world.agent.program().is_running());
    world.assert_sound().await;
}

async fn leavers_hurt_nobody(link: &'static str) {
    let world = crate::Setup { link, ..setup() }.start().await;
    let client = world.through_agent();
    // One event each, so that every answer has begun; then all wait.
    let gates: Vec<Gate> = (0..72).map(|_| Gate::new(1)).collect();
    gates
        .iter()
        .for_each(|gate| world.vendor.next(Script::deltas(20, 30).gate(gate)));
    let mut all = join_all((0..72).map(|_| open(&client))).await;
    let stayers = all.split_off(64);
    let left = Instant::now();
    drop(all);
    let is_gone = |vendor: &Vendor| {
        vendor
            .truth()
            .entries()
            .iter()
            .filter(|entry| entry.ended == Ended::ClientGone)
            .count()
            == 64
    };
    world
        .vendor
        .until("64 calls cancelled", Duration::from_secs(5), is_gone)
        .await;
    let took = left.elapsed();
    eprintln!("64 calls were cancelled at the vendor after {took:?}");
    assert!(
        took < within(Duration::from_secs(1)),
        "the vendor's calls were cancelled after {took:?}"
    );
    gates.iter().for_each(|gate| gate.release(1_000));
    for answer in join_all(stayers.into_iter().map(Live::rest)).await {
        assert_eq!(answer.cut, None);
        assert_eq!(events(&answer.body).last().unwrap()["type"], "response.completed");
    }
    let next = client.post("/responses", ask(true)).await.unwrap().rest().await;
    assert_eq!((next.status.as_u16(), next.cut), (200, None));
    let rows = world.books().settled(73).await;
    let count = |ending: &str| rows.iter().filter(|row| row.ending == ending).count();
    assert_eq!((count("client_gone"), count("completed")), (64, 9), "{rows:#?}");
    world.assert_sound().await;
}

/// A call whose answer has begun.
async fn open(client: &Client) -> Live {
    let mut answer = client.post("/responses", ask(true)).await.unwrap();
    answer.until("response.created").await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_that_leave_together_hurt_no_other_over_quic() {
    leavers_hurt_nobody("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_that_leave_together_hurt_no_other_over_http2() {
    leavers_hurt_nobody("h2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_after_the_last_event_has_succeeded() {
    let world = setup().start().await;
    world
        .vendor
        .otherwise(Script::deltas(5, 10).linger(Duration::from_secs(30)));
    for _ in 0..10 {
        let mut answer = world.through_agent().post("/responses", ask(true)).await.unwrap();
        answer.until("\"response.completed\"").await.unwrap();
        drop(answer);
    }
    let rows = world.books().settled(10).await;
    assert!(rows.iter().all(|row| row.ending == "completed"), "{rows:#?}");
    world.assert_billed_truly().await;
}
