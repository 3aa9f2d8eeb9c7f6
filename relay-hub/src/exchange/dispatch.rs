//! A call that has its money and its account, on its way to the vendor: what is edited in the client's bytes, by which way
//! they leave, and who waits for the answer. Knows no admission and no choice of accounts.

use std::sync::Arc;

use http::{HeaderValue, Response, request::Parts};
use relay_protocol::{Endpoint, Envelope};
use relay_shared::{call::CallId, http::to_vendor};

use super::{
    Exchange,
    again::Again,
    bill::{self, Bill},
    body::ReplyBody,
    internal, keepalive,
    meter::Meter,
    record::Record,
    request::RequestBody,
    upstream,
};
use crate::{
    admission::Permit,
    catalogue::Model,
    idempotency::{self, Claim},
    identity::Caller,
    ledger::Link,
    refusal::Refused,
    routing::Lease,
    vendor::Asked,
};

/// What every step before has proved of a call.
pub(super) struct Dispatch {
    pub(super) call: CallId,
    pub(super) link: Link,
    pub(super) head: Parts,
    pub(super) caller: Caller,
    pub(super) body: RequestBody,
    pub(super) envelope: Envelope,
    pub(super) model: Model,
    pub(super) claim: Option<Box<Claim>>,
    pub(super) lease: Lease,
}

impl Dispatch {
    /// Sends it; the answer comes by way of the task that meters it, which takes the record along.
    pub(super) async fn send(
        self,
        exchange: &Arc<Exchange>,
        record: &mut Option<Record>,
    ) -> Result<Response<ReplyBody>, Refused> {
        let (endpoint, call) = (self.envelope.endpoint, self.call);
        let Lease { permit, taken } = self.lease;
        let upstream = exchange
            .upstreams
            .of(&taken.account, &exchange.egress, &exchange.tokens)?;
        let region = upstream::region(&self.head.headers, &self.caller.tenant)?;
        let route = upstream.ways.route(region.clone())?;
        if let Some(row) = record {
            row.leased(&taken, route.name());
        }

        let model = &self.model;
        let renamed = (model.upstream != model.name).then_some(model.upstream.as_str());
        let asks_usage = endpoint == Endpoint::ChatCompletions && self.envelope.stream && !self.envelope.wants_usage;
        let sample = bill::kept(&self.body.plain);
        let mut headers = to_vendor(&self.head.headers);
        taken.clean(&mut headers);
        let edits = self.envelope.edits(renamed, asks_usage);
        let (payload, headers, memory) = self.body.edited(&edits, headers, upstream.target.edits_bodies());
        let asked = Asked {
            endpoint,
            path: self.head.uri.path(),
            model: &model.upstream,
            query: self.head.uri.query(),
            stream: self.envelope.stream,
        };
        let again = Again::keep(exchange, (&taken, call), (asked, region), &headers, &payload);
        let request = upstream.request(upstream.token().await?, asked, headers, payload)?;
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
            routing: exchange.routing.clone(),
            _claim: claim,
            ticket: Some(ticket),
            drain: None,
            bill: Bill::new((hold, tally, reach), model, &self.envelope, sample, record),
            wire: endpoint.wire(),
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
}
