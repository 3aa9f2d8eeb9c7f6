//! `relay-hub price`: The price list.

use super::{Context, failure::Failure};

/// The price list
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    context.store().await?.close().await;
    Ok(())
}
