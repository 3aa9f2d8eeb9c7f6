//! The ledger against a model of a few lines, over any sequence of operations.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Credit(usize, i64),
    Reserve(usize, i64),
    /// Which of the open holds, and what it cost.
    Settle(prop::sample::Index, i64),
    Drop(prop::sample::Index),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![4 => 0i64..500, 1 => Just(i64::MAX)];
    prop_oneof![
        2 => (0..TENANTS, 1i64..1_000).prop_map(|(tenant, amount)| Step::Credit(tenant, amount)),
        6 => (0..TENANTS, amount).prop_map(|(tenant, amount)| Step::Reserve(tenant, amount)),
        5 => (any::<prop::sample::Index>(), 0i64..800).prop_map(|(which, charge)| Step::Settle(which, charge)),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        1 => Just(Step::Restart),
    ]
}

#[derive(Default, Clone)]
struct Model {
    posted: [i64; TENANTS],
    held: [i64; TENANTS],
    loss: i64,
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

async fn run(steps: Vec<Step>) {
    let mut books = Books::open().await;
    let mut tenants = Vec::new();
    for _ in 0..TENANTS {
        tenants.push(books.tenant(0).await);
    }
    let mut model = Model::default();
    let mut open: Vec<(usize, Reserve, Hold)> = Vec::new();
    for step in steps {
        match step {
            Step::Credit(at, amount) => {
                let reference = crate::ids::random_name();
                credit(&books.hub.store, &tenants[at], Nanos::new(amount), &reference, "", 1)
                    .await
                    .unwrap();
                model.posted[at] += amount;
            }
            Step::Reserve(at, amount) => {
                let wish = wish(&tenants[at], amount);
                let got = books.ledger.reserve(wish.clone()).await;
                if amount <= model.available(at) {
                    open.push((at, wish, got.unwrap()));
                    model.held[at] += amount;
                } else {
                    let available = Nanos::new(model.available(at));
                    assert_eq!(got.err(), Some(HoldError::Insufficient { available }));
                }
            }
            Step::Settle(which, charge) if !open.is_empty() => {
                let (at, wish, hold) = open.swap_remove(which.index(open.len()));
                let charged = hold.settle(Nanos::new(charge), row(&wish, Ending::Completed)).await;
                assert_eq!(charged, Ok(Nanos::new(model.settle(at, wish.amount.get(), charge))));
            }
            Step::Drop(which) if !open.is_empty() => {
                let (at, wish, hold) = open.swap_remove(which.index(open.len()));
                drop(hold);
                model.settle(at, wish.amount.get(), 0);
            }
            Step::Settle(..) | Step::Drop(_) => {}
            Step::Restart => {
                for (at, wish, hold) in open.drain(..) {
                    drop(hold);
                    model.settle(at, wish.amount.get(), 0);
                }
                books = Books::over(books.close().await).await;
            }
        }
    }
    drop(open);
    let hub = books.close().await;
    for (at, tenant) in tenants.iter().enumerate() {
        assert_eq!(
            tenants::find(&hub.store, tenant.as_str()).await.unwrap().balance.get(),
            model.posted[at]
        );
    }
    let lost = sqlx::query("SELECT posted FROM account WHERE id = 'operator_loss'").fetch_one(hub.store.readers());
    assert_eq!(lost.await.unwrap().get::<i64, _>(0), -model.loss);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }

    /// All at once: the order is the writer's, the sums are not.
    #[test]
    fn money_is_conserved_whatever_runs_together(charges in prop::collection::vec((0..TENANTS, 0i64..300, 0i64..600), 1..200)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
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

const TENANTS: usize = 3;
