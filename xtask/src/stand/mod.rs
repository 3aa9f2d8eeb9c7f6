//! A whole relay on this machine, as a user would set it up: vendor, hub, agent, made and driven by
//! their command lines alone, in a folder that goes away with it.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{paths, say};

pub(crate) mod child;

use child::Running;

/// Which build of the programs runs.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Debug,
    Release,
}

pub(crate) const PROGRAMS: [&str; 4] = ["relay-hub", "relay-agent", "scripted-vendor", "relay-load"];

/// The programs, built.
#[derive(Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds hub, agent, scripted vendor and load generator; cargo shows its progress.
    pub(crate) fn build(profile: Profile) -> Result<Self> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(paths::root()).args(["build", "--locked"]);
        cargo.args(Self::named());
        let folder = match profile {
            Profile::Debug => "debug",
            Profile::Release => {
                cargo.arg("--release");
                "release"
            }
        };
        ensure!(
            cargo.status().context("cannot start cargo")?.success(),
            "the build failed"
        );
        Ok(Self {
            folder: paths::target().join(folder),
        })
    }

    /// What cargo is told to build all of them: always of the same packages, so that nothing is built twice.
    pub(crate) fn named() -> impl Iterator<Item = &'static str> {
        let packages = ["relay-hub", "relay-agent", "relay-tests"];
        let packages = packages.into_iter().flat_map(|package| ["--package", package]);
        packages.chain(PROGRAMS.into_iter().flat_map(|program| ["--bin", program]))
    }

    /// These programs with another hub, in a folder of their own.
    pub(crate) fn with_hub(&self, hub: &Path, folder: &Path) -> Result<Self> {
        for name in PROGRAMS {
            let from = if name == "relay-hub" {
                hub.to_owned()
            } else {
                self.path(name)
            };
            fs::copy(&from, folder.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Self::built(folder)
    }

    /// Programs that were built before.
    pub(crate) fn built(folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        for name in PROGRAMS {
            ensure!(folder.join(name).is_file(), "{} has no {name}", folder.display());
        }
        Ok(Self { folder })
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.env_remove("RELAY_LOG");
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What a stand is made of.
pub(crate) struct Plan {
    /// Arguments of the scripted vendor; `None` uses the account below as it is.
    pub(crate) vendor: Option<Vec<String>>,
    /// The vendor account: base URL (the scripted vendor's when there is one) and credential.
    pub(crate) base_url: Option<String>,
    pub(crate) credential: String,
    /// Appended to the `hub.toml` that `relay-hub init` wrote.
    pub(crate) hub_toml: String,
    /// Models that are given a price besides the shipped list.
    pub(crate) models: Vec<String>,
    /// Open files each program may have.
    pub(crate) files: u32,
}

/// A running relay.
pub(crate) struct Stand {
    // Dropped in this order: clients first.
    pub(crate) agent: Running,
    pub(crate) hub: Running,
    _vendor: Option<Running>,
    /// Where each can be reached, as `http://host:port`.
    pub(crate) agent_url: String,
    pub(crate) hub_url: String,
    pub(crate) hub_https: Option<String>,
    pub(crate) vendor_url: Option<String>,
    /// What a call carries as its bearer token there.
    pub(crate) agent_key: String,
    pub(crate) hub_key: String,
    programs: Programs,
    folder: TempDir,
}

impl Stand {
    pub(crate) fn start(programs: Programs, plan: &Plan) -> Result<Self> {
        // Beside the build: a disk as it is used in earnest, and Codex works in no temporary folder of the system.
        let parent = paths::target().join("scratch");
        fs::create_dir_all(&parent)?;
        let folder = tempfile::Builder::new().prefix("stand-").tempdir_in(parent)?;
        let (vendor, vendor_url) = match &plan.vendor {
            None => (None, None),
            Some(args) => {
                let mut command = with_files(&programs.path("scripted-vendor"), plan.files);
                command.args(["--listen", "127.0.0.1:0"]).args(args);
                let (running, ready) = Running::ready("scripted-vendor", command, folder.path())?;
                say::line(&format!("scripted vendor  {}", text(&ready, "base_url")?));
                (Some(running), Some(origin(&text(&ready, "base_url")?)))
            }
        };
        let base_url = vendor_url
            .clone()
            .or_else(|| plan.base_url.clone())
            .context("the plan names a vendor")?;
        let hub_data = folder.path().join("hub");
        let tool = Tool {
            programs: &programs,
            name: "relay-hub",
            data: &hub_data,
        };
        prepare(&tool, plan, &base_url)?;
        let mut command = with_files(&programs.path("relay-hub"), plan.files);
        command.arg("serve").arg("--data").arg(&hub_data);
        command.args([
            "--tunnel",
            "127.0.0.1:0",
            "--https",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ]);
        let (hub, ready) = Running::ready("relay-hub", command, folder.path())?;
        say::line(&format!("relay-hub        {ready}"));
        let hub_url = format!("http://{}", text(&ready, "http")?);
        let hub_https = ready
            .get("https")
            .and_then(Value::as_str)
            .map(|address| format!("https://{address}"));
        let hub_key = text(&tool.json(&["key", "add", "--tenant", TENANT])?, "key")?;
        let token = text(&tool.json(&["device", "token", "--tenant", TENANT])?, "token")?;

        let agent_data = folder.path().join("agent");
        let tool = Tool {
            programs: &programs,
            name: "relay-agent",
            data: &agent_data,
        };
        DirBuilder::new().mode(0o700).create(&agent_data)?;
        // The system's keyring is the user's own: a demo leaves nothing in it.
        fs::write(agent_data.join("agent.toml"), "key_store = \"file\"\n")?;
        tool.run(&["enroll", &token])?;
        let mut command = with_files(&programs.path("relay-agent"), plan.files);
        command
            .arg("run")
            .arg("--data")
            .arg(&agent_data)
            .args(["--listen", "127.0.0.1:0"]);
        let (agent, ready) = Running::ready("relay-agent", command, folder.path())?;
        say::line(&format!("relay-agent      {ready}"));
        let agent_url = origin(&text(&ready, "base_url")?);
        let agent_key = tool.run(&["token"])?.trim().to_owned();
        Ok(Self {
            agent,
            hub,
            _vendor: vendor,
            agent_url,
            hub_url,
            hub_https,
            vendor_url,
            agent_key,
            hub_key,
            programs,
            folder,
        })
    }

    /// Runs a command of the hub on the stand's data and returns what it prints.
    pub(crate) fn hub_tool(&self, args: &[&str]) -> Result<String> {
        Tool {
            programs: &self.programs,
            name: "relay-hub",
            data: &self.hub_data(),
        }
        .run(args)
    }

    /// Runs a command of the agent on the stand's data and returns what it prints.
    pub(crate) fn agent_tool(&self, args: &[&str]) -> Result<String> {
        let data = self.agent_data();
        let tool = Tool {
            programs: &self.programs,
            name: "relay-agent",
            data: &data,
        };
        tool.run(args)
    }

    pub(crate) fn hub_data(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// The authority of the hub's own certificates.
    pub(crate) fn hub_ca(&self) -> PathBuf {
        self.hub_data().join("tls/ca.crt")
    }

    pub(crate) fn agent_data(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }
}

/// Open files that thousands of streams at once need.
pub(crate) const FILES: u32 = 65_536;
/// The tenant that pays for everything on a stand.
pub(crate) const TENANT: &str = "demo";

fn prepare(hub: &Tool<'_>, plan: &Plan, base_url: &str) -> Result<()> {
    hub.run(&["init"])?;
    let file = hub.data.join("hub.toml");
    let written = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(&file, format!("{written}\n{}", plan.hub_toml))?;
    hub.run(&["tenant", "add", TENANT])?;
    hub.run(&["tenant", "credit", TENANT, "1000000.00"])?;
    for model in &plan.models {
        let price = ["price", "set", model, "--input", "1.00", "--output", "4.00"];
        // Codex offers the model a search of the web.
        hub.run(&[&price[..], &["--web-search", "0.01"]].concat())?;
    }
    let mut account = hub.command(&["account", "add", "main", "--vendor", "openai", "--base-url", base_url]);
    account
        .args(["--secret-env", "RELAY_STAND_CREDENTIAL"])
        .env("RELAY_STAND_CREDENTIAL", &plan.credential);
    output(account).map(drop)
}

/// A program that is called for one answer.
struct Tool<'a> {
    programs: &'a Programs,
    name: &'static str,
    data: &'a Path,
}

impl Tool<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.programs.command(self.name);
        command.args(args).arg("--data").arg(self.data);
        command
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        output(self.command(args))
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        let mut command = self.command(args);
        command.arg("--json");
        let printed = output(command)?;
        serde_json::from_str(&printed).with_context(|| format!("{} printed no JSON: {printed}", args.join(" ")))
    }
}

fn output(mut command: Command) -> Result<String> {
    child::check_interrupt()?;
    let said = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !said.status.success() {
        // Its first word only: among the others may be a token.
        let program = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let word = command.get_args().next().unwrap_or_default().to_string_lossy();
        bail!(
            "`{program} {word}` failed ({}): {}",
            said.status,
            String::from_utf8_lossy(&said.stderr).trim()
        );
    }
    Ok(String::from_utf8(said.stdout)?)
}

/// The program, allowed to have so many files open, or as many as the system lets it.
pub(crate) fn with_files(program: &Path, files: u32) -> Command {
    let raise = format!("ulimit -n {files} 2>/dev/null || ulimit -n \"$(ulimit -Hn)\"; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    // What a developer exports for a program of their own must not reach these.
    command.arg("-c").arg(raise).arg(program).env_remove("RELAY_LOG");
    command
}

fn text(object: &Value, key: &str) -> Result<String> {
    let found = object.get(key).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("`{key}` is missing in {object}"))
}

/// `http://host:port/v1` without its path.
fn origin(url: &str) -> String {
    url.trim_end_matches('/').trim_end_matches("/v1").to_owned()
}
