//! A conversation that its client wants shortened. Here a vendor does it under its own lock; any other vendor is asked for a
//! summary in words, which the client keeps in the place of the lock.

use super::request::{foreign, is_of_type};
use crate::lane::VendorWire;
use crate::members::{Field, Invalid, Members};
use crate::turn::{Choice, Message, Part, Role, Turn};

/// Before a summary in the place of a lock.
pub(super) const SUMMARY: &str = "relay.summary.";
const ASKED: &str = "Summarise this conversation for another model that will go on with it: what the user wants, what was \
                     done and found, and what is left to do. Answer with the summary alone.";
const TOLD: &str = "The conversation so far was replaced by this summary of it:\n\n";

/// The wish for one, kept until it is known who is asked.
pub(super) fn trigger(field: &Field<'_>) -> Message {
    let parts = vec![Part::Foreign(foreign(field))];
    Message {
        role: Role::User,
        parts,
    }
}

/// One that was made before; `None` for a vendor's own, which is locked.
pub(super) fn made(item: &mut Members<'_>) -> Result<Option<Message>, Invalid> {
    let kept = item.need_text("encrypted_content")?;
    let summary = kept.strip_prefix(SUMMARY);
    Ok(summary.map(|summary| Message {
        role: Role::User,
        parts: vec![Part::text(format!("{TOLD}{summary}"))],
    }))
}

/// Has a vendor of another wire asked in words, where the request ends with the wish. Whether it does.
pub(crate) fn ask_in_words(turn: &mut Turn, vendor: VendorWire) -> bool {
    let last = turn.messages.last_mut().and_then(|message| message.parts.last_mut());
    let Some(part) = last.filter(|part| matches!(part, Part::Foreign(item) if is_of_type(item, "compaction_trigger")))
    else {
        return false;
    };
    *part = Part::text(ASKED);
    // It has tools, which some vendors want to see for the sake of the calls before; it is not to call any. Converse has no
    // word for that.
    let may_forbid = !turn.tools.is_empty() && vendor != VendorWire::Converse;
    turn.choice = may_forbid.then_some(Choice::None);
    true
}
