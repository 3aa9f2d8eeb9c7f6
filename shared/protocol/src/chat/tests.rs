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
    let body = r#"{"model":"m","messages":[{"role":"system","content":"S"},
        {"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"https://e/a.png","detail":"low"}},
            {"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]},
        {"role":"assistant","content":"So:","reasoning_content":"Hm.","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
        {"role":"tool","tool_call_id":"c","content":"done"},{"role":"user","content":"go on"}],
        "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"b":1,"a":2},"strict":true}}],
        "tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"response_format":{"type":"json_object"},
        "max_tokens":7,"stop":["a","b"],"temperature":1e0,"top_p":0.1,"frequency_penalty":1,"presence_penalty":-1,"seed":3,
        "reasoning_effort":"minimal","verbosity":"low","service_tier":"flex","prompt_cache_key":"k","user":"u","metadata":{"z":"1","a":"2"}}"#;
    for is_openai in [true, false] {
        let target = Target {
            model: "m",
            is_openai,
            is_streamed: false,
            max_output: Tokens::new(1),
        };
        let first = turn(body);
        let mut losses = Losses::default();
        let written = write(&first, &target, &mut losses);
        let second = turn(std::str::from_utf8(&written).unwrap());
        let lost: Vec<_> = losses.iter().map(|loss| loss.path.as_str()).collect();
        if is_openai {
            assert!(lost.is_empty(), "{lost:?}");
            assert_eq!(second.tools, first.tools);
            // OpenAI has no place for a thought that is not its own.
            assert_eq!(second.messages.len(), first.messages.len());
            assert_eq!((second.sampling, second.metadata), (first.sampling, first.metadata));
        } else {
            assert_eq!(lost, ["verbosity", "service_tier", "cache_key", "metadata"]);
            assert_eq!(second.messages, first.messages);
            assert_eq!(
                (second.choice, second.form, second.stop),
                (first.choice, first.form, first.stop)
            );
        }
        assert_eq!(second.max_output, Some(Tokens::new(7)));
    }
}

#[test]
fn defaults_that_a_client_sends_along_cost_it_nothing() {
    let body = r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","function_call":{},"tool_calls":[]}],
        "stop":"","logit_bias":{},"functions":[],"audio":{},"metadata":{},"tools":[],"n":1,"logprobs":false}"#;
    let mut losses = Losses::default();
    let turn = read(body.as_bytes(), &mut losses).unwrap();
    assert_eq!(losses.iter().count(), 0);
    assert!(turn.stop.is_empty() && turn.metadata.is_none());
}

/// Each refuses what the other needs.
#[test]
fn a_model_that_thinks_is_asked_otherwise_than_one_that_answers_at_once() {
    let asked = turn(r#"{"messages":[],"temperature":1,"top_p":0.95,"presence_penalty":0,"reasoning_effort":"high"}"#);
    let say = |model| {
        let target = Target {
            model,
            is_openai: true,
            is_streamed: false,
            max_output: Tokens::new(1),
        };
        let mut losses = Losses::default();
        let body = String::from_utf8(write(&asked, &target, &mut losses)).unwrap();
        let lost: Vec<_> = losses.iter().map(|loss| loss.path.clone()).collect();
        (body, lost)
    };
    let (thinks, lost) = say("gpt-5.2");
    assert_eq!(
        thinks,
        r#"{"model":"gpt-5.2","messages":[],"reasoning_effort":"high","stream":false}"#
    );
    assert_eq!(lost, ["temperature", "top_p"]);
    let (answers, lost) = say("gpt-4.1");
    let drawn = r#""temperature":1,"top_p":0.95,"presence_penalty":0"#;
    assert_eq!(
        answers,
        format!(r#"{{"model":"gpt-4.1","messages":[],{drawn},"stream":false}}"#)
    );
    assert_eq!(lost, ["reasoning"]);
    let (unknown, lost) = say("ours");
    assert_eq!(
        unknown,
        format!(r#"{{"model":"ours","messages":[],{drawn},"reasoning_effort":"high","stream":false}}"#)
    );
    assert!(lost.is_empty(), "{lost:?}");
}

proptest! {
    /// Whatever is written was said by this wire, and is read without a loss. Once it is as this wire has it, with nothing
    /// empty, the rules at the beginning in one message, and a text before the calls beside it, it means the same each time
    /// it is read and written.
    #[test]
    fn what_is_written_is_read_again_and_means_the_same(turn in any_turn(), model in prop::sample::select(&["gpt-4.1", "gpt-5.5", "deepseek-chat"][..]), is_openai in any::<bool>()) {
        let target = Target {
            model,
            is_openai,
            is_streamed: false,
            max_output: Tokens::new(32_000),
        };
        let say = |turn: &Turn| String::from_utf8(write(turn, &target, &mut Losses::default())).unwrap();
        let first = say(&turn);
        let mut lost = Losses::default();
        let second = say(&read(first.as_bytes(), &mut lost).unwrap());
        prop_assert!(lost.is_empty(), "{lost:?} in {first}");
        let settled = self::turn(&say(&self::turn(&second)));
        let again = self::turn(&say(&settled));
        prop_assert!(comparable(settled) == comparable(again), "{first}\n{second}");
    }
}
