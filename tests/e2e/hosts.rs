//! The agent answers to loopback names only: a page that points its own name at 127.0.0.1 gets nothing.

use std::net::SocketAddr;

use relay_tests::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{ask, setup};

/// Forty ways to spell a host that is not loopback, or that only looks like it.
const FOREIGN: [&str; 40] = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io",
    "127.0.0.1.nip.io:{port}",
    "localhost.evil.example",
    "localhost.evil.example:{port}",
    "localhost.localdomain",
    "evil-localhost",
    "localhost-evil.example",
    "xn--lcalhost-t4a",
    "locaIhost",
    "localhost.com",
    "localhost:{port}.evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "user:pass@127.0.0.1:{port}",
    "127.0.0.1@evil.example",
    "127.0.0.1#evil.example",
    "127.0.0.1/evil.example",
    "127.0.0.1, evil.example",
    "127.0.0.1 evil.example",
    "127.0.0.1:{port}:{port}",
    "127.0.0.1:99999",
    "127.0.0.1:abc",
    "127.0.0.1:-1",
    "0.0.0.0",
    "0.0.0.0:{port}",
    "[::]",
    "[::]:{port}",
    "[::ffff:10.0.0.1]:{port}",
    "[fe80::1]:{port}",
    "10.0.0.1",
    "192.168.0.1:{port}",
    "169.254.169.254",
    "128.0.0.1",
    "1270.0.1",
    "[::1",
    "::1]",
    "",
];

async fn raw(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _closed = tokio::time::timeout(std::time::Duration::from_secs(5), reading)
        .await
        .expect("closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

async fn post(world: &World, lines: &str) -> String {
    let body = ask(false);
    let request = format!(
        "POST /v1/responses HTTP/1.1\r\n{lines}authorization: Bearer {}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        world.agent.key,
        body.len()
    );
    raw(world.agent.addr(), &request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_foreign_hosts_are_refused_and_loopback_is_not() {
    let world = setup().start().await;
    let port = world.agent.addr().port().to_string();
    for spelling in FOREIGN {
        let host = spelling.replace("{port}", &port);
        let answer = post(&world, &format!("host: {host}\r\n")).await;
        let status = status(&answer);
        assert!([400, 403, 421].contains(&status), "Host: {host}: {answer}");
        assert!(!answer.contains("access-control-allow"), "Host: {host}: {answer}");
    }
    let twice = post(&world, "host: localhost\r\nhost: evil.example\r\n").await;
    assert!([400, 403, 421].contains(&status(&twice)), "two Host lines: {twice}");
    let none = post(&world, "").await;
    assert!([400, 403, 421].contains(&status(&none)), "no Host: {none}");
    assert_eq!(world.vendor.calls().len(), 0, "a refused call reached the vendor");

    // Browsers and clients write these; every other spelling of loopback is refused as well.
    for good in ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}"] {
        let host = good.replace("{port}", &port);
        let answer = post(&world, &format!("host: {host}\r\n")).await;
        assert_eq!(status(&answer), 200, "Host: {host}: {answer}");
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_origins_and_cross_site_fetches_are_refused_before_the_body() {
    let world = setup().start().await;
    let host = format!("host: {}\r\n", world.agent.addr());
    for line in [
        "origin: https://evil.example",
        "origin: null",
        "origin: http://localhost.evil.example",
        "origin: http://127.0.0.1:1",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-site",
    ] {
        // The body never comes: an answer shows that nobody waited for it.
        let request = format!(
            "POST /v1/responses HTTP/1.1\r\n{host}{line}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: 1000000\r\n\r\n",
            world.agent.key
        );
        let answer = raw(world.agent.addr(), &request).await;
        assert_eq!(status(&answer), 403, "{line}: {answer}");
        assert!(
            !answer.to_lowercase().contains("access-control-allow"),
            "{line}: {answer}"
        );
    }
    assert_eq!(world.vendor.calls().len(), 0);
    world.assert_sound().await;
}
