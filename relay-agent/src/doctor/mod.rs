//! Looks for what stands between a client and the hub. Each finding is a verdict and, when it is bad, what to do.
//! Changes nothing.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::Config;
use crate::config::dir::DataDir;
use crate::control::RunFile;
use crate::control::client::addr_in;
use crate::enroll::Device;
use crate::failure::Failure;
use crate::keystore;

mod agent;
mod client_side;
mod network;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Works, but not as well as it could, or could not be looked at.
    Warn,
    /// Calls fail because of it.
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing.
    pub action: String,
}

impl Finding {
    fn pass(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Pass,
            found: found.into(),
            action: String::new(),
        }
    }

    fn warn(check: &'static str, found: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Warn,
            found: found.into(),
            action: action.into(),
        }
    }

    fn fail(check: &'static str, found: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Fail,
            found: found.into(),
            action: action.into(),
        }
    }

    fn of(check: &'static str, error: impl Into<Failure>) -> Self {
        let failure = error.into();
        Self::fail(check, failure.message(), failure.hint().unwrap_or("the log says more"))
    }

    /// The finding for people: one line, and a second one with what to do.
    #[must_use]
    pub fn to_text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Pass => "PASS",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let action = if self.action.is_empty() {
            String::new()
        } else {
            format!("\n      -> {}", self.action)
        };
        format!("{verdict}  {:<15} {}{action}", self.check, self.found)
    }
}

/// Looks at everything; `codex_home` is Codex's directory, when there is a user with one.
pub async fn examine(config: &Config, codex_home: Option<PathBuf>) -> Vec<Finding> {
    let dir = match DataDir::open(&config.data) {
        Ok(dir) => dir,
        Err(error) => return vec![Finding::of("data", error)],
    };
    let mut findings = vec![Finding::pass("data", format!("{} is private", dir.path().display()))];
    let run_file = RunFile::read(&dir).ok().flatten();
    let addr = run_file
        .as_ref()
        .and_then(|run| addr_in(&run.base_url))
        .unwrap_or(config.listen);
    let key = match keystore::local_key_if_any(&dir) {
        Ok(key) => key,
        Err(error) => {
            findings.push(Finding::of("local key", error));
            None
        }
    };
    findings.push(match &key {
        Some(_) => Finding::pass("local key", "there is one, mode 0600"),
        None => Finding::fail("local key", "there is none to be used", "run: relay-agent enroll TOKEN"),
    });
    let seen = agent::look(addr, key.as_ref(), run_file.is_some()).await;
    findings.extend(seen.findings);
    findings.extend(client_side::look(&format!("http://{addr}/v1"), codex_home.as_deref()));
    match Device::load(&dir) {
        Ok(device) => findings.extend(network::look(&dir, &device, config.link).await),
        Err(error) => findings.push(Finding::of("enrolment", error)),
    }
    findings.push(agent::echo(addr, key.as_ref(), seen.is_running).await);
    findings
}

/// Whether something is found that makes calls fail.
#[must_use]
pub fn is_bad(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict == Verdict::Fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_without_data_is_told_to_enrol() {
        let home = tempfile::tempdir().unwrap();
        let findings = examine(&Config::new(home.path().join("none")), None).await;
        assert!(is_bad(&findings));
        assert!(findings[0].to_text().contains("relay-agent enroll"), "{findings:?}");
    }

    #[test]
    fn every_bad_finding_says_what_to_do() {
        let finding = Finding::fail("tcp", "no answer", "open the port");
        assert_eq!(
            finding.to_text(),
            "FAIL  tcp             no answer\n      -> open the port"
        );
        assert_eq!(Finding::pass("tcp", "ok").to_text(), "PASS  tcp             ok");
    }
}
