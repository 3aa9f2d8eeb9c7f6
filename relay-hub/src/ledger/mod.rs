//! Books money: holds before a call, charges after it, each exactly once. Knows no vendor, no client and no price list.
//!
//! A hold is granted at once from what is durable, less what was promised since (`book`); one thread (`writer`) makes
//! holds and settlements durable. What queues while a commit runs is the next batch, and [`Hold::durable`] and
//! [`Hold::settle`] resolve with theirs. A batch is written to the `journal`; the tables get many of them at a time
//! (`post`), so whoever reads the tables calls [`post`](post()) first.
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

mod book;
mod choice;
mod counts;
mod credit;
mod detail;
mod flight;
mod grants;
mod inbox;
mod journal;
mod lines;
mod post;
mod recover;
mod row;
mod rules;
mod sql;
mod verdict;
mod verify;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use relay_protocol::{Code, Refusal, Tokens};
use relay_shared::{
    call::CallId,
    clock::{Clock as _, SystemClock},
    fault,
    tasks::Tasks,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    identity::By,
    ids::TenantId,
    metrics::Page,
    money::Nanos,
    refusal::Refused,
    store::{Store, StoreError, lock::HubLock, millis},
};
use book::{Book, NotGranted};
use flight::Flight;
use inbox::{Checkpoint, Expire, Facts, Inbox, Op, Settle, Wish};
use post::BooksError;
use writer::Writer;

pub use choice::Choice;
pub(crate) use credit::transaction;
pub use credit::{CreditError, Credited, Grant, OpenBooks, credit, grant};
pub use detail::{Flag, Flags, flagged};
pub use grants::{Expiring, expired, expiring};
pub use row::{Ending, Link, UsageRow};
pub use verdict::{Finding, Invariant, Verdict};
pub use verify::{Anchor, verify, verify_past};

/// A wish to spend up to an amount.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// The call; one open hold each.
    pub call: CallId,
    /// Who pays.
    pub tenant: TenantId,
    /// With what it calls; for the row of a call that nobody settled.
    pub by: By,
    /// The model asked for; for the same row.
    pub model: String,
    /// The most it may cost.
    pub amount: Nanos,
    /// Fixed for the whole call.
    pub price_version: i64,
}

/// Why there is no hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The tenant has not enough.
    #[error("not enough credit: {available} available")]
    Insufficient {
        /// What the tenant could still spend.
        available: Nanos,
    },
    /// This call already has an open hold.
    #[error("this call is already running")]
    Duplicate,
    /// The ledger cannot write now.
    #[error(transparent)]
    Unavailable(#[from] LedgerDown),
}

/// The ledger cannot write: disk full, database locked, or shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot write at the moment")]
pub struct LedgerDown;

impl From<LedgerDown> for Refused {
    fn from(down: LedgerDown) -> Self {
        let wait = Duration::from_secs(2);
        let public =
            Refusal::new(Code::LedgerUnavailable, "The relay cannot book calls at the moment").retry_after(wait);
        Self::from(public).caused_by(down)
    }
}

impl From<HoldError> for Refused {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Insufficient { available } => {
                let message = format!("The tenant's credit does not cover this call ({available} available)");
                let hint = "ask the operator for credit, or lower the maximum of output tokens";
                Refusal::new(Code::OutOfCredit, message).hint(hint).into()
            }
            HoldError::Duplicate => Self::new(Code::InvalidRequest, "A call with this id is already running"),
            HoldError::Unavailable(down) => down.into(),
        }
    }
}

/// A busy hub commits hundreds of times a second; another process gets its turn between two of them.
const PATIENCE: Duration = Duration::from_secs(15);

/// Brings the tables up to all that is durable. For whoever reads them; a hub may run meanwhile.
pub async fn post(store: &Store) -> Result<(), StoreError> {
    blocking(store, |database| post::post(&sql::open(database, PATIENCE)?)).await
}

async fn blocking<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Path) -> Result<T, BooksError> + Send + 'static,
) -> Result<T, StoreError> {
    let database = store.data().database();
    let done = tokio::task::spawn_blocking(move || work(&database)).await;
    done.map_err(|gone| StoreError::Books(gone.into()))?
        .map_err(|cause| StoreError::Books(cause.into()))
}

/// The way to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inbox: Arc<Inbox>,
    stop: CancellationToken,
}

impl Ledger {
    /// Takes over the books: the data directory's lock, a new epoch; what an earlier hub left open is released;
    /// then the writer runs until its tasks shut down and the last hold is settled or dropped.
    pub async fn start(store: &Store, tasks: &Tasks) -> Result<Self, StoreError> {
        let lock = HubLock::take(store.data())?;
        let path = store.data().flight();
        let (recovered, book, flight) = blocking(store, move |database| {
            let recovered = recover::take_over(database, &path, PATIENCE, millis(SystemClock.wall()))?;
            let mut book = Book::after(recovered.last_number);
            // So that no tenant's first call waits for the writer to look.
            for (account, available) in sql::balances(&sql::open(database, PATIENCE)?)? {
                if let Ok(tenant) = TenantId::parse(&account) {
                    book.learn(tenant, available);
                }
            }
            Ok((recovered, book, Flight::begin(&path, recovered.epoch)?))
        })
        .await?;
        match recovered.holds {
            0 => {}
            holds => warn!(
                holds,
                "an earlier hub left calls open: each is charged as far as its last checkpoint, or nothing"
            ),
        }
        let inbox = Arc::new(Inbox::new(book, flight));
        let stop = tasks.token();
        let writer = Writer::new(store.data().database(), inbox.clone(), &recovered);
        let until = stop.clone();
        tasks
            .spawn_thread("ledger", move |cut| {
                writer.run(&until, cut);
                drop(lock);
            })
            .map_err(StoreError::Thread)?;
        let (bell, stopped) = (inbox.clone(), stop.clone());
        tasks.spawn("ledger-bell", async move {
            stopped.cancelled().await;
            bell.ring();
        });
        Ok(Self { inbox, stop })
    }

    /// Sets money aside: at once where the tenant's balance is known and covers it; else the writer asks the database.
    pub async fn reserve(&self, reserve: Reserve) -> Result<Hold, HoldError> {
        if self.stop.is_cancelled() {
            return Err(LedgerDown.into());
        }
        match self.inbox.grant(reserve) {
            Ok(facts) => Ok(Hold::new(facts, self.inbox.clone())),
            Err((_, NotGranted::Duplicate)) => Err(HoldError::Duplicate),
            Err((reserve, NotGranted::Unknown | NotGranted::Short(_))) => self.ask(*reserve).await,
        }
    }

    async fn ask(&self, reserve: Reserve) -> Result<Hold, HoldError> {
        let (reply, granted) = oneshot::channel();
        if !self.inbox.push(Op::Ask(Box::new(Wish::Hold(reserve, reply)))) {
            return Err(LedgerDown.into());
        }
        granted.await.unwrap_or(Err(HoldError::Unavailable(LedgerDown)))
    }

    /// Takes back what is left of these tenants' credit that is over by `now_ms`, in one transaction; how much that was.
    /// What running calls hold is left for the next time.
    pub async fn expire(&self, tenants: Vec<TenantId>, now_ms: i64) -> Result<Nanos, LedgerDown> {
        let (reply, taken) = oneshot::channel();
        if !self.inbox.push(Op::Expire(Expire { tenants, now_ms, reply })) {
            return Err(LedgerDown);
        }
        taken.await.map_err(|_| LedgerDown)
    }

    /// Books a call that cost nothing. Never waits; a row that finds no place is counted in [`Ledger::notes_dropped`].
    pub fn note(&self, row: UsageRow) {
        self.inbox.counts().call(&row);
        self.inbox.push(Op::Note(Box::new(row)));
    }

    /// The number of this start of the hub; a later start has a later one.
    pub fn epoch(&self) -> i64 {
        self.inbox.epoch()
    }

    /// Tells what was counted since the start, and how things stand.
    pub fn tell(&self, page: &mut Page) {
        self.inbox.counts().tell(page);
        page.counter(
            "relay_ledger_notes_dropped",
            "Rows of free calls that found no place.",
            self.notes_dropped(),
        );
        page.gauge(
            "relay_ledger_queue",
            "What waits for the ledger's next batch.",
            self.inbox.queued(),
        );
        page.gauge("relay_open_holds", "Calls for which money is held.", self.open_holds());
    }

    /// How many rows found no place.
    pub fn notes_dropped(&self) -> u64 {
        self.inbox.dropped()
    }

    /// How many holds are open.
    pub fn open_holds(&self) -> usize {
        self.inbox.open()
    }
}

/// Money set aside for one call. Settled once; dropped unsettled it is released as abandoned.
pub struct Hold {
    facts: Arc<Facts>,
    inbox: Arc<Inbox>,
    is_settled: bool,
}

impl Hold {
    fn new(facts: Arc<Facts>, inbox: Arc<Inbox>) -> Self {
        Self {
            facts,
            inbox,
            is_settled: false,
        }
    }

    /// What is set aside.
    pub fn amount(&self) -> Nanos {
        self.facts.amount()
    }

    /// Its number, under which the call will be booked.
    pub fn number(&self) -> i64 {
        self.facts.id
    }

    /// Sets more aside for the call, from what its tenant can still spend. Resolves when it is granted; it is written
    /// before the end of the hold. The death of the hub may lose what was granted in its last moments: then the call is
    /// charged no more than what was set aside before.
    ///
    /// # Errors
    /// The tenant has not enough, or the ledger cannot write; the hold is as it was.
    pub fn extend(&self, by: Nanos) -> impl Future<Output = Result<(), HoldError>> + Send + use<> {
        let (inbox, facts) = (self.inbox.clone(), self.facts.clone());
        async move {
            if inbox.extend(&facts, by).is_ok() {
                return Ok(());
            }
            // Only the database knows of credit that came meanwhile.
            let (reply, granted) = oneshot::channel();
            if !inbox.push(Op::Ask(Box::new(Wish::More(facts, by, reply)))) {
                return Err(LedgerDown.into());
            }
            granted.await.unwrap_or(Err(HoldError::Unavailable(LedgerDown)))
        }
    }

    /// Writes how far the call came with one of the next commits: what it is charged should the hub die. Never waits.
    pub fn checkpoint(&self, input: Tokens, output: Tokens, cost: Nanos) {
        self.inbox.checkpoint(Checkpoint {
            facts: self.facts.clone(),
            input,
            output,
            cost,
        });
    }

    /// Has the hold written now: for an answer that will be passed on while it is made.
    pub fn hasten(&self) {
        self.inbox.hasten(&self.facts);
    }

    /// The delivery barrier: resolves when the hold outlives the hub, whatever ends it.
    pub async fn durable(&self) -> Result<(), LedgerDown> {
        if self.inbox.hasten(&self.facts) {
            return Ok(());
        }
        *self.facts.written.wait().await
    }

    /// The same, for who cannot keep the hold while he waits; `None` where it is durable.
    pub fn not_yet_durable(&self) -> Option<impl Future<Output = Result<(), LedgerDown>> + Send + use<>> {
        if self.inbox.hasten(&self.facts) {
            return None;
        }
        let facts = self.facts.clone();
        Some(async move { *facts.written.wait().await })
    }

    /// The terminal barrier: queued at once, resolves with what was charged when that survives any crash.
    /// Dropping the future loses the answer, not the settlement. `charge` above the hold takes what is still
    /// available; the rest is the operator's loss. More than a million units above the hold is taken for nonsense.
    pub fn settle(
        mut self,
        charge: Nanos,
        row: UsageRow,
    ) -> impl Future<Output = Result<Nanos, LedgerDown>> + Send + 'static {
        let (reply, charged) = oneshot::channel();
        let charge = rules::bookable(charge, self.facts.amount());
        self.inbox.counts().call(&row);
        self.end(charge, Some(Box::new(row)), Some(reply));
        async move { charged.await.unwrap_or(Err(LedgerDown)) }
    }

    fn end(&mut self, charge: Nanos, row: Option<Box<UsageRow>>, reply: Option<Reply>) {
        self.is_settled = true;
        self.inbox.push(Op::Settle(Settle {
            facts: self.facts.clone(),
            charge,
            row,
            reply,
        }));
        fault::point("settlement queued");
    }
}

/// Where the word on a settlement goes.
type Reply = oneshot::Sender<Result<Nanos, LedgerDown>>;

impl Drop for Hold {
    /// Signals only; the writer does the work.
    fn drop(&mut self) {
        if !self.is_settled {
            self.inbox.counts().ended(Ending::Abandoned, "");
            self.end(Nanos::ZERO, None, None);
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
