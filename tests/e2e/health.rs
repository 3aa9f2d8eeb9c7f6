//! The table of docs/health.md, run row by row: what a vendor does, and what becomes of the account, the call and its price.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use relay_tests::{
    client::{Client, Whole},
    vendor::{Break, Script, bedrock},
    world::World,
};
use serde_json::json;

use crate::{MODEL, Setup, ask, setup, shown};

/// A model of Anthropic's at Bedrock.
const CLAUDE: &str = "anthropic.test-model";

const SETTINGS: &str =
    "[metrics]\nlisten = \"127.0.0.1:0\"\n[limits]\nfirst_byte_timeout = \"700ms\"\nidle_timeout = \"700ms\"\n";

/// One row of the page.
struct Row {
    vendor: String,
    verdict: String,
    account: String,
    client: String,
    elsewhere: bool,
    charge: String,
}

impl Row {
    fn is_bedrock(&self) -> bool {
        self.vendor.starts_with("Bedrock")
    }
}

fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/health.md");
    let page = fs::read_to_string(page).unwrap();
    let lines = page.lines().skip_while(|line| !line.starts_with("|---"));
    let rows: Vec<_> = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
            let mut cell = || cells.next().unwrap();
            Row {
                vendor: cell(),
                verdict: cell(),
                account: cell(),
                client: cell(),
                elsewhere: cell() == "yes",
                charge: cell(),
            }
        })
        .collect();
    assert!(rows.len() >= 30, "the table has {} rows", rows.len());
    rows
}

fn refused(status: u16) -> Script {
    Script::error(status, "server_error", Some("x"), "no")
}

fn limited(name: &str, value: &str) -> Script {
    refused(429).header(name, value)
}

fn bomb() -> Bytes {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        std::io::Write::write_all(&mut bomb, &[0; 1 << 16]).unwrap();
    }
    bomb.finish().unwrap().into()
}

/// A head of which the end never comes, for as long as anybody reads.
fn endless() -> &'static [u8] {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for at in 0..20_000 {
        head.extend_from_slice(format!("x-{at}: {}\r\n", "y".repeat(60)).as_bytes());
    }
    head.leak()
}

/// What the vendor does, and whether it is asked for a stream.
fn script(row: &str) -> (Script, bool) {
    let stream = |script| (script, true);
    let plain = |script| (script, false);
    let long = || Script::deltas(40, 200);
    match row {
        "429 with Retry-After in seconds" => plain(limited("retry-after", "7")),
        "429 with Retry-After as a date" => plain(limited("retry-after", "Sat, 21 Nov 2099 00:00:09 GMT")),
        "429 with retry-after-ms" => plain(limited("retry-after-ms", "2500")),
        "429 with OpenAI's x-ratelimit headers" => {
            plain(limited("x-ratelimit-remaining-tokens", "0").header("x-ratelimit-reset-tokens", "1m2s"))
        }
        "429 with Anthropic's ratelimit headers" => plain(
            limited("anthropic-ratelimit-requests-remaining", "0")
                .header("anthropic-ratelimit-requests-reset", "2099-11-21T00:00:30Z"),
        ),
        "429 with Google's RetryInfo" => {
            let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"}]);
            plain(Script::json(
                429,
                &json!({"error": {"code": 429, "message": "no", "details": details}}),
            ))
        }
        "429 insufficient_quota" => plain(Script::error(
            429,
            "insufficient_quota",
            Some("insufficient_quota"),
            "no",
        )),
        "403 three times in a row" => plain(refused(403)),
        "redirect 301" => plain(Script::text(301, "moved").header("location", "http://127.0.0.1:1/v1/responses")),
        "redirect 307" => plain(Script::text(307, "moved").header("location", "http://127.0.0.1:1/v1/responses")),
        "hangs before the head" => plain(Script::hang()),
        "closes before the head" => plain(Script::hang_up(Break::Fin)),
        "resets before the head" => plain(Script::hang_up(Break::Reset)),
        "garbage instead of HTTP" => plain(Script::garbage(b"220 mail.example ESMTP\r\n")),
        "a head without an end" => plain(Script::garbage(endless())),
        "a document that is cut" => plain(long().declares_length().cut(300, Break::Fin)),
        "a stream that is cut" => stream(long().cut(3_000, Break::Fin)),
        "a stream that is reset" => stream(long().cut(3_000, Break::Reset)),
        "a stream that falls silent" => stream(long().silence(5, Duration::from_secs(60))),
        "a stream with a failure in it" => stream(Script::failed("server_error", "no")),
        "a page instead of an answer" => {
            plain(Script::text(200, "<html>Welcome to our captive portal</html>").header("x-portal", "1"))
        }
        "a gzip bomb" => plain(Script::chunks("application/json", vec![bomb()]).header("content-encoding", "gzip")),
        "Bedrock: AccessDeniedException" => plain(bedrock::error(403, "AccessDeniedException", "no")),
        "Bedrock: UnrecognizedClientException" => plain(bedrock::error(403, "UnrecognizedClientException", "no")),
        "Bedrock: ExpiredTokenException" => plain(bedrock::error(403, "ExpiredTokenException", "no")),
        "Bedrock: ThrottlingException" => plain(bedrock::error(429, "ThrottlingException", "no")),
        "Bedrock: ServiceQuotaExceededException" => plain(bedrock::error(400, "ServiceQuotaExceededException", "no")),
        "Bedrock: ModelNotReadyException" => plain(bedrock::error(429, "ModelNotReadyException", "no")),
        "Bedrock: ModelTimeoutException" => plain(bedrock::error(408, "ModelTimeoutException", "no")),
        "Bedrock: ModelErrorException" => plain(bedrock::error(424, "ModelErrorException", "no")),
        "Bedrock: ServiceUnavailableException" => plain(bedrock::error(503, "ServiceUnavailableException", "no")),
        "Bedrock: InternalServerException" => plain(bedrock::error(500, "InternalServerException", "no")),
        "Bedrock: ValidationException" => plain(bedrock::error(400, "ValidationException", "no")),
        "Bedrock: a damaged frame" => stream(framed(|last| *last.last_mut().unwrap() ^= 1)),
        "Bedrock: a stream that is cut" => stream(long().cut(3_000, Break::Fin)),
        "Bedrock: throttlingException in a stream" => {
            let failed = bedrock::exception("throttlingException", "no");
            stream(Script::chunks(bedrock::FRAMES, vec![failed]))
        }
        status => plain(refused(
            status.parse().unwrap_or_else(|_| panic!("no script for `{status}`")),
        )),
    }
}

/// Two frames of an answer at Bedrock, the last of them changed.
fn framed(change: impl Fn(&mut Vec<u8>)) -> Script {
    let start = bedrock::chunk(r#"{"type":"message_start","message":{"id":"msg_1"}}"#);
    let mut last = bedrock::chunk(r#"{"type":"message_stop"}"#).to_vec();
    change(&mut last);
    Script::chunks(bedrock::FRAMES, vec![start, last.into()])
}

async fn figures(world: &World) -> HashMap<String, i64> {
    let client = Client::new(&format!("http://{}", world.hub.metrics().unwrap()), "");
    let text = client.get("/metrics").await.unwrap().rest().await.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = samples.filter_map(|line| line.rsplit_once(' '));
    pairs
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// An account of this tenant alone, at the vendor that the row is about.
async fn account(world: &World, name: &str, tenant: &str, row: &Row) {
    let is_bedrock = row.is_bedrock();
    let (vendor, base_url) = match is_bedrock {
        true => ("bedrock", format!("http://{}", world.vendor.addr())),
        false => ("openai", world.vendor.base_url()),
    };
    let secret = world.scratch().join("vendor-secret").display().to_string();
    let words = ["account", "add", name, "--vendor", vendor, "--base-url", &base_url];
    let of_key: &[&str] = if is_bedrock {
        &["--key-id", "AKID", "--aws-region", "eu-west-1"]
    } else {
        &[]
    };
    let words = [&words[..], of_key, &["--secret-file", &secret]].concat();
    world.hub.command(&words).await.succeeded();
    let words = ["account", "share", name, "--with", tenant];
    world.hub.command(&words).await.succeeded();
}

/// One call of the row's wire.
async fn call(client: &Client, row: &Row, is_stream: bool) -> Whole {
    let messages = json!({
        "model": CLAUDE, "max_tokens": 500, "stream": is_stream, "messages": [{"role": "user", "content": "Hi"}],
    });
    let (path, body) = match row.is_bedrock() {
        true => ("/messages", messages.to_string()),
        false => ("/responses", ask(is_stream)),
    };
    client.post(path, body).await.unwrap().rest().await
}

async fn client(world: &World, tenant: &str) -> Client {
    let key = world.hub.add_key(tenant).await;
    Client::new(&format!("http://{}/v1", world.hub.http()), &key)
}

fn outcome(answer: &Whole) -> String {
    let status = answer.status.as_u16();
    let text = answer.text();
    match (
        &answer.cut,
        text.contains("response.failed") || text.contains("event: error"),
    ) {
        (_, true) => format!("{status} failed"),
        (Some(_), false) => format!("{status} cut"),
        (None, false) => status.to_string(),
    }
}

async fn alone(world: &World, at: usize, row: &Row) {
    let tenant = world.hub.add_tenant(&format!("alone-{at}"), "10").await;
    let name = format!("account-{at}");
    account(world, &name, &tenant, row).await;
    let client = client(world, &tenant).await;
    let (script, is_stream) = script(&row.vendor);
    let times = if row.vendor.contains("three times") { 3 } else { 1 };
    let before = figures(world).await;
    let rows_before = world.books().settled(0).await.len();
    for _ in 0..times {
        world.vendor.next(script.clone());
        let answer = call(&client, row, is_stream).await;
        assert_eq!(outcome(&answer), row.client, "{}: {}", row.vendor, answer.text());
    }
    let rows = world.books().settled(rows_before + times).await;
    let after = figures(world).await;
    let grown = |name: &str| after.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
    let troubles = before.keys().filter(|name| name.starts_with("relay_account_troubles"));
    let met: Vec<_> = troubles.filter(|name| grown(name) > 0).collect();
    let wanted: Vec<_> = Some(&row.verdict)
        .filter(|verdict| *verdict != "–")
        .map(|verdict| format!("relay_account_troubles_total{{trouble=\"{verdict}\"}}"))
        .into_iter()
        .collect();
    assert_eq!(met, wanted.iter().collect::<Vec<_>>(), "{}", row.vendor);
    for state in ["resting", "quarantined", "down"] {
        let wanted = i64::from(state == row.account);
        let name = format!("relay_accounts{{state=\"{state}\"}}");
        assert_eq!(grown(&name), wanted, "{}: {state}", row.vendor);
    }
    for booked in rows.iter().skip(rows_before) {
        let charge = match (booked.charged, booked.source.as_deref()) {
            (0, None) => "nothing",
            (_, Some("estimated")) => "counted",
            _ => "reported",
        };
        assert_eq!(charge, row.charge, "{}: {booked:#?}", row.vendor);
    }
}

async fn in_a_pool(world: &World, at: usize, row: &Row) {
    let tenant = world.hub.add_tenant(&format!("pool-{at}"), "10").await;
    let names = ["a", "b"].map(|letter| format!("pool-{at}-{letter}"));
    for name in &names {
        account(world, name, &tenant, row).await;
    }
    let client = client(world, &tenant).await;
    let (script, is_stream) = script(&row.vendor);
    world.vendor.next(script);
    let answer = call(&client, row, is_stream).await;
    let wanted = if row.elsewhere { "200" } else { &row.client };
    assert_eq!(outcome(&answer), wanted, "{}: {}", row.vendor, answer.text());
    if row.elsewhere {
        let call = answer.headers["relay-call-id"].to_str().unwrap();
        let told = shown(world, call).await;
        let attempts = told[0]["attempts"].as_array().unwrap();
        let verdicts: Vec<_> = attempts
            .iter()
            .map(|attempt| attempt["verdict"].as_str().unwrap())
            .collect();
        assert_eq!(verdicts, [row.verdict.as_str(), "answered"], "{}", row.vendor);
        assert_ne!(attempts[0]["account"], attempts[1]["account"], "{}", row.vendor);
        assert_eq!(told[0]["detail"]["choice"], "failover", "{}", row.vendor);
    }
    for name in &names {
        world.hub.command(&["account", "remove", name]).await.succeeded();
    }
}

async fn world() -> World {
    let hub_toml = SETTINGS.to_owned();
    let models = vec![MODEL.to_owned(), CLAUDE.to_owned()];
    let setup = Setup {
        hub_toml,
        models,
        ..setup()
    };
    let world = setup.start().await;
    // The rows have tenants and accounts of their own.
    let words = ["account", "share", "main", "--exclusive", &world.tenant];
    world.hub.command(&words).await.succeeded();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_does_ends_as_the_page_says() {
    let world = world().await;
    for (at, row) in rows().iter().enumerate() {
        alone(&world, at, row).await;
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_of_the_pool_serves_where_the_page_says() {
    let world = world().await;
    for (at, row) in rows().iter().enumerate() {
        in_a_pool(&world, at, row).await;
    }
    world.assert_sound().await;
}
