//! The real choice over a real directory, beside a model of a few lines: random calls, failures, changes of the operator,
//! and time that passes. `RELAY_ROUTING_DECISIONS` says how many.

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
        sharing::{self, Change, Users},
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

    async fn share(&self, account: &AccountId, change: Change) {
        sharing::set(&self.hub.store, account, &change).await.unwrap();
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
        secret: hub.sealer.seal(id.as_str(), SECRET_FIELD, "sk-1").unwrap(),
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

/// What the model knows of one conversation: where it was answered last, and when.
type Known = HashMap<(usize, u64), (AccountId, u64)>;

fn random_users(dice: &mut Dice, tenants: &[TenantId]) -> Users {
    match dice.roll(4) {
        0 => Users::Exclusive(Some(dice.of(tenants).clone())),
        1 | 2 => Users::Named((0..4).map(|_| dice.of(tenants).clone()).collect()),
        _ => Users::All,
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a test is told how long to look")]
async fn decisions_keep_their_promises_whatever_happens() {
    let wanted: usize = std::env::var("RELAY_ROUTING_DECISIONS").map_or(50_000, |text| text.parse().unwrap());
    let bench = Bench::new(ACCOUNTS, TENANTS).await;
    let mut dice = Dice(20_261_121);
    for tenant in bench.tenants.iter().take(TENANTS / 2) {
        tenants::set_repin(&bench.hub.store, tenant, "allow").await.unwrap();
    }
    let (mut known, mut running) = (Known::new(), Vec::<(Taken, usize, Option<u64>)>::new());
    let mut seen = BTreeSet::new();
    let (mut refused, mut waited, mut moved) = (0, 0, 0);
    for at in 0..wanted {
        if at % 2_000 == 0 {
            let change = Change {
                users: Some(random_users(&mut dice, &bench.tenants)),
                weight: Some(u8::try_from(1 + dice.roll(5)).unwrap()),
                concurrency: Some((dice.roll(2) == 0).then(|| 1 + u32::try_from(dice.roll(4)).unwrap())),
                rpm: Some((dice.roll(4) == 0).then_some(60)),
                models: None,
                revived_ms: None,
            };
            running.clear();
            bench.share(dice.of(&bench.accounts), change).await;
        }
        bench.clock.pass(Duration::from_millis(dice.roll(1_500)));
        let now = bench.routing.now();
        let tenant_at = usize::try_from(dice.roll(TENANTS as u64)).unwrap();
        let thread = (dice.roll(4) > 0).then(|| dice.roll(CONVERSATIONS));
        let tenant = bench.tenant(tenant_at);
        let fleet = bench.routing.fleet();
        // Where the model says that the conversation is, and whether that may serve it.
        let home = thread.and_then(|thread| known.get(&(tenant_at, thread)));
        let home = home.filter(|(_, used)| now - used < u64::try_from(LIFETIME.as_millis()).unwrap());
        let home = home.map(|(account, _)| account.clone());
        let is_lost = home.as_ref().map(|home| {
            let seat = fleet.seat(home).filter(|seat| seat.share.users.has(&tenant.id));
            let is_alone = fleet.pool(&tenant.id, NEED).is_one();
            seat.is_none_or(|seat| matches!(seat.light(now, is_alone), Light::Out(_)))
        });
        let mut taken = match bench.call(&tenant, thread.map(|thread| thread.to_string()).as_deref()) {
            None => {
                waited += 1;
                continue;
            }
            Some(Err(refused_as)) => {
                let code = refused_as.public.code;
                let is_right = match is_lost {
                    Some(true) if !tenant.may_repin => {
                        matches!(code, Code::ConversationGone | Code::AccountUnavailable)
                    }
                    Some(false) => matches!(code, Code::RateLimited | Code::Overloaded),
                    _ => matches!(code, Code::RateLimited | Code::Overloaded | Code::AccountUnavailable),
                };
                assert!(is_right, "{code:?} in decision {at}");
                refused += 1;
                continue;
            }
            Some(Ok(taken)) => taken,
        };
        let may_use = |taken: &Taken| taken.seat_of(&fleet).share.users.has(&tenant.id);
        assert!(may_use(&taken), "decision {at}: an account of somebody else");
        seen.insert(taken.choice.as_str());
        match (&home, is_lost) {
            (Some(home), Some(false)) => assert_eq!(taken.account.id, *home, "decision {at}: moved from a fit account"),
            (Some(_), Some(true)) => {
                assert!(tenant.may_repin, "decision {at}: moved where that is refused");
                assert_eq!(taken.choice, Choice::Repinned, "decision {at}");
                moved += 1;
            }
            _ => assert_ne!(taken.choice, Choice::Repinned, "decision {at}: nothing to move"),
        }
        // What becomes of it.
        let trouble = (dice.roll(6) == 0).then(|| *dice.of(&Trouble::ALL));
        if taken.choice == Choice::Repinned {
            // It belongs to nobody until another account has answered.
            thread.and_then(|thread| known.remove(&(tenant_at, thread)));
        }
        match trouble {
            Some(trouble) => {
                taken.met(trouble, (dice.roll(3) == 0).then_some(Duration::from_secs(20)));
                if trouble.may_move()
                    && let Some(failed) = taken.another()
                {
                    assert!(
                        may_use(&taken),
                        "decision {at}: failed over to an account of somebody else"
                    );
                    assert!(
                        home.is_none() || is_lost == Some(true),
                        "decision {at}: a conversation left its account"
                    );
                    assert_ne!(failed.account.id, taken.account.id);
                    seen.insert(taken.choice.as_str());
                    served(&taken);
                    keep(&mut known, (tenant_at, thread), &taken, now);
                }
            }
            None => {
                served(&taken);
                keep(&mut known, (tenant_at, thread), &taken, now);
            }
        }
        if home.is_some() && is_lost == Some(false) {
            // It was used, whatever came of it.
            let used = thread.and_then(|thread| known.get_mut(&(tenant_at, thread)));
            used.unwrap().1 = now;
        }
        running.push((taken, tenant_at, thread));
        while running.len() > 30 {
            let at = usize::try_from(dice.roll(running.len() as u64)).unwrap();
            running.swap_remove(at);
        }
        assert_ceilings(&fleet, &running, at);
    }
    let all: BTreeSet<_> = ["tenant", "ranked", "pinned", "repinned", "detour", "failover"].into();
    assert!(all.is_subset(&seen), "{seen:?}");
    assert!(
        refused > 0 && waited > 0 && moved > 0,
        "{refused} refused, {waited} waited, {moved} moved"
    );
    println!(
        "{wanted} decisions: {refused} refused, {waited} would wait, {moved} conversations moved where that is allowed"
    );
    drop(running);
    bench.tasks.shutdown(Duration::from_secs(5)).await;
}

fn keep(known: &mut Known, (tenant, thread): (usize, Option<u64>), taken: &Taken, now: u64) {
    if let Some(thread) = thread {
        known.insert((tenant, thread), (taken.account.id.clone(), now));
    }
}

fn assert_ceilings(fleet: &Fleet, running: &[(Taken, usize, Option<u64>)], at: usize) {
    let mut calls = HashMap::<&AccountId, u32>::new();
    for (taken, ..) in running {
        *calls.entry(&taken.account.id).or_default() += 1;
    }
    for seat in fleet.seats() {
        let most = seat.share.concurrency.unwrap_or(u32::MAX);
        let has = calls.get(&seat.account.id).copied().unwrap_or_default();
        assert!(
            has <= most,
            "decision {at}: {has} calls at an account that may have {most}"
        );
    }
}

#[tokio::test]
async fn a_conversation_outlives_the_hub_and_nothing_of_it_can_be_read() {
    let bench = Bench::new(5, 2).await;
    let tenant = bench.tenant(0);
    let mut homes = HashMap::new();
    for thread in 0..50 {
        let thread = format!("canary-{thread}");
        let taken = bench.call(&tenant, Some(&thread)).unwrap().unwrap();
        served(&taken);
        homes.insert(thread, taken.account.id.clone());
    }
    assert!(homes.values().collect::<BTreeSet<_>>().len() > 1, "they are spread");
    bench.tasks.shutdown(Duration::from_secs(5)).await;
    let written = routes::pins(&bench.hub.store, 0, 1_000).await.unwrap();
    assert_eq!(written.len(), 50);

    // Two more accounts: without the pins they would take their share.
    for name in ["late", "later"] {
        add_account(&bench.hub, name).await;
    }
    let tasks = Tasks::new();
    let directory = Directory::watch(&bench.hub.store, bench.hub.sealer.clone(), &tasks)
        .await
        .unwrap();
    let routing = start(&bench.hub, &directory, &bench.clock, &tasks).await;
    let after = Bench {
        directory,
        routing,
        tasks,
        ..bench
    };
    for (thread, home) in &homes {
        let taken = after.call(&tenant, Some(thread)).unwrap().unwrap();
        assert_eq!((&taken.account.id, taken.choice), (home, Choice::Pinned));
    }
    after.tasks.shutdown(Duration::from_secs(5)).await;
    let database = std::fs::read(after.hub.data.database()).unwrap();
    let log = std::fs::read(after.hub.data.database().with_extension("sqlite-wal")).unwrap_or_default();
    for bytes in [database, log] {
        assert!(
            memchr::memmem::find(&bytes, b"canary").is_none(),
            "a client's words are in the database"
        );
    }
}

#[tokio::test]
async fn a_refused_credential_outlives_the_hub_until_it_is_revived() {
    let bench = Bench::new(2, 1).await;
    let tenant = bench.tenant(0);
    for _ in 0..2 {
        let taken = bench.call(&tenant, None).unwrap().unwrap();
        taken.answered(StatusCode::UNAUTHORIZED, &HeaderMap::new());
    }
    assert!(bench.call(&tenant, None).unwrap().is_err(), "no storm");
    bench.tasks.shutdown(Duration::from_secs(5)).await;
    let tasks = Tasks::new();
    let directory = Directory::watch(&bench.hub.store, bench.hub.sealer.clone(), &tasks)
        .await
        .unwrap();
    let routing = start(&bench.hub, &directory, &bench.clock, &tasks).await;
    let after = Bench {
        directory,
        routing,
        tasks,
        ..bench
    };
    assert!(after.call(&tenant, None).unwrap().is_err());
    after.clock.pass(Duration::from_secs(90));
    let tried = (0..4).filter(|_| after.call(&tenant, None).unwrap().is_ok()).count();
    assert_eq!(tried, 2, "one call a minute tries each");
    let change = Change {
        revived_ms: Some(signed(after.routing.now())),
        ..Change::default()
    };
    after.share(&after.accounts[0].clone(), change).await;
    assert!((0..4).all(|_| after.call(&tenant, None).unwrap().is_ok()));
}

#[tokio::test]
async fn a_dead_account_is_tried_once_a_minute_even_where_it_is_the_only_one() {
    let bench = Bench::new(1, 1).await;
    let tenant = bench.tenant(0);
    for thread in [None, Some("thread"), None, Some("thread")] {
        let taken = bench.call(&tenant, thread).unwrap().unwrap();
        taken.answered(StatusCode::UNAUTHORIZED, &HeaderMap::new());
    }
    bench.clock.pass(Duration::from_secs(60));
    let mut tried = Vec::new();
    for second in 0..600 {
        for thread in [None, Some("thread")] {
            match bench.call(&tenant, thread).unwrap() {
                Ok(taken) => {
                    taken.answered(StatusCode::UNAUTHORIZED, &HeaderMap::new());
                    tried.push(second);
                }
                Err(refused) => {
                    assert_eq!(refused.public.code, Code::AccountUnavailable);
                    let wait = refused.public.retry_after.unwrap();
                    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(75));
                }
            }
        }
        bench.clock.pass(Duration::from_secs(1));
    }
    assert!((7..=10).contains(&tried.len()), "{tried:?}");
    assert!(tried.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{tried:?}");
    // The first answer brings it back.
    bench.clock.pass(Duration::from_secs(75));
    let taken = bench.call(&tenant, None).unwrap().unwrap();
    taken.answered(StatusCode::OK, &HeaderMap::new());
    assert!((0..4).all(|_| bench.call(&tenant, None).unwrap().is_ok()));
}

#[tokio::test]
async fn a_stored_response_is_asked_of_its_own_account_or_not_at_all() {
    let bench = Bench::new(4, 1).await;
    tenants::set_repin(&bench.hub.store, &bench.tenants[0], "allow")
        .await
        .unwrap();
    bench.directory.refresh().await;
    let tenant = bench.tenant(0);
    let none = HeaderMap::new();
    let first = bench.call(&tenant, Some("begins")).unwrap().unwrap();
    served(&first);
    first.trail().unwrap().ended(Some("resp_1"), None);
    let home = first.account.id.clone();
    let previous = |id| Traces {
        tenant: &tenant,
        wire: Wire::Responses,
        model: None,
        headers: &none,
        session: None,
        previous: Some(id),
    };
    let next = bench.routing.chosen(&previous("resp_1"), true).await.unwrap();
    assert_eq!((&next.account.id, next.choice), (&home, Choice::Bound));
    // Another tenant's word for it leads nowhere.
    bench
        .share(
            &home,
            Change {
                users: Some(Users::Exclusive(None)),
                ..Change::default()
            },
        )
        .await;
    let refused = bench.routing.chosen(&previous("resp_1"), true).await.err().unwrap();
    assert_eq!(refused.public.code, Code::ConversationGone);
    let elsewhere = bench.routing.chosen(&previous("resp_unknown"), true).await.unwrap();
    assert_ne!(elsewhere.account.id, home);
}

#[tokio::test]
async fn a_turn_s_state_goes_to_the_account_that_gave_it_and_to_no_other() {
    let bench = Bench::new(4, 2).await;
    let tenant = bench.tenant(0);
    let state = HeaderMap::from_iter([(names::TURN_STATE, HeaderValue::from_static("opaque"))]);
    let first = bench.call(&tenant, Some("thread")).unwrap().unwrap();
    first.answered(StatusCode::OK, &state);
    let mut asked = thread_id("thread");
    asked.extend(state.clone());
    let again = |tenant: Arc<Tenant>, asked: HeaderMap| {
        let routing = bench.routing.clone();
        async move {
            let asked = Traces {
                tenant: &tenant,
                wire: Wire::Responses,
                model: None,
                headers: &asked,
                session: None,
                previous: None,
            };
            let taken = routing.chosen(&asked, true).await.unwrap();
            let mut head = asked.headers.clone();
            taken.clean(&mut head);
            (taken.account.id.clone(), head.contains_key(&names::TURN_STATE))
        }
    };
    assert_eq!(
        again(tenant.clone(), asked.clone()).await,
        (first.account.id.clone(), true)
    );
    // Alone it leads to its account; of another tenant it means nothing, and is not sent.
    assert_eq!(again(tenant, state.clone()).await, (first.account.id.clone(), true));
    assert!(!again(bench.tenant(1), state).await.1);
}

#[tokio::test]
async fn a_busy_account_lets_the_next_call_wait_its_turn() {
    let bench = Bench::new(1, 2).await;
    let change = Change {
        concurrency: Some(Some(1)),
        ..Change::default()
    };
    bench.share(&bench.accounts[0].clone(), change).await;
    let (one, two) = (bench.tenant(0), bench.tenant(1));
    let first = bench.call(&one, None).unwrap().unwrap();
    let headers = HeaderMap::new();
    let asked = Traces {
        tenant: &two,
        wire: Wire::Responses,
        model: None,
        headers: &headers,
        session: None,
        previous: None,
    };
    let mut second = bench.routing.chosen(&asked, true);
    assert!((&mut second).now_or_never().is_none(), "it waits");
    drop(first);
    assert!(second.now_or_never().unwrap().is_ok());
    let change = Change {
        concurrency: Some(None),
        rpm: Some(Some(6_000)),
        ..Change::default()
    };
    bench.share(&bench.accounts[0].clone(), change).await;
    assert!((0..6_000).all(|_| bench.call(&one, None).unwrap().is_ok()));
    // The minute is used up: the next ones wait for it, and tenants take turns.
    let none = HeaderMap::new();
    let asked = [&one, &one, &one, &two].map(|tenant| traces(tenant, &none));
    let mut calls = asked.each_ref().map(|asked| bench.routing.chosen(asked, true));
    assert!(calls.iter_mut().all(|call| call.now_or_never().is_none()));
    let mut calls: FuturesUnordered<_> = calls
        .into_iter()
        .enumerate()
        .map(|(at, call)| call.map(move |_| at))
        .collect();
    let mut served = Vec::new();
    for _ in 0..4 {
        bench.clock.pass(Duration::from_millis(10));
        served.extend(calls.next().await);
    }
    assert_eq!(served, [0, 1, 3, 2]);
    // A line that is full is told for how long to wait.
    let mut line: Vec<_> = (0..6).map(|_| bench.routing.chosen(&asked[0], true)).collect();
    let refused = line.iter_mut().find_map(|call| call.now_or_never()).unwrap();
    let refused = refused.err().unwrap();
    assert_eq!(refused.public.code, Code::RateLimited);
    assert!(refused.public.retry_after.is_some());
}

fn traces<'a>(tenant: &'a Arc<Tenant>, headers: &'a HeaderMap) -> Traces<'a> {
    Traces {
        tenant,
        wire: Wire::Responses,
        model: None,
        headers,
        session: None,
        previous: None,
    }
}

fn models(names: &[&str]) -> Change {
    Change {
        models: Some(Some(names.iter().filter_map(|name| ModelName::parse(name)).collect())),
        ..Change::default()
    }
}

#[tokio::test]
async fn a_call_goes_to_an_account_that_serves_its_model_and_its_conversation_keeps_the_other_one() {
    let bench = Bench::new(2, 1).await;
    let tenant = bench.tenant(0);
    let [one, two] = [&bench.accounts[0], &bench.accounts[1]];
    bench.share(one, models(&["gpt-*"])).await;
    bench.share(two, models(&["deepseek-chat", "deepseek-r*"])).await;
    let headers = thread_id("thread");
    let asked = |model| Traces {
        tenant: &tenant,
        wire: Wire::Responses,
        model: Some(model),
        headers: &headers,
        session: None,
        previous: None,
    };
    let call = async |model| {
        let taken = bench.routing.chosen(&asked(model), true).await?;
        served(&taken);
        Ok::<_, Refused>((taken.account.id.clone(), taken.choice))
    };
    assert_eq!(call("gpt-6-sol").await.ok().unwrap(), (one.clone(), Choice::Only));
    // Asked for by the same conversation, as a client does for the names of its threads.
    assert_eq!(call("deepseek-r2").await.ok().unwrap(), (two.clone(), Choice::Only));
    assert_eq!(call("deepseek-r2").await.ok().unwrap(), (two.clone(), Choice::Pinned));
    assert_eq!(call("gpt-6-luna").await.ok().unwrap(), (one.clone(), Choice::Pinned));
    let refused = call("qwen-max").await.err().unwrap();
    assert_eq!(refused.public.code, Code::ModelNotFound);
    assert!(bench.routing.serves(&tenant.id, Wire::Chat, "deepseek-chat"));
    assert!(!bench.routing.serves(&tenant.id, Wire::Chat, "qwen-max"));
    // What one model finds is not what the next one does.
    assert!(bench.routing.serves(&tenant.id, Wire::Chat, "gpt-6-sol"));
    // Whatever its vendor has again: the one whose operator names the model goes before it.
    let any = Change {
        models: Some(None),
        ..Change::default()
    };
    bench.share(one, any).await;
    assert_eq!(call("qwen-max").await.ok().unwrap().0, *one);
    assert_eq!(call("deepseek-r2").await.ok().unwrap(), (two.clone(), Choice::Pinned));
}
