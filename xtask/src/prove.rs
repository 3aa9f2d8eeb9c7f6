//! `cargo xtask prove`: the long proofs, of which `cargo xtask test` runs a few rounds each. Every one tells how far it
//! is.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{fuzz, mutants, paths, say, soak};

/// What can be proved at length.
#[derive(clap::Subcommand)]
pub(crate) enum Proof {
    /// A hub that dies at each named point of a call, and at any moment under two hundred streams: its books are right.
    Kill {
        /// How often at each point.
        #[arg(long, default_value_t = 60)]
        rounds: usize,
        /// How often at any moment.
        #[arg(long, default_value_t = 1_000)]
        random: usize,
    },
    /// Disks that lose their power at any moment, over and over: nobody who saw the end of an answer is forgotten.
    Power {
        /// How often.
        #[arg(long, default_value_t = 500)]
        cuts: usize,
    },
    /// A database that somebody else locks for long: streams go on, and end when it is free.
    Locked {
        /// For how long.
        #[arg(long, default_value_t = 30)]
        seconds: usize,
    },
    /// Clients that leave at each of fifty bytes of an answer: the charge is what the tenant's policy says, and slots are
    /// free at once.
    Aborts {
        /// How often at each byte by the public entrance; a tenth of that by an agent and over a socket.
        #[arg(long, default_value_t = 1_000)]
        times: usize,
        /// How many clients at once.
        #[arg(long, default_value_t = 64)]
        at_once: usize,
    },
    /// Calls that a dead hub left open: the next start releases them within two seconds.
    Recovery {
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        holds: usize,
    },
    /// A disk of 200 ms a sync: how long a first byte takes, and how many ends share a sync.
    Slow,
    /// The ledger with one thing changed at a time: a test must fail each time. Goes on where it was interrupted.
    Mutants(mutants::Options),
    /// The ledger beside a model of a few lines: random operations, deaths and other processes among them.
    Ledger {
        /// How many.
        #[arg(long, default_value_t = 1_000_000)]
        operations: usize,
    },
    /// Twenty accounts on twenty addresses that come and go: no call leaves by a wrong one.
    Ways {
        /// How many calls.
        #[arg(long, default_value_t = 100_000)]
        calls: usize,
    },
    /// Choices of accounts under random failures and changes: no conversation crosses a tenant or leaves its account where
    /// that is refused, no account exceeds its ceiling.
    Routing {
        /// How many.
        #[arg(long, default_value_t = 1_000_000)]
        decisions: usize,
    },
    /// Every order of steps in the life of a hold: none breaks the books.
    Model {
        /// How much goes wrong in one run.
        #[arg(long, default_value_t = 3)]
        mishaps: usize,
    },
    /// Ten thousand secrets under a new master key, three times, each within five seconds, while calls run: none fails.
    Rotation {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        secrets: usize,
    },
    /// Broken input for everything that reads a wire, guided by the branches that it reaches: nothing panics, hangs, grows
    /// without bound or says something else when it is cut.
    Fuzz(fuzz::Options),
    /// Calls by the million through a real hub: each charge is what the vendor's bill makes of it, to the unit.
    Soak(soak::Options),
}

pub(crate) fn run(proof: &Proof) -> Result<ExitCode> {
    match proof {
        Proof::Power { cuts } => Test::of("relay-tests", "disk::a_loss_of_power").run(&[("RELAY_POWER_CUTS", cuts)]),
        Proof::Locked { seconds } => {
            let test = Test::of("relay-tests", "disk::a_locked_database");
            test.run(&[("RELAY_LOCKED_SECONDS", seconds)])
        }
        Proof::Rotation { secrets } => {
            let test = Test::of("relay-tests", "secrets::the_master_key_changes");
            test.run(&[("RELAY_SECRETS", secrets), ("RELAY_ROTATED_WITHIN_MS", &5_000)])
        }
        Proof::Recovery { holds } => {
            let test = Test::of("relay-hub", "ledger::tests::crash::every_open_hold");
            test.run(&[("RELAY_OPEN_HOLDS", holds), ("RELAY_RELEASED_WITHIN_MS", &2_000)])
        }
        Proof::Slow => Test::of("relay-tests", "disk::a_slow_disk").run(&[]),
        Proof::Mutants(options) => mutants::run(options),
        Proof::Aborts { times, at_once } => {
            let free_ms = 1_000;
            let variables = [
                ("RELAY_ABORTS", times),
                ("RELAY_ABORTS_AT_ONCE", at_once),
                ("RELAY_ABORTS_FREE_MS", &free_ms),
            ];
            Test::of("relay-tests", "aborts::").run(&variables)
        }
        Proof::Ledger { operations } => {
            let test = Test::of("relay-hub", "ledger::tests::model::the_ledger_does_what_the_model_does");
            test.run(&[("RELAY_LEDGER_OPERATIONS", operations)])
        }
        Proof::Ways { calls } => Test::of("relay-tests", "sources::").run(&[("RELAY_WAY_CALLS", calls)]),
        Proof::Routing { decisions } => {
            let test = Test::of("relay-hub", "routing::tests::decisions_keep_their_promises");
            test.run(&[("RELAY_ROUTING_DECISIONS", decisions)])
        }
        Proof::Fuzz(options) => fuzz::run(options),
        Proof::Soak(options) => soak::run(options),
        Proof::Model { mishaps } => Test::of("relay-model", "").run(&[("RELAY_MODEL_MISHAPS", mishaps)]),
        Proof::Kill { rounds, random } => {
            let variables = [("RELAY_KILL_ROUNDS", rounds), ("RELAY_KILL_RANDOM", random)];
            Test::of("relay-tests", "kill::").run(&variables)
        }
    }
}

/// Tests of one package whose names begin so.
struct Test {
    package: &'static str,
    prefix: &'static str,
}

impl Test {
    const fn of(package: &'static str, prefix: &'static str) -> Self {
        Self { package, prefix }
    }

    /// Runs them one after the other, with no limit of time.
    fn run(&self, variables: &[(&str, &usize)]) -> Result<ExitCode> {
        say::heading(&format!("{}, tests {}", self.package, self.prefix));
        let mut cargo = Command::new("cargo");
        cargo.current_dir(paths::root());
        cargo.args(["test", "--quiet", "--locked", "--package", self.package, self.prefix]);
        cargo.args(["--", "--nocapture", "--test-threads", "1"]);
        cargo.envs(variables.iter().map(|(name, value)| (name, value.to_string())));
        let passed = cargo.status()?.success();
        say::line(if passed { "proved" } else { "FAILED" });
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
