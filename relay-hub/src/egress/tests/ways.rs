//! Ways out on real sockets: addresses to leave by, proxies, and what happens when they fail.

use std::net::SocketAddr;

use relay_shared::secret::Secret;
use tokio::net::TcpSocket;

use super::*;
use crate::{
    ids::WayId,
    way::{Family, Through},
};

fn out(name: &str, through: Through) -> Arc<WayOut> {
    Arc::new(WayOut {
        id: WayId::random(),
        name: name.into(),
        through,
        node: None,
        password: Some(Secret::new("canary".to_owned())),
        region: Region::parse(name),
        prefers: Some(Family::V4),
        allows_private: false,
    })
}

fn source(name: &str, address: &str) -> Arc<WayOut> {
    out(name, Through::source(address).unwrap())
}

fn proxy(name: &str, url: &str) -> Arc<WayOut> {
    out(name, Through::proxy(url).unwrap())
}

/// Answers one call; the address that it came from.
async fn serve_once(vendor: &TcpListener) -> SocketAddr {
    let (mut stream, from) = vendor.accept().await.unwrap();
    answer(&mut stream, OK).await;
    from
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "cut: {read:?}");
    }
    read
}

/// Carries bytes both ways between a client and the vendor, from an address of its own.
async fn carry(mut client: TcpStream, vendor: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut vendor = socket.connect(vendor).await.unwrap();
    // Either end may hang up first.
    drop(tokio::io::copy_bidirectional(&mut client, &mut vendor).await);
}

#[tokio::test]
async fn a_call_leaves_by_the_address_of_its_account() {
    let tasks = Tasks::new();
    let (vendor, ways) = ways_of(&tasks, &[source("home", "127.0.0.5")]).await;
    let (from, answered) = tokio::join!(serve_once(&vendor), call_by(&ways));
    let answered = answered.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.5");
    let (way, local) = answered.body().left_by();
    assert_eq!((&**way, local), ("home", from.ip()));
}

#[tokio::test]
async fn an_address_that_is_gone_fails_at_once_and_nothing_leaves_elsewhere() {
    let tasks = Tasks::new();
    // Of a network for documentation, so no machine has it.
    let (vendor, ways) = ways_of(&tasks, &[source("gone", "192.0.2.7")]).await;
    for _ in 0..2 {
        assert!(matches!(call_by(&ways).await, Err(EgressError::AllDown)));
    }
    assert!(!ways.all[0].is_up());
    let nobody = tokio::time::timeout(Duration::ZERO, vendor.accept()).await;
    assert!(nobody.is_err(), "somebody reached the vendor");
}

#[tokio::test]
async fn an_address_reaches_no_vendor_of_the_other_family() {
    let tasks = Tasks::new();
    let (_vendor, ways) = ways_of(&tasks, &[source("six", "::1")]).await;
    assert!(matches!(call_by(&ways).await, Err(EgressError::AllDown)));
}

#[tokio::test]
async fn the_next_way_of_the_account_is_taken_when_one_fails() {
    let tasks = Tasks::new();
    let outs = [source("gone", "192.0.2.7"), source("spare", "127.0.0.6")];
    let (vendor, ways) = ways_of(&tasks, &outs).await;
    assert_eq!(&**ways.route(None).unwrap().name(), "gone");
    let (from, answered) = tokio::join!(serve_once(&vendor), call_by(&ways));
    assert_eq!(from.ip().to_string(), "127.0.0.6");
    assert_eq!(&**answered.unwrap().body().left_by().0, "spare");
}

#[tokio::test]
async fn a_region_is_chosen_among_those_of_the_account() {
    let tasks = Tasks::new();
    let outs = [source("eu", "127.0.0.5"), source("us", "127.0.0.6")];
    let (vendor, ways) = ways_of(&tasks, &outs).await;
    let us = ways.route(Region::parse("US")).unwrap();
    let (from, answered) = tokio::join!(serve_once(&vendor), us.call(request(), Reads::Large));
    assert!(answered.is_ok() && from.ip().to_string() == "127.0.0.6");
    assert!(matches!(ways.route(Region::parse("jp")), Err(EgressError::NoRegion(_))));
}

#[tokio::test]
async fn a_connect_proxy_carries_the_call_as_its_user() {
    let tasks = Tasks::new();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me@{}", door.local_addr().unwrap());
    let (vendor, ways) = ways_of(&tasks, &[proxy("p", &url)]).await;
    let to = vendor.local_addr().unwrap();
    let proxied = async {
        let (mut client, _) = door.accept().await.unwrap();
        let head = String::from_utf8(read_until(&mut client, b"\r\n\r\n").await)
            .unwrap()
            .to_ascii_lowercase();
        assert!(head.starts_with(&format!("connect {to} http/1.1\r\n")), "{head}");
        // me:canary
        assert!(head.contains("proxy-authorization: basic bwu6y2fuyxj5"), "{head}");
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .unwrap();
        carry(client, to).await;
    };
    let calling = async {
        let (from, answered) = tokio::join!(serve_once(&vendor), read(&ways));
        assert_eq!(
            (from.ip().to_string().as_str(), &answered[..]),
            ("127.0.0.9", &b"ok"[..])
        );
    };
    tokio::select! {
        () = proxied => panic!("the proxy ended"),
        () = calling => {}
    }
}

#[tokio::test]
async fn a_socks_proxy_is_given_the_name_and_not_its_address() {
    let tasks = Tasks::new();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socks5://me@{}", door.local_addr().unwrap());
    let vendor = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = vendor.local_addr().unwrap().port();
    let origin = format!("http://vendor.example:{port}/").parse().unwrap();
    let outs = [proxy("p", &url)];
    let ways = egress(&tasks).ways(Exits {
        account: "acc",
        origin: &origin,
        outs: &outs,
        allows_private: false,
        prefers: None,
    });
    let proxied = async {
        let (mut client, _) = door.accept().await.unwrap();
        // RFC 1928: one method or more, that with a password among them.
        let mut methods = [0; 2];
        client.read_exact(&mut methods).await.unwrap();
        client.read_exact(&mut vec![0; usize::from(methods[1])]).await.unwrap();
        client.write_all(&[5, 2]).await.unwrap();
        read_until(&mut client, b"\x01\x02me\x06canary").await;
        client.write_all(&[1, 0]).await.unwrap();
        let wanted = [b"\x05\x01\x00\x03\x0evendor.example", &port.to_be_bytes()[..]].concat();
        assert_eq!(read_until(&mut client, &port.to_be_bytes()).await, wanted);
        client.write_all(&[5, 0, 0, 1, 127, 0, 0, 9, 0, 1]).await.unwrap();
        carry(client, vendor.local_addr().unwrap()).await;
    };
    let calling = async {
        let (_, answered) = tokio::join!(serve_once(&vendor), read(&ways));
        assert_eq!(answered, "ok");
    };
    tokio::select! {
        () = proxied => panic!("the proxy ended"),
        () = calling => {}
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_down_and_one_whose_vendor_is_away_is_not() {
    for (words, is_up) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", false),
        ("", false),
    ] {
        let tasks = Tasks::new();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://me@{}", door.local_addr().unwrap());
        let (_vendor, ways) = ways_of(&tasks, &[proxy("p", &url)]).await;
        let refusing = async {
            let (mut client, _) = door.accept().await.unwrap();
            read_until(&mut client, b"\r\n\r\n").await;
            client.write_all(words.as_bytes()).await.unwrap();
        };
        let ((), answered) = tokio::join!(refusing, call_by(&ways));
        let error = answered.err().unwrap();
        assert_eq!(ways.all[0].is_up(), is_up, "{words}: {error:?}");
        assert!(
            matches!(error, EgressError::Unreachable(_)) == is_up,
            "{words}: {error:?}"
        );
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_way_that_works_again_is_taken_again() {
    let tasks = Tasks::new();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap();
    drop(door);
    let (vendor, ways) = ways_of(&tasks, &[proxy("p", &format!("http://me@{address}"))]).await;
    assert!(matches!(call_by(&ways).await, Err(EgressError::AllDown)));
    let door = TcpListener::bind(address).await.unwrap();
    let to = vendor.local_addr().unwrap();
    let proxied = async {
        loop {
            let (mut client, _) = door.accept().await.unwrap();
            read_until(&mut client, b"\r\n\r\n").await;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tasks.spawn("carry", carry(client, to));
        }
    };
    let calling = async {
        // The one who looks whether it works connects and sends nothing.
        let (mut looked, _) = vendor.accept().await.unwrap();
        assert_eq!(looked.read(&mut [0; 1]).await.unwrap(), 0);
        while !ways.all[0].is_up() {
            tokio::task::yield_now().await;
        }
        let (_, answered) = tokio::join!(serve_once(&vendor), read(&ways));
        assert_eq!(answered, "ok");
    };
    tokio::select! {
        () = proxied => {}
        () = calling => {}
    }
}

#[tokio::test]
async fn accounts_share_no_connection_and_a_changed_account_makes_new_ones() {
    let tasks = Tasks::new();
    let egress = egress(&tasks);
    let origin = "http://127.0.0.1:9/".parse().unwrap();
    let outs = [source("a", "127.0.0.5")];
    let exits = |account, outs| Exits {
        account,
        origin: &origin,
        outs,
        allows_private: false,
        prefers: None,
    };
    let first = egress.ways(exits("one", &outs));
    assert!(Arc::ptr_eq(&first, &egress.ways(exits("one", &outs))));
    assert!(!Arc::ptr_eq(&first, &egress.ways(exits("two", &[]))));
    assert!(!Arc::ptr_eq(&first, &egress.ways(exits("one", &[]))));
}
