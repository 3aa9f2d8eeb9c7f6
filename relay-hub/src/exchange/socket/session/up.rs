//! From the client to the vendor: each `response.create` gets its own hold before it leaves, or goes to another account.
//! Knows no answer of the vendor's.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use relay_protocol::{
    Bridge, Code, Endpoint, Envelope, Frame, Meter, Payload, Refusal, Tokens, Wire,
    ws::{Item, encode_text},
};
use relay_shared::call::CallId;
use tokio::sync::Mutex;

use super::{Session, TURNS, Turn};
use crate::{
    admission::{Head, Permit},
    catalogue::Model,
    exchange::{
        Exchange,
        bill::{ANSWER_SAMPLE, Bill, kept},
        record::Record,
        socket::{
            close::{End, broke},
            ends::Sink,
            from_client::{FromClient, send},
        },
    },
    refusal::Refused,
};

impl Session {
    pub(super) async fn upwards(&self, from: &mut FromClient, to_vendor: &mut Sink, to_client: &Mutex<Sink>) -> End {
        loop {
            let up = match from.next().await {
                Ok(Item::Text { raw, text }) => self.said(raw, &text, from, to_client).await,
                Ok(Item::Binary { raw } | Item::Control { raw, .. }) => Ok(Some(raw)),
                Ok(Item::Close { .. }) if self.drains() => return End::ClientClosed,
                Ok(Item::Close { raw, .. }) => {
                    let sent = to_vendor.send(raw).await;
                    return sent.map_or(End::VendorGone, |()| End::ClientClosed);
                }
                Err(end) => return end,
            };
            match up {
                Ok(Some(raw)) => {
                    if to_vendor.send(raw).await.is_err() {
                        return End::VendorGone;
                    }
                }
                Ok(None) => {}
                Err(end) => return end,
            }
        }
    }

    /// A text message, of which `raw` are the bytes: what goes up of it, if anything does.
    async fn said(
        &self,
        raw: Bytes,
        text: &Payload,
        from: &mut FromClient,
        to_client: &Mutex<Sink>,
    ) -> Result<Option<Bytes>, End> {
        let refused = match Frame::read(text.as_slice()) {
            Ok(Frame::Other) => return Ok(Some(raw)),
            Ok(Frame::Create(envelope)) if self.is_aside(&envelope).await => {
                return self.aside(text, from, to_client).await.map(|()| None);
            }
            Ok(Frame::Create(envelope)) if self.aside.lock().await.are_behind(&envelope) => {
                // What another account said is nothing that this vendor knows.
                return send(to_client, &Bridge::unknown()).await.map(|()| None);
            }
            Ok(Frame::Create(envelope)) => match from.unless_gone(self.admit(envelope, text)).await? {
                Ok(edited) => return Ok(Some(edited.unwrap_or(raw))),
                Err(refused) => refused,
            },
            Err(error) => error.into(),
        };
        self.refuse(&refused, to_client).await.map(|()| None)
    }

    async fn refuse(&self, refused: &Refused, to_client: &Mutex<Sink>) -> Result<(), End> {
        send(to_client, &refused.public.socket_frame(&self.socket.to_string())).await
    }

    /// Whether another account serves the model that is asked for, and this one does not.
    async fn is_aside(&self, envelope: &Envelope) -> bool {
        let Exchange {
            identity, catalogue, ..
        } = self.exchange.as_ref();
        // Whoever may not call, and a model that is not known, is refused where it is admitted.
        let Ok(caller) = identity.again(&self.caller) else {
            return false;
        };
        let model = catalogue.model(&caller, &envelope.model).await;
        model.is_ok_and(|model| !self.taken.serves(caller.tenant_id(), &model.upstream))
    }

    /// A call that goes elsewhere, after the answers that still run here.
    async fn aside(&self, text: &Payload, from: &mut FromClient, to_client: &Mutex<Sink>) -> Result<(), End> {
        let turn = async {
            while self.open.load(Ordering::SeqCst) > 0 {
                self.idle.notified().await;
            }
            let mut aside = self.aside.lock().await;
            self.open.fetch_add(1, Ordering::SeqCst);
            aside.turn(text, to_client).await
        };
        match from.attended(to_client, turn).await? {
            // Of the one account, and not of this socket's.
            Err(End::VendorGone) => {
                self.refuse(&broke().into(), to_client).await?;
            }
            done => done?,
        }
        self.sent()
    }

    /// Lets a call go up with its hold. `Some` when it was edited.
    async fn admit(&self, mut envelope: Envelope, text: &Payload) -> Result<Option<Bytes>, Refused> {
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

/// A fresh mask, as a client must give one (RFC 6455, 5.3).
fn mask() -> [u8; 4] {
    let mut mask = [0; 4];
    // Without randomness the frame is still valid: towards a vendor the mask hides nothing.
    aws_lc_rs::rand::fill(&mut mask).unwrap_or_default();
    mask
}
