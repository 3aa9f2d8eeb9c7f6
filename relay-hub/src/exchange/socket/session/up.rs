//! From the client to the vendor: each `response.create` gets its own hold before it leaves. Knows no answer.

use std::{
    pin::pin,
    sync::{PoisonError, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use relay_protocol::{
    Code, Endpoint, Envelope, Frame, Meter, Payload, Refusal, Tokens, Wire,
    ws::{Item, Messages, encode_text},
};
use relay_shared::call::CallId;

use super::{Session, TURNS, Turn};
use crate::{
    admission::{Head, Permit},
    catalogue::Model,
    exchange::{
        Exchange,
        bill::{ANSWER_SAMPLE, Bill, kept},
        record::Record,
        socket::{
            close::End,
            ends::{Sink, Source},
        },
    },
    refusal::Refused,
};

impl Session {
    pub(super) async fn upwards(
        &self,
        from: &mut Source,
        to_vendor: &mut Sink,
        to_client: &tokio::sync::Mutex<Sink>,
    ) -> End {
        let mut messages = Messages::new(self.exchange.limits.body_bytes);
        let mut from = Ahead { from, chunk: None };
        loop {
            let Some(chunk) = from.next().await else {
                return End::ClientGone;
            };
            let items = match messages.push(chunk) {
                Ok(items) => items,
                Err(error) => return End::Violation(error.close_code()),
            };
            for item in items {
                let (raw, is_close) = match item {
                    Item::Text { raw, text } => match from.unless_gone(self.admit(&text)).await {
                        Ok(Ok(edited)) => (edited.unwrap_or(raw), false),
                        Ok(Err(refused)) => {
                            let told = encode_text(&refused.public.socket_frame(&self.socket.to_string()), None);
                            if to_client.lock().await.send(told).await.is_err() {
                                return End::ClientGone;
                            }
                            continue;
                        }
                        Err(end) => return end,
                    },
                    Item::Binary { raw } | Item::Control { raw, .. } => (raw, false),
                    Item::Close { raw, .. } => (raw, true),
                };
                if is_close && self.drains() {
                    return End::ClientClosed;
                }
                if to_vendor.send(raw).await.is_err() {
                    return End::VendorGone;
                }
                if is_close {
                    return End::ClientClosed;
                }
            }
        }
    }

    /// Lets one text message go up: a call with its hold, or anything else as it is. `Some` when it was edited.
    async fn admit(&self, text: &Payload) -> Result<Option<Bytes>, Refused> {
        let Frame::Create(mut envelope) = Frame::read(text.as_slice())? else {
            return Ok(None);
        };
        envelope.behind = self.behind(&envelope);
        let call = CallId::random();
        let mut record = Some(Record::begin(
            call,
            &self.caller,
            Endpoint::Responses,
            self.link,
            Instant::now(),
        ));
        match self.begin(call, &envelope, text, &mut record).await {
            Ok(model) if model.upstream == model.name => Ok(None),
            Ok(model) => {
                let edited = envelope.edits(Some(&model.upstream), false).apply(text);
                Ok(Some(encode_text(edited.as_slice(), Some(mask()))))
            }
            Err(refused) => {
                if let Some(record) = record {
                    record.note(&self.exchange.ledger, &refused);
                }
                Err(refused)
            }
        }
    }

    async fn begin(
        &self,
        call: CallId,
        envelope: &Envelope,
        text: &Payload,
        record: &mut Option<Record>,
    ) -> Result<Model, Refused> {
        let Some(mut row) = record.take() else {
            return Err(Refusal::new(Code::Internal, "No record.").into());
        };
        let (way, local) = &self.left_by;
        row.leased(&self.taken, way);
        row.left((way, *local));
        row.asked(envelope);
        let row = record.insert(row);
        if self.turns().len() >= TURNS {
            return Err(Refusal::new(Code::RateLimited, format!("{TURNS} calls wait on this socket already.")).into());
        }
        let Exchange {
            identity,
            admission,
            catalogue,
            ..
        } = self.exchange.as_ref();
        let caller = identity.again(&self.caller)?;
        let asks = Head {
            endpoint: Endpoint::Responses,
            address: self.address,
            length: Some(envelope.bytes),
        };
        let ticket = admission.enter(&caller, &asks).await?.ticket().await?;
        let mut model = catalogue.model(&caller, &envelope.model).await?;
        row.priced(&model);
        let previous = envelope.previous_response.as_deref();
        let place = self.taken.attend(&caller.tenant, previous, text.as_slice()).await?;
        let permit = admission
            .hold(ticket, call, &caller, &model, envelope, catalogue)
            .await?;
        let Permit {
            ticket,
            hold,
            tally,
            instead,
            reach,
        } = permit;
        if let Some(instead) = instead {
            model = *instead;
            row.priced(&model);
        }
        hold.hasten();
        row.held();
        row.trail = self.taken.trail();
        if let Some(row) = record.take() {
            let turn = Turn {
                bill: Bill::new((hold, tally, reach), &model, envelope, kept(text), row),
                input: Tokens::new(envelope.bytes as u64).saturating_add(envelope.behind.unwrap_or(model.context)),
                meter: Meter::new(Wire::Responses)
                    .sampling(ANSWER_SAMPLE)
                    .finding_hidden(self.taken.remembers_reasoning()),
                renamed: (model.upstream != model.name).then(|| model.name.clone()),
                ticket: Some(ticket),
                _place: place,
            };
            self.mark_heard();
            self.open.fetch_add(1, Ordering::SeqCst);
            self.turns().push_back(turn);
        }
        Ok(model)
    }

    /// What stands behind the answer that a call goes on from, if that is this socket's last one: Codex sends what is
    /// new and names the rest. Holding the whole context window for each turn would hold many times its cost.
    fn behind(&self, envelope: &Envelope) -> Option<Tokens> {
        if !envelope.continues {
            return Some(Tokens::ZERO);
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, tokens) = last.as_ref()?;
        envelope.goes_on_only_from(id).then_some(*tokens)
    }
}

/// A client's bytes, of which one chunk may be read before its turn.
struct Ahead<'a> {
    from: &'a mut Source,
    chunk: Option<Bytes>,
}

impl Ahead<'_> {
    async fn next(&mut self) -> Option<Bytes> {
        match self.chunk.take() {
            Some(chunk) => Some(chunk),
            None => self.from.next().await,
        }
    }

    /// Does something that may wait in line, as long as the client is there: one that leaves gives its place up.
    async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        if self.chunk.is_none() {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                chunk = self.from.next() => self.chunk = Some(chunk.ok_or(End::ClientGone)?),
            }
        }
        Ok(work.await)
    }
}

/// A fresh mask, as a client must give one (RFC 6455, 5.3).
fn mask() -> [u8; 4] {
    let mut mask = [0; 4];
    // Without randomness the frame is still valid: towards a vendor the mask hides nothing.
    aws_lc_rs::rand::fill(&mut mask).unwrap_or_default();
    mask
}
