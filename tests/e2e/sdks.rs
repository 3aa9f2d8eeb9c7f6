//! The official SDKs of OpenAI, Anthropic and Google, as people use them: through the agent, and through the public
//! entrance; each at every vendor.

use relay_protocol::VendorWire;
use relay_tests::sdk::Sdk;
use relay_tests::vendor::Script;
use serde_json::json;

use crate::{MODEL, lanes::at, setup};

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

/// How the picture of every script begins, in base64.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB";

/// At each vendor it is told the same, and each vendor is told the same of it.
async fn is_served_everywhere(sdk: Sdk, wire: &str) {
    let Some(installed) = sdk.install().await else { return };
    for vendor in VendorWire::ALL {
        let world = at(vendor, setup()).await;
        for text in ["Said at once. ", "Said bit by bit. "] {
            world.vendor.next(Script::message(text));
        }
        for _ in 0..2 {
            world.vendor.next(Script::tool_round("echo hi", "It printed hi. "));
        }
        for text in ["A picture. ", r#"{"colour": "red"}"#] {
            world.vendor.next(Script::message(text));
        }
        let base = format!("http://{}", world.agent.addr());
        let mut said = sdk
            .run_anywhere(&installed, (&base, &world.agent.key), MODEL, wire)
            .await;
        let id = said["id"].take();
        let expected = json!({
            "whole": "Said at once. ", "streamed": "Said bit by bit. ", "output": 13, "input": 1_200, "id": null,
            "tool": ["exec_command", "echo hi"], "waits": true, "answered": "It printed hi. ",
            "seen": "A picture. ", "json": {"colour": "red"},
        });
        assert_eq!(said, expected, "{sdk:?} by {wire} at {vendor:?}");
        let shown = world.hub.json(&["usage", "show", id.as_str().unwrap()]).await;
        assert_eq!(shown.as_array().map(Vec::len), Some(1), "the call is found by {id}");
        let posts = world.vendor.posts();
        let told = |at: usize, words: &str| {
            let body = String::from_utf8_lossy(&posts[at].body);
            assert!(body.contains(words), "{sdk:?} by {wire} at {vendor:?}: {body}");
        };
        assert_eq!(posts.len(), 6);
        for (at, words) in [
            (0, "Say something."),
            (2, "exec_command"),
            (3, "hi"),
            (4, PICTURE),
            (5, "colour"),
        ] {
            told(at, words);
        }
        world.assert_billed_truly().await;
        world.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_s_for_typescript_is_served_by_every_vendor_through_chat() {
    is_served_everywhere(Sdk::OpenAiTypeScript, "chat").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_s_for_typescript_is_served_by_every_vendor_through_responses() {
    is_served_everywhere(Sdk::OpenAiTypeScript, "responses").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_s_for_python_is_served_by_every_vendor_through_chat() {
    is_served_everywhere(Sdk::OpenAiPython, "chat").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_s_for_python_is_served_by_every_vendor_through_responses() {
    is_served_everywhere(Sdk::OpenAiPython, "responses").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_s_for_typescript_is_served_by_every_vendor() {
    is_served_everywhere(Sdk::AnthropicTypeScript, "messages").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_s_for_python_is_served_by_every_vendor() {
    is_served_everywhere(Sdk::AnthropicPython, "messages").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_s_for_typescript_is_served_by_every_vendor() {
    is_served_everywhere(Sdk::GoogleTypeScript, "gemini").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_s_for_python_is_served_by_every_vendor() {
    is_served_everywhere(Sdk::GooglePython, "gemini").await;
}
