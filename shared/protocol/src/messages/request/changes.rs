//! Tools that come and go in the middle of a conversation. No other wire can say when: those that are there at the end are
//! offered from the beginning.

use super::read::{Read, tool};
use crate::loss::Losses;
use crate::members::Field;
use crate::turn::{Foreign, Part, Tool, Turn};

/// Takes the changes out of the rules, and makes them.
///
/// # Errors
/// When a tool is not what the wire says it is.
pub(super) fn make(turn: &mut Turn, losses: &mut Losses) -> Read<()> {
    let mut removed: Vec<String> = Vec::new();
    for foreign in taken(turn) {
        let mut change = Field::of(&foreign.json, foreign.path.as_str()).members()?;
        let is_removal = change.need_text("type")? == REMOVAL;
        let mut told = change.need("tool", "an object")?.members()?;
        let definition = told.take("definition");
        let name = match &definition {
            Some(definition) => definition.members()?.text("name")?,
            None => told.text("name")?,
        };
        let Some(name) = name else {
            losses.hint(foreign.path);
            continue;
        };
        removed.retain(|other| *other != name);
        if is_removal {
            removed.push(name);
        } else if let Some(definition) = definition {
            turn.tools.retain(|known| !is_named(known, &name));
            tool(&definition, &mut turn.tools, losses)?;
        }
    }
    turn.tools
        .retain(|known| !removed.iter().any(|name| is_named(known, name)));
    Ok(())
}

/// A rule that says nothing else goes with its changes.
fn taken(turn: &mut Turn) -> Vec<Foreign> {
    let mut changes = Vec::new();
    turn.messages.retain_mut(|message| {
        if !message.is_rule() || !message.parts.iter().any(is_change) {
            return true;
        }
        for part in std::mem::take(&mut message.parts) {
            match part {
                Part::Foreign(foreign) if is_change_of(&foreign) => changes.push(foreign),
                other => message.parts.push(other),
            }
        }
        !message.parts.is_empty()
    });
    changes
}

fn is_change(part: &Part) -> bool {
    matches!(part, Part::Foreign(foreign) if is_change_of(foreign))
}

fn is_change_of(foreign: &Foreign) -> bool {
    let members = Field::of(&foreign.json, "").members();
    let kind = members.and_then(|mut members| members.need_text("type"));
    kind.is_ok_and(|kind| [ADDITION, REMOVAL].contains(&kind.as_str()))
}

fn is_named(tool: &Tool, name: &str) -> bool {
    matches!(tool, Tool::Function(function) if function.name.name == name)
}

const ADDITION: &str = "tool_addition";
const REMOVAL: &str = "tool_removal";
