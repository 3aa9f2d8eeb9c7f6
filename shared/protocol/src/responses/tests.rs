use proptest::prelude::*;

use super::*;
use crate::codec::Target;
use crate::loss::Losses;
use crate::turn::any::{any_turn, comparable};
use crate::{Tokens, Turn};

fn turn(body: &str) -> Turn {
    read(body.as_bytes(), &mut Losses::default()).unwrap()
}

/// What is said to a vendor is what its client meant.
#[test]
fn a_request_read_and_written_keeps_its_meaning() {
    let body = r#"{"model":"m","input":[{"role":"developer","content":"D"},{"role":"user","content":[{"type":"input_text","text":"look"},
        {"type":"input_image","image_url":"https://e/a.png","detail":"low"},{"type":"input_file","file_url":"https://e/a.pdf"},{"type":"input_image","file_id":"f_1"}]},
        {"type":"reasoning","id":"rs","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"gAAA"},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"So:","annotations":[]},{"type":"refusal","refusal":"no"}]},
        {"type":"function_call","call_id":"c","name":"f","arguments":"{\"a\":1}"},{"type":"custom_tool_call","call_id":"d","name":"g","input":"x"},
        {"type":"function_call_output","call_id":"c","output":"done"},{"type":"custom_tool_call_output","call_id":"d","output":"y"},
        {"type":"web_search_call","id":"ws","status":"completed"},{"role":"user","content":"go on"}],
        "tools":[{"type":"function","name":"f","description":"d","parameters":{"b":1,"a":2},"strict":true},{"type":"custom","name":"g"},{"type":"web_search","x":1}],
        "tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false,"text":{"format":{"type":"json_schema","name":"n","schema":{"b":1,"a":2}},"verbosity":"low"},
        "max_output_tokens":7,"temperature":1e0,"top_p":0.1,"reasoning":{"effort":"xhigh","summary":"auto"},"service_tier":"flex",
        "prompt_cache_key":"k","safety_identifier":"u","metadata":{"z":"1","a":"2"}}"#;
    let target = Target {
        model: "m",
        is_openai: true,
        is_streamed: true,
        max_output: Tokens::new(1),
    };
    let first = turn(body);
    let mut losses = Losses::default();
    let written = write(&first, &target, &mut losses);
    let second = turn(std::str::from_utf8(&written).unwrap());
    assert!(losses.is_empty(), "{losses:?}");
    assert!(written.windows(17).any(|bytes| bytes == br#""file_id":"f_1"}]"#));
    assert_eq!(comparable(second), comparable(first));
}

#[test]
fn a_refusal_is_told_as_one() {
    use crate::codec::bounded::Events;
    use crate::codec::{Framing, Outbox, ReadAnswer as _, Reply, WriteAnswer as _};
    use crate::event::{Event, Opened, Sequence, Stop};

    let reply = Reply {
        id: "1".to_owned(),
        model: "m".to_owned(),
        created: 0,
        wants_usage: false,
    };
    let mut writer = Writer::new(reply);
    let mut outbox = Outbox::new(Framing::Messages);
    let mut sequence = Sequence::default();
    for event in [
        Event::Open(Opened::Text),
        Event::Delta("a".to_owned()),
        Event::Open(Opened::Refusal),
        Event::Delta("no".to_owned()),
        Event::Stop(Stop::Filter),
        Event::End,
    ] {
        sequence.push(event, &mut |event| writer.write(event, &mut outbox));
    }
    let mut reader = Reader::default();
    let mut read = Events::of_all();
    for message in outbox.take_messages() {
        reader.event(&message, &mut read);
    }
    let kept: Vec<_> = std::iter::from_fn(|| read.next())
        .filter(|event| !matches!(event, Event::Begin | Event::Close))
        .collect();
    let wanted = [
        Event::Open(Opened::Text),
        Event::Delta("a".to_owned()),
        Event::Open(Opened::Refusal),
        Event::Delta("no".to_owned()),
        Event::Stop(Stop::Filter),
        Event::End,
    ];
    assert_eq!(kept, wanted);
}

proptest! {
    /// Whatever is written was said by this wire, and is read without a loss; written and read again it means the same.
    #[test]
    fn what_is_written_is_read_again_and_means_the_same(turn in any_turn(), model in prop::sample::select(&["gpt-4.1", "gpt-5.5"][..])) {
        let target = Target {
            model,
            is_openai: true,
            is_streamed: false,
            max_output: Tokens::new(32_000),
        };
        let say = |turn: &Turn| String::from_utf8(write(turn, &target, &mut Losses::default())).unwrap();
        let first = say(&turn);
        let mut lost = Losses::default();
        let again = read(first.as_bytes(), &mut lost).unwrap();
        prop_assert!(lost.is_empty(), "{lost:?} in {first}");
        let second = say(&again);
        let (again, third) = (comparable(again), comparable(self::turn(&second)));
        prop_assert!(again == third, "{first}\n{second}");
    }
}
