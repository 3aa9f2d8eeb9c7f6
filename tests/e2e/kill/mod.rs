//! A hub that dies at a named point of a call, or at any moment under two hundred streams: whatever the instant, the
//! books are right when it is back. A few rounds here; `cargo xtask prove kill` runs them all.

pub(crate) mod oracle;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use relay_tests::{
    client::Client,
    vendor::{Ended, Script, Vendor},
    world::World,
};
use serde_json::json;

use self::oracle::{Oracle, Seen};
use crate::{MODEL, ask, ask_chat, setup};

/// Where a call's hub dies, in the order in which a call comes by; `relay_shared::fault` has each in the code.
const POINTS: [&str; 19] = [
    TAKING_OVER,
    "accepted",
    "authenticated",
    "slot taken",
    "hold granted",
    CONNECTED,
    "request being sent",
    "hold in flight",
    "vendor answered",
    "event sent",
    "hold in the journal",
    "settlement queued",
    "pages uncommitted",
    "settlement in the journal",
    "settled, end not sent",
    "end sent",
    "posting",
    "posted",
    ALL_SENT,
];
const CONNECTED: &str = "vendor connected";
/// The next hub dies too, before it serves.
const TAKING_OVER: &str = "taking over";
/// The vendor has the whole request and says nothing: the hub is killed from outside.
const ALL_SENT: &str = "request sent";
/// The first of its parts is on its way, by the size of the request.
const HALF_SENT: &str = "request being sent";

/// How often; the full number is for `cargo xtask prove kill`.
pub(crate) fn told(variable: &str, otherwise: usize) -> usize {
    let text = std::env::var_os(variable).and_then(|text| text.into_string().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Numbers without a pattern: which instants are tried differs from run to run, what must hold does not.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(now.as_nanos() as u64 | 1)
    }

    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A world without an agent: calls come by the public entrance.
async fn world() -> World {
    let mut world = crate::Setup {
        credit: 100_000,
        log: "warn",
        ..setup()
    }
    .start()
    .await;
    world.agent.program().kill().await;
    world.hub.program().kill().await;
    world
        .vendor
        .otherwise(Script::deltas(12, 20).interval(Duration::from_millis(7)));
    world
}

/// One call, and what its client saw of it before the hub was gone.
async fn call(client: &Client, path: &str, body: String) -> Seen {
    let Ok(answer) = client.post(path, body).await else {
        return Seen::default();
    };
    let (status, id) = (answer.status, answer.headers.get("relay-call-id").cloned());
    let whole = answer.rest().await;
    let text = whole.text();
    // The end that a client goes by is an event; of one JSON body it is the last byte.
    let is_json = whole.cut.is_none() && !whole.json().is_null();
    let ends = ["event: response.completed\n", "data: [DONE]\n"];
    let is_told = text.ends_with("\n\n") && ends.iter().any(|end| text.contains(end));
    Seen {
        call: id.and_then(|id| Some(id.to_str().ok()?.to_owned())).unwrap_or_default(),
        has_begun: status == 200 && !text.is_empty(),
        has_ended: status == 200 && (is_told || is_json),
    }
}

/// Calls of every kind, one after the other, until the hub is gone.
pub(crate) async fn call_until_it_is_gone(client: &Client, caller: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    for number in caller.. {
        let last = match number % 3 {
            0 => call(client, "/responses", ask(true)).await,
            1 => call(client, "/chat/completions", ask_chat(json!({"stream": true}))).await,
            _ => call(client, "/responses", ask(false)).await,
        };
        let is_gone = !last.has_ended;
        seen.push(last);
        if is_gone {
            break;
        }
    }
    seen
}

/// One life of a hub, up to the given point.
async fn die_at(world: &mut World, point: &str, dice: &mut Dice) -> Vec<Seen> {
    if point == ALL_SENT {
        return die_while_the_vendor_thinks(world).await;
    }
    if point == TAKING_OVER {
        let start = world.hub.serve_with(&[("RELAY_DIE_AT", point)]).await;
        assert!(start.is_err(), "it dies before it serves");
        return Vec::new();
    }
    let (callers, count) = match point {
        HALF_SENT => (1, 2),
        // Connections are kept: no third is needed.
        CONNECTED => (6, 1 + dice.up_to(2)),
        _ => (6, 1 + dice.up_to(7)),
    };
    let trap = format!("{point}:{count}");
    let calls = world.hub.serve_with(&[("RELAY_DIE_AT", &trap)]).await;
    calls.expect("the hub is back");
    let client = world.through_hub();
    let seen = if point == HALF_SENT {
        let long = json!({"model": MODEL, "input": "x".repeat(6 << 20), "max_output_tokens": 9}).to_string();
        let mut seen = vec![call(&client, "/responses", long.clone()).await];
        // The system may take all of one at once, while the vendor reads it.
        while seen.last().is_some_and(|last| last.has_ended) {
            seen.push(call(&client, "/responses", long.clone()).await);
        }
        seen
    } else {
        let calling = (0..callers).map(|caller| call_until_it_is_gone(&client, caller));
        join_all(calling).await.concat()
    };
    let is_dead = world.hub.program().ends_within(Duration::from_secs(20)).await;
    assert!(
        is_dead,
        "the hub lives on after `{trap}`: {}",
        world.hub.program().log()
    );
    seen
}

async fn die_while_the_vendor_thinks(world: &mut World) -> Vec<Seen> {
    world.hub.serve().await;
    let (client, before) = (world.through_hub(), world.vendor.truth().entries().len());
    (0..3).for_each(|_| world.vendor.next(Script::hang()));
    let killing = async {
        let all_run = |vendor: &Vendor| {
            let calls = vendor.truth().since(before);
            calls.iter().filter(|call| call.ended == Ended::Running).count() == 3
        };
        world
            .vendor
            .until("three calls", Duration::from_secs(20), all_run)
            .await;
        world.hub.program().kill().await;
    };
    let calling = join_all((0..3).map(|number| call(&client, "/responses", ask(number % 2 == 0))));
    tokio::join!(calling, killing).0
}

/// So many lives of hubs over one database, then another one.
const LIVES: usize = 40;
/// Two hundred streams make four thousand events before the first of them have to begin again.
const MOST_EVENTS: u64 = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_point_of_a_call_a_hub_dies_at_its_books_are_right() {
    let rounds = told("RELAY_KILL_ROUNDS", 2);
    let mut dice = Dice::new();
    let all: Vec<&str> = (0..rounds).flat_map(|_| POINTS).collect();
    let mut done = 0;
    for lives in all.chunks(LIVES) {
        let mut world = world().await;
        let mut oracle = Oracle::default();
        for point in lives {
            // What it leaves, the next start finds.
            let seen = die_at(&mut world, point, &mut dice).await;
            oracle.add(point, 6, seen);
            done += 1;
            eprintln!("{done} of {}: killed at `{point}`", all.len());
            oracle.ask(&mut world).await;
        }
        oracle.conclude(&mut world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_hub_is_killed_under_two_hundred_streams_its_books_are_right() {
    let kills = told("RELAY_KILL_RANDOM", 8);
    let mut dice = Dice::new();
    // Counted in events, so that a machine that is busy does not make them all early.
    let all: Vec<u64> = (0..kills).map(|_| dice.up_to(MOST_EVENTS)).collect();
    let mut done = 0;
    for lives in all.chunks(LIVES) {
        let mut world = world().await;
        let mut oracle = Oracle::default();
        for after in lives {
            world.hub.serve().await;
            let client = world.through_hub();
            let streams = join_all((0..200).map(|_| async {
                let mut seen = Vec::new();
                while seen.last().is_none_or(|last: &Seen| last.has_ended) {
                    seen.push(call(&client, "/responses", ask(true)).await);
                }
                seen
            }));
            let then = world.vendor.happened() + after;
            let killing = async {
                let has_come = |vendor: &Vendor| vendor.happened() >= then;
                let limit = Duration::from_secs(120);
                world.vendor.until("the moment", limit, has_come).await;
                world.hub.program().kill().await;
            };
            let (seen, ()) = tokio::join!(streams, killing);
            oracle.add("any moment", 200, seen.concat());
            done += 1;
            eprintln!("{done} of {kills}: killed after {after} events");
            oracle.ask(&mut world).await;
        }
        oracle.conclude(&mut world).await;
    }
}
