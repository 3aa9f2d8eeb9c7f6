//! Tools as every wire knows them: plain functions under one name each. A group becomes part of the name, free text the
//! one argument of a function, a letter that a vendor takes in no name another one; in the answer all of it is undone.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{CallName, Choice, Function, Json, Part, Tool, Turn};
use crate::call;
use crate::lane::VendorWire;

/// What was done to a request and is to be undone in its answer: what the plain names stand for.
#[derive(Clone, Default)]
pub struct Flat {
    names: HashMap<String, Original>,
    /// The answer is a summary that was asked for in words.
    pub(crate) is_summary: bool,
}

#[derive(Clone)]
struct Original {
    name: CallName,
    is_custom: bool,
}

/// Why the tools of a request have no plain names.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FlatError {
    /// Two would have the same.
    #[error("`tools[{0}]` has the name of another tool, once it is written in the letters that the vendor takes")]
    SameName(usize),
}

/// The one argument of a function that stands for a free-form tool.
#[derive(Serialize, Deserialize)]
struct Input<S> {
    input: S,
}

impl Flat {
    /// Makes plain functions of all tools in `turn`, and of all calls of them, with names that the vendor takes. One of
    /// Responses knows groups and free text itself.
    ///
    /// # Errors
    /// When two tools would have the same name.
    pub fn make(turn: &mut Turn, vendor: VendorWire) -> Result<Self, FlatError> {
        let is_plain = vendor == VendorWire::Responses;
        let mut flat = Self::default();
        let mut taken = std::collections::HashSet::new();
        for (index, tool) in turn.tools.iter_mut().enumerate() {
            let (name, is_custom) = match tool {
                Tool::Function(function) => (&mut function.name, false),
                Tool::Custom(custom) => (&mut custom.name, true),
                Tool::Foreign(_) | Tool::CacheMark(_) => continue,
            };
            let original = name.clone();
            flatten(name, vendor);
            if !taken.insert((name.namespace.clone(), name.name.clone())) {
                return Err(FlatError::SameName(index));
            }
            let is_custom = is_custom && !is_plain;
            if is_custom || original != *name {
                let original = Original {
                    name: original,
                    is_custom,
                };
                flat.names.insert(name.name.clone(), original);
            }
            if let Tool::Custom(custom) = tool
                && !is_plain
            {
                let plain = Function {
                    name: custom.name.clone(),
                    description: described(custom.description.as_deref(), custom.format.as_ref()),
                    schema: Json::parse(INPUT_SCHEMA),
                    strict: None,
                };
                *tool = Tool::Function(plain);
            }
        }
        flat.calls(turn, vendor);
        Ok(flat)
    }

    fn calls(&self, turn: &mut Turn, vendor: VendorWire) {
        let flatten = |name: &mut CallName| flatten(name, vendor);
        for part in turn.messages.iter_mut().flat_map(|message| &mut message.parts) {
            match part {
                Part::Call(call) => {
                    flatten(&mut call.name);
                    if self.is_custom(&call.name.name) {
                        call.arguments = wrapped(&call.arguments);
                    }
                }
                Part::CallResult(result) => result.name.iter_mut().for_each(flatten),
                Part::Text(_)
                | Part::Refusal(_)
                | Part::Media(_)
                | Part::Reasoning(_)
                | Part::CacheMark(_)
                | Part::Foreign(_) => {}
            }
        }
        match &mut turn.choice {
            Some(Choice::One(name)) => flatten(name),
            Some(Choice::Some { names, .. }) => names.iter_mut().for_each(flatten),
            Some(Choice::Auto | Choice::None | Choice::Required) | None => {}
        }
    }

    /// The tool that the plain `name` stands for.
    #[must_use]
    pub fn original(&self, name: &str) -> CallName {
        self.names
            .get(name)
            .map_or_else(|| CallName::plain(name), |original| original.name.clone())
    }

    /// Its input is free text.
    #[must_use]
    pub fn is_custom(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|original| original.is_custom)
    }

    /// The free text in a function's arguments; the arguments themselves where the model wrote something else.
    #[must_use]
    pub fn unwrapped(arguments: &str) -> String {
        serde_json::from_str(arguments).map_or_else(|_| arguments.to_owned(), |Input { input }| input)
    }
}

fn flatten(name: &mut CallName, vendor: VendorWire) {
    if vendor == VendorWire::Responses && name.namespace.is_some() {
        return;
    }
    if let Some(namespace) = name.namespace.take() {
        name.name = format!("{namespace}{BETWEEN}{}", name.name);
    }
    let takes_more = vendor == VendorWire::Gemini;
    let is_fit = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || takes_more && matches!(byte, b'.' | b':')
    };
    if let Cow::Owned(fit) = call::fit_name(&name.name, is_fit) {
        name.name = fit;
    }
    // Google's begin with a letter.
    if takes_more
        && name
            .name
            .starts_with(|first: char| !first.is_ascii_alphabetic() && first != '_')
    {
        name.name = call::fit_name(&format!("_{}", name.name), is_fit).into_owned();
    }
}

fn wrapped(text: &str) -> String {
    serde_json::to_string(&Input { input: text }).unwrap_or_default()
}

/// A grammar cannot be enforced: it is told.
fn described(description: Option<&str>, format: Option<&Json>) -> Option<String> {
    match (description, format) {
        (description, None) => description.map(str::to_owned),
        (description, Some(format)) => Some(format!(
            "{}\n\nThe `input` must be in this format: {}",
            description.unwrap_or_default(),
            format.as_str()
        )),
    }
}

const BETWEEN: &str = "__";
const INPUT_SCHEMA: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Call, Custom, Message, Role};

    fn function(namespace: Option<&str>, name: &str) -> Tool {
        Tool::Function(Function {
            name: CallName {
                namespace: namespace.map(str::to_owned),
                name: name.to_owned(),
            },
            description: None,
            schema: None,
            strict: None,
        })
    }

    #[test]
    fn groups_and_free_text_become_plain_functions_and_are_found_again() {
        let custom = CallName::plain("apply_patch");
        let mut turn = Turn {
            tools: vec![
                function(None, "shell"),
                function(Some("mcp__docs"), "search"),
                Tool::Custom(Custom {
                    name: custom.clone(),
                    description: Some("Patches.".to_owned()),
                    format: Json::parse(r#"{"type":"grammar"}"#),
                }),
            ],
            messages: vec![Message {
                role: Role::Assistant,
                parts: vec![Part::Call(Call {
                    id: "c".to_owned(),
                    name: custom.clone(),
                    arguments: "*** \"Begin\"\n".to_owned(),
                    opaque: None,
                })],
            }],
            choice: Some(Choice::One(custom.clone())),
            ..Turn::default()
        };
        let flat = Flat::make(&mut turn, VendorWire::Chat).unwrap();
        let names = turn.tools.iter().map(|tool| match tool {
            Tool::Function(function) => function.name.name.as_str(),
            _ => "other",
        });
        assert_eq!(names.collect::<Vec<_>>(), ["shell", "mcp__docs__search", "apply_patch"]);
        let Part::Call(call) = &turn.messages[0].parts[0] else {
            unreachable!()
        };
        assert_eq!(call.arguments, r#"{"input":"*** \"Begin\"\n"}"#);
        assert_eq!(Flat::unwrapped(&call.arguments), "*** \"Begin\"\n");
        assert_eq!(
            flat.original("mcp__docs__search").namespace.as_deref(),
            Some("mcp__docs")
        );
        assert!(flat.original("apply_patch") == custom && flat.is_custom("apply_patch"));
        assert!(flat.original("shell") == CallName::plain("shell") && !flat.is_custom("shell"));
        assert_eq!(Flat::unwrapped("{"), "{");
    }

    #[test]
    fn two_tools_of_one_plain_name_are_refused() {
        let mut turn = Turn {
            tools: vec![function(None, "a__b"), function(Some("a"), "b")],
            ..Turn::default()
        };
        assert_eq!(
            Flat::make(&mut turn, VendorWire::Chat).err(),
            Some(FlatError::SameName(1))
        );
    }

    #[test]
    fn a_name_that_the_vendor_does_not_take_is_written_in_its_letters_and_found_again() {
        let long = "n".repeat(80);
        let (dotted, umlaut) = ("weather.get", "wetter für/morgen");
        for vendor in VendorWire::ALL {
            let names = [dotted, umlaut, &long, "7z", "plain"];
            let mut turn = Turn {
                tools: names.iter().map(|name| function(None, name)).collect(),
                choice: Some(Choice::One(CallName::plain(long.clone()))),
                ..Turn::default()
            };
            let flat = Flat::make(&mut turn, vendor).unwrap();
            let written: Vec<_> = turn
                .tools
                .iter()
                .filter_map(|tool| match tool {
                    Tool::Function(function) => Some(function.name.name.clone()),
                    Tool::Custom(_) | Tool::Foreign(_) | Tool::CacheMark(_) => None,
                })
                .collect();
            let is_gemini = vendor == VendorWire::Gemini;
            assert_eq!(written[0], if is_gemini { dotted } else { "weather_get" });
            assert_eq!(written[1], "wetter_f_r_morgen");
            assert!(written[2].len() == 64 && written[2].starts_with("nnn"), "{written:?}");
            assert_eq!(written[3], if is_gemini { "_7z" } else { "7z" });
            assert!(turn.choice == Some(Choice::One(CallName::plain(written[2].clone()))));
            for (written, name) in written.iter().zip(names) {
                assert!(flat.original(written) == CallName::plain(name), "{written}");
            }
        }
    }
}
