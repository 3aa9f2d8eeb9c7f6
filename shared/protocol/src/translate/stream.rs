//! An answer on its way. What a stream holds is bounded, whatever its vendor sends: what came is read and told piece by
//! piece; an event that is longer than there is room for is cut where its text flows, and else loses its longest strings.

use bytes::{Buf, Bytes};

use super::names::Names;
use super::out::Out;
use super::{reader, writer};
use crate::codec::bounded::Events;
use crate::codec::{Framing, Outbox, ReadAnswer, Reply};
use crate::event::{Answer, Cause, Event, Failure, Sequence};
use crate::lane::{Lane, VendorWire};
use crate::refusal::Refusal;
use crate::sse;
use crate::sse::split::{Found, Split};
use crate::tokens::Tokens;
use crate::turn::Flat;
use crate::usage::Usage;
use crate::wire::Wire;

/// One answer on its way from a vendor to a client of another wire.
pub struct Translator {
    client: Wire,
    id: String,
    /// What came and was not read.
    rest: Bytes,
    split: Split,
    reader: Box<dyn ReadAnswer>,
    /// What was read and is not ordered.
    read: Events,
    sequence: Sequence,
    out: Out,
    end: End,
    /// It was more than may be held of it.
    is_too_long: bool,
}

/// How far the end of the vendor's body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Ahead,
    Come,
    Read,
}

impl Translator {
    /// One for a streamed answer, or a whole one; `None` where there is no lane.
    #[must_use]
    pub fn new(client: Wire, vendor: VendorWire, framing: Framing, reply: Reply, flat: Flat) -> Option<Self> {
        let _ = Lane::between(client, vendor)?;
        let writer = writer(client, reply.clone(), flat.is_summary);
        let reader = reader(vendor, &reply.id);
        Some(Self {
            client,
            id: reply.id.clone(),
            rest: Bytes::new(),
            split: Split::abridging(reader.flows()),
            reader,
            read: Events::of_one(),
            sequence: Sequence::default(),
            out: Out::new(client, Names::new(flat), writer, Outbox::new(framing)),
            end: End::Ahead,
            is_too_long: false,
        })
    }

    /// For an answer of up to so many tokens: it is no longer than they can be.
    #[must_use]
    pub fn allowing(mut self, tokens: Tokens) -> Self {
        self.out.allow(tokens);
        self
    }

    /// Takes bytes of a stream of events, cut anywhere, once all was taken of what those before them say. `usage` is what
    /// the tap has read so far.
    pub fn push(&mut self, bytes: Bytes, usage: Option<Usage>) {
        self.out.usage = usage;
        self.rest = bytes;
    }

    /// The vendor's body ended cleanly.
    pub fn end(&mut self, usage: Option<Usage>) {
        self.out.usage = usage;
        self.end = End::Come;
    }

    /// Some of what there is to tell; `None` once all of it was taken.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.go_on();
        Some(self.out.outbox.take()).filter(|bytes| !bytes.is_empty())
    }

    /// The same as messages of a socket; none once all were taken.
    pub fn take_messages(&mut self) -> Vec<Vec<u8>> {
        self.go_on();
        self.out.outbox.take_messages()
    }

    /// The client was told the end, or a failure: nothing follows.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.sequence.has_ended()
    }

    /// It failed for being longer than what is held of a stream, which is no fault of its vendor.
    #[must_use]
    pub const fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// The answer broke off for a reason of ours: tells the client so, unless it was told an end before.
    pub fn break_off(&mut self, refusal: &Refusal) {
        if !self.has_ended() {
            self.fail(String::new());
            self.out.failure = None;
            self.say(refusal);
        }
    }

    /// Writes a body that is the whole answer: a document, or the events of a vendor that streams whatever it is asked for.
    ///
    /// # Errors
    /// When it tells of a failure, or makes no answer.
    pub fn whole(mut self, body: &[u8], usage: Option<Usage>) -> Result<Vec<u8>, Refusal> {
        let mut read = Events::of_all();
        if sse::begins_events(body) {
            let mut split = Split::new(body.len());
            // No event is longer than the body.
            split.push(body, |data| self.reader.event(data, &mut read)).ok();
            if let Some(data) = split.end().as_ref().and_then(|found| found.data(&[])) {
                self.reader.event(&data, &mut read);
            }
            self.reader.end(&mut read);
        } else {
            self.reader.whole(body, &mut read);
        }
        let mut answer = Answer::default();
        let Out { names, writer, .. } = &mut self.out;
        let mut add = |event: Event| names.pass(event, &mut |event| answer.add(event));
        while let Some(event) = read.next() {
            self.sequence.push(event, &mut add);
        }
        self.sequence.end(&mut add);
        answer.usage = usage;
        match answer.failure.take() {
            Some(failure) => Err(failure.refusal(None)),
            None => Ok(writer.whole(&answer)),
        }
    }

    /// Writes a body that is the whole answer for a client that waits for a stream: all its events at once. One of events
    /// that is called a document is read as what it is.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn at_once(mut self, body: Bytes, usage: Option<Usage>) -> Result<Vec<u8>, Refusal> {
        self.out.usage = usage;
        if sse::begins_events(&body) {
            self.rest = body;
            self.end = End::Come;
            return Ok(std::iter::from_fn(|| self.take()).flatten().collect());
        }
        let mut read = Events::of_all();
        self.reader.whole(&body, &mut read);
        let Self { sequence, out, .. } = &mut self;
        out.outbox.keep_plainly();
        while let Some(event) = read.next() {
            sequence.push(event, &mut |event| out.write(event));
        }
        sequence.end(&mut |event| out.write(event));
        match out.failure.take() {
            Some(failure) => Err(failure.refusal(None)),
            None => Ok(out.outbox.take_all()),
        }
    }

    /// Until there is enough to be taken, or nothing left to read.
    fn go_on(&mut self) {
        while !self.out.outbox.is_full() && !self.has_ended() {
            if let Some(event) = self.read.next() {
                let out = &mut self.out;
                self.sequence.push(event, &mut |event| out.write(event));
                if let Some(why) = self.out.excess() {
                    self.is_too_long = true;
                    self.fail(why.to_owned());
                }
            } else if !self.rest.is_empty() {
                self.read_on();
            } else if self.end == End::Come {
                self.end = End::Read;
                if let Some(found) = self.split.end() {
                    self.event(&found, &[]);
                }
                self.reader.end(&mut self.read);
            } else {
                if self.end == End::Read {
                    let out = &mut self.out;
                    self.sequence.end(&mut |event| out.write(event));
                }
                break;
            }
        }
        if self.has_ended() {
            self.rest = Bytes::new();
        }
        if let Some(failure) = self.out.failure.take() {
            self.say(&failure.refusal(None));
        }
    }

    /// Reads what belongs to one event, and the event once it is whole.
    fn read_on(&mut self) {
        match self.split.next(&self.rest) {
            Ok((taken, Some(found))) if found.is_long() => {
                self.rest.advance(taken);
                if self.rest.is_empty() {
                    self.rest = Bytes::new();
                }
                self.event(&found, &[]);
            }
            Ok((taken, found)) => {
                let event = self.rest.split_to(taken);
                if let Some(found) = found {
                    self.event(&found, &event);
                }
            }
            Err(_) => {
                self.is_too_long = true;
                self.fail(TOO_LONG.to_owned());
            }
        }
    }

    fn event(&mut self, found: &Found, event: &[u8]) {
        let Some(data) = found.data(event) else { return };
        self.reader.event(&data, &mut self.read);
        if found.is_long() {
            self.is_too_long |= self.read.forgo_left_out(TOO_LONG);
        }
        if found.is_part() && self.read.has_stop() {
            // An end that is told before what it ends.
            self.is_too_long = true;
            self.fail(TOO_LONG.to_owned());
        }
    }

    fn fail(&mut self, message: String) {
        self.read = Events::of_one();
        self.rest = Bytes::new();
        let failure = Failure {
            cause: Cause::Vendor,
            message,
        };
        let out = &mut self.out;
        self.sequence.push(Event::Fail(failure), &mut |event| out.write(event));
    }

    fn say(&mut self, refusal: &Refusal) {
        let outbox = &mut self.out.outbox;
        let words = match outbox.framing() {
            Framing::Events => refusal.stream_event(self.client, &self.id),
            Framing::Array => refusal.array_end(&self.id, outbox.elements()),
            Framing::Messages => refusal.failed_response(&self.id),
        };
        outbox.raw(&words);
    }
}

const TOO_LONG: &str = "The upstream sent more than 48 KiB at once of what cannot be told piece by piece; ask for the answer as a \
                        whole.";
