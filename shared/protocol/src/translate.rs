//! A call between two wires: its request written anew for the vendor, its answer for the client. Knows no socket, no
//! account and no price; usage is what the tap read from the vendor's own bytes.

mod names;

use self::names::Names;
use crate::codec::{Framing, Outbox, ReadAnswer, Reply, Target, WriteAnswer};
use crate::event::{Answer, Cause, Event, Failure, Sequence};
use crate::lane::{Lane, VendorWire};
use crate::loss::Losses;
use crate::members::Invalid;
use crate::refusal::{Code, Refusal};
use crate::sse::split::Split;
use crate::turn::{Flat, Turn};
use crate::usage::Usage;
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

/// One answer on its way from a vendor to a client of another wire.
pub struct Translator {
    client: Wire,
    id: String,
    split: Split,
    reader: Box<dyn ReadAnswer>,
    /// What the reader gave, until it is ordered: kept for its room.
    read: Vec<Event>,
    sequence: Sequence,
    writer: Out,
}

/// The way of an ordered event to the client.
struct Out {
    names: Names,
    writer: Box<dyn WriteAnswer>,
    outbox: Outbox,
    usage: Option<Usage>,
    /// What was written, as texts.
    written: usize,
    failure: Option<Failure>,
}

impl Translator {
    /// One for a streamed answer, or a whole one; `None` where there is no lane.
    #[must_use]
    pub fn new(client: Wire, vendor: VendorWire, framing: Framing, reply: Reply, flat: Flat) -> Option<Self> {
        let _ = Lane::between(client, vendor)?;
        let writer = writer(client, reply.clone(), flat.is_summary);
        Some(Self {
            client,
            id: reply.id.clone(),
            split: Split::new(LONGEST_EVENT),
            reader: reader(vendor, &reply.id),
            read: Vec::new(),
            sequence: Sequence::default(),
            writer: Out {
                names: Names::new(flat),
                writer,
                outbox: Outbox::new(framing),
                usage: None,
                written: 0,
                failure: None,
            },
        })
    }

    /// Takes bytes of a stream of events, cut anywhere, and writes what they say. `usage` is what the tap has read so far.
    pub fn push(&mut self, bytes: &[u8], usage: Option<Usage>) {
        self.writer.usage = usage;
        let Self {
            split,
            reader,
            read,
            sequence,
            writer,
            ..
        } = self;
        let pushed = split.push(bytes, |data| {
            reader.event(data, read);
            writer.take(sequence, read);
        });
        if pushed.is_err() {
            self.fail("The upstream sent an event that is too long.");
        }
        self.tell();
    }

    /// The vendor's body ended cleanly.
    pub fn end(&mut self, usage: Option<Usage>) {
        self.writer.usage = usage;
        let Self {
            split,
            reader,
            read,
            sequence,
            writer,
            ..
        } = self;
        split.end(|data| {
            reader.event(data, read);
            writer.take(sequence, read);
        });
        self.reader.end(&mut self.read);
        self.writer.take(&mut self.sequence, &mut self.read);
        let writer = &mut self.writer;
        self.sequence.end(&mut |event| writer.write(event));
        self.tell();
    }

    /// What was written since it was last taken.
    pub fn take(&mut self) -> Vec<u8> {
        self.writer.outbox.take()
    }

    /// The same as messages of a socket.
    pub fn take_messages(&mut self) -> Vec<Vec<u8>> {
        self.writer.outbox.take_messages()
    }

    /// The client was told the end, or a failure: nothing follows.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.sequence.has_ended()
    }

    /// The answer broke off for a reason of ours: tells the client so, unless it was told an end before.
    pub fn break_off(&mut self, refusal: &Refusal) {
        if !self.has_ended() {
            self.fail("");
            self.writer.failure = None;
            self.say(refusal);
        }
    }

    /// Writes a body that is the whole answer.
    ///
    /// # Errors
    /// When it tells of a failure, or makes no answer.
    pub fn whole(mut self, body: &[u8], usage: Option<Usage>) -> Result<Vec<u8>, Refusal> {
        self.reader.whole(body, &mut self.read);
        let mut answer = Answer::default();
        let Out { names, writer, .. } = &mut self.writer;
        let mut add = |event: Event| names.pass(event, &mut |event| answer.add(event));
        for event in self.read {
            self.sequence.push(event, &mut add);
        }
        self.sequence.end(&mut add);
        answer.usage = usage;
        match answer.failure.take() {
            Some(failure) => Err(failure.refusal(None)),
            None => Ok(writer.whole(&answer)),
        }
    }

    fn fail(&mut self, message: &str) {
        let failure = Failure {
            cause: Cause::Vendor,
            message: message.to_owned(),
        };
        let writer = &mut self.writer;
        self.sequence
            .push(Event::Fail(failure), &mut |event| writer.write(event));
    }

    /// Tells a failure, once it came.
    fn tell(&mut self) {
        if self.writer.written > LONGEST_ANSWER {
            self.fail("The upstream's answer is too long.");
        }
        if let Some(failure) = self.writer.failure.take() {
            self.say(&failure.refusal(None));
        }
    }

    fn say(&mut self, refusal: &Refusal) {
        let outbox = &mut self.writer.outbox;
        let words = match outbox.framing() {
            Framing::Events => refusal.stream_event(self.client, &self.id),
            Framing::Array => refusal.array_end(&self.id, outbox.elements()),
            Framing::Messages => refusal.failed_response(&self.id),
        };
        outbox.raw(&words);
    }
}

impl Out {
    fn take(&mut self, sequence: &mut Sequence, read: &mut Vec<Event>) {
        for event in read.drain(..) {
            sequence.push(event, &mut |event| self.write(event));
        }
    }

    fn write(&mut self, event: Event) {
        let Self {
            names,
            writer,
            outbox,
            usage,
            written,
            failure,
        } = self;
        names.pass(event, &mut |event| {
            let (is_begin, is_end) = (event == Event::Begin, event == Event::End);
            match &event {
                Event::Delta(text) => *written += text.len(),
                Event::Fail(why) => *failure = Some(why.clone()),
                _ => {}
            }
            if is_end && let Some(usage) = usage {
                writer.write(Event::Usage(*usage), outbox);
            }
            writer.write(event, outbox);
            if is_begin && let Some(usage) = usage {
                writer.write(Event::Usage(*usage), outbox);
            }
        });
    }
}

/// An event of a vendor may be so long: one that tells the whole answer again, or has a picture in it.
const LONGEST_EVENT: usize = 4 << 20;
/// An answer may be so long: some wires tell all of it again at the end, so it is kept.
const LONGEST_ANSWER: usize = 16 << 20;

#[cfg(test)]
mod tests;
