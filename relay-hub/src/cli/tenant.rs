//! `relay-hub tenant`: Tenants and their credit.

use super::{Context, failure::Failure};

/// Tenants and their credit
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    context.store().await?.close().await;
    Ok(())
}
