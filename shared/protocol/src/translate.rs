//! A call between two wires: its request written anew for the vendor, its answer for the client. Knows no socket, no
//! account and no price; usage is what the tap read from the vendor's own bytes.

mod names;
mod out;
mod stream;

pub use self::stream::Translator;
use crate::codec::{ReadAnswer, Reply, Target, WriteAnswer};
use crate::event::Failure;
use crate::lane::{Lane, VendorWire};
use crate::loss::Losses;
use crate::members::Invalid;
use crate::refusal::{Code, Refusal};
use crate::turn::{Flat, Turn};
use crate::wire::Wire;
use crate::{chat, converse, gemini, messages, responses};

/// A request as its vendor will read it.
pub struct Translated {
    /// The body.
    pub body: Vec<u8>,
    /// What was dropped, for `relay-dropped`.
    pub dropped: Option<String>,
    /// What the names of tools stand for, for the answer.
    pub flat: Flat,
    /// The tier that the vendor was asked for.
    pub service_tier: Option<String>,
}

/// Writes a client's request for a vendor of another wire.
///
/// # Errors
/// When the body is not what its wire says, or means what the vendor's wire cannot say.
pub fn translate(client: Wire, vendor: VendorWire, body: &[u8], target: &Target<'_>) -> Result<Translated, Refusal> {
    let mut losses = Losses::default();
    let _ = Lane::between(client, vendor).ok_or_else(|| no_lane(client, vendor))?;
    let mut turn = read(client, body, &mut losses)?;
    let is_summary = client == Wire::Responses && responses::ask_in_words(&mut turn, vendor);
    let mut flat = Flat::make(&mut turn, vendor)
        .map_err(|error| Refusal::new(Code::InvalidRequest, format!("Invalid request: {error}.")).param("tools"))?;
    flat.is_summary = is_summary;
    let body = write(vendor, &turn, target, &mut losses);
    let losses = losses.spelled(client);
    match losses.refusal(vendor.name()) {
        Some(refusal) => Err(refusal),
        None => Ok(Translated {
            body,
            dropped: losses.header(),
            flat,
            service_tier: asked_tier(vendor, target, turn.service_tier),
        }),
    }
}

/// OpenAI's tiers mean nothing to others.
fn asked_tier(vendor: VendorWire, target: &Target<'_>, tier: Option<String>) -> Option<String> {
    match vendor {
        VendorWire::Responses => tier,
        VendorWire::Chat => tier.filter(|_| target.is_openai),
        VendorWire::Messages | VendorWire::Gemini | VendorWire::Converse => None,
    }
}

/// What a vendor's refusal says.
#[must_use]
pub fn failure(vendor: VendorWire, status: u16, body: &[u8]) -> Failure {
    match vendor {
        VendorWire::Responses => responses::failure(status, body),
        VendorWire::Chat => chat::failure(status, body),
        VendorWire::Messages => messages::failure(status, body),
        VendorWire::Gemini => gemini::failure(status, body),
        VendorWire::Converse => converse::failure(status, body),
    }
}

/// No lane leads from one wire to the other. Names both.
#[must_use]
pub fn no_lane(client: Wire, vendor: VendorWire) -> Refusal {
    let (client, vendor) = (client.name(), vendor.name());
    let message = format!("This model is served by {vendor}, and {client} is not translated to it.");
    Refusal::new(Code::InvalidRequest, message)
}

pub(crate) fn read(client: Wire, body: &[u8], losses: &mut Losses) -> Result<Turn, Invalid> {
    match client {
        Wire::Responses => responses::read(body, losses),
        Wire::Chat => chat::read(body, losses),
        Wire::Messages => messages::read(body, losses),
        Wire::Gemini => gemini::read(body, losses),
    }
}

fn write(vendor: VendorWire, turn: &Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<u8> {
    match vendor {
        VendorWire::Responses => responses::write(turn, target, losses),
        VendorWire::Chat => chat::write(turn, target, losses),
        VendorWire::Messages => messages::write(turn, target, losses),
        VendorWire::Gemini => gemini::write(turn, target, losses),
        VendorWire::Converse => converse::write(turn, target, losses),
    }
}

fn reader(vendor: VendorWire, id: &str) -> Box<dyn ReadAnswer> {
    match vendor {
        VendorWire::Responses => Box::new(responses::Reader::default()),
        VendorWire::Chat => Box::new(chat::Reader::new(id)),
        VendorWire::Messages => Box::new(messages::Reader::default()),
        VendorWire::Gemini => Box::new(gemini::Reader::new(id)),
        VendorWire::Converse => Box::new(converse::Reader::default()),
    }
}

fn writer(client: Wire, reply: Reply, is_summary: bool) -> Box<dyn WriteAnswer> {
    match client {
        Wire::Responses => Box::new(responses::Writer::new(reply).summing_up(is_summary)),
        Wire::Chat => Box::new(chat::Writer::new(reply)),
        Wire::Messages => Box::new(messages::Writer::new(reply)),
        Wire::Gemini => Box::new(gemini::Writer::new(reply)),
    }
}

#[cfg(test)]
mod tests;
