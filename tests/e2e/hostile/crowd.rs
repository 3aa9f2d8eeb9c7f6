//! What a hub holds for each of many hostile streams at once, seen from the outside.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use relay_protocol::{VendorWire, Wire};
use relay_tests::{client::Client, vendor::Script};

use super::{EVENTS, head, memory, piece};
use crate::{lanes, setup};

const STREAMS: usize = 200;
/// For each of them, its connections and tasks included.
const EACH: u64 = 256 << 10;
/// For each whose answer goes on as it came, to a client that reads more slowly than its vendor writes: 128 KiB and a piece
/// of 64 KiB that wait for it, a read of 64 KiB, 32 KiB of an event that may be the last, its connections and tasks, and
/// what an allocator keeps beside.
const EACH_AS_IT_CAME: u64 = 384 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_hostile_streams_none_holds_more_than_it_may() {
    // An event that may still become one that makes sense, and has no end: of a list that is kept, and of one that is not;
    // of a text, which is told on; of a call, which is.
    for (start, more) in [
        ("{\"x\":[", "\"a\",".repeat(11_000)),
        ("{\"x\":\"", "a".repeat(1 << 20)),
        (TEXT, "a".repeat(200 << 10)),
        (CALL, "a".repeat(200 << 10)),
    ] {
        let (each, answers) = crowd(Wire::Messages, start, more).await;
        assert!(each < EACH, "{start}: {each} bytes for each");
        for answer in answers {
            assert!(answer.contains("event: error"), "{start}: {answer:.300}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_hostile_streams_that_pass_as_they_come_each_holds_what_is_known() {
    for start in ["{\"x\":\"", TEXT, CALL] {
        let (each, answers) = crowd(Wire::Chat, start, "a".repeat(1 << 20)).await;
        assert!(each < EACH_AS_IT_CAME, "{start}: {each} bytes for each");
        for answer in answers {
            assert!(
                answer.contains(start) && answer.len() > 1 << 20,
                "{start}: {answer:.300}"
            );
        }
    }
}

const TEXT: &str = "{\"choices\":[{\"delta\":{\"content\":\"";
const CALL: &str =
    "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"";

/// What a hub held for each stream of a vendor of chat which begins an event so, goes on with `more` and ends it never; and
/// what the clients of this wire were told.
async fn crowd(client: Wire, start: &str, more: String) -> (u64, Vec<String>) {
    let (path, body) = lanes::round(client, true, None);
    let mut world = lanes::at(VendorWire::Chat, setup()).await;
    let pid = world.hub.program().pid();
    let caller = Client::new(&format!("http://{}", world.hub.http()), &world.key);
    let begun = format!("{}{}", head(VendorWire::Chat), piece(VendorWire::Chat, "well"));
    let chunks = vec![begun.into(), format!("data: {start}").into(), Bytes::from(more)];
    let script = Script::chunks(EVENTS, chunks).linger(Duration::from_secs(1));
    (0..STREAMS).for_each(|_| world.vendor.next(script.clone()));
    let before = memory(pid, "VmHWM:");
    let answers = join_all((0..STREAMS).map(|_| async {
        let answer = caller.post(&path, body.to_string()).await.unwrap();
        answer.rest().await.text()
    }));
    let answers = answers.await;
    let each = (memory(pid, "VmHWM:") - before) / STREAMS as u64;
    eprintln!("{start}: {each} bytes more for each of {STREAMS} at once");
    (each, answers)
}
