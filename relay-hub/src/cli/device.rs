//! `relay-hub device`: Devices and enrolment tokens.

use super::{Context, failure::Failure};

/// Devices and enrolment tokens
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    context.store().await?.close().await;
    Ok(())
}
