//! `relay-hub init`: makes a new hub in an empty data directory. Never overwrites.

use super::{Context, failure::Failure};
use crate::store::Store;

#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    Store::create(&context.data).await?.close().await;
    Ok(())
}
