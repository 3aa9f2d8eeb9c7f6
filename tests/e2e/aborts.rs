//! Clients that leave at any byte of an answer pay what their tenant's policy says of what the vendor made, and their
//! slots are free within a second.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use relay_tests::client::Client;
use relay_tests::vendor::Script;
use relay_tests::world::World;

use crate::{ask, events, setup};

const OFFSETS: usize = 50;
/// As many calls as the tenant may have at once: the next one gets its slot within a second, or is refused.
const AT_ONCE: usize = 16;

async fn world(policy: &str) -> World {
    let hub_toml = format!("[limits]\ncalls_per_tenant = {AT_ONCE}\nqueue_wait = \"1s\"\n");
    let world = crate::Setup { hub_toml, ..setup() }.start().await;
    let words = ["tenant", "set", "acme", "--on-abort", policy];
    world.hub.command(&words).await.succeeded();
    let nobody = format!("rk_0000000000000000_{}", "A".repeat(43));
    let stranger = Client::new(&format!("http://{}/v1", world.hub.http()), &nobody);
    assert_eq!(stranger.get("/models").await.unwrap().status, 401);
    world
        .vendor
        .otherwise(Script::deltas(12, 24).interval(Duration::from_millis(1)));
    world
}

/// Reads so many bytes at least, and leaves; what was read.
async fn leave_at(client: &Client, offset: usize) -> Vec<u8> {
    let mut answer = client.post("/responses", ask(true)).await.unwrap();
    assert_eq!(answer.status, 200, "its slot was not free within a second");
    let mut read = Vec::new();
    while read.len() < offset {
        match answer.next().await.unwrap() {
            Some(data) => read.extend_from_slice(&data),
            None => break,
        }
    }
    read
}

/// Leaves at each of fifty bytes of an answer, so many times each; what each client had read.
async fn leave_everywhere(world: &World, times: usize) -> Vec<Vec<u8>> {
    let client = world.through_hub();
    let whole = client
        .post("/responses", ask(true))
        .await
        .unwrap()
        .rest()
        .await
        .body
        .len();
    let offsets = (0..times).flat_map(|_| (0..OFFSETS).map(|at| whole * at / OFFSETS));
    let calls = stream::iter(offsets).map(|offset| leave_at(&client, offset));
    calls.buffer_unordered(AT_ONCE).collect().await
}

async fn drained(times: usize) {
    let world = world("drain").await;
    let left = leave_everywhere(&world, times).await.len();
    let rows = world.books().settled(left + 1).await;
    let gone = rows.iter().filter(|row| row.ending == "client_gone").count();
    eprintln!("{left} clients left, {gone} of them before the end; each is charged what the vendor bills");
    assert!(gone > left / 2, "{gone} of {left}");
    assert!(rows.iter().all(|row| row.source.as_deref() == Some("reported")));
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

fn text(bytes: &[u8]) -> u64 {
    let deltas = events(bytes);
    let length: usize = deltas
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .map(str::len)
        .sum();
    length.div_ceil(4) as u64
}

async fn cut(times: usize) {
    let world = world("cut").await;
    let read = leave_everywhere(&world, times).await;
    let books = world.books();
    let rows = books.settled(read.len() + 1).await;
    let truth = world.vendor.truth().entries();
    let mut least: HashMap<String, u64> = HashMap::new();
    for bytes in &read {
        let id = events(bytes)
            .first()
            .and_then(|event| event["response"]["id"].as_str().map(str::to_owned));
        least.extend(id.map(|id| (id, text(bytes))));
    }
    let sent: HashMap<&str, (u64, _)> = world
        .vendor
        .posts()
        .iter()
        .map(|call| &truth[call.entry])
        .zip(world.vendor.posts())
        .map(|(entry, call)| (entry.response_id.as_str(), (text(&call.sent.bytes()), entry.billed())))
        .collect();
    let input = ask(true).len().div_ceil(4) as u64;
    let mut cut = 0;
    for row in &rows {
        let Some(id) = row.response_id.as_deref() else {
            assert!(row.usage.is_none_or(|usage| usage.output == 0), "{row:#?}");
            continue;
        };
        let (most, billed) = sent[id];
        let usage = row.usage.unwrap();
        if row.source.as_deref() == Some("reported") {
            assert_eq!(Some(usage), billed, "{row:#?}");
        } else {
            cut += 1;
            let least = least.get(id).copied().unwrap_or_default();
            assert!(
                usage.input == input && (least..=most).contains(&usage.output),
                "{least} {most} {row:#?}"
            );
        }
        assert_eq!(row.charged, books.cost(&row.model, usage).await, "{row:#?}");
    }
    eprintln!(
        "{} clients left, {cut} of them were cut; each is charged what had come",
        read.len()
    );
    assert!(cut > read.len() / 2, "{cut}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_at_any_byte_is_charged_as_the_vendor_bills_where_he_is_drained() {
    drained(6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_at_any_byte_is_charged_for_what_came_where_he_is_cut() {
    cut(6).await;
}

/// `cargo nextest run -p relay-tests --run-ignored only --no-capture fifty_thousand`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: fifty thousand calls for each policy"]
async fn fifty_thousand_leave_and_each_is_charged_by_the_rule() {
    drained(1_000).await;
    cut(1_000).await;
}
