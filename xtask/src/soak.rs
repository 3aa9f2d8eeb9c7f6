//! `cargo xtask prove soak`: calls by the million through a real hub, each charge compared with the vendor's bill.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{paths, say};

/// What `cargo xtask prove soak` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many calls.
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// Of how many tenants.
    #[arg(long, default_value_t = 64)]
    tenants: u16,
    /// Build without optimisation, as the tests are: sooner built, and slower.
    #[arg(long)]
    debug: bool,
}

/// As many as every change is tested with.
pub(crate) const CALLS_OF_A_TEST: u64 = 100_000;

/// Builds the programs, runs the calls, tells the verdict.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(paths::root())
        .args(["build", "--locked", "--package", "relay-tests"]);
    cargo.args(["--bin", "relay-soak", "--bin", "hub-under-test"]);
    if !options.debug {
        cargo.arg("--release");
    }
    ensure!(
        cargo.status().context("cannot start cargo")?.success(),
        "the build failed"
    );
    let began = std::time::Instant::now();
    let profile = if options.debug { "debug" } else { "release" };
    let passed = soak(profile, options.calls, options.tenants).status();
    let passed = passed.context("cannot start relay-soak")?.success();
    let took = Duration::from_secs(began.elapsed().as_secs());
    let verdict = if passed {
        "to the unit"
    } else {
        "NOT as the vendor bills"
    };
    say::line(&format!("{} calls charged {verdict}, in {took:?}", options.calls));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program that does it, as it was built.
pub(crate) fn soak(profile: &str, calls: u64, tenants: u16) -> Command {
    let mut command = Command::new(paths::target().join(profile).join("relay-soak"));
    command.args(["--calls", &calls.to_string(), "--tenants", &tenants.to_string()]);
    command
}
