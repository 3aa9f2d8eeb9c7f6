//! The tool with which a client runs commands, found among those that its request offers: each client has one of its own.

use serde_json::{Value, json};

use super::script::Output;

/// Whose it is.
#[derive(Clone, Copy, Default)]
pub(super) enum Shell {
    #[default]
    Codex,
    ClaudeCode,
    GeminiCli,
}

impl Shell {
    /// The one that this request offers, on any wire.
    pub(super) fn offered(body: &Value) -> Self {
        let offers = |name| names(&body["tools"], name) || names(&body["toolConfig"]["tools"], name);
        if offers("Bash") {
            Self::ClaudeCode
        } else if offers("run_shell_command") {
            Self::GeminiCli
        } else {
            Self::Codex
        }
    }

    /// A call of it.
    pub(super) fn call(self, command: &str) -> Output {
        let (name, arguments) = match self {
            Self::Codex => ("exec_command", json!({"cmd": command, "yield_time_ms": 10_000})),
            Self::ClaudeCode => ("Bash", json!({"command": command, "description": "Runs it"})),
            Self::GeminiCli => (
                "run_shell_command",
                json!({"command": command, "description": "Runs it"}),
            ),
        };
        Output::Call {
            name: name.to_owned(),
            arguments: arguments.to_string(),
        }
    }
}

/// A tool of this name stands in here: under itself, in a group, or in what wraps it.
fn names(value: &Value, name: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| names(item, name)),
        Value::Object(members) => {
            let wraps = ["function", "functionDeclarations", "toolSpec"];
            members.get("name").is_some_and(|found| found == name)
                || wraps
                    .iter()
                    .any(|key| members.get(*key).is_some_and(|inner| names(inner, name)))
        }
        _ => false,
    }
}
