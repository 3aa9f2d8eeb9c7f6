//! What is told again at the end is what was told, byte for byte, however it is kept until then.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::codec::Framing;
use crate::event::Sequence;
use crate::turn::{CallName, Media, MediaKind};

fn writer(is_summary: bool) -> Writer {
    let reply = Reply {
        id: "1".to_owned(),
        model: "m".to_owned(),
        created: 0,
        wants_usage: false,
    };
    Writer::new(reply).summing_up(is_summary)
}

/// A stream as it is taken, piece by piece, and the answer that its events add up to.
fn told(events: Vec<Event>, is_summary: bool) -> (String, Answer) {
    let (mut writer, mut outbox) = (writer(is_summary), Outbox::new(Framing::Events));
    let (mut sequence, mut answer, mut told) = (Sequence::default(), Answer::default(), Vec::new());
    for event in events {
        sequence.push(event, &mut |event| {
            answer.add(event.clone());
            writer.write(event, &mut outbox);
        });
        loop {
            let piece = outbox.take();
            if piece.is_empty() {
                break;
            }
            assert!(piece.len() < 24 << 10, "{} bytes at once", piece.len());
            told.extend(piece);
        }
    }
    assert!(!outbox.is_full(), "something was not told");
    (String::from_utf8(told).unwrap(), answer)
}

/// What events of this wire say again.
#[derive(Deserialize)]
struct Said<'a> {
    r#type: &'a str,
    sequence_number: usize,
    output_index: Option<usize>,
    content_index: Option<usize>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow, alias = "refusal", alias = "arguments", alias = "input")]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    part: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<Whole<'a>>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    output: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    annotations: Vec<&'a RawValue>,
}

/// Without its quotes.
fn inside(json: &RawValue) -> &str {
    json.get()
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap()
}

/// Each event tells again what the others told, and the last what a whole answer says.
fn tells_again(told: &str, answer: &Answer, is_summary: bool) -> usize {
    let whole = writer(is_summary).whole(answer);
    let whole: Whole<'_> = serde_json::from_slice(&whole).unwrap();

    let (mut deltas, mut annotations, mut count) = (String::new(), Vec::new(), 0);
    for (at, event) in told.split_terminator("\n\n").enumerate() {
        let (name, data) = event.split_once('\n').unwrap();
        let said: Said<'_> = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(
            (name, at),
            (format!("event: {}", said.r#type).as_str(), said.sequence_number)
        );
        if let Some(delta) = said.delta {
            deltas += inside(delta);
        }
        annotations.extend(said.annotation.map(RawValue::get));
        let done = said.r#type.ends_with(".done");
        let item = said.output_index.and_then(|at| whole.output.get(at)).filter(|_| done);
        if let Some(text) = said.text.filter(|_| done) {
            assert_eq!(inside(text), deltas);
            deltas.clear();
            count += 1;
        }
        if let Some(part) = said.part.filter(|_| done) {
            let item: Content<'_> = serde_json::from_str(item.unwrap().get()).unwrap();
            let parts = if item.summary.is_empty() {
                item.content
            } else {
                item.summary
            };
            assert_eq!(part.get(), parts[said.content_index.unwrap_or_default()].get());
            let cited = std::mem::take(&mut annotations);
            if part.get().starts_with("{\"type\":\"output_text\"") {
                let part: Content<'_> = serde_json::from_str(part.get()).unwrap();
                let told: Vec<_> = part.annotations.into_iter().map(RawValue::get).collect();
                assert_eq!(told, cited);
            }
            count += 1;
        }
        if let Some(said) = said.item.filter(|_| done) {
            annotations.clear();
            assert_eq!(said.get(), item.unwrap().get());
            count += 1;
        }
        if let Some(response) = said.response.filter(|_| said.r#type != "response.created") {
            let output: Vec<_> = response.output.into_iter().map(RawValue::get).collect();
            if said.r#type != "response.in_progress" {
                let wanted: Vec<_> = whole.output.iter().map(|item| item.get()).collect();
                assert_eq!(output, wanted);
                count += 1;
            }
        }
    }
    count
}

fn opened() -> impl Strategy<Value = Opened> {
    let call = |is_custom| Opened::Call {
        id: "call_é".to_owned(),
        name: CallName::plain("f\"\n"),
        is_custom,
        opaque: None,
    };
    prop_oneof![
        4 => Just(Opened::Text),
        1 => Just(Opened::Refusal),
        2 => Just(Opened::Reasoning { is_redacted: false }),
        1 => Just(call(false)),
        1 => Just(call(true)),
        1 => Just(Opened::Media(Media {
            kind: MediaKind::Image,
            source: MediaSource::Data { mime: "image/png".to_owned(), base64: "AAAA".to_owned() },
            name: None,
            detail: None,
        })),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let words = prop::sample::select(&["word ", "é€😀", "\"\\\n\u{1}\u{7f}\u{2028}", "{\"a\":[]}", "ÿ\u{ff}"][..]);
    let cited = |title: String| Citation {
        url: Some("https://e/ä?\"".to_owned()),
        title: Some(title),
        ..Citation::default()
    };
    prop_oneof![
        3 => opened().prop_map(Event::Open),
        8 => (words, 1..700_usize).prop_map(|(word, times)| Event::Delta(word.repeat(times))),
        4 => "\\PC{1,40}".prop_map(Event::Delta),
        2 => "\\PC{0,9}".prop_map(cited).prop_map(Event::Cite),
        1 => "[a-zA-Z0-9+/]{0,300}".prop_map(|data| Event::Sign(Opaque { wire: VendorWire::Gemini, data })),
        1 => Just(Event::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_told_again_is_what_was_told(mut events in prop::collection::vec(event(), 0..40), is_summary: bool) {
        events.extend([Event::Stop(Stop::Done), Event::End]);
        let (told, answer) = told(events, is_summary);
        prop_assert!(tells_again(&told, &answer, is_summary) > 0);
    }
}

#[test]
fn a_long_answer_of_many_parts_is_told_again() {
    let word = |at: usize| Event::Delta(format!("w\u{e9}{} \"{}\"\n", at * 7919 % 10_007, at));
    let mut events = Vec::new();
    for part in [
        Opened::Reasoning { is_redacted: false },
        Opened::Text,
        Opened::Refusal,
        Opened::Text,
    ] {
        events.push(Event::Open(part));
        events.extend((0..5_000).map(word));
    }
    events.extend([Event::Stop(Stop::Length), Event::End]);
    let (told, answer) = told(events, false);
    // Of the thought its text, its summary and its item; two each of three parts; the message; the answer.
    assert_eq!(tells_again(&told, &answer, false), 3 + 6 + 1 + 1);
    assert!(told.contains("event: response.incomplete\n"));
}
