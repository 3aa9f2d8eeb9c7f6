//! `cargo xtask dist`: the programs as they are shipped. They are built twice: the first ones count how often each piece of
//! code runs while they do their main job, and by these counts the compiler lays out the second ones. Knows no figure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

use crate::{
    bench, paths, say,
    stand::{PROGRAMS, Programs, child::end_with_us},
};

/// Builds what is shipped and tells where it is.
pub(crate) fn run() -> Result<ExitCode> {
    end_with_us()?;
    let programs = Dist::train()?.programs()?;
    say::heading("result");
    for name in ["relay-hub", "relay-agent"] {
        say::data(&programs.path(name).display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// How the compiler builds what is shipped.
pub(crate) struct Dist {
    /// Flags are given for this target by name: else what runs while building, as build scripts do, would have them too.
    host: String,
    /// How often code ran, as the compiler reads it; none where nothing can be learned.
    counts: Option<PathBuf>,
}

impl Dist {
    /// Builds programs that count, has them do their main job, and keeps what they counted. Where the tool is missing that
    /// reads their counts, says so and goes on without.
    pub(crate) fn train() -> Result<Self> {
        let host = host()?;
        let Some(reader) = reader(&host)? else {
            say::line(
                "there is no llvm-profdata (`rustup component add llvm-tools`): built without training, which is slower",
            );
            return Ok(Self { host, counts: None });
        };
        let folder = paths::target().join("training");
        let raw = folder.join("counts");
        // What older code counted tells nothing of this one.
        fs::remove_dir_all(&raw).ok();
        say::heading("build 1 of 2: programs that count what they run (takes minutes)");
        let counting = format!("-Cprofile-generate={}", raw.display());
        let built = cargo(&host, &folder, &[counting], Programs::named())?;
        say::heading("training: their main job, under load");
        bench::exercise(&Programs::built(&built)?)?;
        let counts = folder.join("counts.profdata");
        let merged = Command::new(reader)
            .arg("merge")
            .arg("-o")
            .arg(&counts)
            .arg(&raw)
            .status();
        ensure!(
            merged.context("cannot start llvm-profdata")?.success(),
            "llvm-profdata could not read what was counted"
        );
        fs::remove_dir_all(&raw).ok();
        Ok(Self {
            host,
            counts: Some(counts),
        })
    }

    /// By what an earlier training left; plain where none did.
    pub(crate) fn as_before() -> Result<Self> {
        let counts = paths::target().join("training/counts.profdata");
        Ok(Self {
            host: host()?,
            counts: Some(counts).filter(|counts| counts.is_file()),
        })
    }

    /// In words, for a report.
    pub(crate) const fn about(&self) -> &'static str {
        match self.counts {
            Some(_) => "the build that is shipped (`cargo xtask dist`)",
            None => "profile `dist`, without training",
        }
    }

    /// Hub, agent, and what measures them, in a folder of their own.
    pub(crate) fn programs(&self) -> Result<Programs> {
        say::heading("build 2 of 2: the programs as they are shipped (takes minutes)");
        let built = self.cargo("trained", &[], Programs::named())?;
        let shipped = paths::target().join("shipped");
        for name in PROGRAMS {
            copy(&built.join(name), &shipped.join(name))?;
        }
        Programs::built(&shipped)
    }

    /// An example of the hub, beside the programs.
    pub(crate) fn example(&self, name: &str) -> Result<()> {
        let example = Path::new("examples").join(name);
        let built = self.cargo("trained", &[], ["--package", "relay-hub", "--example", name])?;
        copy(&built.join(&example), &paths::target().join("shipped").join(&example))
    }

    /// A hub that books nothing, which only a measurement wants.
    pub(crate) fn unbilled_hub(&self) -> Result<PathBuf> {
        let flags = ["--cfg".to_owned(), "relay_unbilled".to_owned()];
        let built = self.cargo("unbilled", &flags, ["--package", "relay-hub", "--bin", "relay-hub"])?;
        Ok(built.join("relay-hub"))
    }

    fn cargo<'a>(&self, folder: &str, flags: &[String], what: impl IntoIterator<Item = &'a str>) -> Result<PathBuf> {
        let learned = self
            .counts
            .iter()
            .map(|counts| format!("-Cprofile-use={}", counts.display()));
        let flags: Vec<String> = learned.chain(flags.iter().cloned()).collect();
        cargo(&self.host, &paths::target().join(folder), &flags, what)
    }
}

/// Builds with these flags for the compiler; where the programs are. Each set of flags has a folder of its own, so that no
/// build undoes another.
fn cargo<'a>(host: &str, folder: &Path, flags: &[String], what: impl IntoIterator<Item = &'a str>) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(paths::root())
        .args(["build", "--locked", "--profile", "dist", "--target", host])
        .args(what)
        .env("CARGO_TARGET_DIR", folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    ensure!(
        cargo.status().context("cannot start cargo")?.success(),
        "the build failed"
    );
    Ok(folder.join(host).join("dist"))
}

/// The target that the compiler builds for when it is told none.
fn host() -> Result<String> {
    let about = told("rustc", &["-vV"])?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell its host")?.to_owned())
}

/// The tool of this compiler that reads what programs counted; fetched where it is missing and can be.
fn reader(host: &str) -> Result<Option<PathBuf>> {
    let sysroot = told("rustc", &["--print", "sysroot"])?;
    let tool = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host)
        .join("bin/llvm-profdata");
    if !tool.is_file() {
        // It may not be there, or have no network: the tool is there afterwards, or is not.
        Command::new("rustup")
            .args(["component", "add", "llvm-tools"])
            .status()
            .ok();
    }
    Ok(Some(tool).filter(|tool| tool.is_file()))
}

fn told(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    // In the work tree, whose toolchain is the one that builds.
    let said = command.current_dir(paths::root()).args(args).output();
    let said = said.with_context(|| format!("cannot start {program}"))?;
    ensure!(said.status.success(), "{program} failed");
    Ok(String::from_utf8(said.stdout)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    // What runs from there goes on: a program that is written over cannot.
    fs::remove_file(to).ok();
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
