//! How a call crosses from a client's wire to a vendor's. Knows no account: only which pairs there are.

use crate::wire::{Endpoint, Wire};

/// A dialect in which a vendor is spoken to: those of the clients, and one that no client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VendorWire {
    /// OpenAI Responses.
    Responses,
    /// OpenAI chat completions.
    Chat,
    /// Anthropic Messages.
    Messages,
    /// Gemini.
    Gemini,
    /// AWS Bedrock's Converse.
    Converse,
}

impl VendorWire {
    /// Each of them.
    pub const ALL: [Self; 5] = [
        Self::Responses,
        Self::Chat,
        Self::Messages,
        Self::Gemini,
        Self::Converse,
    ];

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.of_clients() {
            Some(wire) => wire.name(),
            None => "Bedrock Converse",
        }
    }

    /// The same as a client's, where clients speak it too.
    #[must_use]
    pub const fn of_clients(self) -> Option<Wire> {
        match self {
            Self::Responses => Some(Wire::Responses),
            Self::Chat => Some(Wire::Chat),
            Self::Messages => Some(Wire::Messages),
            Self::Gemini => Some(Wire::Gemini),
            Self::Converse => None,
        }
    }

    /// Where a translated call goes; `None` where the path is the vendor's own affair.
    #[must_use]
    pub const fn endpoint(self, is_streamed: bool) -> Option<Endpoint> {
        match (self, is_streamed) {
            (Self::Responses, _) => Some(Endpoint::Responses),
            (Self::Chat, _) => Some(Endpoint::ChatCompletions),
            (Self::Messages, _) => Some(Endpoint::Messages),
            (Self::Gemini, true) => Some(Endpoint::StreamGenerate),
            (Self::Gemini, false) => Some(Endpoint::Generate),
            (Self::Converse, _) => None,
        }
    }

    /// Names a wire in few bytes, where it has to be told in the middle of something else.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Responses => "r",
            Self::Chat => "c",
            Self::Messages => "m",
            Self::Gemini => "g",
            Self::Converse => "b",
        }
    }

    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wire| wire.tag() == tag)
    }
}

impl From<Wire> for VendorWire {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Responses => Self::Responses,
            Wire::Chat => Self::Chat,
            Wire::Messages => Self::Messages,
            Wire::Gemini => Self::Gemini,
        }
    }
}

/// How a call crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The client's own bytes, the vendor's own answer.
    Verbatim,
    /// Read and written anew, both ways.
    Translate(VendorWire),
}

impl Lane {
    /// The lane from a client to a vendor that speaks `offered`: verbatim where it can be, else by the wire that loses
    /// least. `None` where there is none.
    #[must_use]
    pub fn choose(client: Wire, offered: &[VendorWire]) -> Option<Self> {
        if offered.contains(&client.into()) {
            return Some(Self::Verbatim);
        }
        let mut lanes = BY_LOSS.into_iter().filter(|wire| offered.contains(wire));
        lanes.find_map(|vendor| Self::between(client, vendor))
    }

    /// The lane of one pair.
    #[must_use]
    pub fn between(client: Wire, vendor: VendorWire) -> Option<Self> {
        let (_, lanes) = LANES.iter().find(|(of, _)| *of == vendor)?;
        lanes.iter().find(|(of, _)| *of == client).and_then(|(_, lane)| *lane)
    }
}

/// Those that can say most come first.
const BY_LOSS: [VendorWire; 5] = [
    VendorWire::Responses,
    VendorWire::Messages,
    VendorWire::Converse,
    VendorWire::Gemini,
    VendorWire::Chat,
];

type Cell = (Wire, Option<Lane>);

/// Every pair there is. A cell says `Translate` when the client's wire can be read and written and the vendor's too.
pub const LANES: [(VendorWire, [Cell; 4]); 5] = [
    (
        VendorWire::Responses,
        [
            (Wire::Responses, Some(Lane::Verbatim)),
            (Wire::Chat, Some(Lane::Translate(VendorWire::Responses))),
            (Wire::Messages, Some(Lane::Translate(VendorWire::Responses))),
            (Wire::Gemini, Some(Lane::Translate(VendorWire::Responses))),
        ],
    ),
    (
        VendorWire::Chat,
        [
            (Wire::Responses, Some(Lane::Translate(VendorWire::Chat))),
            (Wire::Chat, Some(Lane::Verbatim)),
            (Wire::Messages, Some(Lane::Translate(VendorWire::Chat))),
            (Wire::Gemini, Some(Lane::Translate(VendorWire::Chat))),
        ],
    ),
    (
        VendorWire::Messages,
        [
            (Wire::Responses, Some(Lane::Translate(VendorWire::Messages))),
            (Wire::Chat, Some(Lane::Translate(VendorWire::Messages))),
            (Wire::Messages, Some(Lane::Verbatim)),
            (Wire::Gemini, Some(Lane::Translate(VendorWire::Messages))),
        ],
    ),
    (
        VendorWire::Gemini,
        [
            (Wire::Responses, Some(Lane::Translate(VendorWire::Gemini))),
            (Wire::Chat, Some(Lane::Translate(VendorWire::Gemini))),
            (Wire::Messages, Some(Lane::Translate(VendorWire::Gemini))),
            (Wire::Gemini, Some(Lane::Verbatim)),
        ],
    ),
    (
        VendorWire::Converse,
        [
            (Wire::Responses, Some(Lane::Translate(VendorWire::Converse))),
            (Wire::Chat, Some(Lane::Translate(VendorWire::Converse))),
            (Wire::Messages, Some(Lane::Translate(VendorWire::Converse))),
            (Wire::Gemini, Some(Lane::Translate(VendorWire::Converse))),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_stands_in_the_table_once_and_equal_wires_are_never_translated() {
        for vendor in VendorWire::ALL {
            let rows: Vec<_> = LANES.iter().filter(|(of, _)| *of == vendor).collect();
            assert_eq!(rows.len(), 1, "{vendor:?}");
            for client in [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini] {
                let cells: Vec<_> = rows[0].1.iter().filter(|(of, _)| *of == client).collect();
                assert_eq!(cells.len(), 1, "{client:?} to {vendor:?}");
                match cells[0].1 {
                    Some(Lane::Verbatim) => assert_eq!(VendorWire::from(client), vendor),
                    Some(Lane::Translate(by)) => assert!(by == vendor && VendorWire::from(client) != vendor),
                    None => assert_ne!(VendorWire::from(client), vendor),
                }
            }
        }
    }

    #[test]
    fn the_clients_own_wire_is_chosen_before_any_other() {
        for client in [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini] {
            assert_eq!(Lane::choose(client, &VendorWire::ALL), Some(Lane::Verbatim));
            assert_eq!(Lane::choose(client, &[]), None);
        }
    }

    #[test]
    fn a_wire_is_found_again_by_its_tag() {
        for wire in VendorWire::ALL {
            assert_eq!(VendorWire::of_tag(wire.tag()), Some(wire));
            assert!(wire.of_clients().is_none_or(|client| VendorWire::from(client) == wire));
        }
    }
}
