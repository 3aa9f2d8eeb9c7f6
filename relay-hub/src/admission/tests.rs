use std::net::Ipv4Addr;

use futures_util::future::join_all;
use relay_shared::tasks::Tasks;

use super::*;
use crate::{
    catalogue::Catalogue,
    directory::Directory,
    identity::By,
    ledger,
    limit::Limit,
    price_list,
    store::{keys, millis, plans, prices, tenants, testing::TestHub},
};

struct World {
    hub: TestHub,
    _tasks: Tasks,
    admission: Admission,
    directory: DirectoryHandle,
    catalogue: Catalogue,
    caller: Caller,
}

const HEAD: Head = Head {
    endpoint: Endpoint::Responses,
    address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    length: Some(100),
};

const fn defaults(calls: usize) -> Defaults {
    Defaults {
        calls_per_tenant: 1_000,
        body_bytes: 1 << 20,
        output: Tokens::new(1_000),
        line: Bounds {
            calls,
            calls_per_tenant: calls,
            wait: Duration::ZERO,
        },
    }
}

impl World {
    /// A tenant with 100 units and a key; a model `m` that costs 1 a token in and out.
    async fn new() -> Self {
        let hub = TestHub::bare().await;
        let tasks = Tasks::new();
        let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
        let (key, _) = keys::add(&hub.store, &tenant, "ci", 1).await.unwrap();
        let credit = "100000000".parse().unwrap();
        ledger::credit(&hub.store, &tenant, credit, "r", "", 1).await.unwrap();
        let list = "[[model]]\nname='m'\ninput='1000000'\ncached='0'\noutput='1000000'\ncontext=1000\nmax_output=1000";
        prices::import(&hub.store, &price_list::read("p", list).unwrap(), 1)
            .await
            .unwrap();
        let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
        let ledger = Ledger::start(&hub.store, &tasks).await.unwrap();
        let aliases = [("alias".to_owned(), "m".to_owned())].into();
        let caller = Caller {
            tenant: directory.load().tenants[&tenant].clone(),
            by: By::Key(key),
            project: None,
            granted: None,
        };
        let admission = Admission::start(ledger, directory.clone(), &hub.store, defaults(0))
            .await
            .unwrap();
        Self {
            hub,
            _tasks: tasks,
            admission,
            catalogue: Catalogue::new(directory.clone(), aliases),
            directory,
            caller,
        }
    }

    fn tenant(&self) -> Scope {
        Scope::Tenant(self.caller.tenant_id().clone())
    }

    async fn limit(&self, scope: Scope, limit: Limit, value: &str) {
        limits::change(&self.hub.store, &scope, &[(limit, value.to_owned())], &[], 1)
            .await
            .unwrap();
        self.directory.refresh().await;
    }

    async fn call(&self, model: &str, more: &str) -> Result<Permit, Refused> {
        let body = format!(r#"{{"model":"{model}","input":"x"{more}}}"#);
        let envelope = Envelope::read(Endpoint::Responses, body.as_bytes()).unwrap();
        let ticket = self.admission.enter(&self.caller, &HEAD).await?.ticket().await?;
        let model = self.catalogue.model(&self.caller, model).await?;
        self.admission
            .hold(
                ticket,
                CallId::random(),
                &self.caller,
                &model,
                &envelope,
                &self.catalogue,
            )
            .await
    }

    async fn refusal(&self, model: &str, more: &str) -> Refusal {
        self.call(model, more).await.err().expect("the call is refused").public
    }
}

#[tokio::test]
async fn without_limits_all_calls_pass() {
    let world = World::new().await;
    for _ in 0..50 {
        world.call("m", "").await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_another_model_serves_is_charged_its_tokens_once() {
    let mut world = World::new().await;
    let list = "[[model]]\nname='small'\ninput='0'\ncached='0'\noutput='0'\ncontext=1000\nmax_output=1000";
    let list = price_list::read("p", list).unwrap();
    prices::import(&world.hub.store, &list, 1).await.unwrap();
    let plan = plans::Plan {
        name: "kind".to_owned(),
        monthly: Nanos::ZERO,
        daily: Nanos::ZERO,
        free: Nanos::new(1),
        downgrade: Some("small".to_owned()),
        created_ms: 1,
    };
    plans::add(&world.hub.store, &plan).await.unwrap();
    let tenant = tenants::add(&world.hub.store, "poor", 1).await.unwrap();
    plans::assign(&world.hub.store, &tenant, Some("kind"), 1).await.unwrap();
    world.caller.tenant = world.directory.refresh().await.tenants[&tenant].clone();
    world.limit(world.tenant(), Limit::TokensPerMinute, "1000").await;
    let body = "x".repeat(1_200);
    for _ in 0..2 {
        let permit = world.call("m", &format!(r#","more":"{body}""#)).await.unwrap();
        let instead = permit.instead.unwrap();
        assert_eq!((instead.name.as_str(), instead.upstream.as_str()), ("m", "small"));
    }
    let refusal = world.refusal("m", &format!(r#","more":"{body}{body}""#)).await;
    assert_eq!(refusal.code, Code::RateLimited, "{}", refusal.message);
}

#[tokio::test]
async fn never_more_run_at_once_than_may() {
    let world = World::new().await;
    world.limit(Scope::Global, Limit::ConcurrentCalls, "7").await;
    let calls = join_all((0..500).map(|_| world.call("m", r#","max_output_tokens":1"#))).await;
    let (passed, refused): (Vec<_>, Vec<_>) = calls.into_iter().partition(Result::is_ok);
    assert_eq!((passed.len(), refused.len()), (7, 493));
    for refused in refused {
        let refusal = refused.err().unwrap().public;
        assert_eq!(refusal.code, Code::Overloaded, "the relay's own capacity");
        assert!(refusal.retry_after.is_some());
    }
    drop(passed);
    assert!(world.call("m", "").await.is_ok(), "what ended makes room");
}

#[tokio::test]
async fn each_scope_has_a_rate_and_the_refusal_tells_it() {
    let world = World::new().await;
    world.limit(world.tenant(), Limit::RequestsPerMinute, "2").await;
    world
        .limit(Scope::Endpoint(Endpoint::Compact), Limit::RequestsPerMinute, "1")
        .await;
    assert!(world.call("m", "").await.is_ok() && world.call("m", "").await.is_ok());
    let refusal = world.refusal("m", "").await;
    assert_eq!(refusal.code, Code::RateLimited);
    let rate = refusal.rate.unwrap();
    assert_eq!((rate.limit, rate.remaining), (2, 0));
    assert!(refusal.retry_after.is_some_and(|wait| wait <= Duration::from_secs(30)));
}

#[tokio::test]
async fn tokens_are_charged_by_size_and_then_by_use_and_never_given_back() {
    let world = World::new().await;
    world.limit(world.tenant(), Limit::TokensPerMinute, "1000").await;
    let permit = world.call("m", "").await.unwrap();
    permit.tally.settle(Nanos::ZERO, Tokens::new(1));
    let permit = world.call("m", "").await.unwrap();
    permit.tally.settle(Nanos::ZERO, Tokens::new(3_000));
    let refusal = world.refusal("m", "").await;
    let rate = refusal.rate.unwrap();
    assert_eq!(
        (refusal.code, rate.unit),
        (Code::RateLimited, relay_protocol::RateUnit::Tokens)
    );
    let wait = refusal.retry_after.unwrap();
    assert!(
        (115..=125).contains(&wait.as_secs()),
        "3000 of 1000 a minute are two minutes too many: {wait:?}"
    );
    let warm_up = r#","generate":false"#;
    let frame = format!(r#"{{"type":"response.create","model":"m","input":"x"{warm_up}}}"#);
    let relay_protocol::Frame::Create(envelope) = relay_protocol::Frame::read(frame.as_bytes()).unwrap() else {
        panic!("a call");
    };
    let ticket = world
        .admission
        .enter(&world.caller, &HEAD)
        .await
        .unwrap()
        .ticket()
        .await
        .unwrap();
    let model = world.catalogue.model(&world.caller, "m").await.unwrap();
    let warm = world.admission.hold(
        ticket,
        CallId::random(),
        &world.caller,
        &model,
        &envelope,
        &world.catalogue,
    );
    assert!(warm.await.is_ok(), "a warm-up uses no tokens");
}

#[tokio::test]
async fn a_budget_counts_what_runs_and_what_was_charged() {
    let world = World::new().await;
    // A call of so many bytes may cost some 20 for its input, and 10 for its output.
    world
        .limit(
            Scope::TenantModel(world.caller.tenant_id().clone(), "m".into()),
            Limit::DailySpend,
            "70",
        )
        .await;
    let ten = r#","max_output_tokens":10"#;
    let first = world.call("m", ten).await.unwrap();
    let second = world.call("alias", ten).await.unwrap();
    let refusal = world.refusal("m", ten).await;
    assert_eq!(refusal.code, Code::RateLimited, "the running calls may cost less");
    assert!(refusal.retry_after.is_some() && refusal.resets_at.is_none());
    drop(second.tally);
    first.tally.settle("65".parse().unwrap(), Tokens::new(1));
    let refusal = world.refusal("alias", ten).await;
    assert_eq!(refusal.code, Code::UsageLimit, "an alias does not get around it");
    let in_ms = refusal.resets_at.unwrap() * 1_000 - u64::try_from(millis(SystemClock.wall())).unwrap();
    assert!(in_ms <= 86_400_000 && refusal.retry_after.is_none());
}

#[tokio::test]
async fn what_the_books_hold_counts_after_a_new_start() {
    let mut world = World::new().await;
    let project = Project::parse("web").unwrap();
    let of_project = Scope::Project(world.caller.tenant_id().clone(), project.clone());
    world.caller.project = Some(project);
    let mut tx = world.hub.store.write().await.unwrap();
    sqlx::query(
        "INSERT INTO usage (at_ms, call, tenant, caller, endpoint, model, upstream_model, cost, charged, price_version, \
         status, ending, started_ms, link, streamed, detail) VALUES ($1, x'00', $2, $3, '/v1/responses', 'alias', 'm', 0, \
         $4, 1, 200, 'completed', 0, '', 0, '{\"project\":\"web\"}')",
    )
    .bind(millis(SystemClock.wall()))
    .bind(world.caller.tenant_id().as_str())
    .bind(world.caller.by.as_str())
    .bind("50".parse::<Nanos>().unwrap().get())
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    // A part is counted from the start on where it is limited by then.
    world.limit(of_project.clone(), Limit::MonthlySpend, "60").await;
    let rules = &world.directory.load().rules;
    recall(&world.admission.spend, &world.hub.store, rules).await.unwrap();
    assert_eq!(world.refusal("alias", "").await.code, Code::UsageLimit, "{of_project}");
    limits::change(&world.hub.store, &of_project, &[], &Limit::ALL, 1)
        .await
        .unwrap();
    world.directory.refresh().await;
    let By::Key(key) = world.caller.by.clone() else {
        panic!("a key")
    };
    let of_model = Scope::TenantModel(world.caller.tenant_id().clone(), "m".into());
    for scope in [
        Scope::Global,
        world.tenant(),
        Scope::Key(key),
        Scope::Endpoint(HEAD.endpoint),
        Scope::Model("m".into()),
        of_model,
    ] {
        world.limit(scope.clone(), Limit::MonthlySpend, "60").await;
        assert_eq!(world.refusal("alias", "").await.code, Code::UsageLimit, "{scope}");
        limits::change(&world.hub.store, &scope, &[], &Limit::ALL, 1)
            .await
            .unwrap();
        world.directory.refresh().await;
    }
    world.limit(world.tenant(), Limit::MonthlySpend, "10000").await;
    assert!(world.call("alias", "").await.is_ok());
}

#[tokio::test]
async fn parts_that_nobody_limits_are_not_counted_however_many_there_are() {
    let mut world = World::new().await;
    for number in 0..50 {
        world.caller.project = Project::parse(&format!("p-{number}"));
        world.call("m", "").await.unwrap();
    }
    let counted = world.admission.spend.scopes();
    assert!(!counted.iter().any(Scope::is_of_part), "{counted:?}");
    let limited = Scope::Project(world.caller.tenant_id().clone(), Project::parse("p-1").unwrap());
    world.limit(limited, Limit::RequestsPerMinute, "1").await;
    world.caller.project = Project::parse("p-1");
    world.call("m", "").await.unwrap();
    assert_eq!(world.refusal("m", "").await.code, Code::RateLimited);
    world.caller.project = Project::parse("p-2");
    world.call("m", "").await.unwrap();
}

#[tokio::test]
async fn output_above_the_limit_is_refused_and_unnamed_output_is_held_within_it() {
    let world = World::new().await;
    let free = world.call("m", "").await.unwrap().hold.amount();
    world.limit(world.tenant(), Limit::MaxOutput, "100").await;
    let refusal = world.refusal("m", r#","max_output_tokens":101"#).await;
    assert_eq!(
        (refusal.code, refusal.param.as_deref()),
        (Code::InvalidRequest, Some("max_output_tokens"))
    );
    assert!(refusal.message.contains("`max_output_tokens`") && refusal.message.contains("100"));
    let bounded = world.call("m", "").await.unwrap().hold.amount();
    let less = free.checked_sub(bounded).unwrap();
    assert_eq!(less, "900".parse().unwrap(), "the default of 1000, bounded to 100");
    assert!(world.call("m", r#","max_output_tokens":100"#).await.is_ok());
}

#[tokio::test]
async fn models_addresses_and_sizes_are_refused_with_their_own_codes() {
    let world = World::new().await;
    world.limit(Scope::Model("m".into()), Limit::BodyBytes, "20").await;
    assert_eq!(world.refusal("alias", "").await.code, Code::BodyTooLarge);
    world.limit(world.tenant(), Limit::BlockedModels, "m").await;
    let refusal = world.refusal("alias", "").await;
    assert_eq!(refusal.code, Code::ModelNotFound);
    world.limit(world.tenant(), Limit::BodyBytes, "99").await;
    assert_eq!(world.refusal("m", "").await.code, Code::BodyTooLarge);
    world.limit(Scope::Global, Limit::AllowedAddresses, "10.0.0.0/8").await;
    assert_eq!(world.refusal("m", "").await.code, Code::AddressNotAllowed);
    let refused = world.admission.open(&world.caller, &HEAD).await.err().unwrap();
    assert_eq!(refused.public.code, Code::AddressNotAllowed, "nor does a socket open");
    world.admission.drain();
    assert_eq!(world.refusal("m", "").await.code, Code::Draining);
}

#[tokio::test]
async fn a_model_has_slots_of_its_own() {
    let world = World::new().await;
    world.limit(Scope::Model("m".into()), Limit::ConcurrentCalls, "2").await;
    let one = world.call("m", "").await.unwrap();
    let _two = world.call("alias", "").await.unwrap();
    let refusal = world.refusal("m", "").await;
    assert_eq!(refusal.code, Code::RateLimited);
    drop(one);
    assert!(world.call("m", "").await.is_ok());
}
