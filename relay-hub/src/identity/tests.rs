use relay_shared::tasks::Tasks;

use super::*;
use crate::{
    app_token::{Claims, Signer},
    ids::TokenKeyId,
    limit::Limit,
    store::{
        Store, keys, limits, tenants,
        testing::TestHub,
        token_keys::{self, TokenKeyRow},
    },
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

/// A key that signs a tenant's tokens.
async fn signer(hub: &TestHub, tenant: &TenantId) -> (TokenKeyId, Signer) {
    let (id, signer) = (TokenKeyId::random(), Signer::fresh());
    let key = TokenKeyRow {
        id: id.clone(),
        tenant: tenant.clone(),
        public: signer.public(),
        secret: vec![1],
        created_ms: 1,
        revoked_ms: None,
    };
    token_keys::add(&hub.store, &key).await.unwrap();
    (id, signer)
}

fn claims(tenant: &TenantId) -> Claims {
    let now = millis(SystemClock.wall()) / 1_000;
    Claims {
        jti: TokenId::random().to_string(),
        tenant: tenant.to_string(),
        project: Some("web".to_owned()),
        plan: Some("free".to_owned()),
        models: Some(vec!["gpt-5*".to_owned()]),
        iat: now,
        exp: now + 60,
    }
}

#[tokio::test]
async fn a_token_is_known_by_its_key_alone_as_soon_as_that_was_made() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let identity = identity(&hub, &tasks).await;
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let (id, signer) = signer(&hub, &tenant).await;
    let said = claims(&tenant);
    let caller = identity.authenticate(&key(&signer.sign(&id, &said))).await.unwrap();
    assert_eq!((caller.tenant_id(), caller.by.as_str()), (&tenant, said.jti.as_str()));
    assert_eq!(caller.project.as_ref().map(Project::as_str), Some("web"));
    let granted = caller.granted.as_ref().unwrap();
    assert_eq!(granted.plan.as_ref().unwrap().as_str(), "free");
    assert!(granted.rule.allows_model("gpt-5.5", "gpt-5.5") && !granted.rule.allows_model("o3", "o3"));
    assert!(identity.again(&caller).is_ok());

    let (_, other) = self::signer(&hub, &tenant).await;
    identity.directory.refresh().await;
    assert_eq!(
        code(&identity, &key(&other.sign(&id, &said))).await,
        Some(Code::InvalidKey)
    );
    token_keys::revoke(&hub.store, &tenant, &id, 2).await.unwrap();
    identity.directory.refresh().await;
    assert_eq!(
        code(&identity, &key(&signer.sign(&id, &said))).await,
        Some(Code::InvalidKey)
    );
    assert!(
        identity.again(&caller).is_err(),
        "nor does a socket that it opened go on"
    );
    tenants::suspend(&hub.store, &tenant, Some(2)).await.unwrap();
}

#[tokio::test]
async fn a_token_of_another_time_tenant_or_project_is_refused_and_told_why() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let identity = identity(&hub, &tasks).await;
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let other = tenants::add(&hub.store, "other", 1).await.unwrap();
    let (id, signer) = signer(&hub, &tenant).await;
    let said = claims(&tenant);
    let of = |change: fn(&mut Claims)| {
        let mut said = said.clone();
        change(&mut said);
        signer.sign(&id, &said)
    };
    let asked = |token: String, project: Option<&str>| Credential {
        proof: Proof::Key(Secret::new(token)),
        project: project.and_then(Project::parse),
    };
    let of_other = Claims {
        tenant: other.to_string(),
        ..said.clone()
    };
    let strange = TokenKeyId::random();
    for (credential, words) in [
        (asked(of(|said| said.exp = said.iat - 1), None), "has expired"),
        (asked(of(|said| said.iat += 120), None), "not valid yet"),
        (asked(signer.sign(&id, &of_other), None), "not valid here"),
        (asked(signer.sign(&strange, &said), None), "not valid here"),
        (asked(of(|said| said.jti = "tok_".to_owned()), None), "not valid here"),
        (
            asked(of(|said| said.project = Some("A b".to_owned())), None),
            "not valid here",
        ),
        (asked(of(|said| said.models = Some(vec![])), None), "not valid here"),
        (
            asked(of(|said| said.models = Some(vec!["a b".to_owned()])), None),
            "not valid here",
        ),
        (asked(of(|_| ()), Some("shop")), "another project"),
    ] {
        let refusal = identity.authenticate(&credential).await.err().unwrap().public;
        assert_eq!(refusal.code, Code::InvalidKey, "{words}");
        assert!(
            refusal.message.contains(words) && refusal.hint.is_some(),
            "{words}: {}",
            refusal.message
        );
    }
    assert!(identity.authenticate(&asked(of(|_| ()), Some("web"))).await.is_ok());
    let free = identity
        .authenticate(&asked(of(|said| said.project = None), Some("shop")))
        .await;
    assert_eq!(free.ok().unwrap().project.unwrap().as_str(), "shop");
}
