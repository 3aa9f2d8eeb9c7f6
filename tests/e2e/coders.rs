//! Claude Code and Gemini CLI, as people run them: a model of any vendor answers them, and runs their commands.

use relay_protocol::VendorWire;
use relay_tests::coder::{Coder, Told};
use relay_tests::sdk::Installed;
use relay_tests::vendor::Script;
use relay_tests::world::World;

use crate::{MODEL, lanes::at, setup};

const ANSWER: &str = "The command printed a marker. ";
const PROMPT: &str = "Run the command and tell what it printed.";

/// Not what the command says, so that only its run can have said it; and nothing that either takes for an attack.
fn tool_round() -> Script {
    Script::tool_round("printf 'marker-%d' 42", ANSWER)
}

async fn ask(coder: Coder, installed: &Installed, world: &World, is_public: bool) -> Told {
    let (addr, key) = match is_public {
        true => (world.hub.http(), &world.key),
        false => (world.agent.addr(), &world.agent.key),
    };
    coder
        .run(installed, (&format!("http://{addr}"), key), MODEL, PROMPT)
        .await
}

fn assert_round(told: &Told) {
    assert!(told.is_smooth(), "{told:#?}");
    assert_eq!(told.answer(), ANSWER, "{told:#?}");
    let tools = told.tools();
    let ran = tools.iter().filter(|given| given.to_string().contains("marker-42"));
    assert_eq!((ran.count(), tools.len()), (1, 1), "{told:#?}");
}

/// Every call was answered at the first try, and is billed as the vendor bills it.
async fn assert_booked(world: &World, calls: usize) {
    assert_eq!(world.vendor.posts().len(), calls);
    let rows = world.books().settled(calls).await;
    let well = rows
        .iter()
        .filter(|row| (row.status, row.ending.as_str()) == (200, "completed"));
    assert_eq!((well.count(), rows.len()), (calls, calls), "{rows:#?}");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

async fn at_every_vendor(coder: Coder) {
    let Some(installed) = coder.install().await else { return };
    for vendor in VendorWire::ALL {
        let world = at(vendor, setup()).await;
        world.vendor.otherwise(tool_round());
        let told = ask(coder, &installed, &world, false).await;
        eprintln!("{coder:?} at {vendor:?}: {:?}", told.outcome.took);
        assert_round(&told);
        assert_booked(&world, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_completes_its_tool_round_at_every_vendor() {
    at_every_vendor(Coder::ClaudeCode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_cli_completes_its_tool_round_at_every_vendor() {
    at_every_vendor(Coder::GeminiCli).await;
}

/// By the public entrance; what arrives at a vendor of its own wire is what it sent.
async fn through_the_public_entrance(coder: Coder, kind: &str) -> Option<World> {
    let installed = coder.install().await?;
    let world = setup().start().await;
    world.connect(kind).await;
    world.vendor.next(Script::message("Nothing to run. "));
    world.vendor.otherwise(tool_round());
    let told = ask(coder, &installed, &world, true).await;
    assert!(told.is_smooth(), "{told:#?}");
    assert_eq!((told.answer().as_str(), told.tools().len()), ("Nothing to run. ", 0));
    assert_round(&ask(coder, &installed, &world, true).await);
    assert_booked(&world, 3).await;
    Some(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_says_to_its_own_vendor_what_it_said_to_the_relay() {
    let Some(world) = through_the_public_entrance(Coder::ClaudeCode, "anthropic").await else {
        return;
    };
    for call in world.vendor.posts() {
        assert_eq!(
            (call.path.as_str(), call.query.as_deref()),
            ("/v1/messages", Some("beta=true"))
        );
        let head = |name: &str| {
            call.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        assert!(head("user-agent").starts_with("claude-cli/"), "{:?}", call.headers);
        assert!(head("anthropic-beta").contains("claude-code-"), "{:?}", call.headers);
        let body = String::from_utf8_lossy(&call.body);
        for word in ["cache_control", "context_management", "defer_loading", "output_config"] {
            assert!(body.contains(word), "{word}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_cli_says_to_its_own_vendor_what_it_said_to_the_relay() {
    let Some(world) = through_the_public_entrance(Coder::GeminiCli, "gemini").await else {
        return;
    };
    for call in world.vendor.posts() {
        let path = format!("/v1beta/models/{MODEL}:streamGenerateContent");
        assert_eq!((call.path, call.query.as_deref()), (path, Some("alt=sse")));
        assert!(
            call.headers["x-goog-api-client"]
                .to_str()
                .unwrap()
                .contains("google-genai-sdk/")
        );
        let body = String::from_utf8_lossy(&call.body);
        for word in ["systemInstruction", "parametersJsonSchema", "thinkingConfig", "topK"] {
            assert!(body.contains(word), "{word}: {body}");
        }
    }
}
