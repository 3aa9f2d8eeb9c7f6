//! `cargo xtask demo | test | dist | bench | prove`: the commands a newcomer needs. Knows the product only
//! by its command lines and addresses, as a user does.
#![allow(clippy::disallowed_methods, reason = "a task runner reads the environment")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod check;
mod demo;
mod dist;
mod fuzz;
mod mutants;
mod paths;
mod prove;
mod say;
mod soak;
mod stand;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "See codex-relay at work, test it, measure it")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Hub, agent and vendor on this machine, one turn with a tool call through them, and its bill.
    Demo(demo::Options),
    /// Install what the tests need and run all of them: fmt, clippy, tests, docs, dependencies.
    Test(check::Options),
    /// Build hub and agent as they are shipped: trained on their main job.
    Dist,
    /// Measure the relay beside nginx and beside the vendor itself.
    Bench(bench::Options),
    /// Run one of the long proofs in full.
    #[command(subcommand)]
    Prove(prove::Proof),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => check::run(&options),
        Task::Dist => dist::run(),
        Task::Bench(options) => bench::run(&options),
        Task::Prove(proof) => prove::run(&proof),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            say::line(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}
