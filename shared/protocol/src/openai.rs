//! What OpenAI's models take, told by their names: those that think refuse to be told how to draw, the others to be told
//! how hard to think. Knows no wire: the same holds on both of OpenAI's.
//!
//! Source: <https://platform.openai.com/docs/guides/latest-model#gpt-5-parameter-compatibility> and the refusals that
//! clients were given (2026-11).

use crate::form::{closed, is_total};
use crate::loss::{Losses, said};
use crate::turn::{Effort, Json, Schema, Turn};

/// How a model comes to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mind {
    /// It thinks first, at least so hard.
    Thinks(Effort),
    /// It answers at once.
    Answers,
    /// The name does not say: a deployment, a model of somebody else.
    Unknown,
}

impl Mind {
    /// `gpt-5.2-codex`, `o4-mini`, `openai/gpt-4.1`.
    pub(crate) fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        if is_of_o(name) || name.starts_with("codex-") {
            return Self::Thinks(Effort::Low);
        }
        let Some(version) = name.strip_prefix("gpt-") else {
            return if name.starts_with("chatgpt-4") {
                Self::Answers
            } else {
                Self::Unknown
            };
        };
        let number: String = version.chars().take_while(char::is_ascii_digit).collect();
        let rest = &version[number.len()..];
        match number.parse::<u32>() {
            Ok(0..=4) => Self::Answers,
            Ok(5) if rest.starts_with("-chat") => Self::Answers,
            Ok(_) if rest.contains("-chat") => Self::Unknown,
            Ok(_) if rest.contains("-codex") => Self::Thinks(Effort::Low),
            Ok(5) if !rest.starts_with('.') => Self::Thinks(Effort::Minimal),
            Ok(_) => Self::Thinks(Effort::None),
            Err(_) => Self::Unknown,
        }
    }

    /// The effort to ask for, if any, where the client wants this one.
    pub(crate) fn effort(self, wanted: Option<Effort>) -> Option<Effort> {
        match self {
            Self::Thinks(least) => wanted.map(|wanted| if wanted == Effort::None { least } else { wanted }),
            Self::Answers => None,
            Self::Unknown => wanted,
        }
    }

    /// It may be told how to draw, where it is asked for this effort.
    pub(crate) fn draws(self, effort: Option<Effort>) -> bool {
        !matches!(self, Self::Thinks(_)) || effort == Some(Effort::None)
    }
}

/// The effort to ask this model for.
pub(crate) fn effort(turn: &Turn, model: &str, losses: &mut Losses) -> Option<Effort> {
    let wanted = turn.reasoning.effort.or(turn.reasoning.budget.map(Effort::of_budget));
    let effort = Mind::of(model).effort(wanted);
    if effort.is_none() && wanted.is_some_and(|wanted| wanted != Effort::None) {
        losses.hint(said::REASONING);
    }
    effort
}

/// How the next token is drawn, as far as this model lets itself be told.
#[derive(Default)]
pub(crate) struct Drawn<'a> {
    pub(crate) temperature: Option<&'a Json>,
    pub(crate) top_p: Option<&'a Json>,
    pub(crate) frequency_penalty: Option<&'a Json>,
    pub(crate) presence_penalty: Option<&'a Json>,
}

impl<'a> Drawn<'a> {
    /// Asked for this effort.
    pub(crate) fn of(turn: &'a Turn, model: &str, effort: Option<Effort>, losses: &mut Losses) -> Self {
        let sampling = &turn.sampling;
        let all = Self {
            temperature: sampling.temperature.as_ref(),
            top_p: sampling.top_p.as_ref(),
            frequency_penalty: sampling.frequency_penalty.as_ref(),
            presence_penalty: sampling.presence_penalty.as_ref(),
        };
        if Mind::of(model).draws(effort) {
            return all;
        }
        // Many clients send a penalty of nothing along.
        let is_given = |number: Option<&Json>| number.is_some_and(|number| !number.is_zero());
        for (word, is_lost) in [
            (said::TEMPERATURE, all.temperature.is_some()),
            (said::TOP_P, all.top_p.is_some()),
            (said::FREQUENCY_PENALTY, is_given(all.frequency_penalty)),
            (said::PRESENCE_PENALTY, is_given(all.presence_penalty)),
        ] {
            if is_lost {
                losses.hint(word);
            }
        }
        Self::default()
    }
}

/// What an answer must fit, and whether that is enforced: OpenAI does so where nothing may be left out, and refuses to
/// elsewhere.
pub(crate) fn form(schema: &Schema, losses: &mut Losses) -> (Json, Option<bool>) {
    let Schema { schema, strict, .. } = schema;
    if *strict != Some(true) {
        return (schema.clone(), *strict);
    }
    if is_total(schema) {
        return (closed(schema), *strict);
    }
    losses.hint(said::FORM);
    (schema.clone(), Some(false))
}

/// `o1`, `o3-mini`.
fn is_of_o(name: &str) -> bool {
    let number = name.strip_prefix('o').and_then(|rest| rest.chars().next());
    number.is_some_and(|number| number.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whether_its_model_thinks() {
        for (model, mind) in [
            ("o3-mini", Mind::Thinks(Effort::Low)),
            ("codex-mini-latest", Mind::Thinks(Effort::Low)),
            ("gpt-5.2-codex", Mind::Thinks(Effort::Low)),
            ("gpt-5-mini", Mind::Thinks(Effort::Minimal)),
            ("openai/gpt-5.2", Mind::Thinks(Effort::None)),
            ("gpt-6", Mind::Thinks(Effort::None)),
            ("gpt-5-chat-latest", Mind::Answers),
            ("gpt-4.1", Mind::Answers),
            ("gpt-4o-mini", Mind::Answers),
            ("chatgpt-4o-latest", Mind::Answers),
            ("gpt-5.3-chat-latest", Mind::Unknown),
            ("gpt-oss-120b", Mind::Unknown),
            ("our-deployment", Mind::Unknown),
            ("omni", Mind::Unknown),
        ] {
            assert_eq!(Mind::of(model), mind, "{model}");
        }
    }

    #[test]
    fn a_model_is_asked_for_no_less_than_it_can() {
        assert_eq!(Mind::of("gpt-5").effort(Some(Effort::None)), Some(Effort::Minimal));
        assert_eq!(Mind::of("gpt-5.2").effort(Some(Effort::None)), Some(Effort::None));
        assert_eq!(Mind::of("gpt-5.2").effort(None), None);
        assert_eq!(Mind::of("gpt-4.1").effort(Some(Effort::High)), None);
        assert_eq!(Mind::Unknown.effort(Some(Effort::High)), Some(Effort::High));
        assert!(Mind::of("gpt-5.2").draws(Some(Effort::None)) && !Mind::of("gpt-5.2").draws(None));
    }
}
