//! A hostile Bedrock: what it says by Converse, and the frames that it says it in.

use std::time::Duration;

use bytes::Bytes;
use relay_tests::vendor::{
    Break, Script,
    bedrock::{FRAMES, exception, happening, prelude},
};

use super::{
    End::{self, Counted, Either, Failed, Unfit, Whole},
    Hostile, SOUND,
};

fn text_at(text: &str, at: &str) -> Bytes {
    happening(
        "contentBlockDelta",
        &format!("{{\"contentBlockIndex\":{at},\"delta\":{{\"text\":\"{text}\"}}}}"),
    )
}

fn start() -> Bytes {
    happening("messageStart", "{\"role\":\"assistant\"}")
}

/// The end of an answer that used so much: input, cached, output. What was read from the cache is not among the input.
fn tail([input, cached, output]: [i128; 3]) -> Vec<u8> {
    let usage = format!(
        "{{\"usage\":{{\"inputTokens\":{},\"cacheReadInputTokens\":{cached},\"outputTokens\":{output},\"totalTokens\":{}}}}}",
        input - cached,
        input + output
    );
    [
        happening("contentBlockStop", "{\"contentBlockIndex\":0}"),
        happening("messageStop", "{\"stopReason\":\"end_turn\"}"),
        happening("metadata", &usage),
    ]
    .concat()
}

fn sends(body: impl Into<Bytes>) -> Script {
    Script::chunks(FRAMES, vec![body.into()])
}

/// An answer that is sound.
pub(super) fn sound() -> Script {
    sends([&start()[..], &text_at("well", "0"), &tail(SOUND)].concat())
}

/// Everything that it does.
pub(super) fn hostile() -> Vec<Hostile> {
    let begun = [&start()[..], &text_at("word ", "0").repeat(5)].concat();
    let end = tail(SOUND);
    let whole = [&begun[..], &end].concat();
    let between = |words: &[u8]| sends([&begun[..], words, &end].concat());
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        sends(bytes)
    };
    let of = |is_heavy: bool| {
        move |name: &'static str, end: End, script: Script| Hostile {
            name,
            script,
            end,
            is_heavy,
        }
    };
    let (light, heavy) = (of(false), of(true));
    let noise: Vec<u8> = (0..4096_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let last = begun.len() - text_at("word ", "0").len();
    let deep = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let call = "{\"contentBlockIndex\":1,\"start\":{\"toolUse\":{\"toolUseId\":\"f\",\"name\":\"exec_command\"}}}";
    let input = |text: &str| {
        happening(
            "contentBlockDelta",
            &format!("{{\"contentBlockIndex\":1,\"delta\":{{\"toolUse\":{{\"input\":\"{text}\"}}}}}}"),
        )
    };
    let doubled = [&begun[..], &begun, &end, &end].concat();
    let mut unnamed = prelude(16, 0);
    unnamed.extend_from_slice(&[0; 4]);
    let mut endless = vec![Bytes::from(
        [&begun[..], &happening("contentBlockStart", call)].concat(),
    )];
    endless.extend(std::iter::repeat_n(input(&"a".repeat(32 << 10)), 576));
    endless.push(end.clone().into());
    let words: Vec<u8> = (0..10_000).flat_map(|at| text_at(&format!("{at} "), "0")).collect();
    vec![
        light(
            "resets in the middle",
            Failed,
            sends(whole.clone()).cut(begun.len(), Break::Reset),
        ),
        light(
            "closes within a frame",
            Failed,
            sends(whole.clone()).cut(begun.len() - 9, Break::Fin),
        ),
        light(
            "closes within the first words of a frame",
            Failed,
            sends(whole.clone()).cut(begun.len() + 5, Break::Fin),
        ),
        light("ends without an end", Failed, sends(begun.clone())),
        light("says nothing", Failed, sends("")),
        light("makes noise", Failed, sends(noise)),
        light("flips a bit of a length", Failed, flipped(last + 2)),
        light("flips a bit of a checksum", Failed, flipped(last + 9)),
        light("flips a bit of a header", Failed, flipped(last + 14)),
        light("flips a bit of what it says", Failed, flipped(begun.len() - 12)),
        light("flips the last bit of a frame", Failed, flipped(begun.len() - 1)),
        light("says to be endless", Failed, between(&prelude(u32::MAX, 0))),
        light(
            "says to be longer than it may be",
            Failed,
            between(&prelude(3 << 20, 64)),
        ),
        light("says to be nothing", Failed, between(&prelude(0, 0))),
        light(
            "says that its head is longer than itself",
            Failed,
            between(&prelude(100, 90)),
        ),
        light(
            "says that its head is longer than any",
            Failed,
            between(&prelude(200_000, 190_000)),
        ),
        light("has a frame of nothing", Failed, between(&unnamed)),
        light("has no name", Failed, between(&happening("", "{}"))),
        light(
            "has a name that is none",
            Failed,
            between(&happening("a\":1,\"b", "{}")),
        ),
        light(
            "says no JSON",
            Failed,
            between(&happening("contentBlockDelta", "{\"delta\":")),
        ),
        light(
            "says no UTF-8",
            Either,
            between(&happening("contentBlockDelta", "{\"delta\":{\"text\":\"\\ud800\"}}")),
        ),
        light(
            "says what its name does not",
            Either,
            between(&happening("contentBlockDelta", "[1]")),
        ),
        light("says null", Either, between(&happening("messageStop", "null"))),
        light(
            "says an event that nobody knows",
            Whole,
            between(&happening("somethingElse", "{\"a\":[1]}")),
        ),
        light(
            "nests 10,000 deep",
            Either,
            between(&happening("contentBlockDelta", &deep)),
        ),
        light(
            "is throttled in the middle",
            Failed,
            between(&exception("throttlingException", "slow down")),
        ),
        light(
            "fails by a name of its own",
            Failed,
            between(&exception("oddException", "odd")),
        ),
        light("fails first", Failed, sends(exception("internalServerException", "no"))),
        light(
            "fails after its end",
            Whole,
            sends([&whole[..], &exception("throttlingException", "late")].concat()),
        ),
        light(
            "is damaged after its end",
            Whole,
            sends([&whole[..], &prelude(0, 0)].concat()),
        ),
        light("ends twice", Whole, sends([&whole[..], &end].concat())),
        light(
            "goes on after its end",
            Whole,
            sends([&whole[..], &text_at("x", "0")].concat()),
        ),
        light("ends before it begins", Either, sends([&end[..], &begun].concat())),
        light("says everything twice", Either, sends(doubled)),
        light("names a block that is not there", Either, between(&text_at("x", "7"))),
        light("names a block beyond counting", Either, between(&text_at("x", "1e99"))),
        light("goes on with a call that never began", Unfit, between(&input("{}"))),
        light(
            "stops what never began",
            Whole,
            between(&happening("contentBlockStop", "{\"contentBlockIndex\":9}")),
        ),
        light("is whole in single bytes", Whole, sends(whole.clone()).write_size(1)),
        light(
            "reports too much to be true",
            Counted,
            sends([&begun[..], &tail([1 << 62, 0, 1 << 62])].concat()),
        ),
        light(
            "reports less than nothing",
            Counted,
            sends([&begun[..], &tail([40, 0, -5])].concat()),
        ),
        heavy(
            "falls silent",
            Failed,
            sends(begun.clone()).linger(Duration::from_secs(60)),
        ),
        heavy(
            "says more at once than there is room for",
            Whole,
            between(&text_at(&"a".repeat(100 << 10), "0")),
        ),
        heavy("never ends a tool's input", Failed, Script::chunks(FRAMES, endless)),
        heavy(
            "says very many words",
            Whole,
            sends([&begun[..], &words, &end].concat()),
        ),
    ]
}
