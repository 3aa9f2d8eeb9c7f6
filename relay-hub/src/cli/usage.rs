//! `relay-hub usage`: What was called and what it cost.

use super::{Context, failure::Failure};

/// What was called and what it cost
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    context.store().await?.close().await;
    Ok(())
}
