//! A conversation as wires of two sides tell it: the rules at the top apart, then user and assistant by turns. Knows no
//! wire: how a part is written is told.

use super::{Message, Part, Role};
use crate::loss::{Losses, said};

/// What one side said at a time, neighbours of one role joined.
pub(crate) struct Side<T> {
    pub(crate) is_assistant: bool,
    pub(crate) parts: Vec<T>,
}

/// The rules at the top, and what was said. Rules further down have no place there: they become words of the user.
pub(crate) fn sides<'a, T>(
    messages: &'a [Message],
    losses: &mut Losses,
    write: impl Fn(&'a [Part], &mut Vec<T>, &mut Losses),
    words: impl Fn(String) -> T,
) -> (Vec<T>, Vec<Side<T>>) {
    let (mut rules, mut said) = (Vec::new(), Vec::<Side<T>>::new());
    for message in messages {
        if message.is_rule() && said.is_empty() {
            write(&message.parts, &mut rules, losses);
            continue;
        }
        let is_assistant = message.role == Role::Assistant;
        let mut parts = Vec::new();
        if message.is_rule() {
            losses.hint(said::MID_RULES);
            parts.extend(message.as_words().map(&words));
        } else {
            write(&message.parts, &mut parts, losses);
        }
        match said.last_mut() {
            _ if parts.is_empty() => {}
            Some(last) if last.is_assistant == is_assistant => last.parts.append(&mut parts),
            Some(_) | None => said.push(Side { is_assistant, parts }),
        }
    }
    (rules, said)
}
