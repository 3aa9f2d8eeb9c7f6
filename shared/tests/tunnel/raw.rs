//! A client of our own making on bare QUIC and TCP: what a broken or malicious peer may send.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use http::Response;
use relay_shared::{
    tls::{self, HUB_NAME},
    tunnel::{
        ALPN_H3, Transport,
        body::{BodyError, full},
        server::TunnelLimits,
    },
    written::PATIENCE,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::mpsc};

use crate::world::{Flaws, World, channel, echo, post, read, soon};

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
async fn a_client_that_knows_no_cuts_gets_the_reset_when_patience_is_over() {
    let world = World::new(|_, _| async {
        let (feed, body) = channel();
        feed.send(Ok("part".into())).await.unwrap();
        feed.send(Err(BodyError::Source("vendor broke off".into())))
            .await
            .unwrap();
        Response::new(body)
    });
    let quic = connect(&world).await;
    let (mut send, mut recv) = quic.open_bi().await.unwrap();
    send.write_all(&HEAD).await.unwrap();
    send.finish().unwrap();
    let began = Instant::now();
    let mut frames = Vec::new();
    let end = loop {
        match soon(recv.read_chunk(usize::MAX, true)).await {
            Ok(Some(chunk)) => frames.extend_from_slice(&chunk.bytes),
            end => break end.err(),
        }
    };
    assert_eq!(
        end,
        Some(quinn::ReadError::Reset(0x10cu32.into())),
        "no end that looks clean"
    );
    assert!(
        began.elapsed() < PATIENCE + Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // DATA, and then a frame of a type nobody knows, which is to be passed over.
    assert!(frames.ends_with(b"\x00\x04part\x80cut\x00"), "{frames:?}");
    while world.hub.counts().calls > 0 {
        assert!(began.elapsed() < 2 * PATIENCE, "the hub waits on");
        tokio::time::sleep(Duration::from_millis(5)).await;
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
