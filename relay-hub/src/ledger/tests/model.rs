//! The ledger against a model of a few lines, over any sequence of operations. Fifty thousand of them here; `cargo
//! xtask prove ledger` runs a million.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Credit(usize, i64),
    Reserve(usize, i64),
    /// Which of the open holds is waited for.
    Durable(prop::sample::Index),
    /// Which of the open holds, and what it cost.
    Settle(prop::sample::Index, i64),
    Drop(prop::sample::Index),
    Note,
    /// Everybody hears of his settlement before the next step.
    Wait,
    /// Another process posts.
    Post,
    /// The hub ends well, and another one starts.
    Restart,
    /// The hub ends between two commits, with all that its memory has.
    Crash,
    /// A tenant's account is gone: the tables refuse what is booked for it.
    Doom,
}

fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![9 => 0i64..500, 1 => Just(i64::MAX)];
    // Now and then more than was held.
    let charge = prop_oneof![30 => 0i64..100, 1 => 0i64..800];
    prop_oneof![
        10 => (0..TENANTS, 1i64..1_000).prop_map(|(tenant, amount)| Step::Credit(tenant, amount)),
        400 => (0..TENANTS, amount).prop_map(|(tenant, amount)| Step::Reserve(tenant, amount)),
        20 => any::<prop::sample::Index>().prop_map(Step::Durable),
        400 => (any::<prop::sample::Index>(), charge).prop_map(|(which, charge)| Step::Settle(which, charge)),
        30 => any::<prop::sample::Index>().prop_map(Step::Drop),
        20 => Just(Step::Note),
        10 => Just(Step::Wait),
        10 => Just(Step::Post),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default, Clone)]
struct Model {
    posted: [i64; TENANTS],
    held: [i64; TENANTS],
    loss: i64,
    /// What the row of each call says: its ending and its charge. Of a hold that nobody waited for there may be none.
    rows: HashMap<CallId, (&'static str, i64)>,
}

impl Model {
    fn available(&self, tenant: usize) -> i64 {
        self.posted[tenant] - self.held[tenant]
    }

    fn settle(&mut self, tenant: usize, amount: i64, charge: i64) -> i64 {
        self.held[tenant] -= amount;
        let charged = charge.min(amount + (self.available(tenant) - amount).max(0));
        self.posted[tenant] -= charged;
        self.loss += charge - charged;
        charged
    }
}

struct Open {
    tenant: usize,
    wish: Reserve,
    hold: Hold,
    is_durable: bool,
}

/// Queued; its outcome is not asked yet.
struct Settling {
    tenant: usize,
    call: CallId,
    charge: i64,
    done: Pin<Box<dyn Future<Output = Result<Nanos, LedgerDown>> + Send>>,
}

/// The ledger and the model, side by side.
struct Pair {
    books: Books,
    tenants: Vec<TenantId>,
    model: Model,
    open: Vec<Open>,
    settling: Vec<Settling>,
    is_doomed: bool,
}

impl Pair {
    async fn begin() -> Self {
        let books = Books::open().await;
        let mut tenants = Vec::new();
        for _ in 0..TENANTS {
            tenants.push(books.tenant(0).await);
        }
        Self {
            books,
            tenants,
            model: Model::default(),
            open: Vec::new(),
            settling: Vec::new(),
            is_doomed: false,
        }
    }

    /// The tenant whose account is gone is left out.
    fn skips(&self, tenant: usize) -> bool {
        self.is_doomed && tenant == DOOMED
    }

    async fn step(mut self, step: Step) -> Self {
        match step {
            Step::Credit(tenant, _) | Step::Reserve(tenant, _) if self.skips(tenant) => {}
            Step::Credit(tenant, amount) => self.credit(tenant, amount).await,
            Step::Reserve(tenant, amount) => self.reserve(tenant, amount).await,
            Step::Durable(which) if !self.open.is_empty() => {
                let at = which.index(self.open.len());
                self.open[at].hold.durable().await.unwrap();
                self.open[at].is_durable = true;
            }
            Step::Settle(which, charge) if !self.open.is_empty() => {
                let open = self.open.swap_remove(which.index(self.open.len()));
                self.settle(open, charge).await;
            }
            Step::Drop(which) if !self.open.is_empty() => {
                let open = self.open.swap_remove(which.index(self.open.len()));
                self.abandon(open);
            }
            Step::Durable(_) | Step::Settle(..) | Step::Drop(_) => {}
            Step::Note => {
                let note = wish(&self.tenants[0], 0);
                self.books.ledger.note(row(&note, Ending::Refused(Code::RateLimited)));
            }
            Step::Wait => self.wait().await,
            Step::Post => post(&self.books.hub.store).await.unwrap(),
            Step::Restart => {
                self.end().await;
                self.books = Books::over(self.books.shut().await).await;
            }
            Step::Crash => self = self.crash().await,
            Step::Doom if !self.is_doomed => {
                self.is_doomed = true;
                let mut connection = self.books.hub.store.connection().await.unwrap();
                let gone = sqlx::query("DELETE FROM account WHERE id = $1").bind(self.tenants[DOOMED].as_str());
                gone.execute(&mut connection).await.unwrap();
            }
            Step::Doom => {}
        }
        self
    }

    async fn credit(&mut self, tenant: usize, amount: i64) {
        let reference = crate::ids::random_name();
        for is_first in [true, false] {
            let (store, amount) = (&self.books.hub.store, Nanos::new(amount));
            let credited = credit(store, &self.tenants[tenant], amount, &reference, "", 1).await;
            assert_eq!(credited.unwrap().is_first, is_first);
        }
        self.model.posted[tenant] += amount;
    }

    async fn reserve(&mut self, tenant: usize, amount: i64) {
        let wish = wish(&self.tenants[tenant], amount);
        let got = self.books.ledger.reserve(wish.clone()).await;
        if amount > self.model.available(tenant) {
            let available = Nanos::new(self.model.available(tenant));
            return assert_eq!(got.err(), Some(HoldError::Insufficient { available }));
        }
        self.model.held[tenant] += amount;
        let hold = got.unwrap();
        self.open.push(Open {
            tenant,
            wish,
            hold,
            is_durable: false,
        });
    }

    async fn settle(&mut self, open: Open, charge: i64) {
        let Open { tenant, wish, hold, .. } = open;
        let amount = wish.amount.get();
        if charge > amount {
            // It is decided by what was settled before; what comes after is not to be mixed up with that.
            self.wait().await;
        }
        let done = Box::pin(hold.settle(Nanos::new(charge), row(&wish, Ending::Completed)));
        let charged = self.model.settle(tenant, amount, charge);
        self.model.rows.insert(wish.call, ("completed", charged));
        self.settling.push(Settling {
            tenant,
            call: wish.call,
            charge: charged,
            done,
        });
        if charge > amount {
            self.wait().await;
        }
    }

    fn abandon(&mut self, open: Open) {
        self.model.settle(open.tenant, open.wish.amount.get(), 0);
        self.model.rows.insert(open.wish.call, ("abandoned", 0));
    }

    async fn wait(&mut self) {
        for settling in self.settling.drain(..) {
            let charged = settling.done.await;
            if !(self.is_doomed && settling.tenant == DOOMED) {
                assert_eq!(charged, Ok(Nanos::new(settling.charge)));
            }
        }
    }

    /// Every call comes to an end.
    async fn end(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.abandon(open);
        }
        self.wait().await;
    }

    /// What was told is booked; what was not is not, and its hold is recovered.
    async fn crash(mut self) -> Self {
        self.books.tasks.shutdown(Duration::ZERO).await;
        for settling in self.settling.drain(..) {
            let told = settling.done.await;
            if told == Err(LedgerDown) {
                self.model.posted[settling.tenant] += settling.charge;
                self.model.rows.remove(&settling.call);
            }
        }
        // What was dropped without a word may have come before the end or not.
        self.model.rows.retain(|_, row| row.0 != "abandoned");
        for open in self.open.drain(..) {
            self.model.held[open.tenant] -= open.wish.amount.get();
            if open.is_durable {
                self.model.rows.insert(open.wish.call, ("recovered", 0));
            }
        }
        self.books = Books::over(self.books.hub).await;
        self
    }

    /// Balances, losses and every row are as the model says.
    async fn compare(mut self) {
        self.end().await;
        let hub = self.books.shut().await;
        post(&hub.store).await.unwrap();
        let verdict = verify(&hub.store).await.unwrap();
        assert!(verdict.ok || self.is_doomed, "{:?}", verdict.problems);
        for (at, tenant) in self.tenants.iter().enumerate() {
            if !(self.is_doomed && at == DOOMED) {
                let account = tenants::find(&hub.store, tenant.as_str()).await.unwrap();
                assert_eq!((account.balance.get(), account.held.get()), (self.model.posted[at], 0));
            }
        }
        let lost = sqlx::query("SELECT posted FROM account WHERE id = 'operator_loss'").fetch_one(hub.store.readers());
        if !self.is_doomed {
            assert_eq!(lost.await.unwrap().get::<i64, _>(0), -self.model.loss);
        }
        let rows = sqlx::query("SELECT lower(hex(call)), ending, charged, tenant FROM usage");
        let rows = rows.fetch_all(hub.store.readers()).await.unwrap();
        let mut booked = HashMap::new();
        for row in &rows {
            let (call, said): (&str, (&str, i64)) = (row.get(0), (row.get(1), row.get(2)));
            assert!(
                booked.insert(CallId::parse(call).unwrap(), said).is_none(),
                "two rows for {call}"
            );
        }
        let doomed = self.tenants[DOOMED].as_str();
        let may_be_refused = self.is_doomed && verdict.problems.iter().any(|problem| problem.contains("refused"));
        for (call, said) in &self.model.rows {
            let found = booked.get(call);
            assert!(
                found == Some(said) || (may_be_refused && found.is_none()),
                "{call}: {found:?}, not {said:?}"
            );
        }
        for row in rows.iter().filter(|row| row.get::<&str, _>(3) != doomed) {
            let (call, charged): (&str, i64) = (row.get(0), row.get(2));
            let is_known = self.model.rows.contains_key(&CallId::parse(call).unwrap());
            assert!(is_known || charged == 0, "nobody asked to charge {call}");
        }
    }
}

impl Books {
    /// Ends the writer.
    async fn shut(self) -> TestHub {
        assert_eq!(self.tasks.shutdown(Duration::from_secs(60)).await, 0);
        self.hub
    }
}

async fn run(steps: Vec<Step>) {
    let mut pair = Pair::begin().await;
    // Another process, such as a command, that posts now and then, in the middle of everything.
    let (store, is_over) = (pair.books.hub.store.clone(), CancellationToken::new());
    let others = JoinSet::from_iter([is_over.clone().run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(7)).await;
            post(&store).await.unwrap();
        }
    })]);
    let count = steps.len();
    for step in steps {
        pair = pair.step(step).await;
    }
    is_over.cancel();
    others.join_all().await;
    pair.compare().await;
    let (before, most) = (DONE.fetch_add(count, Ordering::Relaxed), operations());
    if (before * 10 / most) != (before + count) * 10 / most {
        eprintln!("{} of {most} operations", before + count);
    }
}

static DONE: AtomicUsize = AtomicUsize::new(0);

/// How many operations in all.
fn operations() -> usize {
    let told = std::env::var_os("RELAY_LEDGER_OPERATIONS").and_then(|text| text.into_string().ok());
    told.and_then(|text| text.parse().ok()).unwrap_or(50_000)
}

fn cases() -> u32 {
    u32::try_from(operations() / OPERATIONS).unwrap_or(1).max(1)
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_model_does(
        mut steps in prop::collection::vec(step(), OPERATIONS / 2..OPERATIONS * 3 / 2),
        doom in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        if let Some(at) = doom {
            steps.insert(at.index(steps.len()), Step::Doom);
        }
        block_on(run(steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// All at once: the order is the writer's, the sums are not.
    #[test]
    fn money_is_conserved_whatever_runs_together(charges in prop::collection::vec((0..TENANTS, 0i64..300, 0i64..600), 1..200)) {
        block_on(async {
            let books = Books::open().await;
            let mut tenants = Vec::new();
            for _ in 0..TENANTS {
                tenants.push(books.tenant(5_000).await);
            }
            let calls = charges.into_iter().map(|(at, amount, charge)| {
                let (ledger, wish) = (books.ledger.clone(), wish(&tenants[at], amount));
                async move {
                    let Ok(hold) = ledger.reserve(wish.clone()).await else { return (at, 0) };
                    (at, hold.settle(Nanos::new(charge), row(&wish, Ending::Completed)).await.unwrap().get())
                }
            });
            let mut left = [5_000; TENANTS];
            for (at, charged) in join_all(calls).await {
                left[at] -= charged;
            }
            let hub = books.close().await;
            for (at, tenant) in tenants.iter().enumerate() {
                assert_eq!(tenants::find(&hub.store, tenant.as_str()).await.unwrap().balance.get(), left[at]);
            }
        });
    }
}

/// Of one case, about.
const OPERATIONS: usize = 5_000;
const TENANTS: usize = 3;
/// Whose account is gone in some cases.
const DOOMED: usize = 2;
