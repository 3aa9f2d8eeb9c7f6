use proptest::prelude::*;

use super::{read, write};
use crate::codec::Target;
use crate::loss::{LossKind, Losses};
use crate::tokens::Tokens;
use crate::turn::any::any_turn;
use crate::turn::{Choice, Effort, Json, MediaSource, Part, Role, Tool, Turn};

fn read_whole(body: &str) -> (Turn, Vec<(String, LossKind)>) {
    let mut losses = Losses::default();
    let turn = read(body.as_bytes(), &mut losses).unwrap();
    (turn, losses.iter().map(|loss| (loss.path.clone(), loss.kind)).collect())
}

fn written(turn: &Turn, model: &str) -> (String, Vec<(String, LossKind)>) {
    let target = Target {
        model,
        is_openai: false,
        is_streamed: false,
        max_output: Tokens::new(32_000),
    };
    let mut losses = Losses::default();
    let body = write(turn, &target, &mut losses);
    let told = losses.iter().map(|loss| (loss.path.clone(), loss.kind)).collect();
    (String::from_utf8(body).unwrap(), told)
}

#[test]
fn results_without_an_id_belong_to_the_calls_of_their_name_in_order() {
    let (turn, lost) = read_whole(include_str!("../../../fixtures/gemini/requests/nameless.json"));
    assert!(lost.is_empty(), "{lost:?}");
    let calls = turn.messages[1].parts.iter().map(|part| match part {
        Part::Call(call) => (call.id.clone(), call.arguments.clone()),
        _ => unreachable!(),
    });
    let calls: Vec<_> = calls.collect();
    let results = turn.messages[2].parts.iter().map(|part| match part {
        Part::CallResult(result) => result.id.clone(),
        _ => unreachable!(),
    });
    assert_eq!(
        results.collect::<Vec<_>>(),
        [calls[0].0.clone(), calls[2].0.clone(), calls[1].0.clone()]
    );
    assert_eq!(calls[1].1, "{}");
    assert!(turn.choice == Some(Choice::One(crate::turn::CallName::plain("get_weather"))));
}

#[test]
fn both_spellings_of_a_key_are_read() {
    let (turn, lost) = read_whole(include_str!("../../../fixtures/gemini/requests/snake.json"));
    assert_eq!(lost, [("safety_settings".to_owned(), LossKind::Hint)]);
    assert_eq!(turn.messages[0].role, Role::System);
    assert_eq!(turn.max_output, Some(Tokens::new(100)));
    let sources = turn.messages[1].parts.iter().filter_map(|part| match part {
        Part::Media(media) => Some(matches!(media.source, MediaSource::Data { .. })),
        _ => None,
    });
    assert_eq!(sources.collect::<Vec<_>>(), [true, false]);
}

/// As Google's own examples are written.
#[test]
fn one_object_stands_for_an_array_of_it() {
    let (turn, lost) = read_whole(
        r#"{"system_instruction":{"parts":{"text":"S"}},"contents":{"role":"USER","parts":{"text":"hi"}},
        "tools":{"functionDeclarations":{"name":"f"}},"generationConfig":{"stopSequences":[]}}"#,
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(turn.messages[0].parts, [Part::text("S")]);
    assert_eq!(
        (turn.messages[1].role, &turn.messages[1].parts),
        (Role::User, &vec![Part::text("hi")])
    );
    assert!(matches!(turn.tools.as_slice(), [Tool::Function(_)]));
}

#[test]
fn what_no_other_wire_can_say_is_told_by_its_place() {
    let (turn, lost) = read_whole(
        r#"{"contents":[{"parts":[{"executableCode":{"code":"x"}},{"text":"a","partMetadata":{}}]}],"cachedContent":"c",
        "generationConfig":{"candidateCount":2,"responseModalities":["TEXT","IMAGE"],"mediaResolution":"LOW"}}"#,
    );
    assert_eq!(
        lost,
        [
            ("contents[0].parts[1].partMetadata".to_owned(), LossKind::Hint),
            ("generationConfig.candidateCount".to_owned(), LossKind::Meaning),
            ("generationConfig.responseModalities".to_owned(), LossKind::Meaning),
            ("generationConfig.mediaResolution".to_owned(), LossKind::Hint),
            ("cachedContent".to_owned(), LossKind::Meaning),
        ]
    );
    assert!(matches!(&turn.messages[0].parts[0], Part::Foreign(foreign) if foreign.path == "contents[0].parts[0]"));
}

#[test]
fn each_generation_of_models_is_asked_to_think_in_its_own_way() {
    let mut turn = Turn::default();
    turn.reasoning.effort = Some(Effort::Low);
    turn.reasoning.is_shown = Some(true);
    let (old, _) = written(&turn, "gemini-2.5-flash");
    assert!(
        old.contains(r#""thinkingConfig":{"includeThoughts":true,"thinkingBudget":2048}"#),
        "{old}"
    );
    let (new, _) = written(&turn, "gemini-3.5-flash");
    assert!(
        new.contains(r#""thinkingConfig":{"includeThoughts":true,"thinkingLevel":"LOW"}"#),
        "{new}"
    );
    turn.reasoning.effort = Some(Effort::None);
    let (off, _) = written(&turn, "gemini-2.5-flash");
    assert!(off.contains(r#""thinkingConfig":{"thinkingBudget":0}"#), "{off}");
}

#[test]
fn the_first_call_of_a_step_is_signed_for_models_that_ask_for_it() {
    let (turn, _) = read_whole(include_str!("../../../fixtures/gemini/requests/nameless.json"));
    let (new, _) = written(&turn, "gemini-3.5-flash");
    assert_eq!(new.matches("skip_thought_signature_validator").count(), 1);
    let (old, _) = written(&turn, "gemini-2.5-flash");
    assert!(!old.contains("thoughtSignature"));
    let (signed, _) = read_whole(include_str!("../../../fixtures/gemini/requests/agent.json"));
    let (kept, _) = written(&signed, "gemini-3.5-flash");
    assert_eq!(kept.matches("thoughtSignature").count(), 1);
    assert!(kept.contains(r#""thoughtSignature":"Q2lRQmJtOTBaU0J5WldGcw==""#));
}

#[test]
fn a_schema_of_googles_is_one_that_every_wire_knows() {
    let (turn, _) = read_whole(include_str!("../../../fixtures/gemini/requests/agent.json"));
    let Tool::Function(function) = &turn.tools[0] else {
        unreachable!()
    };
    assert_eq!(
        function.schema.as_ref().unwrap().as_str(),
        concat!(
            r#"{"type":"object","properties":{"city":{"type":"string"},"unit":{"type":["string","null"],"#,
            r#""enum":["c","f",null]}},"required":["city"]}"#
        )
    );
}

#[test]
fn numbers_may_stand_in_quotes_and_keys_in_either_spelling() {
    let body = r#"{"system_instruction":{"parts":{"text":"Be brief."}},"contents":[{"parts":[{"text":"Hi"},
        {"inline_data":{"mime_type":"image/png","data":"AAAA"}}]}],
        "tools":[{"function_declarations":[{"name":"f","parameters":{"type":"ARRAY","items":{"type":"STRING"},"min_items":"2"}}]}],
        "tool_config":{"function_calling_config":{"mode":"ANY","allowed_function_names":["f"]}},
        "generation_config":{"max_output_tokens":"256","top_k":"40","topP":"0.5","seed":"-7","candidate_count":"1",
        "stop_sequences":["END"],"thinking_config":{"thinking_budget":"1024","include_thoughts":true}}}"#;
    let (turn, lost) = read_whole(body);
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(turn.max_output, Some(Tokens::new(256)));
    let said = |number: &Option<Json>| number.as_ref().map(|number| number.as_str().to_owned());
    let sampling = &turn.sampling;
    assert_eq!(
        [&sampling.top_k, &sampling.top_p, &sampling.seed].map(said),
        ["40", "0.5", "-7"].map(|number| Some(number.to_owned()))
    );
    assert_eq!(
        (turn.reasoning.budget, turn.reasoning.is_shown),
        (Some(Tokens::new(1024)), Some(true))
    );
    assert_eq!(
        (turn.messages.len(), turn.messages[1].parts.len(), turn.stop.len()),
        (2, 2, 1)
    );
    assert!(matches!(turn.choice, Some(Choice::One(_))));
    let schema = turn.tools.iter().find_map(|tool| match tool {
        Tool::Function(function) => function.schema.as_ref(),
        _ => None,
    });
    assert!(schema.unwrap().as_str().contains(r#""minItems":2"#));
    let (unlimited, _) = read_whole(r#"{"contents":[],"generationConfig":{"thinkingConfig":{"thinkingBudget":"-1"}}}"#);
    assert_eq!(unlimited.reasoning.budget, None);
    for wrong in [r#""""#, r#""x""#, r#""[1]""#, r#""-1""#, "true"] {
        let body = format!(r#"{{"contents":[],"generationConfig":{{"maxOutputTokens":{wrong}}}}}"#);
        assert!(read(body.as_bytes(), &mut Losses::default()).is_err(), "{wrong}");
    }
}

proptest! {
    /// Whatever is written was said by this wire, and is read without a loss; written again it is the same to the byte.
    #[test]
    fn what_is_written_is_read_again_and_means_the_same(turn in any_turn(), model in prop::sample::select(&["gemini-2.5-pro", "gemini-3.5-flash"][..])) {
        let (first, _) = written(&turn, model);
        let (again, lost) = read_whole(&first);
        prop_assert!(lost.is_empty(), "{lost:?} in {first}");
        let (second, _) = written(&again, model);
        prop_assert_eq!(&first, &second);
        let (third, _) = read_whole(&second);
        prop_assert!(third == again);
    }
}
