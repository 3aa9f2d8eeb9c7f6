use relay_shared::tasks::Tasks;

use super::*;
use crate::store::{accounts, keys, tenants, testing::TestHub};

#[tokio::test]
async fn what_was_added_is_there_after_one_look() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
    assert!(directory.load().tenants.is_empty());
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let (key, _) = keys::add(&hub.store, &tenant, "ci", 1).await.unwrap();
    let seen = directory.refresh().await;
    assert_eq!(seen.tenants[&tenant].name, "acme");
    assert!(!seen.keys[&key].is_revoked);
    keys::revoke(&hub.store, &tenant, &key, 2).await.unwrap();
    assert!(directory.refresh().await.keys[&key].is_revoked);
}

#[tokio::test]
async fn a_change_is_seen_without_being_asked_for() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
    let mut changed = directory.subscribe();
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    changed.changed().await.unwrap();
    assert!(directory.load().tenants.contains_key(&tenant));
    assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn an_account_that_does_not_open_leaves_the_others_usable() {
    let hub = TestHub::new().await;
    let id = AccountId::random();
    let mut row = AccountRow {
        secret: hub.seal(id.as_str(), SECRET_FIELD, "sk-1"),
        ..AccountRow::for_tests(id, "good")
    };
    accounts::add(&hub.store, &row).await.unwrap();
    row.id = AccountId::random();
    row.name = "sealed for another".into();
    accounts::add(&hub.store, &row).await.unwrap();
    let seen = load(
        &hub.store,
        &hub.sealer,
        &CancellationToken::new(),
        &Directory::default(),
    )
    .await
    .unwrap();
    let names: Vec<_> = seen.accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    assert!(matches!(&seen.accounts[0].credential, Credential::ApiKey(key) if key.expose() == "sk-1"));
}

#[tokio::test]
async fn a_suspended_tenants_calls_are_told_to_end_and_those_of_others_are_not() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let (acme, other) = (
        tenants::add(&hub.store, "acme", 1).await.unwrap(),
        tenants::add(&hub.store, "other", 1).await.unwrap(),
    );
    let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
    let running = directory.load().tenants[&acme].clone();
    tenants::suspend(&hub.store, &acme, Some(2)).await.unwrap();
    assert_eq!(running.stop.asked().await, Stopped::Suspended);
    tenants::suspend(&hub.store, &acme, None).await.unwrap();
    let seen = directory.refresh().await;
    assert!(
        !seen.tenants[&acme].stop.of_tenant.is_cancelled(),
        "a resumed tenant calls again"
    );
    let (of_acme, of_other) = (seen.tenants[&acme].stop.clone(), seen.tenants[&other].stop.clone());
    assert!(!of_other.of_tenant.is_cancelled());
    tenants::add(&hub.store, "third", 3).await.unwrap();
    directory.refresh().await;
    directory.stop().cancel();
    assert_eq!(of_acme.asked().await, Stopped::Draining);
    assert_eq!(of_other.asked().await, Stopped::Draining);
}

#[tokio::test]
async fn an_account_is_opened_again_only_when_it_has_changed() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    for name in ["first", "second"] {
        let id = AccountId::random();
        let row = AccountRow {
            secret: hub.seal(id.as_str(), SECRET_FIELD, "sk-1"),
            ..AccountRow::for_tests(id, name)
        };
        accounts::add(&hub.store, &row).await.unwrap();
    }
    let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
    let before = directory.load();
    tenants::add(&hub.store, "acme", 1).await.unwrap();
    accounts::set_settings(&hub.store, &before.accounts[1].id, r#"{"prefers":6}"#)
        .await
        .unwrap();
    let now = directory.refresh().await;
    assert!(Arc::ptr_eq(&before.accounts[0], &now.accounts[0]));
    assert_eq!(
        (before.accounts[1].prefers, now.accounts[1].prefers),
        (None, Some(Family::V6))
    );
    // Out of use and back, it is opened anew.
    let id = &now.accounts[0].id;
    accounts::disable(&hub.store, id, Some(1), Some(2)).await.unwrap();
    let without = directory.refresh().await;
    let back = without.returns_ms;
    accounts::enable_due(&hub.store, 2).await.unwrap();
    let seen = directory.refresh().await;
    assert_eq!(
        (without.accounts.len(), seen.accounts.len(), seen.returns_ms),
        (1, 2, None)
    );
    assert_eq!(back, Some(2));
}
