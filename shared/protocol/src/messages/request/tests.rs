use proptest::prelude::*;

use super::{read, write};
use crate::codec::Target;
use crate::loss::{LossKind, Losses};
use crate::tokens::Tokens;
use crate::turn::any::any_turn;
use crate::turn::{Choice, Effort, Part, Role, Tool, Turn};

fn target(model: &str) -> Target<'_> {
    Target {
        model,
        is_openai: false,
        is_streamed: false,
        max_output: Tokens::new(32_000),
    }
}

fn read_whole(body: &str) -> (Turn, Vec<(String, LossKind)>) {
    let mut losses = Losses::default();
    let turn = read(body.as_bytes(), &mut losses).unwrap();
    (turn, losses.iter().map(|loss| (loss.path.clone(), loss.kind)).collect())
}

fn written(turn: &Turn, model: &str) -> (String, Vec<(String, LossKind)>) {
    let mut losses = Losses::default();
    let body = write(turn, &target(model), &mut losses);
    let told = losses.iter().map(|loss| (loss.path.clone(), loss.kind)).collect();
    (String::from_utf8(body).unwrap(), told)
}

#[test]
fn what_this_wire_says_is_read_in_full() {
    let body = include_str!("../../../fixtures/messages/requests/agent.json");
    let (turn, lost) = read_whole(body);
    assert!(lost.is_empty(), "{lost:?}");
    let roles: Vec<_> = turn.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert!(matches!(&turn.messages[0].parts[2], Part::CacheMark(mark) if mark.ttl.as_deref() == Some("1h")));
    let results = turn.messages[3].parts.iter().filter_map(|part| match part {
        Part::CallResult(result) => Some((result.name.as_ref().unwrap().name.as_str(), result.is_error)),
        _ => None,
    });
    assert_eq!(results.collect::<Vec<_>>(), [("Bash", false), ("Read", true)]);
    let Tool::Function(bash) = &turn.tools[0] else {
        unreachable!()
    };
    assert!(
        bash.schema
            .as_ref()
            .unwrap()
            .as_str()
            .starts_with(r#"{"type": "object", "required""#)
    );
    assert_eq!(turn.parallel_calls, Some(false));
    assert_eq!(turn.reasoning.budget, Some(Tokens::new(16_000)));
    assert_eq!(turn.reasoning.is_shown, Some(true));
}

#[test]
fn what_no_other_wire_can_say_is_told_by_its_place() {
    let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"a","x":1}]}],
        "container":"c","context_management":{},"thinking":{"type":"adaptive"},"output_config":{"effort":"max","y":2}}"#;
    let (turn, lost) = read_whole(body);
    let paths: Vec<_> = lost
        .iter()
        .map(|(path, kind)| (path.as_str(), *kind == LossKind::Meaning))
        .collect();
    assert_eq!(
        paths,
        [
            ("messages[0].content[0].x", false),
            ("output_config.y", false),
            ("container", true),
            ("context_management", false)
        ]
    );
    assert_eq!(turn.reasoning.effort, Some(Effort::Max));
}

#[test]
fn what_is_wrong_is_told_by_its_place() {
    for (body, path) in [
        (r#"{"messages":1}"#, "messages"),
        (r#"{"messages":[{"role":"robot","content":"a"}]}"#, "messages[0].role"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "messages[0].content[0].text",
        ),
        (r#"{"messages":[],"tools":[{"input_schema":{}}]}"#, "tools[0].name"),
        (r#"{"messages":[],"max_tokens":-1}"#, "max_tokens"),
        (r#"{"messages":[],"tool_choice":{"type":"some"}}"#, "tool_choice.type"),
    ] {
        let invalid = read(body.as_bytes(), &mut Losses::default()).err().unwrap();
        assert_eq!(invalid.path, path, "{body}");
    }
}

#[test]
fn each_generation_of_models_is_asked_to_think_in_its_own_way() {
    let mut turn = Turn::default();
    turn.reasoning.effort = Some(Effort::High);
    let (old, _) = written(&turn, "claude-sonnet-4-5");
    assert!(
        old.contains(r#""thinking":{"type":"enabled","budget_tokens":16384}"#),
        "{old}"
    );
    let (new, _) = written(&turn, "claude-opus-4-8");
    assert!(
        new.contains(r#""thinking":{"type":"adaptive"},"output_config":{"effort":"high"}"#),
        "{new}"
    );
    turn.choice = Some(Choice::Required);
    let (_, lost) = written(&turn, "claude-opus-4-8");
    assert_eq!(lost, [("reasoning".to_owned(), LossKind::Hint)]);
}

#[test]
fn a_temperature_is_said_and_not_the_nucleus_beside_it() {
    let drawn = |sampling: &str| {
        let (turn, _) = read_whole(&format!(r#"{{"messages":[],{sampling}}}"#));
        written(&turn, "claude-sonnet-4-5")
    };
    let (body, lost) = drawn(r#""temperature":1,"top_p":0.95,"top_k":64"#);
    assert!(body.contains(r#""temperature":1,"top_k":64"#), "{body}");
    assert_eq!(lost, [("top_p".to_owned(), LossKind::Hint)]);
    let (body, lost) = drawn(r#""top_p":0.95"#);
    assert!(body.contains(r#""top_p":0.95"#) && lost.is_empty(), "{body}");
}

#[test]
fn tools_that_were_searched_for_are_told_in_words() {
    let body = r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"ToolSearch","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"tool_reference","tool_name":"WebFetch"}]}]}],
        "tools":[{"name":"ToolSearch","input_schema":{}},{"name":"WebFetch","input_schema":{},"defer_loading":true}]}"#;
    let (turn, lost) = read_whole(body);
    assert_eq!(lost, [("tools[1].defer_loading".to_owned(), LossKind::Hint)]);
    let Part::CallResult(found) = &turn.messages[1].parts[0] else {
        unreachable!()
    };
    assert!(found.parts == [Part::text("`WebFetch` can be called.")]);
}

#[test]
fn tools_that_come_and_go_are_offered_as_they_are_at_the_end() {
    let body = r#"{"messages":[{"role":"user","content":"x"},
        {"role":"system","content":[{"type":"text","text":"S"},
            {"type":"tool_addition","tool":{"type":"tool_definition","definition":{"name":"new","input_schema":{"a":1}}}},
            {"type":"tool_removal","tool":{"type":"tool_reference","name":"gone"}},
            {"type":"tool_removal","tool":{"type":"tool_reference","name":"back"}}]},
        {"role":"system","content":[{"type":"tool_addition","tool":{"type":"tool_reference","name":"back"}}]}],
        "tools":[{"name":"gone","input_schema":{}},{"name":"back","input_schema":{},"defer_loading":true}]}"#;
    let (turn, lost) = read_whole(body);
    assert_eq!(lost, [("tools[1].defer_loading".to_owned(), LossKind::Hint)]);
    let names = turn.tools.iter().filter_map(|tool| match tool {
        Tool::Function(function) => Some(function.name.name.as_str()),
        _ => None,
    });
    assert_eq!(names.collect::<Vec<_>>(), ["back", "new"]);
    assert_eq!(turn.messages.len(), 2, "a rule that says nothing else is none");
    assert!(turn.messages[1].parts == [Part::text("S")]);
}

proptest! {
    /// Whatever is written was said by this wire, and is read without a loss; written again it is the same to the byte.
    #[test]
    fn what_is_written_is_read_again_and_means_the_same(turn in any_turn(), model in prop::sample::select(&["claude-sonnet-4-5", "claude-opus-4-8"][..])) {
        let (first, _) = written(&turn, model);
        let (again, lost) = read_whole(&first);
        prop_assert!(lost.is_empty(), "{lost:?} in {first}");
        let (second, _) = written(&again, model);
        prop_assert_eq!(&first, &second);
        let (third, _) = read_whole(&second);
        prop_assert!(third == again);
    }
}
