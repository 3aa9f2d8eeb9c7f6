//! The bill of one call: its hold and its price, settled exactly once. Knows no bytes but the sample of them that is
//! kept in case tokens have to be counted.
//!
//! The vendor's report makes counting needless for nearly every call, so no token is counted as an answer goes by. What
//! it may take is kept: of the request and of the answer a few KiB each, which tell how many bytes a token has. So
//! counting takes the same time and memory for every call, and an answer as short as its sample is counted exactly.

use std::time::{Duration, Instant};

use relay_protocol::{Code, Envelope, Hidden, Observed, Payload, Refusal, Sample, Tokens, Usage, UsageSource};
use tokio::task::spawn_blocking;

use super::record::{Record, told};
use crate::{
    admission::{Reach, Tally},
    catalogue::Model,
    ledger::{Ending, Flag, Flags, Hold, HoldError, LedgerDown, UsageRow, flagged},
    money::{Nanos, Offer},
    refusal::Refused,
    routing::Trail,
    tokenizer,
};

/// One token is taken to be this many bytes of text where it can be counted no better.
const BYTES_PER_TOKEN: u64 = 4;
/// A usage of so many times what the model can take is nonsense: price lists may be off.
const MOST_TIMES: u64 = 2;
/// The vendor's own tools may have a model read its input many times over in one call, but not for ever.
const MOST_ROUNDS: u64 = 64;
/// So much of an answer is kept.
pub(super) const ANSWER_SAMPLE: usize = 4 * 1024;
/// A request is kept while its call runs if it has no more bytes than this; of another one, so many are.
const REQUEST_SAMPLE: usize = 8 * 1024;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// After so many bytes more a ledger that was away is asked again.
const ASK_AGAIN: usize = 4 * 1024;

/// A call that may be charged.
pub(super) struct Bill {
    hold: Option<Hold>,
    /// Settled with the hold.
    tally: Option<Tally>,
    offer: Offer,
    /// More than this is absurd.
    most: (Tokens, Tokens),
    /// The tier that was asked for, for an answer that names none.
    tier: Option<String>,
    /// Each answer has a search of the web in it, which is not reported.
    searches: u32,
    /// The size of the request, and what is kept of it.
    input_bytes: usize,
    input: Payload,
    /// It is noted and costs nothing.
    is_free: bool,
    /// A warm-up is no turn.
    is_warm_up: bool,
    /// Its vendor keeps the answer.
    is_stored: bool,
    /// How far the hold reaches, where it can be extended; and with so many bytes of output it has to be.
    reach: Option<Reach>,
    extend_at: usize,
    /// When the next checkpoint is due, and the output of the last one.
    checkpoint_at: Instant,
    checkpointed: usize,
    pub(super) record: Record,
}

/// What became of a wish for more money.
type Granted = Result<(), HoldError>;

/// More money for a call that goes on.
pub(super) struct Extension {
    reach: Reach,
    by: Nanos,
}

/// What does not cover more of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// The tenant's credit.
    Credit,
    /// A daily or monthly limit.
    Limit,
}

impl Spent {
    /// How its call ends.
    pub(super) const fn ending(self) -> Ending {
        match self {
            Self::Credit => Ending::OutOfCredit,
            Self::Limit => Ending::OverLimit,
        }
    }

    /// What its client is told.
    pub(super) fn refusal(self) -> Refusal {
        let (code, message, hint) = match self {
            Self::Credit => (
                Code::OutOfCredit,
                "The tenant's credit does not cover more of this answer.",
                "ask the operator for credit",
            ),
            Self::Limit => (
                Code::UsageLimit,
                "A daily or monthly limit of spending does not cover more of this answer.",
                "ask the operator of the relay",
            ),
        };
        Refusal::new(code, message).hint(hint)
    }
}

/// What a call is charged for.
enum Due {
    Nothing,
    /// As the vendor says.
    Reported(Usage),
    /// What goes beside the tokens, which are counted here but for an input that is in it.
    Counted(Usage),
}

impl Bill {
    pub(super) fn new(
        (hold, tally, reach): (Hold, Tally, Option<Reach>),
        model: &Model,
        envelope: &Envelope,
        input: Payload,
        record: Record,
    ) -> Self {
        let is_free = !envelope.generate;
        let times = if envelope.carries.offers_tools() {
            MOST_ROUNDS
        } else {
            MOST_TIMES
        };
        let output = model.max_output.saturating_mul(u64::from(envelope.n));
        let mut input_most = model.context.saturating_mul(times);
        if envelope.endpoint.embeds() {
            input_most = input_most.max(Tokens::new(envelope.bytes as u64));
        }
        Self {
            hold: Some(hold),
            tally: Some(tally),
            offer: model.offer.clone(),
            most: (input_most, output.saturating_mul(times)),
            tier: envelope.service_tier.clone(),
            searches: u32::from(envelope.carries.always_searches),
            input_bytes: envelope.bytes,
            input,
            is_free,
            is_warm_up: is_free && !envelope.endpoint.is_free(),
            is_stored: envelope.stores,
            reach,
            extend_at: extend_at(reach),
            checkpoint_at: record.began() + CHECKPOINT_EVERY,
            checkpointed: 0,
            record,
        }
    }

    /// Whether something is to be done as the answer goes by. Asked for each of its pieces.
    pub(super) fn is_due(&self, observed: &Observed, now: Instant) -> bool {
        observed.produced >= self.extend_at || now >= self.checkpoint_at
    }

    /// Notes how far the answer came, should the hub die. Of a call that lasts no second nothing is noted.
    pub(super) fn checkpoint(&mut self, observed: &Observed, now: Instant) {
        if now < self.checkpoint_at {
            return;
        }
        self.checkpoint_at = now + CHECKPOINT_EVERY;
        if let Some(hold) = self.hold.as_ref().filter(|_| observed.produced > self.checkpointed) {
            self.checkpointed = observed.produced;
            let (input, output) = (by_bytes(self.input_bytes), by_bytes(observed.produced));
            let usage = Usage {
                input,
                output,
                ..Usage::default()
            };
            let cost = self.offer.cost(&usage, self.tier.as_deref());
            hold.checkpoint(input, output, cost.amount);
        }
    }

    /// Asks for more money where less than a quarter of the output held for is left.
    ///
    /// # Errors
    /// A limit of what may be spent does not allow it.
    pub(super) fn extension(
        &mut self,
        observed: &Observed,
    ) -> Result<Option<(Extension, impl Future<Output = Granted> + Send + use<>)>, Spent> {
        if observed.produced < self.extend_at {
            return Ok(None);
        }
        let (Some(hold), Some(reach)) = (&self.hold, self.reach) else {
            return Ok(None);
        };
        let Some(further) = reach.further() else {
            return Ok(None);
        };
        let cost = |reach: Reach| reach.cost(&self.offer, self.tier.as_deref());
        let by = cost(further).saturating_sub(cost(reach)).max(Nanos::ZERO);
        if let Some(tally) = &mut self.tally {
            tally.grow(by).map_err(|_over| Spent::Limit)?;
        }
        Ok(Some((Extension { reach: further, by }, hold.extend(by))))
    }

    /// What became of that. An answer goes on while the ledger cannot write, and asks again.
    ///
    /// # Errors
    /// The tenant's credit does not cover it.
    pub(super) fn extended(&mut self, asked: Extension, granted: Granted) -> Result<(), Spent> {
        if granted.is_ok() {
            self.reach = Some(asked.reach);
            self.extend_at = extend_at(self.reach);
            return Ok(());
        }
        if let Some(tally) = &mut self.tally {
            tally.shrink(asked.by);
        }
        match granted {
            Err(HoldError::Unavailable(_)) => {
                self.extend_at = self.extend_at.saturating_add(ASK_AGAIN);
                Ok(())
            }
            _ => Err(Spent::Credit),
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

    /// Tells routing what the answer has in it that no other account can read.
    pub(super) fn hid(&self, hidden: &[Hidden]) {
        if let Some(trail) = &self.record.trail {
            trail.hid(hidden);
        }
    }

    /// Settles a call of which nothing was seen: it costs nothing.
    pub(super) async fn close(&mut self, ending: Ending) {
        // Nobody waits for this settlement; the ledger counts what it could not write.
        drop(self.settle(&Observed::default(), Sample::default(), ending).await);
    }

    /// Settles once, queued at once, or counted and queued on a thread of its own; resolves when the settlement is
    /// durable. Dropping the future loses the answer, not the settlement. `written` is what is kept of the output.
    pub(super) fn settle(
        &mut self,
        observed: &Observed,
        written: Sample,
        ending: Ending,
    ) -> impl Future<Output = Result<(), Refused>> + Send + use<> {
        let (mut queued, mut counted) = (None, None);
        if let Some(hold) = self.hold.take() {
            let mut row = self.row(observed, ending);
            let due = self.due(observed, ending, &mut row.flags);
            let mut last = Last {
                hold,
                tally: self.tally.take(),
                trail: self.record.trail.take(),
                is_stored: self.is_stored,
                offer: self.offer.clone(),
                tier: match &observed.service_tier {
                    Some(told) => Some(told).filter(|tier| !is_default(tier)).cloned(),
                    None => self.tier.take().filter(|tier| !is_default(tier)),
                },
                row,
            };
            match due {
                Due::Nothing => queued = Some(last.settle(None)),
                Due::Reported(usage) => queued = Some(last.settle(Some((usage, UsageSource::Reported)))),
                Due::Counted(beside) => {
                    let request = (
                        std::mem::replace(&mut self.input, Payload::new(Vec::new())),
                        self.input_bytes,
                    );
                    let answer = (written, observed.produced);
                    counted = Some(spawn_blocking(move || {
                        let usage = last.count(&request, &answer, beside);
                        last.settle(Some(usage))
                    }));
                }
            }
        }
        async move {
            if let Some(counted) = counted {
                queued = Some(counted.await.map_err(|_| LedgerDown)?);
            }
            match queued {
                Some(queued) => Ok(queued.await?),
                None => Ok(()),
            }
        }
    }

    /// The row as far as no money is concerned.
    fn row(&self, observed: &Observed, ending: Ending) -> UsageRow {
        let mut row = self.record.row.clone();
        row.ending = if self.is_warm_up && ending == Ending::Completed {
            Ending::Warmup
        } else {
            ending
        };
        row.response_id.clone_from(&observed.response_id);
        row.total_us = Some(self.record.elapsed_us());
        row
    }

    /// What is charged: what the vendor reports, whatever the ending. Where it reports nothing or nonsense, an answer
    /// that ended well is counted here, one that the client, the operator or the hub ended as far as it came, and one
    /// that the vendor broke off is free.
    fn due(&self, observed: &Observed, ending: Ending, flags: &mut Flags) -> Due {
        if self.is_free {
            return Due::Nothing;
        }
        let is_absurd = observed.usage.is_some_and(|usage| self.is_absurd(&usage));
        let is_well = matches!(ending, Ending::Completed | Ending::Incomplete);
        if let Some(usage) = observed.usage.filter(|_| !is_absurd) {
            return Due::Reported(self.with_tools(usage, observed, is_well));
        }
        if observed.is_unsound || is_absurd {
            flags.set(Flag::Unsound);
        } else if is_well {
            flags.set(Flag::Unreported);
        }
        if is_well || (pays_for_what_came(ending) && has_begun(observed)) {
            Due::Counted(self.with_tools(observed.begun.unwrap_or_default(), observed, is_well))
        } else {
            Due::Nothing
        }
    }

    fn with_tools(&self, usage: Usage, observed: &Observed, is_well: bool) -> Usage {
        let mut tools = observed.tools;
        if is_well && tools.web_search == 0 {
            tools.web_search = self.searches;
        }
        Usage { tools, ..usage }
    }

    fn is_absurd(&self, usage: &Usage) -> bool {
        usage.input > self.most.0 || usage.output > self.most.1
    }
}

/// A bill at its end.
struct Last {
    hold: Hold,
    tally: Option<Tally>,
    trail: Option<Box<Trail>>,
    is_stored: bool,
    offer: Offer,
    /// The tier that the answer names is the one that is paid; none for the default one.
    tier: Option<String>,
    row: UsageRow,
}

impl Last {
    /// Counts the tokens of a request and of an answer, each with the length of all of it.
    fn count(&mut self, request: &(Payload, usize), answer: &(Sample, usize), beside: Usage) -> (Usage, UsageSource) {
        let model = &self.row.upstream_model;
        let input = Sample::across(request.0.as_slice(), REQUEST_SAMPLE);
        let counts = tokens(model, &input, request.1).zip(tokens(model, &answer.0, answer.1));
        let (input, output) = counts.unwrap_or_else(|| {
            self.row.flags.set(Flag::ByBytes);
            (by_bytes(request.1), by_bytes(answer.1))
        });
        let input = Some(beside.input).filter(|told| *told > Tokens::ZERO).unwrap_or(input);
        let usage = Usage {
            input,
            output,
            ..beside
        };
        (usage, UsageSource::Estimated)
    }

    /// Puts the usage and its cost on the row, and has both booked.
    fn settle(
        mut self,
        usage: Option<(Usage, UsageSource)>,
    ) -> impl Future<Output = Result<(), Refused>> + Send + use<> {
        if let Some((usage, source)) = usage {
            self.charge(usage, source);
        }
        self.look_at_cache();
        let Self {
            hold,
            tally,
            trail,
            is_stored,
            row,
            ..
        } = self;
        flagged(row.flags);
        told(&row);
        if let Some(tally) = tally {
            tally.settle(row.cost, row.tokens());
        }
        let stored = trail.filter(|_| is_stored).zip(row.response_id.clone());
        let settled = hold.settle(row.cost, row);
        // Noted while the ledger writes: nobody can go on from the answer before its end, which waits for that.
        if let Some((trail, response)) = stored {
            trail.stored(&response);
        }
        async move {
            settled.await?;
            Ok(())
        }
    }

    /// Tells how the conversation used the vendor's cache.
    fn look_at_cache(&mut self) {
        let Some(trail) = &self.trail else { return };
        let reported = match &self.row.usage {
            Some((usage, UsageSource::Reported)) => Some(usage),
            _ => None,
        };
        if trail.ended(self.row.response_id.is_some(), reported) {
            self.row.flags.set(Flag::CacheLost);
        }
    }

    fn charge(&mut self, usage: Usage, source: UsageSource) {
        let (row, tier) = (&mut self.row, self.tier.as_deref());
        let cost = self.offer.cost(&usage, tier);
        row.cost = cost.amount;
        if source == UsageSource::Estimated && row.cost > self.hold.amount() {
            row.cost = self.hold.amount();
            row.flags.set(Flag::Clamped);
        }
        if cost.is_unpriced {
            row.flags.set(Flag::Unpriced);
        }
        if cost.is_unknown_tier {
            row.flags.set(Flag::UnknownTier);
        }
        row.tier = self.tier.take();
        row.usage = Some((usage, source));
    }
}

/// At so many bytes of output less than a quarter of what is paid for is left.
fn extend_at(reach: Option<Reach>) -> usize {
    let Some(reach) = reach.filter(|reach| reach.further().is_some()) else {
        return usize::MAX;
    };
    let bytes = reach.output().saturating_mul(BYTES_PER_TOKEN).get() / 4 * 3;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What is kept of a request. A short one is kept as it is, without a copy.
pub(super) fn kept(body: &Payload) -> Payload {
    if body.len() <= REQUEST_SAMPLE {
        body.clone()
    } else {
        Payload::new(Sample::across(body.as_slice(), REQUEST_SAMPLE).into_json())
    }
}

/// The tokens of a text of so many bytes, by its sample.
fn tokens(model: &str, sample: &Sample, bytes: usize) -> Option<Tokens> {
    if bytes == 0 {
        return Some(Tokens::ZERO);
    }
    let counted = Tokens::new(tokenizer::count(model, &sample.text())?);
    let seen = u64::try_from(sample.len()).ok().filter(|seen| *seen > 0)?;
    let all = counted.saturating_mul(bytes as u64).get().div_ceil(seen);
    Some(Tokens::new(all))
}

pub(super) fn by_bytes(bytes: usize) -> Tokens {
    Tokens::new((bytes as u64).div_ceil(BYTES_PER_TOKEN))
}

/// The vendor did its part until somebody else ended the call. What the vendor breaks off is free.
fn pays_for_what_came(ending: Ending) -> bool {
    match ending {
        Ending::ClientGone | Ending::Suspended | Ending::HubDraining | Ending::OutOfCredit | Ending::OverLimit => true,
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
