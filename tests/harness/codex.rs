//! Runs the real Codex CLI, as released on npm, against any base URL: a home of its own, a clean environment,
//! no traffic but the relay's. Knows nothing of hub and agent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::skip::{Need, skip};

/// The release all measurements in the reference were made with.
pub const VERSION: &str = "0.169.0";
/// Codex does nothing for so long only when something is wrong.
const RUN_LIMIT: Duration = Duration::from_secs(150);

/// An installed Codex CLI.
pub struct Codex {
    binary: PathBuf,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    pub exit_code: Option<i32>,
    /// The final message.
    pub stdout: String,
    /// All the talk.
    pub stderr: String,
    pub took: Duration,
}

impl Outcome {
    /// The text after `ERROR:`, once each, without what varies from run to run.
    pub fn errors(&self) -> Vec<String> {
        let mut errors: Vec<String> = Vec::new();
        for line in self.stderr.lines().filter_map(|line| line.strip_prefix("ERROR: ")) {
            if !errors.iter().any(|known| known == line) {
                errors.push(line.to_owned());
            }
        }
        errors
    }

    /// Whether Codex told its user of any trouble on the way.
    pub fn complained(&self) -> bool {
        ["Reconnecting", "Falling back", "ERROR", "WARN", "warning: "]
            .iter()
            .any(|word| self.stderr.contains(word))
    }
}

/// How Codex is told to reach the model.
#[derive(Clone)]
pub enum Way {
    /// A custom provider over HTTP and server-sent events, key from the environment.
    Custom,
    /// A custom provider over WebSocket.
    CustomSocket,
    /// The built-in provider with `openai_base_url`: WebSocket first.
    BuiltIn,
    /// A custom provider whose key is what this command prints; it fetches the model catalog, too.
    Command(PathBuf, Vec<String>),
    /// This `config.toml` and `.env`, as a tool wrote them into a directory.
    Prepared(PathBuf),
}

/// One run of `codex exec`.
pub struct Run<'a> {
    pub way: Way,
    /// With `/v1`.
    pub base_url: String,
    pub key: String,
    pub model: &'a str,
    pub prompt: &'a str,
    /// More lines for the provider's table, such as `request_max_retries = 1`; ignored by the built-in one.
    pub provider_options: &'a str,
    pub arguments: &'a [&'a str],
}

impl<'a> Run<'a> {
    pub fn new(way: Way, base_url: &str, key: &str) -> Self {
        Self {
            way,
            base_url: base_url.to_owned(),
            key: key.to_owned(),
            model: "gpt-5.2-codex",
            prompt: "Run the command and tell what it printed.",
            provider_options: "",
            arguments: &[],
        }
    }

    fn config(&self) -> String {
        let Self {
            base_url,
            provider_options,
            model,
            ..
        } = self;
        let quiet = "check_for_update_on_startup = false\nanalytics = { enabled = false }\n\
                     features = { plugins = false, apps = false, remote_plugin = false }\n\
                     otel = { metrics_exporter = \"none\" }\n";
        let custom = |more: &str| {
            format!(
                "model = \"{model}\"\nmodel_provider = \"relay\"\n{quiet}\n[model_providers.relay]\nname = \"Relay\"\n\
                 base_url = \"{base_url}\"\n{provider_options}\n{more}\n"
            )
        };
        match &self.way {
            Way::Custom => custom("env_key = \"RELAY_API_KEY\""),
            Way::CustomSocket => custom("env_key = \"RELAY_API_KEY\"\nsupports_websockets = true"),
            Way::BuiltIn => format!("model = \"{model}\"\nopenai_base_url = \"{base_url}\"\n{quiet}"),
            Way::Prepared(home) => {
                let written = fs::read_to_string(home.join("config.toml")).expect("a prepared config.toml");
                format!("model = \"{model}\"\n{quiet}\n{written}")
            }
            Way::Command(program, arguments) => custom(&format!(
                "supports_websockets = true\n[model_providers.relay.auth]\ncommand = {:?}\nargs = {arguments:?}",
                program.display().to_string(),
            )),
        }
    }
}

impl Codex {
    /// The program `RELAY_CODEX` names; without that, Codex is installed once into the build directory. `None`
    /// when npm is missing or cannot fetch it, after saying so loudly (see [`skip`]).
    pub async fn install() -> Option<Self> {
        if let Some(binary) = std::env::var_os("RELAY_CODEX") {
            return Some(Self {
                binary: PathBuf::from(binary),
            });
        }
        let folder = build_dir().join("codex-cli").join(VERSION);
        fs::create_dir_all(&folder).expect("the build directory is writable");
        let lock = File::create(folder.join("lock")).expect("the build directory is writable");
        let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
        let _lock = locked
            .expect("locking does not panic")
            .expect("a lock on a file of ours");
        if let Some(binary) = find_binary(&folder) {
            return Some(Self { binary });
        }
        let package = format!("@openai/codex@{VERSION}");
        let npm = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
            .arg(&folder)
            .arg(package)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let why = match tokio::time::timeout(Duration::from_secs(240), npm).await {
            Ok(Ok(output)) if output.status.success() => match find_binary(&folder) {
                Some(binary) => return Some(Self { binary }),
                None => "npm installed no program for this platform".to_owned(),
            },
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Ok(Err(error)) => format!("npm does not start: {error}"),
            Err(_) => "npm took more than 240 s".to_owned(),
        };
        skip(
            Need::Codex,
            &format!("the real Codex CLI {VERSION} cannot be installed: {why}"),
        );
        None
    }

    /// Runs `codex exec` to its end.
    pub async fn exec(&self, run: &Run<'_>) -> Outcome {
        self.conversation().turn(run).await
    }

    /// One that goes on from process to process.
    pub fn conversation(&self) -> Conversation<'_> {
        Conversation {
            codex: self,
            scratch: scratch_dir("codex"),
            resume: &[],
        }
    }
}

/// A conversation: a home that outlives its turns, each of which is a process of its own.
pub struct Conversation<'a> {
    codex: &'a Codex,
    scratch: tempfile::TempDir,
    /// What a turn after the first is told.
    resume: &'static [&'static str],
}

impl Conversation<'_> {
    /// Runs `codex exec`, and from the second turn on `codex exec resume`, to its end.
    pub async fn turn(&mut self, run: &Run<'_>) -> Outcome {
        let (home, work) = (self.scratch.path().join("home"), self.scratch.path().join("work"));
        fs::create_dir_all(&home).expect("a scratch directory is writable");
        fs::create_dir_all(&work).expect("a scratch directory is writable");
        fs::write(home.join("config.toml"), run.config()).expect("a scratch directory is writable");
        if let Way::Prepared(from) = &run.way
            && let Ok(variables) = fs::read(from.join(".env"))
        {
            fs::write(home.join(".env"), variables).expect("a scratch directory is writable");
        }
        let began = Instant::now();
        let child = Command::new(&self.codex.binary)
            .args([
                "exec",
                "--skip-git-repo-check",
                "--dangerously-bypass-approvals-and-sandbox",
            ])
            .args(run.arguments)
            .args(self.resume)
            .arg(run.prompt)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &work)
            .env("CODEX_HOME", &home)
            .env("NO_PROXY", "127.0.0.1,localhost,::1")
            .env("RELAY_API_KEY", &run.key)
            .env("CODEX_API_KEY", &run.key)
            .current_dir(&work)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(RUN_LIMIT, child)
            .await
            .expect("codex ends")
            .expect("codex starts");
        self.resume = &["resume", "--last"];
        Outcome {
            exit_code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: began.elapsed(),
        }
    }
}

fn find_binary(folder: &Path) -> Option<PathBuf> {
    let name = format!("codex{}", std::env::consts::EXE_SUFFIX);
    walkdir::WalkDir::new(folder.join("node_modules/@openai"))
        .into_iter()
        .filter_map(Result::ok)
        .find(|entry| entry.file_type().is_file() && entry.file_name() == name.as_str())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("bin")))
}

/// The workspace's build directory.
pub fn build_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}

/// A new directory inside the build directory: Codex refuses to put programs into the system's temporary one.
pub fn scratch_dir(prefix: &str) -> tempfile::TempDir {
    let parent = build_dir().join("scratch");
    fs::create_dir_all(&parent).expect("the build directory is writable");
    let parent = parent.canonicalize().expect("the directory exists");
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(parent)
        .expect("the build directory is writable")
}
