//! Who is not let in.

use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use relay_shared::tunnel::{
    ALPN_H2,
    client::{DialError, Dialer, Identity},
};
use rustls_pki_types::ServerName;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::TlsConnector;

use crate::world::{BOTH, Ca, Flaws, World, dial, echo, soon};

async fn refused(world: &World, ca: &Ca, identity: Identity, what: &str) {
    let dialer = Dialer::new(&ca.der(), &identity, &world.tasks).expect("key and certificate fit");
    for transport in BOTH {
        let error = soon(dial(&dialer, transport, world.hub.local_addr()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, DialError::Trust { .. }),
            "{what} over {transport}: {error:?}"
        );
    }
    assert_eq!(world.hub.devices().len(), 0, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_of_an_enrolled_device_are_refused() {
    let world = World::new(echo);
    let flaws = |uris: &[&str]| Flaws {
        uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        ..Flaws::default()
    };
    let device = |flaws: Flaws| world.ca.device(&flaws);
    refused(
        &world,
        &world.ca,
        Ca::new().device(&Flaws::default()),
        "another CA's device",
    )
    .await;
    refused(
        &world,
        &world.ca,
        device(Flaws {
            is_expired: true,
            ..Flaws::default()
        }),
        "expired",
    )
    .await;
    let server = Flaws {
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        ..Flaws::default()
    };
    refused(&world, &world.ca, device(server), "a server's certificate").await;
    refused(&world, &world.ca, device(flaws(&[])), "no URI").await;
    refused(
        &world,
        &world.ca,
        device(flaws(&["spiffe://tenant/a/device/b"])),
        "a foreign URI",
    )
    .await;
    refused(
        &world,
        &world.ca,
        device(flaws(&["relay://tenant/a/device/"])),
        "no device",
    )
    .await;
    let two = ["relay://tenant/a/device/b", "relay://tenant/a/device/c"];
    refused(&world, &world.ca, device(flaws(&two)), "two URIs").await;
    refused(&world, &Ca::new(), device(Flaws::default()), "a hub of another CA").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_and_old_tls_are_refused() {
    let world = World::new(echo);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.ca.der()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap();
        let mut config = config.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        let tcp = TcpStream::connect(world.hub.local_addr()).await.unwrap();
        let name = ServerName::try_from("relay-hub").unwrap();
        // In TLS 1.3 the client learns of it with its first read.
        if let Ok(mut tls) = soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await {
            assert!(soon(tls.read_u8()).await.is_err());
        }
    }
    assert_eq!(world.hub.devices().len(), 0);
    world.end().await;
}
