use relay_shared::tasks::Tasks;

use super::*;
use crate::{
    limit::Limit,
    store::{Store, keys, limits, tenants, testing::TestHub},
};

async fn identity(hub: &TestHub, tasks: &Tasks) -> Identity {
    Identity::new(Directory::watch(&hub.store, hub.sealer.clone(), tasks).await.unwrap())
}

fn key(text: &str) -> Credential {
    Proof::Key(Secret::new(text.to_owned())).into()
}

async fn code(identity: &Identity, credential: &Credential) -> Option<Code> {
    identity
        .authenticate(credential)
        .await
        .err()
        .map(|refused| refused.public.code)
}

#[tokio::test]
async fn a_key_works_as_soon_as_it_was_made_and_not_after_its_end() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let identity = identity(&hub, &tasks).await;
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let (id, text) = keys::add(&hub.store, &tenant, "ci", 1).await.unwrap();
    let caller = identity.authenticate(&key(text.expose())).await.unwrap();
    assert_eq!((caller.tenant_id(), &caller.by), (&tenant, &By::Key(id.clone())));

    tenants::suspend(&hub.store, &tenant, Some(2)).await.unwrap();
    identity.directory.refresh().await;
    assert_eq!(code(&identity, &key(text.expose())).await, Some(Code::TenantSuspended));
    tenants::suspend(&hub.store, &tenant, None).await.unwrap();
    keys::revoke(&hub.store, &tenant, &id, 3).await.unwrap();
    identity.directory.refresh().await;
    assert_eq!(code(&identity, &key(text.expose())).await, Some(Code::InvalidKey));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_the_answer_is_the_same() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let identity = identity(&hub, &tasks).await;
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let (_, text) = keys::add(&hub.store, &tenant, "ci", 1).await.unwrap();
    let good = text.expose();
    let swapped = format!("{}A", &good[..good.len() - 1]);
    let swapped = if swapped == *good {
        format!("{}B", &good[..good.len() - 1])
    } else {
        swapped
    };
    let mut public = Vec::new();
    let unknown = format!("rk_0000000000000000_{}", "A".repeat(43));
    for text in [
        "",
        "sk-123",
        "rk_",
        "rk_é",
        swapped.as_str(),
        &good[1..],
        &format!("{good}="),
        &unknown,
    ] {
        public.push(identity.authenticate(&key(text)).await.err().unwrap().public);
    }
    assert!(
        public
            .iter()
            .all(|refusal| *refusal == public[0] && refusal.code == Code::InvalidKey)
    );
}

#[tokio::test]
async fn a_device_is_known_by_its_own_tenant_only() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let identity = identity(&hub, &tasks).await;
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let other = tenants::add(&hub.store, "other", 1).await.unwrap();
    let device = add_device(&hub.store, &tenant).await;
    let shown = |tenant: &TenantId| {
        let (tenant, device) = (tenant.to_string(), device.to_string());
        Credential::from(Proof::Device(DeviceIdentity {
            tenant,
            device,
            serial: "1".into(),
        }))
    };
    assert_eq!(code(&identity, &shown(&tenant)).await, None);
    assert_eq!(code(&identity, &shown(&other)).await, Some(Code::InvalidKey));
    crate::store::devices::revoke(&hub.store, &tenant, &device, 2)
        .await
        .unwrap();
    identity.directory.refresh().await;
    assert_eq!(code(&identity, &shown(&tenant)).await, Some(Code::InvalidKey));
}

async fn add_device(store: &Store, tenant: &TenantId) -> DeviceId {
    use crate::store::devices::{NewDevice, add_token, redeem};
    let secret = add_token(store, tenant, 1).await.unwrap();
    let id = DeviceId::random();
    let device = NewDevice {
        id: &id,
        name: "laptop",
        key_hash: [1; 32],
        now_ms: 2,
        not_after_ms: 3,
    };
    redeem(store, secret.expose(), device).await.unwrap();
    id
}

#[tokio::test]
async fn who_has_expired_is_refused_and_so_is_a_caller_from_before() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let identity = identity(&hub, &tasks).await;
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let (id, text) = keys::add(&hub.store, &tenant, "ci", 1).await.unwrap();
    let caller = identity.authenticate(&key(text.expose())).await.unwrap();
    let again = |identity: &Identity| identity.again(&caller).err().map(|refused| refused.public.code);
    assert_eq!(again(&identity), None);
    let moments = [("2099-01-01", false), ("2001-01-01", true)];
    for (scope, refusal) in [
        (Scope::Key(id.clone()), Code::InvalidKey),
        (Scope::Tenant(tenant.clone()), Code::TenantSuspended),
    ] {
        for (moment, is_over) in moments {
            let set = [(Limit::Expires, moment.to_owned())];
            limits::change(&hub.store, &scope, &set, &[], 1).await.unwrap();
            identity.directory.refresh().await;
            let expected = is_over.then_some(refusal);
            assert_eq!(code(&identity, &key(text.expose())).await, expected, "{scope} {moment}");
            assert_eq!(again(&identity), expected, "{scope} {moment}");
        }
        limits::change(&hub.store, &scope, &[], &Limit::ALL, 1).await.unwrap();
        identity.directory.refresh().await;
    }
    keys::revoke(&hub.store, &tenant, &id, 2).await.unwrap();
    identity.directory.refresh().await;
    assert_eq!(again(&identity), Some(Code::InvalidKey));
}
