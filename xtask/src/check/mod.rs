//! `cargo xtask test`: everything that must be green before a change lands, in one command.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::Result;

mod count;
mod skipped;
pub(crate) mod tools;

use self::skipped::Skipped;
use crate::{fuzz, paths, say, soak};

/// What `cargo xtask test` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Do not install anything: what is missing is told, and its tests are skipped.
    #[arg(long)]
    no_install: bool,
    /// Passed on to the test runner, for example a part of a test's name.
    #[arg(last = true)]
    runner: Vec<String>,
}

/// Runs every step, also after one failed, and ends with a table and one line of counts.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let began = Instant::now();
    say::heading("tools");
    let tools = tools::ensure(!options.no_install);
    let mut steps = Steps {
        path: tools.path,
        env: Vec::new(),
        done: Vec::new(),
        counts: count::Counts::default(),
    };
    steps.cargo("format", &["fmt", "--all", "--check"]);
    steps.cargo(
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    );
    let mut runner = vec!["nextest", "run", "--workspace", "--locked"];
    runner.extend(options.runner.iter().map(String::as_str));
    Skipped::forget();
    // A tool that is there must be used: its tests fail rather than skip themselves.
    steps.env = tools.env;
    // Tests run side by side, and promises of a second are kept by programs that have a processor.
    steps.env.push(("RELAY_TEST_SLACK".into(), "5".into()));
    steps.counted("tests", &runner, count::nextest);
    let skipped = Skipped::told();
    skipped.correct(&mut steps.counts);
    steps.soak();
    steps.fuzz(&options.runner);
    steps.counted(
        "doc tests",
        &["test", "--doc", "--workspace", "--locked"],
        count::libtest,
    );
    steps.env.push(("RUSTDOCFLAGS".into(), "-D warnings".into()));
    steps.cargo(
        "documentation",
        &["doc", "--workspace", "--no-deps", "--locked", "--quiet"],
    );
    steps.dependencies();
    for (name, why) in skipped.all() {
        steps.done.push(Step {
            name,
            verdict: Verdict::Skipped(why),
            seconds: 0.0,
        });
    }
    for missing in tools.missing {
        steps.done.push(Step {
            name: missing.name,
            verdict: Verdict::Skipped(missing.why),
            seconds: 0.0,
        });
    }
    Ok(steps.conclude(began))
}

struct Steps {
    path: Vec<PathBuf>,
    env: Vec<(String, String)>,
    done: Vec<Step>,
    counts: count::Counts,
}

struct Step {
    name: String,
    verdict: Verdict,
    seconds: f64,
}

enum Verdict {
    Passed,
    Failed,
    Skipped(String),
}

impl Steps {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command
            .args(args)
            .current_dir(paths::root())
            .env("PATH", paths::search_path(&self.path));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn cargo(&mut self, name: &str, args: &[&str]) {
        say::heading(&format!("{name}: cargo {}", args.join(" ")));
        let began = Instant::now();
        let passed = self.command(args).status().is_ok_and(|status| status.success());
        self.record(name, if passed { Verdict::Passed } else { Verdict::Failed }, began);
    }

    /// A step whose output tells how many tests ran.
    fn counted(&mut self, name: &str, args: &[&str], read: fn(&str) -> Option<count::Counts>) {
        say::heading(&format!("{name}: cargo {}", args.join(" ")));
        let began = Instant::now();
        let (passed, seen) = count::run(self.command(args), read);
        self.counts.add(&seen);
        self.record(name, if passed { Verdict::Passed } else { Verdict::Failed }, began);
    }

    /// A hundred thousand calls through the programs that the tests were built with.
    fn soak(&mut self) {
        let (calls, began) = (soak::CALLS_OF_A_TEST, Instant::now());
        say::heading(&format!("soak: {calls} calls"));
        let passed = soak::soak("debug", calls, 64)
            .status()
            .is_ok_and(|status| status.success());
        self.record("soak", if passed { Verdict::Passed } else { Verdict::Failed }, began);
    }

    /// A minute for each reader of a wire, unless only some tests were asked for.
    fn fuzz(&mut self, runner: &[String]) {
        let began = Instant::now();
        say::heading("fuzz");
        let outcome = if runner.is_empty() {
            fuzz::of_a_test()
        } else {
            Err("only some tests were asked for".to_owned())
        };
        let verdict = match outcome {
            Ok(true) => Verdict::Passed,
            Ok(false) => Verdict::Failed,
            Err(why) => Verdict::Skipped(why),
        };
        self.record("fuzz", verdict, began);
    }

    fn dependencies(&mut self) {
        if paths::find("cargo-deny", &self.path).is_none() {
            let why = "cargo-deny is missing".to_owned();
            self.record("dependencies", Verdict::Skipped(why), Instant::now());
            return;
        }
        self.cargo(
            "dependencies",
            &[
                "deny", "--locked", "-L", "error", "check", "licenses", "bans", "sources",
            ],
        );
        let began = Instant::now();
        let database = self.command(&["deny", "--locked", "-L", "off", "fetch", "db"]).output();
        if database.is_ok_and(|output| output.status.success()) {
            self.cargo(
                "advisories",
                &[
                    "deny",
                    "--locked",
                    "-L",
                    "error",
                    "check",
                    "--disable-fetch",
                    "advisories",
                ],
            );
        } else {
            let why = "the advisory database cannot be had from here".to_owned();
            self.record("advisories", Verdict::Skipped(why), began);
        }
    }

    fn record(&mut self, name: &str, verdict: Verdict, began: Instant) {
        self.done.push(Step {
            name: name.to_owned(),
            verdict,
            seconds: began.elapsed().as_secs_f64(),
        });
    }

    fn conclude(self, began: Instant) -> ExitCode {
        say::heading("summary");
        let mut rows = vec![["step", "result", "seconds"].map(String::from).to_vec()];
        rows.extend(self.done.iter().map(Step::row));
        say::line(&say::table(&rows));
        say::line(&format!("{:.0} s in all", began.elapsed().as_secs_f64()));
        let failed = self.done.iter().any(|step| matches!(step.verdict, Verdict::Failed));
        let no_tests = self.counts.passed + self.counts.failed == 0;
        if no_tests {
            say::line("no test was run");
        }
        say::data(&self.counts.to_string());
        if failed || no_tests {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

impl Step {
    fn row(&self) -> Vec<String> {
        let verdict = match &self.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed => "FAILED".to_owned(),
            Verdict::Skipped(why) => format!("skipped: {why}"),
        };
        vec![self.name.clone(), verdict, format!("{:.0}", self.seconds)]
    }
}
