//! `relay-hub serve`: runs the hub until a signal ends it.

use super::{Context, failure::Failure};

#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args {} = args;
    let _ = &context.data;
    Ok(())
}
