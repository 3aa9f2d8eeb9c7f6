//! Clients that leave at any byte of an answer, by each way in, pay what their tenant's policy says of what the vendor
//! made, and their slots are free within a second. A few here; `cargo xtask prove aborts` has them leave a thousand
//! times at each of fifty bytes, and tells how long things took.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use relay_tests::{
    books::Row,
    client::Client,
    socket::{Message, Socket},
    vendor::{Ended, Entry, Script},
    world::World,
};
use serde_json::json;

use crate::{MODEL, ask, kill::told, setup};

const OFFSETS: usize = 50;
/// So often at each of them in one world, then another one.
const TIMES: usize = 100;
/// The event that ends an answer, of which the script has so many; before it the vendor waits for so long, so that who
/// left before it must be cut.
const EVENTS: usize = 19;
const WAIT: Duration = Duration::from_millis(300);

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Public,
    Tunnel,
    Socket,
}

/// A client that left.
struct Left {
    /// What it had read.
    read: Vec<u8>,
    /// When, by the vendor's clock.
    at_ms: u64,
    /// How long it had waited for its answer to begin, which tells when it got its slot.
    waited: Duration,
    /// By what its row is found: the call's id, or where clients are not told it the answer's, if that much was read.
    id: Option<String>,
}

/// As many as the tenant may have calls: the next one gets its slot within a second, or is refused.
fn at_once() -> usize {
    told("RELAY_ABORTS_AT_ONCE", 16)
}

/// Within how many milliseconds the slot of a client that left must be free. On a machine that does much else a second
/// is no measure.
fn patience() -> usize {
    told("RELAY_ABORTS_FREE_MS", 10_000)
}

async fn world(policy: &str, script: Script) -> World {
    let hub_toml = format!(
        "[limits]\ncalls_per_tenant = {}\nqueue_wait = \"{}ms\"\n",
        at_once(),
        patience()
    );
    let world = crate::Setup {
        hub_toml,
        credit: 100_000,
        log: "warn",
        ..setup()
    }
    .start()
    .await;
    let words = ["tenant", "set", "acme", "--on-abort", policy];
    world.hub.command(&words).await.succeeded();
    // A stranger has the hub look at its directory.
    let nobody = format!("rk_0000000000000000_{}", "A".repeat(43));
    let stranger = Client::new(&format!("http://{}/v1", world.hub.http()), &nobody);
    assert_eq!(stranger.get("/models").await.unwrap().status, 401);
    world.vendor.otherwise(script);
    world
}

fn asked(way: Way) -> String {
    match way {
        Way::Public | Way::Tunnel => ask(true),
        Way::Socket => {
            json!({"type": "response.create", "model": MODEL, "input": "Go on.", "max_output_tokens": 500}).to_string()
        }
    }
}

/// Reads so many bytes at least, and leaves.
async fn leave_at(world: &World, way: Way, offset: usize) -> Left {
    match way {
        Way::Public => leave_http(world, &world.through_hub(), offset).await,
        Way::Tunnel => leave_http(world, &world.through_agent(), offset).await,
        Way::Socket => leave_socket(world, offset).await,
    }
}

async fn leave_http(world: &World, client: &Client, offset: usize) -> Left {
    let mut answer = client.post("/responses", asked(Way::Public)).await.unwrap();
    assert_eq!(answer.status, 200, "its slot was not free in time");
    let call = answer
        .headers
        .get("relay-call-id")
        .map(|id| id.to_str().unwrap().to_owned());
    let (mut read, waited) = (Vec::new(), answer.head_after);
    while read.len() < offset {
        match answer.next().await.unwrap() {
            Some(data) => read.extend_from_slice(&data),
            None => break,
        }
    }
    drop(answer);
    Left {
        at_ms: world.vendor.truth().since_start(),
        waited,
        id: call.or_else(|| response_id(&read)),
        read,
    }
}

async fn leave_socket(world: &World, offset: usize) -> Left {
    let (began, mut socket) = (Instant::now(), open_socket(world).await);
    let before = socket.received.len();
    socket.send(&asked(Way::Socket)).await.unwrap();
    let mut waited = Duration::ZERO;
    // A call of which nothing was seen might not have been sent to the vendor yet.
    while socket.received.len() - before < offset.max(1) {
        let message = socket.next().await.unwrap();
        let Message::Text(text) = message else {
            panic!("{message:?}");
        };
        assert!(!text.contains("\"type\":\"error\""), "{text}");
        if waited.is_zero() {
            waited = began.elapsed();
        }
        if text.contains("response.completed") {
            break;
        }
    }
    let read = socket.received.split_off(before);
    drop(socket);
    Left {
        id: response_id(&read),
        read,
        at_ms: world.vendor.truth().since_start(),
        waited,
    }
}

/// There is no line for sockets: who is refused asks again.
async fn open_socket(world: &World) -> Socket {
    let began = Instant::now();
    loop {
        match Socket::responses(world.hub.http(), &world.key).await {
            Ok(socket) => return socket,
            Err(refused) => assert!(began.elapsed().as_millis() < patience() as u128, "{refused:#}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn response_id(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let from = text.find("\"id\":\"resp_")? + "\"id\":\"".len();
    let id = text.get(from..)?.split_once('"')?.0;
    Some(id.to_owned())
}

/// The size of a whole answer.
async fn whole(world: &World, way: Way) -> usize {
    leave_at(world, way, usize::MAX).await.read.len()
}

/// Leaves at each of fifty bytes of an answer, so many times each.
async fn leave_everywhere(world: &World, way: Way, times: usize) -> Vec<Left> {
    let whole = whole(world, way).await;
    let offsets = (0..times).flat_map(|_| (0..OFFSETS).map(|at| whole * at / OFFSETS));
    let calls = stream::iter(offsets).map(|offset| leave_at(world, way, offset));
    calls.buffer_unordered(at_once()).collect().await
}

/// The tokens that the relay counts in the text of an answer, whole events or whole messages of it.
fn text(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let parts = text.split("\"delta\":\"").skip(1);
    let length: usize = parts
        .filter_map(|part| part.split_once('"'))
        .map(|(text, _)| text.len())
        .sum();
    length.div_ceil(4) as u64
}

/// What the clients of a proof saw, over all its worlds.
#[derive(Default)]
struct Figures {
    left: usize,
    early: usize,
    waited: Vec<Duration>,
    cancelled: Vec<Duration>,
}

impl Figures {
    fn tell(mut self, policy: &str, way: Way) {
        let Self { left, early, .. } = self;
        assert!(early > left / 2, "{early} of {left}");
        eprintln!(
            "{policy}, {way:?}: {left} clients left, {early} of them before the end; each is charged by the rule"
        );
        eprintln!("  the answer of the next one began after {}", spread(&mut self.waited));
        if !self.cancelled.is_empty() {
            let late = self.cancelled.iter().filter(|took| **took > Duration::from_millis(200));
            let late = late.count();
            eprintln!(
                "  the vendor's call was cancelled after {}; {late} of {} took more than 200 ms",
                spread(&mut self.cancelled),
                self.cancelled.len()
            );
        }
    }
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |thousandths: usize| times[(times.len() - 1) * thousandths / 1_000];
    let [half, most, nearly, all] = [500, 990, 999, 1_000].map(at);
    format!("{half:?} (p50), {most:?} (p99), {nearly:?} (p99.9), {all:?} (longest)")
}

/// In worlds of so many at most.
async fn prove(policy: &'static str, way: Way) {
    let (all, mut figures) = (times(way) * OFFSETS, Figures::default());
    while figures.left < all {
        let times = ((all - figures.left) / OFFSETS).min(TIMES);
        let left = match policy {
            "drain" => drained(way, times, &mut figures).await,
            _ => cut(way, times, &mut figures).await,
        };
        figures.left += left.len();
        figures.waited.extend(left.iter().map(|left| left.waited));
        eprintln!("{policy}, {way:?}: {} of {all} clients left", figures.left);
    }
    figures.tell(policy, way);
}

/// The rows of so many calls, once none of them holds anything. A socket that was refused has a row too.
async fn rows(world: &World, calls: usize) -> Vec<Row> {
    let mut refused = 0;
    loop {
        let rows = world.books().settled(calls + refused).await;
        let (no, yes): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.ending.starts_with("refused"));
        if yes.len() >= calls {
            return yes;
        }
        refused = no.len();
    }
}

async fn drained(way: Way, times: usize, figures: &mut Figures) -> Vec<Left> {
    let script = Script::deltas(12, 24).interval(Duration::from_millis(1));
    let world = world("drain", script.silence(EVENTS, WAIT)).await;
    let left = leave_everywhere(&world, way, times).await;
    for row in rows(&world, left.len() + 1).await {
        figures.early += usize::from(row.ending == "client_gone");
        assert_eq!(row.source.as_deref(), Some("reported"), "{row:#?}");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
    left
}

async fn cut(way: Way, times: usize, figures: &mut Figures) -> Vec<Left> {
    let script = Script::deltas(12, 24).interval(Duration::from_millis(1));
    let world = world("cut", script.silence(EVENTS, WAIT)).await;
    let left = leave_everywhere(&world, way, times).await;
    let books = world.books();
    let rows = rows(&world, left.len() + 1).await;
    let by_id: HashMap<&str, &Left> = left
        .iter()
        .filter_map(|left| Some((left.id.as_deref()?, left)))
        .collect();
    let (truth, posts) = (world.vendor.truth().entries(), world.vendor.posts());
    let sent: HashMap<&str, (&Entry, u64)> = posts
        .iter()
        .map(|call| (&truth[call.entry], text(&call.sent.bytes())))
        .map(|(entry, most)| (entry.response_id.as_str(), (entry, most)))
        .collect();
    for row in &rows {
        let Some(id) = row.response_id.as_deref() else {
            assert!(row.usage.is_none_or(|usage| usage.output == 0), "{row:#?}");
            continue;
        };
        let (entry, most) = sent[id];
        let left = by_id.get(row.call.as_str()).or_else(|| by_id.get(id));
        let least = left.map_or(0, |left| text(&left.read));
        figures.early += usize::from(is_charged_for_what_came(row, entry, way, least..=most));
        let usage = row.usage.unwrap();
        assert_eq!(row.charged, books.cost(&row.model, usage).await, "{row:#?}");
        if let (Some(left), Ended::ClientGone, Some(ended)) = (left, entry.ended, entry.ended_ms) {
            let took = ended.saturating_sub(left.at_ms);
            figures.cancelled.push(Duration::from_millis(took));
        }
    }
    world.assert_sound().await;
    left
}

/// What the vendor reported, or what the relay counted of what came: no less than the client read, no more than the
/// vendor sent. True for the latter.
fn is_charged_for_what_came(row: &Row, entry: &Entry, way: Way, output: RangeInclusive<u64>) -> bool {
    let usage = row.usage.unwrap();
    if row.source.as_deref() == Some("reported") {
        assert_eq!(Some(usage), entry.billed(), "{row:#?}");
        return false;
    }
    assert!(output.contains(&usage.output), "{output:?} {row:#?}");
    assert_eq!(usage.input, asked(way).len().div_ceil(4) as u64, "{row:#?}");
    true
}

/// By the public entrance so often at each byte, by the other ways a tenth of that.
fn times(way: Way) -> usize {
    let times = told("RELAY_ABORTS", 6);
    if way == Way::Public { times } else { times.div_ceil(10) }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_at_any_byte_is_charged_as_the_vendor_bills_where_he_is_drained() {
    prove("drain", Way::Public).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_at_any_byte_is_charged_for_what_came_where_he_is_cut() {
    prove("cut", Way::Public).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_an_agent_at_any_byte_is_charged_as_the_vendor_bills_where_he_is_drained() {
    prove("drain", Way::Tunnel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_an_agent_at_any_byte_is_charged_for_what_came_where_he_is_cut() {
    prove("cut", Way::Tunnel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_socket_at_any_byte_is_charged_as_the_vendor_bills_where_he_is_drained() {
    prove("drain", Way::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_socket_at_any_byte_is_charged_for_what_came_where_he_is_cut() {
    prove("cut", Way::Socket).await;
}
