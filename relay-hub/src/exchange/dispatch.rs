//! A call that has its money and its account, on its way to the vendor: what is edited in the client's bytes, or that they
//! are written anew for another wire, by which way they leave, and who waits for the answer. Knows no admission and no
//! choice of accounts.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, request::Parts};
use http_body_util::Full;
use relay_protocol::{Endpoint, Envelope, Lane, Observed, Payload, Sample};
use relay_shared::{call::CallId, http::to_vendor};

use super::{
    Exchange,
    again::Again,
    bill::{self, Bill},
    body::ReplyBody,
    count,
    crossing::{self, Crossed, Crossing},
    internal, keepalive,
    meter::Meter,
    record::Record,
    request::RequestBody,
    upstream::{self, Renewal},
};
use crate::{
    admission::{Permit, Ticket},
    catalogue::Model,
    directory::Account,
    egress::Route,
    idempotency::{self, Claim},
    identity::Caller,
    ledger::{Ending, Link},
    refusal::Refused,
    routing::{Lease, Taken},
    vendor::Asked,
};

/// What every step before its lease has proved of a call.
pub(super) struct Dispatch {
    pub(super) call: CallId,
    pub(super) link: Link,
    pub(super) head: Parts,
    pub(super) caller: Caller,
    pub(super) body: RequestBody,
    pub(super) envelope: Envelope,
    pub(super) model: Model,
    pub(super) claim: Option<Box<Claim>>,
}

/// A call with all that can fail before it leaves behind it.
struct Ready {
    route: Route,
    request: Request<Full<Bytes>>,
    again: Option<Box<Again>>,
    renewal: Option<Box<Renewal>>,
    claim: Option<Box<Claim>>,
    crossing: Option<Box<Crossing>>,
    /// Its usage is asked for by us, and so is taken out again.
    asks_usage: bool,
    sample: Payload,
}

impl Dispatch {
    /// Sends it; the answer comes by way of the task that meters it, which takes the record along.
    pub(super) async fn send(
        mut self: Box<Self>,
        Lease { permit, taken }: Lease,
        exchange: &Arc<Exchange>,
        record: &mut Option<Record>,
    ) -> Result<Response<ReplyBody>, Refused> {
        let endpoint = self.envelope.endpoint;
        if endpoint.is_free() && self.is_foreign(&taken.account) {
            // Boxed: few calls come here, and every call would keep room for it.
            return Box::pin(self.count(permit, record)).await;
        }
        let ready = self.ready(exchange, &taken, permit.hold.number(), record).await;
        let (model, envelope) = (&self.model, &self.envelope);
        let ready = match ready {
            Ok(ready) => ready,
            Err(refused) => return Err(refuse(permit, (model, envelope), record, refused)),
        };
        let record = record.take().ok_or_else(internal)?;
        let Ready {
            route,
            request,
            again,
            renewal,
            claim,
            crossing,
            asks_usage,
            sample,
        } = ready;
        let (ticket, bill) = bill(permit, (model, envelope), sample, record);
        let meter = Box::new(Meter {
            route,
            taken,
            again,
            renewal,
            routing: exchange.routing.clone(),
            _claim: claim,
            ticket: Some(ticket),
            drain: None,
            bill,
            wire: crossing
                .as_ref()
                .map_or_else(|| endpoint.wire().into(), |crossing| crossing.vendor()),
            crossing,
            is_streamed: envelope.stream,
            removes_usage: asks_usage,
            renamed: renamed(model).and_then(|_| HeaderValue::from_str(&model.name).ok()),
            keepalive: keepalive(self.link),
            limits: exchange.limits.clone(),
            tenant: self.caller.tenant,
            call: self.call,
        });
        upstream::call(exchange, meter, request, self.body.into_memory()).await
    }

    /// Writes the request for the account's vendor.
    async fn ready(
        &mut self,
        exchange: &Arc<Exchange>,
        taken: &Taken,
        hold: i64,
        record: &mut Option<Record>,
    ) -> Result<Ready, Refused> {
        let endpoint = self.envelope.endpoint;
        let upstream = exchange
            .upstreams
            .of(&taken.account, &exchange.egress, &exchange.tokens)?;
        let region = upstream::region(&self.head.headers, &self.caller.tenant)?;
        let route = upstream.ways.route(region.clone())?;
        if let Some(row) = record {
            row.leased(taken, route.name());
        }
        let crossed = self.crossed(&taken.account)?;
        let (model, uri) = (&self.model, &self.head.uri);
        let is_chat = endpoint == Endpoint::ChatCompletions && crossed.is_none();
        let asks_usage = is_chat && self.envelope.stream && !self.envelope.wants_usage;
        let (asked, payload, headers, crossing) = match crossed {
            None => {
                let mut headers = to_vendor(&self.head.headers);
                taken.clean(&mut headers);
                let edits = self.envelope.edits(renamed(model), asks_usage);
                let payload = self.body.edited(&edits, &mut headers, upstream.target.edits_bodies());
                let asked = Asked {
                    endpoint,
                    path: uri.path(),
                    model: &model.upstream,
                    query: uri.query(),
                    stream: self.envelope.stream,
                };
                (asked, payload, headers, None)
            }
            Some(crossed) => {
                let asked = crossed.asked(&model.upstream);
                (asked, crossed.payload, crossed.headers, Some(crossed.crossing))
            }
        };
        let again = Again::keep(
            exchange,
            (taken, self.call),
            (asked, region),
            (endpoint.wire(), &headers, &payload),
            upstream.may_renew(),
        );
        let request = upstream.request(upstream.token().await?, asked, headers, payload)?;
        Ok(Ready {
            route,
            renewal: upstream.renewal(&request),
            request,
            again,
            claim: idempotency::leaves(self.claim.take(), hold).await?,
            crossing,
            asks_usage,
            sample: bill::kept(&self.body.plain),
        })
    }

    /// Whether the account's vendor speaks another wire than the client.
    fn is_foreign(&self, account: &Account) -> bool {
        let lane = account.lane(self.envelope.endpoint.wire(), &self.model.upstream);
        matches!(lane, Some(Lane::Translate(_)))
    }

    /// Counts tokens here; noted as a count of a vendor's is.
    async fn count(self, permit: Permit, record: &mut Option<Record>) -> Result<Response<ReplyBody>, Refused> {
        let (model, envelope) = (&self.model, &self.envelope);
        match count::count(envelope.endpoint, &model.upstream, &self.body.plain).await {
            Ok(counted) => {
                let mut record = record.take().ok_or_else(internal)?;
                record.answered(StatusCode::OK, None);
                let (_ticket, mut bill) = bill(permit, (model, envelope), nothing(), record);
                bill.settle(&Observed::default(), Sample::default(), Ending::Completed)
                    .await?;
                Ok(count::answer(envelope.endpoint.wire(), counted))
            }
            Err(refused) => Err(refuse(permit, (model, envelope), record, refused)),
        }
    }

    /// The request in the words of the account's vendor, where its client speaks another wire.
    fn crossed(&mut self, account: &Account) -> Result<Option<Crossed>, Refused> {
        let framing = crossing::framing(self.envelope.endpoint, self.head.uri.query());
        let (body, model) = (&self.body.plain, &self.model);
        Crossed::of(account, &mut self.envelope, body, model, self.call, framing)
    }
}

/// Ends a call that is refused after its hold: with one row, as one that was refused before has.
pub(super) fn refuse(
    permit: Permit,
    asked: (&Model, &Envelope),
    record: &mut Option<Record>,
    refused: Refused,
) -> Refused {
    if let Some(mut record) = record.take() {
        record.refused(&refused);
        let (_ticket, mut bill) = bill(permit, asked, nothing(), record);
        let ending = Ending::Refused(refused.public.code);
        // Nobody waits for this settlement, which is queued by now.
        drop(bill.settle(&Observed::default(), Sample::default(), ending));
    }
    refused
}

fn bill(permit: Permit, (model, envelope): (&Model, &Envelope), sample: Payload, record: Record) -> (Ticket, Bill) {
    let Permit {
        ticket,
        hold,
        tally,
        reach,
        instead: _,
    } = permit;
    (ticket, Bill::new((hold, tally, reach), model, envelope, sample, record))
}

/// The name by which the vendor knows the model, where that is another.
fn renamed(model: &Model) -> Option<&str> {
    (model.upstream != model.name).then_some(model.upstream.as_str())
}

fn nothing() -> Payload {
    Payload::new(Bytes::new())
}
