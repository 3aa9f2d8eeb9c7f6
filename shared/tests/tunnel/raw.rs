//! A client of our own making on bare QUIC and TCP: what a broken or malicious peer may send.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::Response;
use relay_shared::{
    tls::{self, HUB_NAME},
    tunnel::{ALPN_H3, Transport, body::full, server::TunnelLimits},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::mpsc};

use crate::world::{Flaws, World, echo, post, read, soon};

/// HEADERS: POST https://h/, in QPACK's static table where possible.
const HEAD: [u8; 10] = [1, 8, 0, 0, 0xd4, 0xd7, 0xc1, 0x50, 1, b'h'];

async fn connect(world: &World) -> quinn::Connection {
    let device = world.ca.device(&Flaws::default());
    let config = tls::client_mutual(&world.ca.der(), device.chain, device.key, &[ALPN_H3]).unwrap();
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let endpoint = quinn::Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    endpoint
        .connect_with(config, world.hub.local_addr(), HUB_NAME)
        .unwrap()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_inside_a_frame_is_no_whole_body() {
    let (seen, mut outcomes) = mpsc::channel(1);
    let world = World::new(move |request, _| {
        let seen = seen.clone();
        async move {
            seen.send(read(request.into_body()).await).await.unwrap();
            Response::new(full("done"))
        }
    });
    let quic = connect(&world).await;
    let cases: [(&[u8], Option<&[u8]>); 6] = [
        (&[0, 5, b'a', b'b'], None),
        (&[0], None),
        (&[0, 2, b'a', b'b', 0, 0x40], None),
        (&[0, 2, b'a', b'b'], Some(b"ab")),
        // An empty DATA frame is not the end.
        (&[0, 0, 0, 2, b'c', b'd', 0, 0], Some(b"cd")),
        (&[0x21, 3, 1, 2, 3, 0, 1, b'e'], Some(b"e")),
    ];
    for (data, expected) in cases {
        let (mut send, _recv) = quic.open_bi().await.unwrap();
        send.write_all(&HEAD).await.unwrap();
        send.write_all(data).await.unwrap();
        send.finish().unwrap();
        let outcome = soon(outcomes.recv()).await.unwrap();
        assert_eq!(outcome.ok().as_deref(), expected, "{data:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_head_is_not_kept_and_hurts_only_its_own_connection() {
    let world = World::new(echo);
    let good = world.dial(Transport::Quic).await;
    let quic = connect(&world).await;
    let (mut send, _recv) = quic.open_bi().await.unwrap();
    // HEADERS of a gigabyte.
    send.write_all(&[1, 0x80 | 0x40, 0, 0, 0, 0x40, 0, 0, 0]).await.unwrap();
    let flood = async { while send.write_all(&[0; 4096]).await.is_ok() {} };
    soon(flood).await;
    let response = soon(good.send(post(full("fine")))).await.unwrap();
    assert_eq!(soon(read(response.into_body())).await.unwrap(), b"fine");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_comes_is_given_up() {
    let limits = TunnelLimits {
        handshake_timeout: Duration::from_millis(100),
        ..TunnelLimits::default()
    };
    let world = World::with_limits(echo, limits);
    let mut tcp = TcpStream::connect(world.hub.local_addr()).await.unwrap();
    assert_eq!(soon(tcp.read(&mut [0; 1])).await.unwrap_or(0), 0);
    world.end().await;
}
