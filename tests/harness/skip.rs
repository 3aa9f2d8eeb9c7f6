//! A test that cannot run here says so, and never passes silently where what it needs is promised.

use std::fmt;
use std::fs::File;
use std::io::Write;

use crate::codex::build_dir;

/// What a test may need that is no part of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The real Codex CLI.
    Codex,
    /// A browser.
    Chromium,
    /// Leave to mount a disk of our own: FUSE.
    Mount,
    /// Leave to make a network namespace, and addresses in it.
    Namespace,
    /// The proxy tinyproxy.
    Tinyproxy,
    /// The proxy microsocks.
    Microsocks,
    /// The proxy squid.
    Squid,
    /// The official SDKs and coding agents of other vendors, from npm and PyPI.
    Sdks,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Codex => "codex",
            Self::Chromium => "chromium",
            Self::Mount => "mount",
            Self::Namespace => "namespace",
            Self::Tinyproxy => "tinyproxy-bin",
            Self::Microsocks => "microsocks",
            Self::Squid => "squid",
            Self::Sdks => "sdks",
        })
    }
}

/// Says that this test cannot run here, on stderr and in `skipped.txt` of the build directory, from which
/// `cargo xtask test` counts it as skipped. Fails where `RELAY_TESTS_STRICT` lists the need: there it is installed.
pub fn skip(need: Need, why: &str) {
    // One line for each, whatever npm had to say.
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let _unheard = writeln!(std::io::stderr(), "SKIPPED: {why}");
    if let Ok(mut file) = File::options()
        .append(true)
        .create(true)
        .open(build_dir().join("skipped.txt"))
    {
        let _unwritten = file.write_all(format!("{}\t{why}\n", test_name()).as_bytes());
    }
    let strict = told("RELAY_TESTS_STRICT").unwrap_or_default();
    assert!(!is_promised(&strict, need), "{need} is promised here: {why}");
}

/// nextest tells; libtest names the thread.
fn test_name() -> String {
    told("NEXTEST_TEST_NAME")
        .or_else(|| std::thread::current().name().map(str::to_owned))
        .unwrap_or_default()
}

fn told(variable: &str) -> Option<String> {
    std::env::var_os(variable)?.into_string().ok()
}

/// `strict`: the needs that are there, separated by commas, or `all`.
fn is_promised(strict: &str, need: Need) -> bool {
    strict.split(',').any(|word| word == "all" || word == need.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_promised_by_name_or_with_all_others() {
        assert!(is_promised("codex,chromium", Need::Chromium) && is_promised("all", Need::Codex));
        assert!(!is_promised("codex", Need::Chromium) && !is_promised("", Need::Codex));
    }
}
