use std::{collections::HashMap, net::IpAddr};

use relay_shared::{secret::Secret, tasks::Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

use super::*;
use crate::{
    directory::{Directory, SECRET_FIELD},
    egress::Egress,
    ids::NodeId,
    seal::Bound,
    store::{
        accounts::{self, AccountRow},
        testing::TestHub,
        ways::{self, AddWayError, WayRow},
    },
};

/// What a token endpoint was asked, and how it is answered: a status and JSON.
struct Asked {
    from: IpAddr,
    form: HashMap<String, String>,
    answer: oneshot::Sender<(u16, String)>,
}

/// A token endpoint whose answers the test gives one by one.
async fn endpoint() -> (String, mpsc::Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/oauth2/token", listener.local_addr().unwrap());
    let (sender, asked) = mpsc::channel(16);
    Tasks::new().spawn("token-endpoint", async move {
        while let Ok((stream, peer)) = listener.accept().await {
            serve(stream, peer.ip(), &sender).await;
        }
    });
    (url, asked)
}

async fn serve(mut stream: TcpStream, from: IpAddr, asked: &mpsc::Sender<Asked>) {
    let mut read = Vec::new();
    let form = loop {
        if stream.read_buf(&mut read).await.unwrap() == 0 {
            return;
        }
        let text = String::from_utf8(read.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if length.map(|(_, value)| value.parse::<usize>().unwrap()).next() == Some(body.len()) {
            assert!(head.starts_with("POST /oauth2/token HTTP/1.1\r\n"), "{head}");
            break body.to_owned();
        }
    };
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    let form = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (answer, answered) = oneshot::channel();
    asked.send(Asked { from, form, answer }).await.unwrap();
    let Ok((status, json)) = answered.await else { return };
    let length = json.len();
    let whole = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{json}");
    stream.write_all(whole.as_bytes()).await.unwrap();
}

fn token(name: &str, seconds: u64, refresh: Option<&str>) -> (u16, String) {
    let json = serde_json::json!({
        "access_token": name, "token_type": "Bearer", "expires_in": seconds, "refresh_token": refresh,
    });
    (200, json.to_string())
}

struct World {
    hub: TestHub,
    tokens: Tokens,
    fetcher: Fetcher,
    directory: DirectoryHandle,
    account: AccountId,
}

/// A hub with one account that asks for tokens at `url` with this kind of credential, leaving by an address of its own.
async fn world(url: &str, credential: &str) -> World {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let hub = TestHub::new().await;
    let id = AccountId::random();
    // A personal credential is nobody's until its tenant is named.
    let holder = if credential == "refresh-token" {
        "nobody"
    } else {
        "shared"
    };
    let row = AccountRow {
        secret: hub.seal_for(holder, id.as_str(), SECRET_FIELD, "r0"),
        credential: credential.to_owned(),
        settings: serde_json::json!({"token_url": url, "client_id": "me"}).to_string(),
        ..AccountRow::for_tests(id.clone(), "main")
    };
    accounts::add(&hub.store, &row).await.unwrap();
    let way = WayRow::for_tests(id.clone(), "own");
    ways::add(&hub.store, &way, |_| Ok::<_, AddWayError>(None))
        .await
        .unwrap();
    let tasks = Tasks::new();
    let no_nodes = Arc::new(|_: &NodeId| Err("no egress node".into()));
    let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
    let fetcher = Fetcher {
        egress: Arc::new(Egress::new(&[], Duration::from_secs(5), no_nodes, tasks.clone()).unwrap()),
        store: hub.store.clone(),
        sealer: hub.sealer.clone(),
    };
    let tokens = Tokens::new(directory.clone(), fetcher.clone(), tasks);
    World {
        hub,
        tokens,
        fetcher,
        directory,
        account: id,
    }
}

impl World {
    /// The refresh token as the store has it.
    async fn stored(&self) -> Secret<String> {
        let (sealed, users) = accounts::secret(&self.hub.store, &self.account).await.unwrap();
        let bound = Bound {
            owner: self.account.as_str(),
            field: SECRET_FIELD,
            holder: users.holder(),
        };
        self.hub.sealer.open_secret(bound, &sealed).unwrap()
    }
}

#[tokio::test]
async fn calls_that_come_together_share_one_token_and_it_leaves_by_the_accounts_own_way() {
    let (url, mut asked) = endpoint().await;
    let world = world(&url, "client-credentials").await;
    let source = world.tokens.of(&world.account);
    let calls = (0..50).map(|_| source.authorization());
    let serve = async {
        let one = asked.recv().await.unwrap();
        assert_eq!(
            (one.form["grant_type"].as_str(), one.form["client_secret"].as_str()),
            ("client_credentials", "r0")
        );
        assert_eq!(one.from.to_string(), "127.0.0.77");
        one.answer.send(token("t1", 3600, None)).unwrap();
    };
    let (all, ()) = tokio::join!(futures_util::future::join_all(calls), serve);
    for authorization in all {
        let authorization = authorization.unwrap();
        assert!(authorization == "Bearer t1" && authorization.is_sensitive());
    }
    assert!(asked.try_recv().is_err(), "it was asked for once");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_no_call_waits_for_it() {
    let (url, mut asked) = endpoint().await;
    let world = world(&url, "client-credentials").await;
    world.tokens.follow();
    let began = Instant::now();
    asked.recv().await.unwrap().answer.send(token("t1", 3, None)).unwrap();
    let source = world.tokens.of(&world.account);
    assert_eq!(source.authorization().await.unwrap(), "Bearer t1");
    let renewal = asked.recv().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(2700),
        "after {:?}",
        began.elapsed()
    );
    assert_eq!(
        source.authorization().await.unwrap(),
        "Bearer t1",
        "the old one is still good"
    );
    renewal.answer.send(token("t2", 3600, None)).unwrap();
    while source.authorization().await.unwrap() != "Bearer t2" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_rotated_refresh_token_is_in_the_store_before_it_is_used() {
    let (url, mut asked) = endpoint().await;
    let world = world(&url, "refresh-token").await;
    let source = world.tokens.of(&world.account);
    for (old, new) in [("r0", "r1"), ("r1", "r2"), ("r2", "r3")] {
        let one = asked.recv().await.unwrap();
        assert_eq!(
            (one.form["grant_type"].as_str(), one.form["refresh_token"].as_str()),
            ("refresh_token", old)
        );
        assert_eq!(world.stored().await.expose(), old);
        one.answer.send(token(new, 1, Some(new))).unwrap();
        while source.authorization().await.unwrap() != format!("Bearer {new}") {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.stored().await.expose(), new);
    }
}

#[tokio::test]
async fn two_processes_never_use_one_refresh_token_at_once() {
    let (url, mut asked) = endpoint().await;
    let world = world(&url, "refresh-token").await;
    let account = world.directory.load().accounts[0].clone();
    let other = world.fetcher.clone();
    let first = world.fetcher.fetch(&account);
    let second = async {
        let one = asked.recv().await.unwrap();
        assert!(matches!(other.fetch(&account).await, Err(FetchError::Busy)));
        one.answer.send(token("t1", 60, Some("r1"))).unwrap();
    };
    let (issued, ()) = tokio::join!(first, second);
    assert!(issued.is_ok());
    // The one that comes later uses what the first one stored, though its own picture is older.
    let again = other.fetch(&account);
    let third = async {
        let one = asked.recv().await.unwrap();
        assert_eq!(one.form["refresh_token"], "r1");
        one.answer.send((500, String::new())).unwrap();
    };
    let (failed, ()) = tokio::join!(again, third);
    assert!(matches!(failed, Err(FetchError::Token(_))));
}

#[tokio::test]
async fn a_credential_that_is_not_accepted_refuses_calls_at_once_and_is_not_tried_with_each() {
    let (url, mut asked) = endpoint().await;
    let world = world(&url, "refresh-token").await;
    let source = world.tokens.of(&world.account);
    let one = asked.recv().await.unwrap();
    one.answer
        .send((400, r#"{"error":"invalid_grant"}"#.to_owned()))
        .unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(
            source.authorization().await.err().unwrap().public.code,
            Code::Overloaded
        );
    }
    assert!(began.elapsed() < PATIENCE);
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn a_token_that_the_vendor_spurns_is_replaced() {
    let (url, mut asked) = endpoint().await;
    let world = world(&url, "client-credentials").await;
    let source = world.tokens.of(&world.account);
    asked
        .recv()
        .await
        .unwrap()
        .answer
        .send(token("t1", 3600, None))
        .unwrap();
    let first = source.authorization().await.unwrap();
    // Of many calls that were refused with it, the first one tells, and all wait for the next.
    let (one, two, answered) = tokio::join!(source.another(&first), source.another(&first), async {
        let asked = asked.recv().await.unwrap();
        asked.answer.send(token("t2", 3600, None)).unwrap();
    });
    let () = answered;
    assert_eq!(
        (one.unwrap(), two.unwrap()),
        ("Bearer t2".parse().unwrap(), "Bearer t2".parse().unwrap())
    );
    assert_eq!(source.another(&first).await.unwrap(), "Bearer t2");
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn an_account_that_is_disabled_asks_for_no_more_tokens() {
    let (url, mut asked) = endpoint().await;
    let world = world(&url, "client-credentials").await;
    world.tokens.follow();
    asked.recv().await.unwrap().answer.send(token("t1", 1, None)).unwrap();
    accounts::disable(&world.hub.store, &world.account, Some(1), None)
        .await
        .unwrap();
    world.directory.refresh().await;
    world.tokens.follow();
    assert!(world.tokens.0.sources.lock().unwrap().is_empty());
    accounts::disable(&world.hub.store, &world.account, None, None)
        .await
        .unwrap();
    world.directory.refresh().await;
    world.tokens.follow();
    asked.recv().await.unwrap().answer.send(token("t2", 60, None)).unwrap();
    assert_eq!(
        world.tokens.of(&world.account).authorization().await.unwrap(),
        "Bearer t2"
    );
}
