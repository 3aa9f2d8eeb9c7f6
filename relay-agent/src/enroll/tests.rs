//! Enrolment and renewal against a real tunnel port, with a hub that the test plays.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use relay_shared::enrolment::RenewRequest;
use relay_shared::tasks::Tasks;
use relay_shared::tls::{self, Clients, DeviceIdentity};
use relay_shared::tunnel::server::{Bound, TunnelConfig, TunnelLimits};

use super::*;

/// A device CA with a hub's port.
struct Hub {
    addr: SocketAddr,
    ca: Arc<CertifiedIssuer<'static, KeyPair>>,
    asked: Arc<Mutex<Vec<String>>>,
    tasks: Tasks,
    _home: tempfile::TempDir,
    data: PathBuf,
}

fn new_ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "device CA");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Signs what is asked for, as device `dev_1`; `code` refuses instead.
fn answer(ca: &CertifiedIssuer<'static, KeyPair>, csr: &str, code: Option<&str>) -> (u16, Vec<u8>) {
    if let Some(code) = code {
        let error = EnrolError::new(code, "no", "");
        return (error.status(), serde_json::to_vec(&error).unwrap());
    }
    let mut csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
    csr.params.subject_alt_names = vec![SanType::URI(DeviceIdentity::uri("ten_1", "dev_1").try_into().unwrap())];
    csr.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let reply = EnrolReply {
        device: "dev_1".into(),
        tenant: "ten_1".into(),
        certificate: csr.signed_by(ca).unwrap().pem(),
        ca: ca.pem(),
        hub: String::new(),
        not_after: 0,
    };
    (200, serde_json::to_vec(&reply).unwrap())
}

impl Hub {
    /// A hub that refuses the token's secret when it is the code of a refusal.
    fn new() -> Self {
        let ca = Arc::new(new_ca());
        let mut server = CertificateParams::new(vec![tls::HUB_NAME.to_owned()]).unwrap();
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = server.signed_by(&key, &ca).unwrap();
        let bound = Bound::open(TunnelConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            ca: ca.der().clone(),
            clients: Clients::Devices,
            chain: vec![leaf.der().clone(), ca.der().clone()],
            key: tls::private_key(key.serialize_pem().as_bytes()).unwrap(),
            quic_key: Secret::new([7; 32]),
            limits: TunnelLimits::default(),
        })
        .unwrap();
        let (addr, tasks, asked) = (bound.local_addr(), Tasks::new(), Arc::new(Mutex::new(Vec::new())));
        let (issuer, log) = (Arc::clone(&ca), Arc::clone(&asked));
        bound.serve(
            |_, _| async { Response::new(relay_shared::tunnel::body::empty()) },
            move |request: Request<Bytes>, _| {
                log.lock().unwrap().push(request.uri().path().to_owned());
                let (status, body) = match serde_json::from_slice::<EnrolRequest>(request.body()) {
                    Ok(enrol) => answer(
                        &issuer,
                        &enrol.csr,
                        Some(enrol.secret.as_str()).filter(|s| *s != "good"),
                    ),
                    Err(_) => {
                        let renew: RenewRequest = serde_json::from_slice(request.body()).unwrap();
                        assert_eq!(renew.device, "dev_1");
                        answer(&issuer, &renew.csr, None)
                    }
                };
                std::future::ready(Response::builder().status(status).body(Bytes::from(body)).unwrap())
            },
            &tasks,
        );
        let home = tempfile::tempdir().unwrap();
        Self {
            addr,
            ca,
            asked,
            tasks,
            data: home.path().join("data"),
            _home: home,
        }
    }

    fn enrolment(&self, secret: &str) -> Enrolment {
        let token = Token {
            hub: self.addr.to_string(),
            fingerprint: tls::fingerprint(self.ca.der()),
            secret: Secret::new(secret.to_owned()),
        };
        Enrolment {
            data: self.data.clone(),
            token: token.encode(),
            name: "laptop".into(),
            force: false,
            key_place: KeyPlace::File,
        }
    }

    fn dir(&self) -> DataDir {
        DataDir::open(&self.data).unwrap()
    }
}

#[tokio::test]
async fn a_device_is_enrolled_once_and_again_only_by_force() {
    let hub = Hub::new();
    let enrolled = enrol(hub.enrolment("good")).await.unwrap();
    assert_eq!(
        (enrolled.device.device.as_str(), enrolled.device.tenant.as_str()),
        ("dev_1", "ten_1")
    );
    assert_eq!(enrolled.device.hub, hub.addr.to_string());
    let dir = hub.dir();
    let key = Device::load(&dir).unwrap().key(&dir).unwrap();
    let shown = identity(&dir, &key).unwrap();
    assert_eq!(DeviceIdentity::read(&shown.chain[0]).unwrap().device, "dev_1");

    let again = enrol(hub.enrolment("good")).await.unwrap_err();
    let failure = Failure::from(again);
    assert!(
        failure.message().contains("dev_1") && failure.hint().unwrap().contains("--force"),
        "{failure}"
    );
    assert_eq!(hub.asked.lock().unwrap().len(), 1, "the token was not spent");

    enrol(Enrolment {
        force: true,
        ..hub.enrolment("good")
    })
    .await
    .unwrap();
    let fresh = Device::load(&dir).unwrap().key(&dir).unwrap();
    assert_ne!(fresh.expose(), key.expose(), "a new key is made");
    assert_eq!(hub.tasks.panics(), 0);
}

#[tokio::test]
async fn a_refused_token_is_told_with_what_helps_and_changes_nothing() {
    let hub = Hub::new();
    for code in [
        "unknown_token",
        "token_used",
        "token_expired",
        "device_revoked",
        "bad_csr",
    ] {
        let failure = Failure::from(enrol(hub.enrolment(code)).await.unwrap_err());
        assert_eq!(failure.exit_code(), 1, "{failure}");
        assert!(
            failure.message().contains("refused") && failure.hint().is_some(),
            "{failure}"
        );
        assert!(matches!(Device::load(&hub.dir()), Err(DeviceError::NotEnrolled)));
    }
}

#[tokio::test]
async fn a_hub_of_another_ca_gets_no_secret() {
    let hub = Hub::new();
    let other = Token {
        hub: hub.addr.to_string(),
        fingerprint: tls::fingerprint(new_ca().der()),
        secret: Secret::new("good".into()),
    };
    let enrolment = Enrolment {
        token: other.encode(),
        ..hub.enrolment("good")
    };
    let failure = Failure::from(enrol(enrolment).await.unwrap_err());
    assert_eq!(failure.exit_code(), 1, "{failure}");
    assert!(hub.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_hub_that_is_away_and_a_text_that_is_no_token_are_told_apart() {
    let hub = Hub::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let away = Token {
        hub: closed.to_string(),
        fingerprint: [0; 32],
        secret: Secret::new("good".into()),
    };
    let failure = Failure::from(
        enrol(Enrolment {
            token: away.encode(),
            ..hub.enrolment("")
        })
        .await
        .unwrap_err(),
    );
    assert!(failure.message().contains(&closed.to_string()), "{failure}");
    let garbage = Enrolment {
        token: Secret::new("crt1_%%%".into()),
        ..hub.enrolment("")
    };
    let failure = Failure::from(enrol(garbage).await.unwrap_err());
    assert!(
        failure.message().contains("token") && !failure.message().contains("%%%"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_certificate_past_its_half_life_is_renewed_at_once_with_the_same_key() {
    let hub = Hub::new();
    let device = enrol(hub.enrolment("good")).await.unwrap().device;
    let dir = hub.dir();
    let key = device.key(&dir).unwrap();
    let before = identity(&dir, &key).unwrap();
    let ended = Life {
        begins: std::time::UNIX_EPOCH,
        ends: std::time::UNIX_EPOCH + Duration::from_secs(1),
    };
    let (renewals, stop) = (Renewals::new(ended), tokio_util::sync::CancellationToken::new());
    let (told, mut tells) = tokio::sync::mpsc::channel(1);
    let renewing = keep_fresh(
        dir.clone(),
        device,
        key,
        renewals.clone(),
        move |identity| told.try_send(identity).expect("one renewal only"),
        stop.clone(),
    );
    let watching = async {
        let renewed = tokio::time::timeout(Duration::from_secs(10), tells.recv())
            .await
            .unwrap()
            .unwrap();
        assert_ne!(renewed.chain[0], before.chain[0]);
        stop.cancel();
    };
    tokio::join!(renewing, watching);
    assert!(renewals.standing().life.ends > std::time::SystemTime::now());
    assert_eq!(
        *hub.asked.lock().unwrap(),
        [ENROL_PATH, relay_shared::enrolment::RENEW_PATH]
    );
}
