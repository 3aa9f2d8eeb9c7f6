//! A call that has its money and its account, on its way to the vendor: what is edited in the client's bytes, or that they
//! are written anew for another wire, by which way they leave, and who waits for the answer. Knows no admission and no
//! choice of accounts.

use std::sync::Arc;

use http::{HeaderValue, Response, request::Parts};
use relay_protocol::{Endpoint, Envelope};
use relay_shared::{call::CallId, http::to_vendor};

use super::{
    Exchange,
    again::Again,
    bill::{self, Bill},
    body::ReplyBody,
    crossing::{self, Crossed},
    internal, keepalive,
    meter::Meter,
    record::Record,
    request::RequestBody,
    upstream,
};
use crate::{
    admission::Permit,
    catalogue::Model,
    directory::Account,
    idempotency::{self, Claim},
    identity::Caller,
    ledger::Link,
    refusal::Refused,
    routing::Lease,
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

impl Dispatch {
    /// Sends it; the answer comes by way of the task that meters it, which takes the record along.
    pub(super) async fn send(
        mut self,
        Lease { permit, taken }: Lease,
        exchange: &Arc<Exchange>,
        record: &mut Option<Record>,
    ) -> Result<Response<ReplyBody>, Refused> {
        let (endpoint, call) = (self.envelope.endpoint, self.call);
        let upstream = exchange
            .upstreams
            .of(&taken.account, &exchange.egress, &exchange.tokens)?;
        let region = upstream::region(&self.head.headers, &self.caller.tenant)?;
        let route = upstream.ways.route(region.clone())?;
        if let Some(row) = record {
            row.leased(&taken, route.name());
        }

        let sample = bill::kept(&self.body.plain);
        let crossed = self.crossed(&taken.account)?;
        let (model, uri) = (&self.model, &self.head.uri);
        let is_chat = endpoint == Endpoint::ChatCompletions && crossed.is_none();
        let asks_usage = is_chat && self.envelope.stream && !self.envelope.wants_usage;
        let renamed = (model.upstream != model.name).then_some(model.upstream.as_str());
        let (asked, payload, headers, crossing) = match crossed {
            None => {
                let mut headers = to_vendor(&self.head.headers);
                taken.clean(&mut headers);
                let edits = self.envelope.edits(renamed, asks_usage);
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
        let memory = self.body.into_memory();
        let again = Again::keep(
            exchange,
            (&taken, call),
            (asked, region),
            (endpoint.wire(), &headers, &payload),
            upstream.may_renew(),
        );
        let request = upstream.request(upstream.token().await?, asked, headers, payload)?;
        let renewal = upstream.renewal(&request);
        let claim = idempotency::leaves(self.claim, permit.hold.number()).await?;
        let record = record.take().ok_or_else(internal)?;
        let Permit {
            ticket,
            hold,
            tally,
            reach,
            instead: _,
        } = permit;
        let meter = Meter {
            route,
            taken,
            again,
            renewal,
            routing: exchange.routing.clone(),
            _claim: claim,
            ticket: Some(ticket),
            drain: None,
            bill: Bill::new((hold, tally, reach), model, &self.envelope, sample, record),
            wire: crossing
                .as_ref()
                .map_or_else(|| endpoint.wire().into(), |crossing| crossing.vendor()),
            crossing,
            is_streamed: self.envelope.stream,
            removes_usage: asks_usage,
            renamed: renamed.and_then(|_| HeaderValue::from_str(&model.name).ok()),
            keepalive: keepalive(self.link),
            limits: exchange.limits.clone(),
            tenant: self.caller.tenant,
            call,
        };
        upstream::call(exchange, meter, request, memory).await
    }

    /// The request in the words of the account's vendor, where its client speaks another wire.
    fn crossed(&mut self, account: &Account) -> Result<Option<Crossed>, Refused> {
        let framing = crossing::framing(self.envelope.endpoint, self.head.uri.query());
        let (body, model) = (&self.body.plain, &self.model);
        Crossed::of(account, &mut self.envelope, body, model, self.call, framing)
    }
}
