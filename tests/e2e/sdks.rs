//! The official SDKs of Anthropic and Google, as people use them: through the agent, and through the public entrance.

use relay_tests::sdk::Sdk;
use relay_tests::vendor::Script;
use serde_json::json;

use crate::{MODEL, setup};

/// Whole, streamed, a round with a tool, a count, the models and a refusal, by both ways.
async fn works(sdk: Sdk) {
    let Some(installed) = sdk.install().await else { return };
    let world = setup().start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        for text in ["Said at once. ", "Said bit by bit. "] {
            world.vendor.next(Script::message(text));
        }
        for _ in 0..2 {
            world.vendor.next(Script::tool_round("echo hi", "It printed hi. "));
        }
        let said = sdk.run(&installed, &format!("http://{addr}"), key, MODEL).await;
        assert_eq!(said["whole"], "Said at once. ");
        assert_eq!(said["streamed"], "Said bit by bit. ");
        assert_eq!(said["output"], 13, "four words and nine more");
        let (reason, refused) = if sdk.is_of_anthropic() {
            ("tool_use", "NotFoundError 404 not_found_error")
        } else {
            ("STOP", "404 NOT_FOUND")
        };
        assert_eq!(said["tool"], json!(["exec_command", "echo hi", reason]));
        assert_eq!(said["answered"], "It printed hi. ");
        assert_eq!(said["counted"], 2_095);
        assert!(said["models"].as_array().unwrap().contains(&json!(MODEL)), "{said}");
        assert!(said["refused"].as_str().unwrap().ends_with(refused), "{said}");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_s_for_typescript_works_through_the_relay() {
    works(Sdk::AnthropicTypeScript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_s_for_python_works_through_the_relay() {
    works(Sdk::AnthropicPython).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_s_for_typescript_works_through_the_relay() {
    works(Sdk::GoogleTypeScript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_s_for_python_works_through_the_relay() {
    works(Sdk::GooglePython).await;
}
