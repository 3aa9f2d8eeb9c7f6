//! The real Codex CLI does real work: a tool round in each of the four ways it can be pointed at a base URL.
//! First without the relay, so that a failure through the relay is known to be ours.

use relay_tests::codex::{Codex, Outcome, Run, Way};
use relay_tests::vendor::{Script, Vendor};
use relay_tests::world::{Setup, World};

use crate::{PROGRAMS, setup};

pub(crate) const CODEX_MODEL: &str = "gpt-5.2-codex";
const ANSWER: &str = "The command printed a marker. ";

fn tool_round() -> Script {
    Script::tool_round("echo marker-$((6*7))", ANSWER)
}

/// The final message is right, the tool ran, and nothing was tried twice.
fn assert_clean(outcome: &Outcome) {
    assert_eq!(outcome.exit_code, Some(0), "{outcome:#?}");
    assert_eq!(outcome.stdout.trim(), ANSWER.trim(), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("marker-42"),
        "the tool did not run: {outcome:#?}"
    );
    for trouble in ["Reconnecting", "Falling back", "ERROR"] {
        assert!(!outcome.stderr.contains(trouble), "{trouble}: {outcome:#?}");
    }
}

async fn directly(way: Way, sockets: usize, posts: usize) {
    let Some(codex) = Codex::install().await else { return };
    let vendor = Vendor::start().await;
    vendor.otherwise(tool_round());
    vendor.models(catalog());
    let outcome = codex
        .exec(&Run::new(way, &vendor.base_url(), "key-of-the-baseline"))
        .await;
    assert_clean(&outcome);
    assert_eq!(vendor.sockets().len(), sockets);
    assert_eq!(vendor.posts().len(), posts);
    let billed = vendor.truth().totals().billed_calls;
    assert_eq!(
        billed,
        2,
        "one call of the tool, one answer: {:#?}",
        vendor.truth().entries()
    );
}

/// The smallest catalog that Codex takes without a word.
fn catalog() -> Script {
    let entry = serde_json::json!({
        "slug": "gpt-5.2-codex", "display_name": "gpt-5.2-codex", "shell_type": "unified_exec",
        "supported_reasoning_levels": [{"effort": "medium", "description": "medium"}], "visibility": "list",
        "supported_in_api": true, "priority": 0, "base_instructions": "You are a coding agent.",
        "support_verbosity": false, "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "experimental_supported_tools": [],
    });
    Script::json(200, &serde_json::json!({"models": [entry]}))
}

#[tokio::test]
async fn codex_does_a_tool_round_directly_over_http() {
    directly(Way::Custom, 0, 2).await;
}

#[tokio::test]
async fn codex_does_a_tool_round_directly_over_websocket() {
    directly(Way::CustomSocket, 1, 3).await;
}

#[tokio::test]
async fn codex_does_a_tool_round_directly_with_the_built_in_provider() {
    directly(Way::BuiltIn, 1, 3).await;
}

#[tokio::test]
async fn codex_does_a_tool_round_directly_with_a_key_from_a_command() {
    directly(Way::Command("echo".into(), vec!["a-key".to_owned()]), 1, 3).await;
}

/// A world in which the model has a price, and Codex through its agent.
async fn through_the_relay(way: impl FnOnce(&World) -> Way, sockets: usize, posts: usize) {
    let Some(codex) = Codex::install().await else { return };
    let models = vec![CODEX_MODEL.to_owned()];
    let world = Setup { models, ..setup() }.start().await;
    world.vendor.otherwise(tool_round());
    let run = Run::new(way(&world), &world.agent.base_url(), &world.agent.key);
    let outcome = codex.exec(&run).await;
    assert_clean(&outcome);
    assert_eq!(
        (world.vendor.sockets().len(), world.vendor.posts().len()),
        (sockets, posts),
        "{outcome:#?}"
    );
    assert_eq!(world.vendor.truth().totals().billed_calls, 2);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_does_a_tool_round_through_the_relay_over_http() {
    through_the_relay(|_| Way::Custom, 0, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_does_a_tool_round_through_the_relay_over_websocket() {
    through_the_relay(|_| Way::CustomSocket, 1, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_does_a_tool_round_through_the_relay_with_the_built_in_provider() {
    through_the_relay(|_| Way::BuiltIn, 1, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_does_a_tool_round_through_the_relay_with_the_key_of_relay_agent_token() {
    let token = |world: &World| {
        let arguments = ["token", "--data", &world.agent.home.display().to_string()].map(str::to_owned);
        Way::Command(PROGRAMS.agent.into(), arguments.to_vec())
    };
    through_the_relay(token, 1, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_works_with_what_relay_agent_setup_wrote() {
    let home = relay_tests::codex::scratch_dir("setup");
    let Some(codex) = Codex::install().await else { return };
    let models = vec![CODEX_MODEL.to_owned()];
    let world = Setup { models, ..setup() }.start().await;
    world.vendor.otherwise(tool_round());
    let folder = home.path().display().to_string();
    let arguments = ["setup", "codex", "--codex-home", &folder];
    world.agent.command(&arguments).await.succeeded();
    let outcome = codex
        .exec(&Run::new(Way::Prepared(home.path().to_owned()), "", ""))
        .await;
    assert_clean(&outcome);
    world.assert_billed_truly().await;
    world
        .agent
        .command(&["setup", "codex", "--undo", "--codex-home", &folder])
        .await
        .succeeded();
    let left = std::fs::read_to_string(home.path().join("config.toml")).unwrap_or_default();
    assert!(!left.contains("127.0.0.1"), "a dead base URL is left: {left}");
}
