//! `cargo xtask prove fuzz`: libFuzzer behind every reader of the wires, two readers at a time. Knows the readers by the
//! names that the program tells, and its findings by the files it leaves.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use crate::{paths, say};

/// What `cargo xtask prove fuzz` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long for each reader.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
    /// Only the readers with this in their names.
    #[arg(long)]
    reader: Option<String>,
    /// Where chance begins; elsewhere each time, unless it is given.
    #[arg(long)]
    seed: Option<u32>,
    /// How many readers at once.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Add what reached something new to the corpus in the repository, as few files as do.
    #[arg(long)]
    keep: bool,
}

/// As long as every change is tested.
const SECONDS: u32 = 60;
/// Of a test of a change, so that the same source is given the same inputs: what chance finds elsewhere is found by those
/// who look for it, not by those who changed something else.
const SEED: u32 = 1;

/// Runs the readers and tells the verdict.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let program = Program::build()?;
    let mut readers = program.readers()?;
    readers.retain(|name| options.reader.as_ref().is_none_or(|part| name.contains(part)));
    ensure!(!readers.is_empty(), "no reader has this name");
    let failed = program.all(&readers, options);
    say::line(&if failed.is_empty() {
        format!("{} readers, {} s each: nothing broke", readers.len(), options.seconds)
    } else {
        format!("BROKEN: {}", failed.join(", "))
    });
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All readers, as long as every change is tested; what is missing, where that cannot be.
pub(crate) fn of_a_test() -> Result<bool, String> {
    let is_linux = cfg!(all(target_os = "linux", target_env = "gnu"));
    if !is_linux || paths::find("c++", &[]).is_none() {
        return Err("libFuzzer is built on Linux with a compiler of C++: apt-get install g++".to_owned());
    }
    let options = Options {
        seconds: SECONDS,
        reader: None,
        seed: Some(SEED),
        at_once: 2,
        keep: false,
    };
    let outcome = run(&options);
    if let Err(error) = &outcome {
        say::line(&format!("error: {error:#}"));
    }
    Ok(outcome.is_ok_and(|code| code == ExitCode::SUCCESS))
}

/// The built program: one for all readers.
struct Program {
    file: PathBuf,
    work: PathBuf,
}

/// Counters at each branch, which libFuzzer reads: the flags by which cargo-fuzz has them, without a sanitizer, for which
/// the compiler would have to be a nightly one.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Ccodegen-units=1",
];

impl Program {
    fn build() -> Result<Self> {
        let host = host()?;
        let work = paths::target().join("fuzz");
        let mut cargo = Command::new("cargo");
        // With a target named, the flags are not those of build scripts.
        cargo.args(["build", "--release", "--locked", "--target", &host, "--target-dir"]);
        cargo.arg(&work).current_dir(source()).env("RUSTFLAGS", FLAGS.join(" "));
        ensure!(
            cargo.status().context("cannot start cargo")?.success(),
            "the build failed"
        );
        let file = work.join(host).join("release/fuzz");
        Ok(Self { file, work })
    }

    fn readers(&self) -> Result<Vec<String>> {
        let mut program = Command::new(&self.file);
        let told = program.env("RELAY_FUZZ_LIST", "1").stderr(Stdio::null()).output()?;
        ensure!(told.status.success(), "the program tells no readers");
        let names = String::from_utf8(told.stdout)?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Runs all, so many at once, and gives the names of those that broke.
    fn all(&self, readers: &[String], options: &Options) -> Vec<String> {
        let (waiting, broken) = (Mutex::new(readers.iter().enumerate()), Mutex::new(Vec::new()));
        let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
        thread::scope(|scope| {
            for _ in 0..options.at_once.max(1) {
                scope.spawn(|| {
                    while let Some((at, name)) = next() {
                        let told = self.one(name, options);
                        let words = told
                            .as_ref()
                            .map_or_else(|error| format!("BROKEN: {error:#}"), String::clone);
                        say::line(&format!("{:>2} of {} {name}: {words}", at + 1, readers.len()));
                        if let (Err(_), Ok(mut broken)) = (told, broken.lock()) {
                            broken.push(name.clone());
                        }
                    }
                });
            }
        });
        broken.into_inner().unwrap_or_default()
    }

    /// One reader, begun with the corpus; what it came to, in words.
    fn one(&self, name: &str, options: &Options) -> Result<String> {
        let began = Instant::now();
        let work = self.work.join("readers").join(name);
        fs::remove_dir_all(&work).ok();
        let folder = |part: &str| {
            let folder = work.join(part);
            fs::create_dir_all(&folder).map(|()| folder)
        };
        let (found, corpus) = (folder("found")?, folder("corpus")?);
        let kept = paths::root().join("shared/protocol/fixtures/fuzz").join(name);
        let mut program = self.command(name, &work)?;
        program.env("RELAY_FUZZ_SEEDS", &corpus);
        program.arg(&found).arg(&corpus);
        program.arg(format!("-max_total_time={}", options.seconds)).args(LIMITS);
        program.args(options.seed.map(|seed| format!("-seed={seed}")));
        let passed = program.status().context("cannot start libFuzzer")?.success();
        let log = fs::read_to_string(work.join("log")).unwrap_or_default();
        if !passed {
            let why = log.lines().skip_while(|line| !line.contains("panicked at")).take(3);
            let why: Vec<_> = why.chain(log.lines().filter(|line| line.contains("SUMMARY"))).collect();
            let input = broke_on(&work).map_or_else(String::new, |file| file.display().to_string());
            anyhow::bail!("on {input}, to be kept in {}: {}", kept.display(), why.join(" "));
        }
        let kept = if options.keep {
            self.keep(name, &work, &kept.with_extension("pack"))?
        } else {
            String::new()
        };
        let (tried, reached) = told(&log);
        let seconds = began.elapsed().as_secs();
        Ok(format!(
            "{tried} inputs reached {reached} branches in {seconds} s{kept}"
        ))
    }

    /// Adds to the pack what of the short inputs reaches a branch that the corpus does not, in as few inputs as do.
    fn keep(&self, name: &str, work: &Path, pack: &Path) -> Result<String> {
        let [found, short, corpus] = ["found", "short", "corpus"].map(|part| work.join(part));
        fs::create_dir_all(&short)?;
        for file in files(&found)? {
            if fs::metadata(&file)?.len() <= LONGEST_KEPT {
                fs::copy(&file, short.join(file.file_name().unwrap_or_default()))?;
            }
        }
        let known = files(&corpus)?;
        let mut program = self.command(name, work)?;
        program.args(["-set_cover_merge=1", "-use_counters=0"]).args(LIMITS);
        program.arg(&corpus).arg(&short);
        ensure!(program.status()?.success(), "what is worth keeping was not found");
        let mut packed = fs::read(pack).unwrap_or_default();
        let mut added = 0;
        for file in files(&corpus)?.into_iter().filter(|file| !known.contains(file)) {
            let input = fs::read(file)?;
            packed.extend(u32::try_from(input.len())?.to_le_bytes());
            packed.extend(input);
            added += 1;
        }
        fs::write(pack, packed)?;
        Ok(format!(", {added} inputs kept"))
    }

    /// The program for a reader, which writes its log and what broke it to `work`.
    fn command(&self, name: &str, work: &Path) -> Result<Command> {
        let mut program = Command::new(&self.file);
        program
            .env("RELAY_FUZZ_READER", name)
            .env("RUST_BACKTRACE", "1")
            .current_dir(work);
        program.stdin(Stdio::null()).stdout(Stdio::null());
        program.stderr(fs::File::create(work.join("log"))?);
        Ok(program)
    }
}

/// No input takes longer than seconds or more than this memory, in megabytes, and none is longer than what the changes
/// make.
const LIMITS: [&str; 4] = [
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-max_len=8192",
    "-print_final_stats=1",
];

/// What is kept is tried by every test of its reader, and the packs are to stay small.
const LONGEST_KEPT: u64 = 1 << 10;

/// In the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files: std::io::Result<Vec<_>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut files = files?;
    files.sort();
    Ok(files)
}

/// Where the program's source is. Its manifest is no part of the workspace.
fn source() -> PathBuf {
    paths::root().join("shared/protocol/fuzz")
}

/// The machine as the compiler names it.
fn host() -> Result<String> {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(compiler).arg("-vV").current_dir(paths::root()).output()?;
    let told = String::from_utf8(told.stdout)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not tell its host")
}

/// The input that libFuzzer left.
fn broke_on(work: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(work).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files = files.filter(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        ["crash-", "timeout-", "oom-", "slow-unit-", "leak-"]
            .iter()
            .any(|kind| name.starts_with(kind))
    });
    files.next()
}

/// How many inputs were tried, and how many branches they reached.
fn told(log: &str) -> (&str, &str) {
    let number = |text: &str, before: &str| {
        let line = log.lines().rev().find(|line| line.contains(text))?;
        let rest = line.split_once(before)?.1.trim_start();
        rest.split_whitespace().next()
    };
    let tried = number("stat::number_of_executed_units:", "units:");
    (tried.unwrap_or("?"), number(" cov: ", "cov:").unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_libfuzzer_tells_is_read() {
        let log = "#2\tINITED cov: 12 ft: 13\n#4873\tDONE   cov: 3825 ft: 10234 corp: 930/2194Kb\n\
            stat::number_of_executed_units: 4873\nstat::average_exec_per_sec:     304\n";
        assert_eq!(told(log), ("4873", "3825"));
        assert_eq!(told(""), ("?", "?"));
    }
}
