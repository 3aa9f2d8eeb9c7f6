//! What a hub holds for each of many hostile streams at once, seen from the outside.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use relay_protocol::{VendorWire, Wire};
use relay_tests::{
    client::{Client, Live},
    vendor::Script,
    world::World,
};
use serde_json::Value;

use super::{EVENTS, SOUND, head, memory, piece, tail};
use crate::{lanes, setup};

const STREAMS: usize = 200;
/// For each of them, its connections and tasks included; also where its client reads nothing at all while its vendor writes.
const EACH: u64 = 256 << 10;

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
async fn of_two_hundred_hostile_streams_that_pass_as_they_come_none_holds_more_than_it_may() {
    for start in ["{\"x\":\"", TEXT, CALL] {
        let (each, answers) = crowd(Wire::Chat, start, "a".repeat(1 << 20)).await;
        assert!(each < EACH, "{start}: {each} bytes for each");
        for answer in answers {
            assert!(
                answer.contains(start) && answer.len() > 1 << 20,
                "{start}: {answer:.300}"
            );
        }
    }
}

/// Clients of Responses are told all of their answer again at its end, so that it is kept until then.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_long_answers_are_told_again_and_none_holds_more_than_it_may() {
    let text = words(200 << 10);
    let (each, answers) = told(&text, 100, "words").await;
    assert!(each < EACH, "{each} bytes for each");
    for answer in answers {
        let last = answer.trim_end().rsplit("\n\n").next().unwrap();
        let json = last.strip_prefix("event: response.completed\ndata: ");
        let json: Value = serde_json::from_str(json.unwrap_or_else(|| panic!("{last:.300}"))).unwrap();
        assert_eq!(json["response"]["output"][0]["content"][0]["text"], text.as_str());
        assert!(answer.contains("\nevent: response.output_text.done\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_answers_that_nobody_can_pack_none_holds_more_than_it_may() {
    let (each, answers) = told(&noise(1 << 20), 500, "noise").await;
    assert!(each < EACH, "{each} bytes for each");
    for answer in answers {
        let last = answer.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("event: response.failed\n"), "{last:.300}");
        assert!(last.contains("too long to be told again at its end"), "{last:.300}");
    }
}

/// What a hub held for each client of Responses at a vendor of chat that writes this text in events of so many letters, and
/// what the clients were told.
async fn told(text: &str, letters: usize, name: &str) -> (u64, Vec<String>) {
    let pieces: Vec<_> = text.as_bytes().chunks(letters).collect();
    let events = pieces.chunks(20).map(|pieces| {
        let events = pieces
            .iter()
            .map(|it| piece(VendorWire::Chat, str::from_utf8(it).unwrap()));
        Bytes::from(events.collect::<String>())
    });
    let last = Bytes::from(tail(VendorWire::Chat, SOUND));
    // So slowly that all of them are there at once.
    let script = Script::chunks(EVENTS, events.chain([last]).collect()).interval(Duration::from_millis(20));
    crowd_of(Wire::Responses, script, name).await
}

/// Numbers that look like chance, the same each time.
fn chance() -> impl FnMut(usize) -> usize {
    let mut state = 7_u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    }
}

/// So many bytes of words of which some are far more frequent than others. They pack as English does, to two fifths.
fn words(bytes: usize) -> String {
    const SYLLABLES: [&str; 26] = [
        "ba", "con", "de", "en", "fi", "gra", "he", "in", "jo", "ka", "lo", "mer", "no", "or", "pa", "qui", "re", "st",
        "ti", "un", "va", "wo", "x", "yl", "ze", "th",
    ];
    let mut chance = chance();
    let mut word = || {
        let syllables = 1 + chance(3);
        (0..syllables)
            .map(|_| SYLLABLES[chance(SYLLABLES.len())])
            .collect::<String>()
    };
    let known: Vec<_> = std::iter::repeat_with(&mut word).take(4_000).collect();
    let mut text = String::new();
    while text.len() < bytes {
        let at = (0..3).map(|_| chance(known.len())).min().unwrap();
        text += &known[at];
        text += if chance(12) == 0 { ". " } else { " " };
    }
    text.truncate(bytes);
    text
}

/// So many letters of base64.
fn noise(bytes: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut chance = chance();
    (0..bytes).map(|_| char::from(ALPHABET[chance(64)])).collect()
}

const TEXT: &str = "{\"choices\":[{\"delta\":{\"content\":\"";
const CALL: &str =
    "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"";

/// What a hub held for each stream of a vendor of chat which begins an event so, goes on with `more` and ends it never; and
/// what the clients of this wire were told.
async fn crowd(client: Wire, start: &str, more: String) -> (u64, Vec<String>) {
    let begun = format!("{}{}", head(VendorWire::Chat), piece(VendorWire::Chat, "well"));
    let chunks = vec![begun.into(), format!("data: {start}").into(), Bytes::from(more)];
    let script = Script::chunks(EVENTS, chunks).linger(Duration::from_secs(1));
    crowd_of(client, script, start).await
}

/// The same of a vendor that does this.
async fn crowd_of(client: Wire, script: Script, name: &str) -> (u64, Vec<String>) {
    let (path, body) = lanes::round(client, true, None);
    let mut world = lanes::at(VendorWire::Chat, setup()).await;
    let pid = world.hub.program().pid();
    let caller = Client::new(&format!("http://{}", world.hub.http()), &world.key);
    (0..STREAMS).for_each(|_| world.vendor.next(script.clone()));
    let before = memory(pid, "VmHWM:");
    let answers = join_all((0..STREAMS).map(|_| async {
        let answer = caller.post(&path, body.to_string()).await.unwrap();
        answer.rest().await.text()
    }));
    let answers = answers.await;
    let each = (memory(pid, "VmHWM:") - before) / STREAMS as u64;
    eprintln!("{name}: {each} bytes more for each of {STREAMS} at once");
    (each, answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_holds_its_vendor_back_and_has_every_byte_once_it_reads() {
    for way in ["HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2 over TLS"] {
        let mut world = lanes::at(VendorWire::Chat, setup()).await;
        let authority = world.hub.certificate_authority();
        let tls = |http2| Client::tls(world.hub.https(), &world.key, &authority, http2);
        let caller = match way {
            "HTTP/1.1" => Client::new(&format!("http://{}/v1", world.hub.http()), &world.key),
            way => tls(way.starts_with("HTTP/2")),
        };
        let script = Script::chunks(EVENTS, long_answer());
        (0..STALLED).for_each(|_| world.vendor.next(script.clone()));
        let pid = world.hub.program().pid();
        let before = memory(pid, "VmHWM:");
        let (_, mut body) = lanes::round(Wire::Chat, true, None);
        // Nothing of the answer is taken out then.
        body["stream_options"] = serde_json::json!({"include_usage": true});
        let ask = || caller.post("/chat/completions", body.to_string());
        let answers: Vec<Live> = join_all((0..STALLED).map(|_| async { ask().await.unwrap() })).await;
        stand_still(&world).await;
        let each = (memory(pid, "VmHWM:") - before) / STALLED as u64;
        eprintln!("{way}: {each} bytes more for each of {STALLED} whose client reads nothing");
        assert!(each < EACH, "{way}: {each} bytes for each");
        for (at, answer) in answers.into_iter().enumerate().take(READ) {
            let answer = answer.rest().await;
            let said = long_answer().concat();
            assert!(
                answer.cut.is_none() && answer.body == said,
                "{way}: answer {at} is another one"
            );
        }
    }
}

/// So many answers wait for their clients at once,
const STALLED: usize = 100;
/// and so many of them are read to their end then.
const READ: usize = 4;

/// More of an answer than a system's sockets hold, its events longer and shorter than what is held back of one.
fn long_answer() -> Vec<Bytes> {
    let (long, short) = ("long".repeat(20_000), "short");
    let some = [&long, short, short].map(|text| piece(VendorWire::Chat, text)).concat();
    let some = Bytes::from(some.repeat(10));
    let mut chunks = vec![some; 25];
    chunks.push(tail(VendorWire::Chat, SOUND).into());
    chunks
}

/// Waits until the vendor has sent nothing more for a while.
async fn stand_still(world: &World) {
    let sent = || world.vendor.posts().iter().map(|call| call.sent.count()).sum::<usize>();
    let (mut so_far, mut still) = (sent(), 0);
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = sent();
        still = if now == so_far { still + 1 } else { 0 };
        so_far = now;
    }
    let whole = STALLED * long_answer().concat().len();
    eprintln!("{so_far} of {whole} bytes were sent");
    assert!(so_far < whole, "all was sent: {so_far} bytes");
}
