use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use rcgen::{CertificateParams, KeyPair};
use relay_shared::tls::{self, DeviceIdentity};
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::{
    ids::TenantId,
    store::{tenants, testing::TestHub},
};

/// A wall clock that a test moves.
struct Moved(Mutex<SystemTime>);

impl Moved {
    fn forward(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Moved {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

struct Desk {
    hub: TestHub,
    clock: Arc<Moved>,
    enrolment: Enrolment,
    tenant: TenantId,
}

impl Desk {
    async fn open() -> Self {
        let hub = TestHub::new().await;
        let clock = Arc::new(Moved(Mutex::new(SystemTime::now())));
        let authority = Authority::open(&hub.data).unwrap();
        let enrolment = Enrolment::new(hub.store.clone(), authority, "hub.example:8443".into(), clock.clone());
        let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
        Self {
            hub,
            clock,
            enrolment,
            tenant,
        }
    }

    async fn token(&self) -> String {
        devices::add_token(&self.hub.store, &self.tenant, millis(self.clock.wall()))
            .await
            .unwrap()
            .expose()
            .clone()
    }

    async fn enrol(&self, secret: &str, key: &KeyPair) -> Result<EnrolReply, EnrolError> {
        let request = EnrolRequest {
            secret: secret.to_owned(),
            csr: csr(key),
            name: "laptop".into(),
        };
        self.enrolment.enrol(request).await
    }

    async fn renew(&self, device: &str, key: &KeyPair) -> Result<EnrolReply, EnrolError> {
        self.enrolment
            .renew(RenewRequest {
                device: device.to_owned(),
                csr: csr(key),
            })
            .await
    }
}

fn csr(key: &KeyPair) -> String {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .pem()
        .unwrap()
}

fn code(result: Result<EnrolReply, EnrolError>) -> String {
    let error = result.err().unwrap();
    assert!(!error.message.is_empty() && !error.hint.is_empty());
    error.code
}

#[tokio::test]
async fn a_token_makes_one_device_with_a_certificate_of_a_day() {
    let desk = Desk::open().await;
    let (secret, key) = (desk.token().await, KeyPair::generate().unwrap());
    let reply = desk.enrol(&secret, &key).await.unwrap();
    let der = tls::certificates(reply.certificate.as_bytes()).unwrap().remove(0);
    let identity = DeviceIdentity::read(&der).unwrap();
    assert_eq!(
        (identity.tenant.as_str(), identity.device),
        (desk.tenant.as_str(), reply.device.clone())
    );
    assert_eq!(
        (reply.hub.as_str(), reply.tenant.as_str()),
        ("hub.example:8443", desk.tenant.as_str())
    );
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    assert_eq!(
        u64::try_from(parsed.validity().not_after.timestamp()).unwrap(),
        reply.not_after
    );
    assert_eq!(code(desk.enrol(&secret, &key).await), "token_used");
    let listed = devices::list(&desk.hub.store, Some(&desk.tenant)).await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "laptop"));
}

#[tokio::test]
async fn of_many_who_show_the_same_token_one_is_enrolled() {
    let desk = Desk::open().await;
    let (secret, key) = (desk.token().await, KeyPair::generate().unwrap());
    let all = futures_util::future::join_all((0..20).map(|_| desk.enrol(&secret, &key))).await;
    assert_eq!(all.iter().filter(|reply| reply.is_ok()).count(), 1);
    assert_eq!(devices::list(&desk.hub.store, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_that_is_old_unknown_or_of_a_suspended_tenant_makes_nothing() {
    let desk = Desk::open().await;
    let key = KeyPair::generate().unwrap();
    assert_eq!(code(desk.enrol("guessed", &key).await), "unknown_token");
    let secret = desk.token().await;
    tenants::suspend(&desk.hub.store, &desk.tenant, Some(1)).await.unwrap();
    assert_eq!(code(desk.enrol(&secret, &key).await), "tenant_suspended");
    tenants::suspend(&desk.hub.store, &desk.tenant, None).await.unwrap();
    desk.clock.forward(Duration::from_secs(10 * 60));
    assert_eq!(code(desk.enrol(&secret, &key).await), "token_expired");
    assert!(devices::list(&desk.hub.store, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bad_request_does_not_use_the_token_up() {
    let desk = Desk::open().await;
    let (secret, key) = (desk.token().await, KeyPair::generate().unwrap());
    let ask = |csr: &str, name: &str| EnrolRequest {
        secret: secret.clone(),
        csr: csr.into(),
        name: name.into(),
    };
    for (csr, name, expected) in [
        ("nonsense", "laptop", "bad_csr"),
        (&*"A".repeat(100_000), "laptop", "bad_csr"),
        (&*csr(&key), "\n", "bad_request"),
    ] {
        assert_eq!(code(desk.enrolment.enrol(ask(csr, name)).await), expected);
    }
    assert!(desk.enrol(&secret, &key).await.is_ok());
}

#[tokio::test]
async fn a_device_renews_after_its_certificate_ran_out_until_it_is_revoked() {
    let desk = Desk::open().await;
    let (secret, key) = (desk.token().await, KeyPair::generate().unwrap());
    let first = desk.enrol(&secret, &key).await.unwrap();
    desk.clock.forward(Duration::from_secs(40 * 86_400));
    let second = desk.renew(&first.device, &key).await.unwrap();
    assert_eq!(second.not_after - first.not_after, 40 * 86_400);
    assert_eq!(second.device, first.device);

    let other = KeyPair::generate().unwrap();
    assert_eq!(code(desk.renew(&first.device, &other).await), "unknown_device");
    assert_eq!(code(desk.renew("dev_0000000000000000", &key).await), "unknown_device");
    assert_eq!(code(desk.renew("../../etc", &key).await), "unknown_device");
    tenants::suspend(&desk.hub.store, &desk.tenant, Some(1)).await.unwrap();
    assert_eq!(code(desk.renew(&first.device, &key).await), "tenant_suspended");
    tenants::suspend(&desk.hub.store, &desk.tenant, None).await.unwrap();
    let device = DeviceId::parse(&first.device).unwrap();
    devices::revoke(&desk.hub.store, &desk.tenant, &device, 1)
        .await
        .unwrap();
    assert_eq!(code(desk.renew(&first.device, &key).await), "device_revoked");
}

#[tokio::test]
async fn no_token_and_no_secret_is_stored() {
    let desk = Desk::open().await;
    let secret = desk.token().await;
    desk.enrol(&secret, &KeyPair::generate().unwrap()).await.unwrap();
    for entry in std::fs::read_dir(desk.hub.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if entry.is_file() {
            let bytes = std::fs::read(&entry).unwrap();
            assert!(
                !bytes.windows(secret.len()).any(|w| w == secret.as_bytes()),
                "{}",
                entry.display()
            );
        }
    }
}
