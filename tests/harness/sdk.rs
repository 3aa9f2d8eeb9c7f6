//! Runs the official SDKs of OpenAI, Anthropic and Google, as released on npm and PyPI, against any base URL. Knows nothing of
//! hub and agent.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::codex::build_dir;
use crate::skip::{Need, skip};

/// An SDK, in one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    OpenAiTypeScript,
    OpenAiPython,
    AnthropicTypeScript,
    AnthropicPython,
    GoogleTypeScript,
    GooglePython,
}

/// Where the packages of one language are.
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// The folder that a program looks for packages in.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }
}

impl Sdk {
    pub const fn is_of_anthropic(self) -> bool {
        matches!(self, Self::AnthropicTypeScript | Self::AnthropicPython)
    }

    const fn is_typescript(self) -> bool {
        matches!(
            self,
            Self::OpenAiTypeScript | Self::AnthropicTypeScript | Self::GoogleTypeScript
        )
    }

    /// Its script of what is the vendor's own: a count, the models, a refusal.
    const fn own_script(self) -> Option<Script> {
        Some(match self {
            Self::OpenAiTypeScript | Self::OpenAiPython => return None,
            Self::AnthropicTypeScript => ("anthropic.mjs", include_str!("sdk/anthropic.mjs")),
            Self::AnthropicPython => ("anthropic_sdk.py", include_str!("sdk/anthropic_sdk.py")),
            Self::GoogleTypeScript => ("genai.mjs", include_str!("sdk/genai.mjs")),
            Self::GooglePython => ("genai_sdk.py", include_str!("sdk/genai_sdk.py")),
        })
    }

    /// Its script of what every vendor can do.
    const fn common_script(self) -> Script {
        match self {
            Self::OpenAiTypeScript => ("openai-lanes.mjs", include_str!("sdk/lanes/openai.mjs")),
            Self::OpenAiPython => ("openai_lanes.py", include_str!("sdk/lanes/openai_sdk.py")),
            Self::AnthropicTypeScript => ("anthropic-lanes.mjs", include_str!("sdk/lanes/anthropic.mjs")),
            Self::AnthropicPython => ("anthropic_lanes.py", include_str!("sdk/lanes/anthropic_sdk.py")),
            Self::GoogleTypeScript => ("genai-lanes.mjs", include_str!("sdk/lanes/genai.mjs")),
            Self::GooglePython => ("genai_lanes.py", include_str!("sdk/lanes/genai_sdk.py")),
        }
    }

    /// Installed once into the build directory; `None` where that cannot be, after saying so loudly (see [`skip`]).
    pub async fn install(self) -> Option<Installed> {
        if self.is_typescript() {
            installed("npm", NPM).await
        } else {
            installed("python3", PYPI).await
        }
    }

    /// Runs its script of its own vendor's API: whole, streamed, a round with a tool, a count, the models, a refusal. One
    /// of OpenAI has none.
    pub async fn run(self, installed: &Installed, base_url: &str, key: &str, model: &str) -> Value {
        let script = self.own_script().expect("an SDK with a script of its own");
        self.script(script, installed, &[base_url, key, model]).await
    }

    /// Runs its script of what every vendor can do: whole, streamed, a round with a tool, a picture, JSON. `wire` is of
    /// OpenAI's two: `chat` or `responses`.
    pub async fn run_anywhere(
        self,
        installed: &Installed,
        (base_url, key): (&str, &str),
        model: &str,
        wire: &str,
    ) -> Value {
        let arguments = [base_url, key, model, wire];
        self.script(self.common_script(), installed, &arguments).await
    }

    /// To its end; what its last line says.
    async fn script(self, (name, script): Script, installed: &Installed, arguments: &[&str]) -> Value {
        let file = installed.folder.join(name);
        fs::write(&file, script).expect("the build directory is writable");
        let program = if self.is_typescript() { "node" } else { "python3" };
        let child = Command::new(program)
            .arg(&file)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &installed.folder)
            .env("PYTHONPATH", &installed.folder)
            .env("NO_PROXY", "127.0.0.1,localhost,::1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(RUN_LIMIT, child)
            .await
            .expect("the script ends")
            .expect("the script starts");
        let (said, told) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{self:?}: {told}\n{said}");
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str(last).expect("the script's last line is JSON")
    }
}

/// Packages, installed once into the build directory with `npm` or `python3`; `None` where that cannot be, after saying so
/// loudly (see [`skip`]).
pub async fn installed(tool: &str, packages: &[&str]) -> Option<Installed> {
    let folder = build_dir()
        .join("sdks")
        .join(tool)
        .join(packages.join(" ").replace(['/', ' '], "-"));
    fs::create_dir_all(&folder).expect("the build directory is writable");
    let lock = File::create(folder.join("lock")).expect("the build directory is writable");
    let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _lock = locked
        .expect("locking does not panic")
        .expect("a lock on a file of ours");
    let done = folder.join("done");
    if done.exists() {
        return Some(Installed { folder });
    }
    let mut command = Command::new(tool);
    match tool {
        "npm" => command.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]),
        _ => command.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
        ]),
    };
    let ended = command
        .arg(&folder)
        .args(packages)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let why = match tokio::time::timeout(INSTALL_LIMIT, ended.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            fs::write(done, "").expect("the build directory is writable");
            return Some(Installed { folder });
        }
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Ok(Err(error)) => format!("{tool} does not start: {error}"),
        Err(_) => format!("{tool} took more than {INSTALL_LIMIT:?}"),
    };
    skip(
        Need::Sdks,
        &format!("{} cannot be installed: {why}", packages.join(" and ")),
    );
    None
}

/// A file's name, and what stands in it.
type Script = (&'static str, &'static str);

const NPM: &[&str] = &["openai@7.57.0", "@anthropic-ai/sdk@1.12.0", "@google/genai@2.32.0"];
const PYPI: &[&str] = &["openai==3.54.0", "anthropic==2.12.0", "google-genai==3.4.0"];
const INSTALL_LIMIT: Duration = Duration::from_secs(240);
const RUN_LIMIT: Duration = Duration::from_secs(90);
