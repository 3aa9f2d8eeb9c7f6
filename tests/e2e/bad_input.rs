//! Bad input gets a clear error and the right exit code; nothing panics, nothing is charged.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::books::expire_tokens;
use relay_tests::client::Client;
use relay_tests::codex::scratch_dir;
use relay_tests::world::{Agent, Hub, World};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{MODEL, PROGRAMS, setup};

/// Bodies that are no request, and a word that their error must contain.
fn bodies() -> Vec<(Vec<u8>, &'static str)> {
    let body = |text: &str| text.replace("MODEL", MODEL).into_bytes();
    let deep = format!(
        "{{\"model\":\"{MODEL}\",\"input\":{}1{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    vec![
        (body(""), "JSON"),
        (body("{"), "JSON"),
        (body("null"), "object"),
        (body("[1,2]"), "object"),
        (body("\"MODEL\""), "object"),
        (body("{\"model\":\"MODEL\"} trailing"), "JSON"),
        (body("{\"model\":\"MODEL\",}"), "JSON"),
        (body("{'model':'MODEL'}"), "JSON"),
        (body("{\"input\":\"no model\"}"), "model"),
        (body("{\"model\":null}"), "model"),
        (body("{\"model\":7}"), "model"),
        (body("{\"model\":\"\"}"), "model"),
        (body("{\"model\":[\"MODEL\"]}"), "model"),
        (body("{\"model\":\"MODEL\",\"model\":\"other\"}"), "model"),
        (body("{\"model\":\"MODEL\",\"stream\":\"yes\"}"), "stream"),
        (
            body("{\"model\":\"MODEL\",\"max_output_tokens\":\"many\"}"),
            "max_output_tokens",
        ),
        (
            body("{\"model\":\"MODEL\",\"max_output_tokens\":-1}"),
            "max_output_tokens",
        ),
        (
            body("{\"model\":\"MODEL\",\"max_output_tokens\":1.5}"),
            "max_output_tokens",
        ),
        (b"{\"model\":\"test-model\",\"input\":\"\xff\xfe\"}".to_vec(), ""),
        (b"{\"model\":\"test\xc3\"}".to_vec(), ""),
        (deep.into_bytes(), ""),
    ]
}

fn ways(world: &World) -> Vec<(&'static str, Client)> {
    let authority = world.hub.certificate_authority();
    let tls = |http2| Client::tls(world.hub.https(), &world.key, &authority, http2);
    vec![
        ("agent", world.through_agent()),
        ("hub over http", world.through_hub()),
        ("hub over https, HTTP/1.1", tls(false)),
        ("hub over https, HTTP/2", tls(true)),
    ]
}

async fn assert_nothing_charged(world: &World) {
    let rows = world.books().settled(0).await;
    let charged: i64 = rows.iter().map(|row| row.charged).sum();
    assert_eq!(charged, 0, "{rows:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_get_an_error_that_names_the_fault() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        for (body, word) in bodies() {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            let answer = client.post("/responses", body).await.unwrap().rest().await;
            assert_eq!(
                (answer.status.as_u16(), &answer.cut),
                (400, &None),
                "{way}: {shown}: {}",
                answer.text()
            );
            let message = answer.json()["error"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            assert!(
                !message.is_empty() && message.contains(word),
                "{way}: {shown}: {}",
                answer.text()
            );
            assert!(answer.headers.contains_key("x-request-id"), "{way}: {shown}");
        }
    }
    assert_eq!(world.vendor.posts().len(), 0, "a bad body reached the vendor");
    assert_nothing_charged(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_none_of_our_business() {
    let world = setup().start().await;
    let body = json!({"model": MODEL, "input": {"any": ["shape", 1, null]}, "unheard_of": {"model": 7}, "n": 3});
    for (way, client) in ways(&world) {
        let answer = client.post("/responses", body.to_string()).await.unwrap().rest().await;
        assert_eq!(answer.status, 200, "{way}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_paths_methods_and_codings_are_refused() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        for path in ["/", "/nothing", "/responses/x/y", "/files", "/../admin"] {
            let answer = client.post(path, "{}").await.unwrap().rest().await;
            assert_eq!(answer.status, 404, "{way}: {path}: {}", answer.text());
        }
        for (method, path) in [
            (Method::DELETE, "/responses"),
            (Method::PUT, "/chat/completions"),
            (Method::POST, "/models"),
        ] {
            let request = client.request(method.clone(), path).body(Full::default()).unwrap();
            let answer = client.send(request).await.unwrap().rest().await;
            assert_eq!(answer.status, 405, "{way}: {method} {path}: {}", answer.text());
        }
        let request = client
            .request(Method::POST, "/responses")
            .header("content-encoding", "compress");
        let answer = client
            .send(request.body(Full::new("xx".into())).unwrap())
            .await
            .unwrap()
            .rest()
            .await;
        assert_eq!(answer.status, 400, "{way}: {}", answer.text());
        for (coding, body) in [("gzip", "not gzip"), ("zstd", "not zstd"), ("br", "\u{1}not br")] {
            let request = client
                .request(Method::POST, "/responses")
                .header("content-encoding", coding);
            let answer = client
                .send(request.body(Full::new(body.into())).unwrap())
                .await
                .unwrap()
                .rest()
                .await;
            assert_eq!(answer.status, 400, "{way}: {coding}: {}", answer.text());
        }
    }
    assert_eq!(world.vendor.posts().len(), 0);
    assert_nothing_charged(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_explodes_when_decoded_is_refused() {
    let world = crate::Setup {
        hub_toml: "[limits]\nbody_bytes = 4194304\n".to_owned(),
        ..setup()
    }
    .start()
    .await;
    let bomb = format!("{{\"model\":\"{MODEL}\",\"input\":\"{}\"}}", "a".repeat(64 << 20));
    let body = Bytes::from(zstd::encode_all(bomb.as_bytes(), 3).unwrap());
    for (way, client) in ways(&world) {
        let request = client
            .request(Method::POST, "/responses")
            .header("content-encoding", "zstd");
        let answer = client
            .send(request.body(Full::new(body.clone())).unwrap())
            .await
            .unwrap()
            .rest()
            .await;
        assert!(
            [400, 413].contains(&answer.status.as_u16()),
            "{way}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(world.vendor.posts().len(), 0);
    assert_nothing_charged(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused() {
    let world = crate::Setup {
        hub_toml: "[limits]\nbody_bytes = 1048576\n".to_owned(),
        ..setup()
    }
    .start()
    .await;
    let body = Bytes::from(format!(
        "{{\"model\":\"{MODEL}\",\"input\":\"{}\"}}",
        "a".repeat(2 << 20)
    ));
    for (way, client) in ways(&world) {
        match client.post("/responses", body.clone()).await {
            Ok(answer) => {
                let answer = answer.rest().await;
                assert_eq!(answer.status, 413, "{way}: {}", answer.text());
                assert_eq!(
                    answer.json()["error"]["type"],
                    "invalid_request_error",
                    "{way}: {}",
                    answer.text()
                );
            }
            Err(error) => panic!("{way}: no answer to a large body: {error:#}"),
        }
    }
    assert_eq!(world.vendor.posts().len(), 0);
    assert_nothing_charged(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_the_limit_is_refused_and_a_large_one_is_not() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        let send = async |size: usize| {
            let request = client
                .request(Method::POST, "/responses")
                .header("content-type", "application/json");
            let request = request.header("x-codex-turn-metadata", "m".repeat(size));
            let answer = client
                .send(request.body(Full::new(crate::ask(false).into())).unwrap())
                .await;
            match answer {
                Ok(answer) => answer.rest().await.status.as_u16(),
                Err(_) => 0,
            }
        };
        assert_eq!(send(40_000).await, 200, "{way}: 40 kB of head are normal");
        let status = send(1_000_000).await;
        assert!(status == 431 || status == 0, "{way}: a head of 1 MB: {status}");
        assert_eq!(send(100).await, 200, "{way}: goes on");
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_http_end_the_connection_and_nothing_else() {
    let world = setup().start().await;
    let garbage: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\xff\xff",
        b"GET\x00/ HTTP/1.1\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for addr in [
        world.agent.addr(),
        world.hub.http(),
        world.hub.https(),
        world.hub.tunnel(),
    ] {
        for bytes in garbage {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let reading = stream.read_to_end(&mut answer);
            let _reset_or_closed = tokio::time::timeout(Duration::from_secs(15), reading)
                .await
                .expect("it is closed");
            assert!(
                !answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
    let answer = world
        .through_agent()
        .post("/responses", crate::ask(false))
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(answer.status, 200);
    world.assert_sound().await;
}

/// A token that does not enrol: exit code 1, a reason, a hint; never a panic.
async fn assert_refused(agent: &Agent, token: &str, words: &[&str]) {
    let ended = agent.enroll(token).await;
    assert!([1, 2].contains(&ended.exit_code.unwrap_or(-1)), "{ended:#?}");
    let said = ended.stderr.to_lowercase();
    assert!(
        words.iter().any(|word| said.contains(word)),
        "one of {words:?}: {ended:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_does_not_enrol() {
    let world = setup().start().await;
    let folder = scratch_dir("enrol");
    let agent = Agent::new(PROGRAMS, folder.path(), "info", "auto");
    for nonsense in ["", "crt1_", "crt1_!!!", "hello", "crt1_e30", "crt2_e30"] {
        assert_refused(&agent, nonsense, &["token"]).await;
    }
    let token = world.hub.device_token(&world.tenant).await;
    let cut = &token[..token.len() - 6];
    assert_refused(&agent, cut, &["token"]).await;
    agent.enroll(&token).await.succeeded();
    let late = scratch_dir("enrol");
    let late = Agent::new(PROGRAMS, late.path(), "info", "auto");
    let expired = world.hub.device_token(&world.tenant).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    expire_tokens(&world.hub.home).await;
    assert_refused(&late, &expired, &["expired"]).await;
    let second = scratch_dir("enrol");
    let second = Agent::new(PROGRAMS, second.path(), "info", "auto");
    assert_refused(&second, &token, &["used"]).await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_hub_meets_the_wrong_certificate() {
    let world = setup().start().await;
    let other = setup().start().await;
    let token = other.hub.device_token(&other.tenant).await;
    // The other hub's token leads to this hub: same address, another certificate authority.
    other.chaos.towards(world.hub.tunnel());
    let folder = scratch_dir("enrol");
    let agent = Agent::new(PROGRAMS, folder.path(), "info", "auto");
    assert_refused(&agent, &token, &["certificate", "fingerprint"]).await;
    // An agent of the other hub is led to this one: no call gets through, and it is said why.
    let answer = other
        .through_agent()
        .post("/responses", crate::ask(false))
        .await
        .unwrap()
        .rest()
        .await;
    assert!(answer.status == 503 || answer.status == 200, "{}", answer.text());
    assert_eq!(
        world.vendor.posts().len(),
        0,
        "a device of another hub reached this one's vendor"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_hub_toml_shows_all_problems_at_once_each_with_a_hint() {
    let folder = scratch_dir("config");
    let mut hub = Hub::init(PROGRAMS, folder.path(), "info").await;
    let text = "[tunnel]\nlisten = \"nowhere\"\nlisen = \"0.0.0.0:1\"\n\n[limits]\nbody_bytes = \"many\"\nhead_bytes = -4\n\n\
                [unheard]\nof = 1\n";
    fs::write(hub.home.join("hub.toml"), text).unwrap();
    let ended = hub.command(&["check-config"]).await;
    assert_eq!(ended.exit_code, Some(1), "{ended:#?}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for word in ["tunnel.listen", "lisen", "body_bytes", "head_bytes", "unheard"] {
        assert!(said.contains(word), "{word} is not named:\n{said}");
    }
    assert!(hub.try_serve().await.is_err(), "a hub served on a broken hub.toml");
    let syntax = "[tunnel\nlisten = 1";
    fs::write(hub.home.join("hub.toml"), syntax).unwrap();
    let ended = hub.command(&["check-config"]).await;
    assert_eq!(ended.exit_code, Some(1), "{ended:#?}");
    fs::write(hub.home.join("hub.toml"), "").unwrap();
    hub.command(&["check-config"]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_commands_end_with_the_right_code() {
    let folder = scratch_dir("commands");
    let hub = Hub::init(PROGRAMS, folder.path(), "info").await;
    let again = hub.command(&["init"]).await;
    assert_eq!(again.exit_code, Some(1), "init never overwrites: {again:#?}");
    for (arguments, code) in [
        (vec!["unheard-of"], 2),
        (vec!["tenant", "credit", "ten_nobody", "5"], 1),
        (vec!["key", "add", "--tenant", "ten_nobody"], 1),
        (vec!["device", "token", "--tenant", "nobody"], 1),
        (vec!["account", "remove", "nothing"], 1),
    ] {
        let ended = hub.command(&arguments).await;
        assert_eq!(ended.exit_code, Some(code), "{arguments:?}: {ended:#?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
    let tenant = hub.add_tenant("acme", "1").await;
    for amount in ["much", "1.0000000001", "", "99999999999999999999", "1e5", "NaN"] {
        let ended = hub.command(&["tenant", "credit", &tenant, amount]).await;
        assert!([1, 2].contains(&ended.exit_code.unwrap()), "{amount}: {ended:#?}");
    }
    let agent = Agent::new(PROGRAMS, folder.path(), "info", "auto");
    let ended = agent.command(&["run", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(ended.exit_code, Some(1), "an agent that is not enrolled: {ended:#?}");
    assert!(ended.stderr.contains("enroll"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_a_clear_error() {
    let mut world = setup().start().await;
    let taken = world.agent.addr().to_string();
    let pid = world.agent.program().pid().to_string();
    let ended = world.agent.command(&["run", "--listen", &taken]).await;
    assert_eq!(ended.exit_code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains(&taken), "{ended:#?}");
    assert!(ended.stderr.contains(&pid), "it names the holder {pid}: {ended:#?}");
}

/// TLS to the tunnel, trusting its authority, with this certificate; what comes of a request.
async fn knock(world: &World, identity: Option<&World>) -> String {
    let mut roots = rustls::RootCertStore::empty();
    let authority = world.hub.certificate_authority();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(of) => {
            let chain = CertificateDer::pem_file_iter(of.agent.home.join("device.crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(of.agent.home.join("device.key")).unwrap();
            builder
                .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(world.hub.tunnel()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = ServerName::try_from("relay-hub").unwrap();
    let mut stream = match connector.connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => return format!("refused: {error}"),
    };
    let _sent = stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    let mut first = [0; 9];
    match tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut first))
        .await
        .unwrap()
    {
        Ok(_) => "served".to_owned(),
        Err(error) => format!("refused: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tunnel_serves_its_own_devices_and_nobody_else() {
    let world = setup().start().await;
    let other = setup().start().await;
    assert_eq!(knock(&world, Some(&world)).await, "served");
    for stranger in [None, Some(&other)] {
        let outcome = knock(&world, stranger).await;
        assert!(outcome.starts_with("refused"), "{outcome}");
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_cut_never_reaches_the_vendor_as_a_whole() {
    for link in ["quic", "h2"] {
        let world = crate::Setup { link, ..setup() }.start().await;
        let body = crate::ask(true);
        for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
            let head = format!(
                "POST /v1/responses HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {key}\r\n\
                 content-type: application/json\r\n"
            );
            let cuts = [
                format!("{head}content-length: {}\r\n\r\n{body}", body.len() + 5),
                format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len()),
                format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}", body.len() + 1),
            ];
            for request in cuts {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut answer = Vec::new();
                let reading = stream.read_to_end(&mut answer);
                let _closed = tokio::time::timeout(Duration::from_secs(15), reading)
                    .await
                    .expect("it is closed");
                assert!(
                    !answer.starts_with(b"HTTP/1.1 200"),
                    "{link}: {}",
                    String::from_utf8_lossy(&answer)
                );
            }
        }
        assert_eq!(
            world.vendor.posts().len(),
            0,
            "{link}: a cut request was taken for a whole one"
        );
        assert_nothing_charged(&world).await;
    }
}
