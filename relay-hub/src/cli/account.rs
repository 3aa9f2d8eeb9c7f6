//! `relay-hub account`: Vendor accounts.

use super::{Context, failure::Failure};

/// Vendor accounts
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    context.store().await?.close().await;
    Ok(())
}
