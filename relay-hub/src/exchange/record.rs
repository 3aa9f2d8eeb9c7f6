//! The bill of one call: its hold, its price and its usage row, settled exactly once. Knows no bytes.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use relay_protocol::{Endpoint, Envelope, Observed, Tokens, Usage, UsageSource};
use relay_shared::call::CallId;
use tracing::{debug, warn};

use crate::{
    admission::Tally,
    catalogue::Model,
    identity::Caller,
    ids::AccountId,
    ledger::{Ending, Flag, Flags, Hold, Ledger, LedgerDown, Link, UsageRow},
    money::{Nanos, Offer},
    refusal::Refused,
};

/// One token is taken to be this many bytes of text where the vendor reports none.
const BYTES_PER_TOKEN: u64 = 4;
/// A usage of so many times what the model can take is nonsense.
const MOST_ROUNDS: u64 = 64;

/// The usage row of a call, filled in as the call goes on.
pub(super) struct Record {
    row: UsageRow,
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
            account: None,
            egress: None,
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
        Self { row, started }
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
    pub(super) fn leased(&mut self, account: &AccountId, egress: &str) {
        self.row.account = Some(account.clone());
        self.row.egress = Some(egress.to_owned());
    }

    /// The vendor's head arrived.
    pub(super) fn answered(&mut self, status: StatusCode, vendor_request_id: Option<String>) {
        self.row.status = status.as_u16();
        self.row.vendor_request_id = vendor_request_id;
        self.row.first_byte_us = Some(self.elapsed_us());
    }

    /// The relay's own refusal is what the client got.
    pub(super) fn refused(&mut self, refused: &Refused) {
        self.row.status = refused.public.code.status();
    }

    /// Writes the row of a call that was refused before any money was set aside.
    pub(super) fn note(mut self, ledger: &Ledger, refused: &Refused) {
        self.refused(refused);
        self.row.ending = Ending::Refused(refused.public.code);
        self.row.total_us = Some(self.elapsed_us());
        told(&self.row);
        ledger.note(self.row);
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A call that may be charged.
pub(super) struct Bill {
    hold: Option<Hold>,
    /// Settled with the hold.
    tally: Option<Tally>,
    offer: Offer,
    /// What the model can take and give, for what is absurd.
    sizes: (Tokens, Tokens),
    /// The tier that was asked for, for an answer that names none.
    tier: Option<String>,
    /// Each answer has a search of the web in it, which is not reported.
    searches: u32,
    /// The size of the request, for the estimate.
    input_bytes: usize,
    /// A warm-up is no turn: it is noted and costs nothing.
    is_free: bool,
    pub(super) record: Record,
}

impl Bill {
    pub(super) fn new(hold: Hold, tally: Tally, model: &Model, envelope: &Envelope, record: Record) -> Self {
        let is_free = !envelope.generate;
        Self {
            hold: Some(hold),
            tally: Some(tally),
            offer: model.offer.clone(),
            sizes: (model.context, model.max_output.saturating_mul(u64::from(envelope.n))),
            tier: envelope.service_tier.clone(),
            searches: u32::from(envelope.carries.always_searches),
            input_bytes: envelope.bytes,
            is_free,
            record,
        }
    }

    /// Whether the one settlement has been made.
    pub(super) const fn is_settled(&self) -> bool {
        self.hold.is_none()
    }

    /// Has the hold written now.
    pub(super) fn hasten(&self) {
        if let Some(hold) = &self.hold {
            hold.hasten();
        }
    }

    /// The delivery barrier.
    pub(super) async fn durable(&self) -> Result<(), Refused> {
        match &self.hold {
            Some(hold) => Ok(hold.durable().await?),
            None => Ok(()),
        }
    }

    /// The delivery barrier, for who cannot keep the bill while he waits; `None` where it is passed.
    pub(super) fn not_yet_durable(&self) -> Option<impl Future<Output = Result<(), LedgerDown>> + Send + use<>> {
        self.hold.as_ref().and_then(Hold::not_yet_durable)
    }

    /// Settles once, queued at once; resolves when the settlement is durable.
    pub(super) fn settle(
        &mut self,
        observed: &Observed,
        ending: Ending,
    ) -> impl Future<Output = Result<(), Refused>> + Send + use<> {
        let settled = self.hold.take().map(|hold| {
            let row = self.row(observed, ending, hold.amount());
            if let Some(tally) = self.tally.take() {
                tally.settle(row.cost, row.tokens());
            }
            hold.settle(row.cost, row)
        });
        async move {
            if let Some(settled) = settled {
                settled.await?;
            }
            Ok(())
        }
    }

    fn row(&self, observed: &Observed, ending: Ending, held: Nanos) -> UsageRow {
        let mut row = self.record.row.clone();
        row.ending = if self.is_free && ending == Ending::Completed {
            Ending::Warmup
        } else {
            ending
        };
        row.response_id.clone_from(&observed.response_id);
        if !self.is_free {
            self.charge(&mut row, observed, ending, held);
        }
        row.total_us = Some(self.record.elapsed_us());
        told(&row);
        row
    }

    /// Puts the usage and its cost on the row. The tier that the answer names is the one that is paid.
    fn charge(&self, row: &mut UsageRow, observed: &Observed, ending: Ending, held: Nanos) {
        let Some((usage, source)) = self.usage(observed, ending, &mut row.flags) else {
            return;
        };
        let tier = observed.service_tier.as_ref().or(self.tier.as_ref());
        let cost = self.offer.cost(&usage, tier.map(String::as_str));
        row.cost = cost.amount;
        if source == UsageSource::Estimated && row.cost > held {
            row.cost = held;
            row.flags.set(Flag::Clamped);
        }
        if cost.is_unpriced {
            row.flags.set(Flag::Unpriced);
        }
        if cost.is_unknown_tier {
            row.flags.set(Flag::UnknownTier);
        }
        row.tier = tier.filter(|tier| !is_default(tier)).cloned();
        row.usage = Some((usage, source));
    }

    /// Settles a call of which nothing was seen: it costs nothing.
    pub(super) async fn close(&mut self, ending: Ending) {
        // Nobody waits for this settlement; the ledger counts what it could not write.
        drop(self.settle(&Observed::default(), ending).await);
    }

    /// What is charged: what the vendor reports, whatever the ending. Where it reports nothing or nonsense, an answer
    /// that ended well is counted here, one that the client, the operator or the hub ended as far as it came, and one
    /// that the vendor broke off is free.
    fn usage(&self, observed: &Observed, ending: Ending, flags: &mut Flags) -> Option<(Usage, UsageSource)> {
        let is_absurd = observed.usage.is_some_and(|usage| self.is_absurd(&usage));
        let is_well = matches!(ending, Ending::Completed | Ending::Incomplete);
        if let Some(usage) = observed.usage.filter(|_| !is_absurd) {
            return Some((self.with_tools(usage, observed, is_well), UsageSource::Reported));
        }
        if observed.is_unsound || is_absurd {
            flags.set(Flag::Unsound);
        } else if is_well {
            flags.set(Flag::Unreported);
        }
        let is_estimated = is_well || (pays_for_what_came(ending) && has_begun(observed));
        let usage = is_estimated.then(|| self.with_tools(self.estimate(observed), observed, is_well))?;
        Some((usage, UsageSource::Estimated))
    }

    fn with_tools(&self, usage: Usage, observed: &Observed, is_well: bool) -> Usage {
        let mut tools = observed.tools;
        if is_well && tools.web_search == 0 {
            tools.web_search = self.searches;
        }
        Usage { tools, ..usage }
    }

    /// The vendor's own tools may have a model read its input many times over in one call, but not for ever.
    fn is_absurd(&self, usage: &Usage) -> bool {
        let (context, max_output) = self.sizes;
        usage.input > context.saturating_mul(MOST_ROUNDS) || usage.output > max_output.saturating_mul(MOST_ROUNDS)
    }

    fn estimate(&self, observed: &Observed) -> Usage {
        let tokens = |bytes: usize| Tokens::new((bytes as u64).div_ceil(BYTES_PER_TOKEN));
        Usage {
            input: tokens(self.input_bytes),
            output: tokens(observed.produced),
            ..Usage::default()
        }
    }
}

/// The vendor did its part until somebody else ended the call. What the vendor breaks off is free.
fn pays_for_what_came(ending: Ending) -> bool {
    match ending {
        Ending::ClientGone | Ending::Suspended | Ending::HubDraining => true,
        Ending::Completed
        | Ending::Incomplete
        | Ending::Failed
        | Ending::Refused(_)
        | Ending::VendorError
        | Ending::VendorCut
        | Ending::VendorTimeout
        | Ending::ClientGoneBeforeDispatch
        | Ending::Warmup
        | Ending::HubFault
        | Ending::Recovered
        | Ending::Abandoned => false,
    }
}

/// Something of the answer came: an event, or text of a document.
const fn has_begun(observed: &Observed) -> bool {
    observed.events > 0 || observed.produced > 0
}

fn is_default(tier: &str) -> bool {
    matches!(tier, "default" | "standard" | "auto")
}

/// What the log says of a call: its row without what its client wrote.
fn told(row: &UsageRow) {
    if !row.flags.is_empty() {
        let flags: Vec<_> = row.flags.iter().map(Flag::as_str).collect();
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
