//! A vendor's faults reach Codex through the relay as they would directly: as many tries, the same words, the
//! same exit code; or better, where the relay improves on them, and then exactly as written here.

use std::time::Duration;

use futures_util::StreamExt;
use relay_tests::codex::{Codex, Outcome, Run, Way};
use relay_tests::vendor::{Break, Ending, Script, SocketFault, Upgrade, Vendor};
use relay_tests::world::Setup;

use crate::{MODEL, ask, setup};

/// What the relay makes of a fault.
enum Through {
    /// The same as directly.
    Same,
    /// So many tries, and an error that contains these words.
    Better(usize, &'static str),
}

struct Fault {
    name: &'static str,
    script: Script,
    through: Through,
}

/// Two tries of everything that Codex tries again by default thirty times.
const FEW_RETRIES: &str = "request_max_retries = 1\nstream_max_retries = 1\nstream_idle_timeout_ms = 2500";

/// Directly, Codex says "error decoding response body" or "stream closed before response.completed".
const BROKE_OFF: &str = "The upstream broke off before the answer was complete.";
/// Directly, Codex says "error sending request".
const UNREACHABLE: &str = "The upstream could not be reached.";

fn http_faults() -> Vec<Fault> {
    let same = |name, script| Fault {
        name,
        script,
        through: Through::Same,
    };
    let error = |status: u16, code: &str| {
        let code = (!code.is_empty()).then_some(code);
        Script::error(status, "invalid_request_error", code, "The vendor says no.")
    };
    let better = |name, tries, words, script| Fault {
        name,
        script,
        through: Through::Better(tries, words),
    };
    let cut = |how| Script::deltas(40, 64).cut(4_000, how);
    vec![
        same("400-json", error(400, "invalid_value")),
        same("400-text", Script::text(400, "Top up your balance at the counter.")),
        same("400-context", error(400, "context_length_exceeded")),
        same("402", error(402, "")),
        same("403", error(403, "")),
        same("404-plain", error(404, "")),
        same("404-previous", error(404, "previous_response_not_found")),
        same("404-model", error(404, "model_not_found")),
        same("408", error(408, "")),
        same("413", error(413, "")),
        same("415", error(415, "")),
        same(
            "429-after",
            error(429, "rate_limit_exceeded").header("retry-after", "1"),
        ),
        same(
            "429-quota",
            Script::error(429, "insufficient_quota", Some("insufficient_quota"), "No quota."),
        ),
        same("429-limit", usage_limit()),
        same("500", error(500, "")),
        same("502", error(502, "")),
        same("503", error(503, "")),
        same("504", error(504, "")),
        same("529", error(529, "")),
        same("503-after", error(503, "").header("retry-after", "1")),
        same("503-overloaded", error(503, "server_is_overloaded")),
        same(
            "failed-rate",
            Script::failed("rate_limit_exceeded", "Please try again in 0.5s."),
        ),
        same(
            "failed-server",
            Script::failed("server_error", "The server had an error."),
        ),
        same("failed-quota", Script::failed("insufficient_quota", "No quota.")),
        same(
            "failed-not-included",
            Script::failed("usage_not_included", "Not included."),
        ),
        same("failed-overloaded", Script::failed("server_is_overloaded", "Busy.")),
        same(
            "failed-prompt",
            Script::failed("invalid_prompt", "Invalid prompt: be nice."),
        ),
        same("failed-cyber", Script::failed("cyber_policy", "Not that.")),
        same("failed-context", Script::failed("context_length_exceeded", "Too long.")),
        same("incomplete-tokens", Script::incomplete("max_output_tokens")),
        same("incomplete-filter", Script::incomplete("content_filter")),
        same("silent", Script::deltas(3, 9).silence(2, Duration::from_secs(600))),
        better("cut", 2, BROKE_OFF, cut(Break::Fin)),
        better("reset", 2, BROKE_OFF, cut(Break::Reset)),
        better("no-end", 2, BROKE_OFF, Script::deltas(3, 9).ending(Ending::Missing)),
        better("empty", 2, BROKE_OFF, Script::chunks("text/event-stream", Vec::new())),
        better("hang-up", 4, UNREACHABLE, Script::hang_up(Break::Fin)),
        better("hang-up-reset", 4, UNREACHABLE, Script::hang_up(Break::Reset)),
        better("garbage", 4, UNREACHABLE, Script::garbage(b"I am not HTTP.\r\n\r\n")),
        better("error-event", 2, BROKE_OFF, error_event()),
        same(
            "401",
            Script::error(
                401,
                "invalid_request_error",
                Some("invalid_api_key"),
                "Incorrect API key.",
            ),
        ),
        // Directly, Codex gives up at once; the relay says how long to wait.
        better(
            "429-plain",
            2,
            "exceeded retry limit",
            error(429, "rate_limit_exceeded").header("retry-after-ms", "900"),
        ),
    ]
}

fn usage_limit() -> Script {
    let body = serde_json::json!({"error": {"type": "usage_limit_reached", "message": "The limit has been reached.",
        "plan_type": "pro", "resets_at": 1_900_000_000}});
    Script::json(429, &body)
}

fn error_event() -> Script {
    let event = "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"boom\"}\n\n";
    Script::chunks("text/event-stream", vec![event.into()])
}

/// What Codex and the vendor saw of one fault.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    tries: usize,
    exit_code: Option<i32>,
    errors: Vec<String>,
}

fn seen(outcome: &Outcome, vendor: &Vendor, model: &str, base_url: &str) -> Seen {
    let asks = format!("\"model\":\"{model}\"");
    let of_model = |body: &[u8]| relay_tests::client::contains(body, asks.as_bytes());
    let tries = vendor.posts().iter().filter(|call| of_model(&call.body)).count();
    let errors = outcome
        .errors()
        .into_iter()
        .map(|error| normal(&error, base_url))
        .collect();
    Seen {
        tries,
        exit_code: outcome.exit_code,
        errors,
    }
}

/// Without what varies from run to run: the address and the request's id.
fn normal(error: &str, base_url: &str) -> String {
    let error = error.replace(base_url, "BASE");
    match error.split_once("request id: ") {
        None => error,
        Some((before, after)) => {
            let rest = after.find([',', ' ', ')']).map_or("", |end| &after[end..]);
            format!("{before}request id: ID{rest}")
        }
    }
}

/// Where Codex sends its calls.
#[derive(Clone)]
struct Place {
    base_url: String,
    key: String,
    way: Way,
}

async fn run(codex: &Codex, vendor: &Vendor, place: &Place, name: &str) -> Seen {
    let model = format!("fault-{name}");
    let run = Run {
        model: &model,
        provider_options: FEW_RETRIES,
        ..Run::new(place.way.clone(), &place.base_url, &place.key)
    };
    let outcome = codex.exec(&run).await;
    seen(&outcome, vendor, &model, &place.base_url)
}

/// Runs every fault at both places, a few at a time; tells all differences at once.
async fn compare(faults: fn() -> Vec<Fault>, way: Way) {
    let Some(codex) = Codex::install().await else { return };
    let models = faults().iter().map(|fault| format!("fault-{}", fault.name)).collect();
    let world = Setup { models, ..setup() }.start().await;
    let vendor = Vendor::start().await;
    for fault in faults() {
        let model = format!("fault-{}", fault.name);
        vendor.on_model(&model, fault.script.clone());
        world.vendor.on_model(&model, fault.script);
    }
    let direct = Place {
        base_url: vendor.base_url(),
        key: "key".to_owned(),
        way: way.clone(),
    };
    let relay = Place {
        base_url: world.agent.base_url(),
        key: world.agent.key.clone(),
        way,
    };
    let differences: Vec<String> = futures_util::stream::iter(faults())
        .map(async |fault| {
            let before = run(&codex, &vendor, &direct, fault.name).await;
            let after = run(&codex, &world.vendor, &relay, fault.name).await;
            difference(&fault, &before, &after)
        })
        .buffer_unordered(4)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    let rows = world.books().settled(1).await;
    let charged: Vec<_> = rows
        .iter()
        .filter(|row| {
            row.charged > 0
                && ["vendor_error", "refused"]
                    .iter()
                    .any(|kind| row.ending.starts_with(kind))
        })
        .collect();
    assert!(charged.is_empty(), "an error was charged: {charged:#?}");
    world.assert_sound().await;
}

fn difference(fault: &Fault, directly: &Seen, through: &Seen) -> Option<String> {
    let is_as_promised = match fault.through {
        Through::Same => directly == through,
        Through::Better(tries, words) => {
            through.tries == tries
                && through.exit_code == directly.exit_code
                && through.errors.join("\n").contains(words)
        }
    };
    (!is_as_promised).then(|| format!("{}:\n  directly {directly:?}\n  through  {through:?}", fault.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_reach_codex_over_http_as_they_would_directly() {
    compare(http_faults, Way::Custom).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_reach_codex_over_websocket_as_they_would_directly() {
    compare(socket_faults, Way::CustomSocket).await;
}

fn socket_faults() -> Vec<Fault> {
    let same = |name, script| Fault {
        name,
        script,
        through: Through::Same,
    };
    let error =
        |status: u16, code: &str| Script::error(status, "invalid_request_error", Some(code), "The vendor says no.");
    let fault = |fault| Script::socket_fault(fault);
    vec![
        same("ws-400", error(400, "invalid_value")),
        same("ws-400-context", error(400, "context_length_exceeded")),
        same("ws-404-model", error(404, "model_not_found")),
        same(
            "ws-429-quota",
            Script::error(429, "insufficient_quota", Some("insufficient_quota"), "No quota."),
        ),
        same("ws-429-limit", usage_limit()),
        same("ws-500", error(500, "server_error")),
        same("ws-503-overloaded", error(503, "server_is_overloaded")),
        same(
            "ws-failed-prompt",
            Script::failed("invalid_prompt", "Invalid prompt: be nice."),
        ),
        same(
            "ws-failed-server",
            Script::failed("server_error", "The server had an error."),
        ),
        same(
            "ws-failed-rate",
            Script::failed("rate_limit_exceeded", "Please try again in 0.5s."),
        ),
        same("ws-incomplete", Script::incomplete("max_output_tokens")),
        same("ws-close-1000", fault(SocketFault::Close(1000))),
        same("ws-close-1011", fault(SocketFault::Close(1011))),
        same("ws-binary", fault(SocketFault::Binary)),
        same("ws-hang-up", fault(SocketFault::HangUp(Break::Fin))),
        same("ws-reset", fault(SocketFault::HangUp(Break::Reset))),
        same("ws-silent", Script::deltas(3, 9).silence(2, Duration::from_secs(600))),
    ]
}

/// As Codex comes: thirty tries of a 500, six of a 401, and six of a 429 that says how long to wait, as the relay's does
/// where the vendor's did not.
#[tokio::test(flavor = "multi_thread")]
async fn with_codex_own_retries_the_relay_multiplies_nothing() {
    let Some(codex) = Codex::install().await else { return };
    let faults = [
        ("fault-r500", Script::error(500, "server_error", None, "oops"), 30),
        (
            "fault-r401",
            Script::error(401, "invalid_request_error", Some("invalid_api_key"), "no"),
            6,
        ),
        (
            "fault-r429",
            Script::error(429, "rate_limit_exceeded", Some("rate_limit_exceeded"), "no"),
            6,
        ),
    ];
    // Each at an account of its own: how often one that is dead is asked in its first minute has a limit.
    futures_util::stream::iter(faults)
        .for_each_concurrent(3, async |(model, script, wanted)| {
            let models = vec![model.to_owned()];
            let world = Setup { models, ..setup() }.start().await;
            world.vendor.on_model(model, script);
            let (base_url, key) = (world.agent.base_url(), &world.agent.key);
            let run = Run {
                model,
                ..Run::new(Way::Custom, &base_url, key)
            };
            let outcome = codex.exec(&run).await;
            let seen = seen(&outcome, &world.vendor, model, &base_url);
            assert_eq!((seen.tries, seen.exit_code), (wanted, Some(1)), "{model}: {seen:?}");
            world.assert_billed_truly().await;
            world.assert_sound().await;
        })
        .await;
}

/// A vendor's 500 is repeated thirty times, and a 503 with `Retry-After` after that time each. Of an account that has been
/// out of use for a minute Codex hears at its first try, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn codex_stops_at_once_where_its_only_account_is_dead() {
    let Some(codex) = Codex::install().await else { return };
    let mut world = setup().start().await;
    let refusal = Script::error(401, "invalid_request_error", Some("invalid_api_key"), "no");
    world.vendor.on_model(MODEL, refusal);
    let refused = world.through_hub().post("/responses", ask(false)).await.unwrap();
    assert_eq!(refused.rest().await.status, 401);
    world.books().settled(1).await;
    while world.hub.json(&["account", "health"]).await[0]["state"] != "quarantined" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.hub.program().kill().await;
    relay_tests::books::age_troubles(&world.hub.home).await;
    world.hub.serve().await;
    world.chaos.towards(world.hub.tunnel());
    world.vendor.on_model(MODEL, Script::message("Here again."));

    let (base_url, key) = (world.agent.base_url(), world.agent.key.clone());
    let asked = world.vendor.posts().len();
    // An upgrade that is refused with 400 it tries twice.
    for (way, tries) in [(Way::Custom, 1), (Way::CustomSocket, 3)] {
        let run = Run {
            model: MODEL,
            ..Run::new(way, &base_url, &key)
        };
        let outcome = codex.exec(&run).await;
        let said = outcome.errors().join("\n");
        let why = "its vendor refuses it. It is tried again in ";
        assert!(said.contains(why), "{outcome:?}");
        assert_eq!(outcome.exit_code, Some(1));
        let rows = world.books().settled(1 + tries).await;
        let refused = rows.iter().filter(|row| row.ending == "refused:account_unavailable");
        assert_eq!(refused.count(), tries, "{rows:#?}");
    }
    assert_eq!(world.vendor.posts().len(), asked, "the vendor was not asked");

    world.hub.command(&["account", "revive", "main"]).await.succeeded();
    world.look().await;
    let outcome = codex
        .exec(&Run {
            model: MODEL,
            ..Run::new(Way::Custom, &base_url, &key)
        })
        .await;
    assert_eq!(outcome.exit_code, Some(0), "{outcome:?}");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

/// Upgrades that a vendor refuses: what Codex makes of it, which is to go on over HTTP at last.
#[tokio::test(flavor = "multi_thread")]
async fn refused_upgrades_reach_codex_as_they_would_directly() {
    let Some(codex) = Codex::install().await else { return };
    let model = "fault-upgrade";
    let world = Setup {
        models: vec![model.to_owned()],
        ..setup()
    }
    .start()
    .await;
    let refuse = |script: Script| Upgrade::Refuse(Box::new(script));
    let error = |status: u16| Script::error(status, "invalid_request_error", None, "The vendor says no.");
    let quota = Script::error(429, "insufficient_quota", Some("insufficient_quota"), "No quota.");
    let mut differences = Vec::new();
    for (name, upgrade) in [
        ("403", refuse(error(403))),
        ("400", refuse(Script::text(400, "Plain words."))),
        ("429-quota", refuse(quota)),
        ("500", refuse(error(500))),
        ("503-after", refuse(error(503).header("retry-after", "1"))),
        ("hang-up", Upgrade::HangUp(Break::Fin)),
        ("404", refuse(error(404))),
        // The last: the relay remembers that a vendor has no WebSocket.
        ("426", refuse(error(426))),
    ] {
        let mut outcomes = Vec::new();
        let direct = Vendor::start().await;
        let key = world.agent.key.clone();
        let before = world.vendor.posts().len();
        for (vendor, base_url) in [(&direct, direct.base_url()), (&world.vendor, world.agent.base_url())] {
            vendor.upgrades(upgrade.clone());
            let place = Place {
                base_url,
                key: key.clone(),
                way: Way::CustomSocket,
            };
            outcomes.push(run(&codex, vendor, &place, "upgrade").await);
        }
        outcomes[1].tries -= before;
        eprintln!("{name}: {outcomes:?}");
        if outcomes[0] != outcomes[1] {
            differences.push(format!(
                "{name}:\n  directly {:?}\n  through  {:?}",
                outcomes[0], outcomes[1]
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    world.assert_sound().await;
}
