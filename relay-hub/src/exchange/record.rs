//! The usage row of a call, filled in as the call goes on. Knows no hold and no charge.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use relay_protocol::{Endpoint, Envelope, Wire};
use relay_shared::call::CallId;
use tracing::{debug, warn};

use crate::{
    catalogue::Model,
    identity::Caller,
    ledger::{Choice, Ending, Flag, Flags, Ledger, Link, UsageRow},
    money::Nanos,
    refusal::Refused,
    routing::{Taken, Trail},
};

/// The usage row of a call, filled in as the call goes on.
pub(super) struct Record {
    pub(super) row: UsageRow,
    /// Told of the end.
    pub(super) trail: Option<Box<Trail>>,
    started: Instant,
}

impl Record {
    /// A row for a call of a known caller.
    pub(super) fn begin(call: CallId, caller: &Caller, endpoint: Endpoint, link: Link, started: Instant) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = started.elapsed();
        let started_ms = i64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(i64::MAX);
        let row = UsageRow {
            call,
            tenant: caller.tenant_id().clone(),
            by: caller.by.clone(),
            project: caller.project.clone(),
            plan: caller.granted.as_ref().and_then(|granted| granted.plan.clone()),
            account: None,
            choice: Choice::Only,
            egress: None,
            local_address: None,
            endpoint: endpoint.path(),
            model: String::new(),
            upstream_model: String::new(),
            usage: None,
            cost: Nanos::ZERO,
            price_version: 0,
            status: 0,
            ending: Ending::Abandoned,
            started_ms,
            hold_us: None,
            first_byte_us: None,
            total_us: None,
            vendor_request_id: None,
            response_id: None,
            link,
            streamed: false,
            tier: None,
            flags: Flags::default(),
        };
        Self {
            row,
            trail: None,
            started,
        }
    }

    /// What the client asked for.
    pub(super) fn asked(&mut self, envelope: &Envelope) {
        self.row.model.clone_from(&envelope.model);
        self.row.streamed = envelope.stream;
    }

    /// What it costs, under which name it leaves.
    pub(super) fn priced(&mut self, model: &Model) {
        self.row.upstream_model.clone_from(&model.upstream);
        self.row.price_version = model.offer.version;
    }

    /// The hold was granted.
    pub(super) fn held(&mut self) {
        self.row.hold_us = Some(self.elapsed_us());
    }

    /// Which account serves it, by which way out.
    pub(super) fn leased(&mut self, taken: &Taken, way: &Arc<str>) {
        self.row.account = Some(taken.account.id.clone());
        self.row.choice = taken.choice;
        self.row.egress = Some(way.clone());
    }

    /// By which way out it left, and by which address of this machine.
    pub(super) fn left(&mut self, (way, local): (&Arc<str>, IpAddr)) {
        self.row.egress = Some(way.clone());
        self.row.local_address = Some(local);
    }

    /// The vendor's head arrived.
    pub(super) fn answered(&mut self, status: StatusCode, vendor_request_id: Option<String>) {
        self.row.status = status.as_u16();
        self.row.vendor_request_id = vendor_request_id;
        self.row.first_byte_us = Some(self.elapsed_us());
    }

    /// The relay's own refusal is what the client got.
    pub(super) fn refused(&mut self, refused: &Refused) {
        self.row.status = refused.public.code.status_in(Wire::of_path(self.row.endpoint));
    }

    /// Writes the row of a call that was refused before any money was set aside.
    pub(super) fn note(mut self, ledger: &Ledger, refused: &Refused) {
        self.refused(refused);
        self.row.ending = Ending::Refused(refused.public.code);
        self.row.total_us = Some(self.elapsed_us());
        told(&self.row);
        ledger.note(self.row);
    }

    pub(super) const fn began(&self) -> Instant {
        self.started
    }

    pub(super) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// What the log says of a call: its row without what its client wrote.
pub(super) fn told(row: &UsageRow) {
    let flags: Vec<_> = row
        .flags
        .iter()
        .filter(|flag| flag.is_odd())
        .map(Flag::as_str)
        .collect();
    if !flags.is_empty() {
        warn!(call = %row.call, model = row.upstream_model, flags = flags.join(" "), "a bill to look at");
    }
    debug!(
        call = %row.call,
        tenant = %row.tenant,
        by = %row.by,
        endpoint = row.endpoint,
        link = %row.link,
        status = row.status,
        ending = %row.ending,
        cost = %row.cost,
        total_us = row.total_us,
        "call ended"
    );
}
