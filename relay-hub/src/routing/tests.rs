//! The real choice over a real directory, with a clock that the test moves.

mod conversations;
mod decisions;
mod homes;
mod models;
mod troubles;

use std::{
    collections::{BTreeSet, HashMap},
    time::SystemTime,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use http::{HeaderName, HeaderValue, StatusCode};
use relay_protocol::Code;
use relay_shared::tasks::Tasks;

use super::*;
use crate::{
    directory::{Directory, SECRET_FIELD},
    ids::TenantId,
    limit::ModelName,
    store::{
        accounts::{self, AccountRow},
        sharing::{Change, Users},
        tenants,
        testing::TestHub,
    },
};

const TENANTS: usize = 12;
const ACCOUNTS: usize = 20;
const CONVERSATIONS: u64 = 40;
const LIFETIME: Duration = Duration::from_secs(3_600);

/// A clock that the test moves.
#[derive(Default)]
struct Hand(Mutex<Duration>);

impl Hand {
    fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + *self.0.lock().unwrap()
    }
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.roll(all.len() as u64);
        &all[usize::try_from(at).unwrap()]
    }
}

struct Bench {
    hub: TestHub,
    directory: DirectoryHandle,
    routing: Routing,
    clock: Arc<Hand>,
    tasks: Tasks,
    accounts: Vec<AccountId>,
    tenants: Vec<TenantId>,
}

impl Bench {
    async fn new(accounts: usize, tenants: usize) -> Self {
        let hub = TestHub::bare().await;
        let mut ids = (Vec::new(), Vec::new());
        for at in 0..accounts {
            ids.0.push(add_account(&hub, &format!("account-{at}")).await);
        }
        for at in 0..tenants {
            ids.1
                .push(tenants::add(&hub.store, &format!("tenant-{at}"), 1).await.unwrap());
        }
        let (clock, tasks) = (Arc::new(Hand::default()), Tasks::new());
        let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
        let routing = start(&hub, &directory, &clock, &tasks).await;
        Self {
            hub,
            directory,
            routing,
            clock,
            tasks,
            accounts: ids.0,
            tenants: ids.1,
        }
    }

    /// The same after the hub has started again.
    async fn again(self) -> Self {
        self.tasks.shutdown(Duration::from_secs(5)).await;
        let tasks = Tasks::new();
        let directory = Directory::watch(&self.hub.store, self.hub.sealer.clone(), &tasks);
        let directory = directory.await.unwrap();
        let routing = start(&self.hub, &directory, &self.clock, &tasks).await;
        Self {
            directory,
            routing,
            tasks,
            ..self
        }
    }

    async fn share(&self, account: &AccountId, change: Change) {
        self.hub.share(account, &change).await;
        self.directory.refresh().await;
    }

    fn tenant(&self, at: usize) -> Arc<Tenant> {
        self.directory.load().tenants[&self.tenants[at]].clone()
    }

    /// A call of that conversation, if it is served at once.
    fn call(&self, tenant: &Arc<Tenant>, thread: Option<&str>) -> Option<Result<Taken, Refused>> {
        let headers = thread.map(thread_id).unwrap_or_default();
        let asked = Traces {
            tenant,
            wire: Wire::Responses,
            model: None,
            headers: &headers,
            session: None,
            previous: None,
            body: &[],
        };
        match self.routing.plain(&asked) {
            Some(taken) => Some(Ok(taken)),
            None => self.routing.chosen(&asked, true).now_or_never(),
        }
    }
}

async fn start(hub: &TestHub, directory: &DirectoryHandle, clock: &Arc<Hand>, tasks: &Tasks) -> Routing {
    let settings = Settings {
        pin_lifetime: LIFETIME,
        pins: 100_000,
        line: Bounds {
            calls: 8,
            calls_per_tenant: 4,
            wait: Duration::from_secs(60),
        },
    };
    let routing = Routing::start(directory.clone(), &hub.store, settings, clock.clone(), tasks);
    routing.await.unwrap()
}

async fn add_account(hub: &TestHub, name: &str) -> AccountId {
    let id = AccountId::random();
    let row = AccountRow {
        secret: hub.seal(id.as_str(), SECRET_FIELD, "sk-1"),
        ..AccountRow::for_tests(id.clone(), name)
    };
    accounts::add(&hub.store, &row).await.unwrap();
    id
}

const NEED: Need<'static> = Need {
    wire: Wire::Responses,
    model: None,
};

fn thread_id(text: &str) -> HeaderMap {
    let value = HeaderValue::from_str(text).unwrap();
    HeaderMap::from_iter([(HeaderName::from_static("thread-id"), value)])
}

fn served(taken: &Taken) {
    taken.answered(StatusCode::OK, &HeaderMap::new());
}

fn traces<'a>(tenant: &'a Arc<Tenant>, headers: &'a HeaderMap) -> Traces<'a> {
    Traces {
        tenant,
        wire: Wire::Responses,
        model: None,
        headers,
        session: None,
        previous: None,
        body: &[],
    }
}

fn random_users(dice: &mut Dice, tenants: &[TenantId]) -> Users {
    match dice.roll(4) {
        0 => Users::Exclusive(Some(dice.of(tenants).clone())),
        1 | 2 => Users::Named((0..4).map(|_| dice.of(tenants).clone()).collect()),
        _ => Users::All,
    }
}
