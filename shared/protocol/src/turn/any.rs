//! Any request, for the tests of codecs: what a wire writes it must read again.

use proptest::prelude::*;

use super::{
    CacheMark, Call, CallName, CallResult, Choice, Effort, Form, Function, Json, Media, MediaKind, MediaSource,
    Message, Opaque, Part, Reasoning, Role, Sampling, Schema, Text, Thought, Tool, Turn,
};
use crate::lane::VendorWire;
use crate::tokens::Tokens;

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,8}", Just("é\"\\\n\u{1f600}".to_owned())]
}

fn json(texts: &'static [&'static str]) -> impl Strategy<Value = Json> {
    prop::sample::select(texts).prop_map(|text| Json::parse(text).unwrap())
}

fn opaque() -> impl Strategy<Value = Option<Opaque>> {
    let wire = prop::sample::select(&VendorWire::ALL[..]);
    prop::option::of((wire, "[A-Za-z0-9+/]{4}").prop_map(|(wire, data)| Opaque { wire, data }))
}

fn media() -> impl Strategy<Value = Media> {
    let kind = prop_oneof![Just(MediaKind::Image), Just(MediaKind::File)];
    (kind, any::<bool>(), prop::option::of("[a-z]{1,5}")).prop_map(|(kind, is_url, name)| {
        let is_image = kind == MediaKind::Image;
        let mime = if is_image { "image/png" } else { "application/pdf" };
        let source = if is_url {
            MediaSource::Url {
                url: "https://example.com/a.png".to_owned(),
                mime: None,
            }
        } else {
            MediaSource::Data {
                mime: mime.to_owned(),
                base64: "aGk=".to_owned(),
            }
        };
        Media {
            kind,
            source,
            name: name.filter(|_| !is_image),
            detail: None,
        }
    })
}

fn human() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => words().prop_map(Part::text),
        1 => media().prop_map(Part::Media),
        1 => prop::option::of(Just("1h".to_owned())).prop_map(|ttl| Part::CacheMark(CacheMark { ttl })),
        2 => (0..4_u8, words(), any::<bool>()).prop_map(|(id, text, is_error)| {
            Part::CallResult(CallResult {
                id: format!("call_{id}"),
                name: Some(CallName::plain("f")),
                parts: vec![Part::text(text)],
                is_error,
            })
        }),
    ]
}

fn model() -> impl Strategy<Value = Part> {
    let arguments = prop::sample::select(&["{}", "{\"b\":1.0,\"a\":[2]}", "", "{\"broken", "[1]"][..]);
    prop_oneof![
        3 => words().prop_map(|text| Part::Text(Text { text, citations: Vec::new() })),
        1 => words().prop_map(Part::Refusal),
        2 => (words(), opaque(), any::<bool>()).prop_map(|(text, opaque, is_redacted)| {
            let text = if is_redacted { String::new() } else { text };
            Part::Reasoning(Reasoning { text, opaque, is_redacted })
        }),
        3 => (0..4_u8, arguments, opaque()).prop_map(|(id, arguments, opaque)| {
            Part::Call(Call {
                id: format!("call_{id}"),
                name: CallName::plain("f"),
                arguments: arguments.to_owned(),
                opaque,
            })
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let of = |role, parts: BoxedStrategy<Part>| {
        prop::collection::vec(parts, 0..4).prop_map(move |parts| Message { role, parts })
    };
    let rule = prop_oneof![Just(Role::System), Just(Role::Developer)];
    prop_oneof![
        3 => of(Role::User, human().boxed()),
        3 => of(Role::Assistant, model().boxed()),
        1 => (rule, words()).prop_map(|(role, text)| Message { role, parts: vec![Part::text(text)] }),
    ]
}

const SCHEMAS: &[&str] = &[
    r#"{"type":"object","required":["b"],"properties":{"b":{"type":"string"},"a":{"type":["null","number"]}}}"#,
    r#"{"type":"object","properties":{}}"#,
];

fn tool() -> impl Strategy<Value = Function> {
    let schema = prop::option::of(json(SCHEMAS));
    let strict = prop::option::of(any::<bool>());
    ("[a-z]{1,3}", prop::option::of(words()), schema, strict).prop_map(|(name, description, schema, strict)| Function {
        name: CallName::plain(name),
        description,
        schema,
        strict,
    })
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::Auto),
        Just(Choice::None),
        Just(Choice::Required),
        Just(Choice::One(CallName::plain("f"))),
        any::<bool>().prop_map(|is_required| Choice::Some {
            names: vec![CallName::plain("f"), CallName::plain("g")],
            is_required,
        }),
    ]
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let number = || prop::option::of(json(&["0", "0.20", "1e0", "1"]));
    (number(), number(), number(), number(), number(), number()).prop_map(
        |(temperature, top_p, top_k, frequency_penalty, presence_penalty, seed)| Sampling {
            temperature,
            top_p,
            top_k,
            frequency_penalty,
            presence_penalty,
            seed,
        },
    )
}

fn thought() -> impl Strategy<Value = Thought> {
    let effort = prop::option::of(prop::sample::select(&Effort::ALL[..]));
    let budget = prop::option::of((1024..40_000_u64).prop_map(Tokens::new));
    (effort, budget, prop::option::of(any::<bool>())).prop_map(|(effort, budget, is_shown)| Thought {
        effort,
        budget,
        is_shown,
    })
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![
        3 => Just(Form::Text),
        1 => Just(Form::Json),
        1 => json(SCHEMAS).prop_map(|schema| Form::Schema(Schema {
            name: None,
            description: None,
            schema,
            strict: Some(true),
        })),
    ]
}

/// Any of them.
pub(crate) fn any_turn() -> impl Strategy<Value = Turn> {
    let said = (
        prop::collection::vec(message(), 0..6),
        prop::collection::vec(tool(), 0..3),
    );
    let asked = (
        prop::option::of(choice()),
        prop::option::of(any::<bool>()),
        form(),
        prop::option::of(1..99_999_u64),
    );
    let drawn = (
        prop::collection::vec("[a-z]{1,3}", 0..2),
        sampling(),
        thought(),
        prop::option::of(words()),
    );
    (said, asked, drawn).prop_map(
        |((messages, tools), (choice, parallel_calls, form, max_output), drawn)| {
            let (stop, sampling, reasoning, user) = drawn;
            Turn {
                messages,
                tools: tools.into_iter().map(Tool::Function).collect(),
                choice,
                parallel_calls,
                form,
                max_output: max_output.map(Tokens::new),
                stop,
                sampling,
                reasoning,
                user,
                ..Turn::default()
            }
        },
    )
}

/// But for messages that say nothing, and for the places of what one wire alone knows.
pub(crate) fn comparable(mut turn: Turn) -> Turn {
    turn.messages.retain(|message| !message.parts.is_empty());
    for part in turn.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let Part::Foreign(foreign) = part {
            foreign.path.clear();
        }
    }
    turn
}
