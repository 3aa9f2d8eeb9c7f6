//! Points Codex at the agent, and undoes that. Edits files of others: with a backup, and never more than needed.

use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::config::dir::replace_privately;
use crate::failure::Failure;

mod codex_toml;
mod diff;
mod dotenv;
#[cfg(test)]
mod tests;

pub(crate) use codex_toml::base_url_in;
pub(crate) use dotenv::{is_loopback_exempt, listed};

use codex_toml::Provider;

/// How Codex shall reach the agent.
pub struct Codex {
    /// Codex's own directory.
    pub home: PathBuf,
    /// The agent's base URL.
    pub base_url: String,
    /// This program, as an absolute path.
    pub program: PathBuf,
    /// The agent's data directory, as an absolute path.
    pub data: PathBuf,
    /// What the environment's `NO_PROXY` says.
    pub no_proxy: Option<String>,
}

/// One file before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// What is in it; `None` when there is no such file.
    pub before: Option<String>,
    /// What shall be in it; `None` when it shall not be there.
    pub after: Option<String>,
}

/// What is to be done, not done yet.
pub struct Plan {
    changes: Vec<Change>,
    record: Record,
    home: PathBuf,
    is_undo: bool,
}

/// What was there before the first setup, and what setup left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    config: Option<Kept>,
    env: Option<Kept>,
    /// What the environment's `NO_PROXY` said then.
    no_proxy: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// There was a file, and its backup is beside it.
    existed: bool,
    /// SHA-256 of what setup wrote; empty when the user had changed the file in between.
    written: String,
}

impl Change {
    /// Whether anything changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before == self.after
    }

    /// The removed and added lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = |side: &Option<String>| side.clone().unwrap_or_default();
        diff::diff(&text(&self.before), &text(&self.after))
    }
}

impl Codex {
    /// What pointing Codex at the agent would change.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub fn plan(&self) -> Result<Plan, Failure> {
        let (config, env) = (read(&self.config())?, read(&self.env())?);
        let provider = Provider {
            base_url: self.base_url.clone(),
            program: self.program.display().to_string(),
            arguments: vec!["token".into(), "--data".into(), self.data.display().to_string()],
        };
        let edited = codex_toml::point_at_relay(config.as_deref().unwrap_or_default(), &provider);
        let new_config = edited.map_err(|error| unreadable(&self.config(), &error.to_string()))?;
        let new_env = dotenv::with_loopback(env.as_deref().unwrap_or_default(), self.no_proxy.as_deref());
        let mut record = self.record()?.unwrap_or(Record {
            no_proxy: self.no_proxy.clone(),
            ..Record::default()
        });
        record.config = Some(kept(record.config, config.as_deref(), &new_config));
        record.env = Some(kept(record.env, env.as_deref(), &new_env));
        let changes = vec![
            Change {
                path: self.config(),
                before: config,
                after: Some(new_config),
            },
            Change {
                path: self.env(),
                before: env,
                after: Some(new_env),
            },
        ];
        Ok(Plan {
            changes,
            record,
            home: self.home.clone(),
            is_undo: false,
        })
    }

    /// What undoing the setup would change: back to the very bytes that were there, or, where the user changed a file
    /// since, our keys out of it.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub fn plan_undo(&self) -> Result<Plan, Failure> {
        let record = self.record()?.unwrap_or_default();
        let config = undone(&self.config(), record.config.as_ref(), |text, before| {
            codex_toml::as_before(text, before).map_err(|error| unreadable(&self.config(), &error.to_string()))
        })?;
        let env = undone(&self.env(), record.env.as_ref(), |text, before| match &record.env {
            Some(_) => Ok(dotenv::without_ours(text, before, record.no_proxy.as_deref())),
            // Without a record it is not known whose the line is, and it does no harm.
            None => Ok(text.to_owned()),
        })?;
        Ok(Plan {
            changes: vec![config, env],
            record,
            home: self.home.clone(),
            is_undo: true,
        })
    }

    fn config(&self) -> PathBuf {
        self.home.join("config.toml")
    }

    fn env(&self) -> PathBuf {
        self.home.join(".env")
    }

    fn record(&self) -> Result<Option<Record>, Failure> {
        let path = self.home.join(RECORD);
        Ok(read(&path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

impl Plan {
    /// The files that change.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| !change.is_empty())
    }

    /// Does it. The backup and the record come first, so that a crash in between can be undone.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn apply(&self) -> Result<(), Failure> {
        if self.changes().next().is_none() && !self.is_undo {
            return Ok(());
        }
        if !self.is_undo {
            fs::create_dir_all(&self.home).map_err(|error| unwritable(&self.home, &error))?;
            self.back_up()?;
        }
        for change in self.changes() {
            write(&change.path, change.after.as_deref())?;
        }
        if self.is_undo {
            self.clean_up()?;
        }
        Ok(())
    }

    fn back_up(&self) -> Result<(), Failure> {
        for change in &self.changes {
            let backup = backup_of(&change.path);
            // The first backup is the one to go back to.
            if let Some(before) = &change.before
                && !backup.exists()
                && !self.home.join(RECORD).exists()
            {
                write(&backup, Some(before))?;
            }
        }
        let record = serde_json::to_string_pretty(&self.record).unwrap_or_default();
        write(&self.home.join(RECORD), Some(&record))
    }

    fn clean_up(&self) -> Result<(), Failure> {
        for change in &self.changes {
            write(&backup_of(&change.path), None)?;
        }
        write(&self.home.join(RECORD), None)
    }
}

/// What to remember of a file that is about to be written.
fn kept(earlier: Option<Kept>, current: Option<&str>, new: &str) -> Kept {
    let Some(earlier) = earlier else {
        return Kept {
            existed: current.is_some(),
            written: sha256(new),
        };
    };
    let is_as_we_left_it = current.is_some_and(|text| sha256(text) == earlier.written);
    Kept {
        written: if is_as_we_left_it { sha256(new) } else { String::new() },
        ..earlier
    }
}

fn undone(
    path: &Path,
    kept: Option<&Kept>,
    take_away: impl Fn(&str, &str) -> Result<String, Failure>,
) -> Result<Change, Failure> {
    let current = read(path)?;
    let backup = if kept.is_some_and(|kept| kept.existed) {
        read(&backup_of(path))?
    } else {
        None
    };
    let after = match (&current, kept) {
        (None, _) => None,
        (Some(text), Some(kept)) if sha256(text) == kept.written => backup,
        (Some(text), _) => Some(take_away(text, backup.as_deref().unwrap_or_default())?),
    };
    Ok(Change {
        path: path.to_owned(),
        before: current,
        after,
    })
}

fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".before-relay");
    path.with_file_name(name)
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error.to_string())),
    }
}

/// Replaces a file's text, through a link and with its permissions kept; `None` removes it.
fn write(path: &Path, text: Option<&str>) -> Result<(), Failure> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let outcome = match text {
        Some(text) => {
            let before = fs::metadata(&real).ok().map(|found| found.permissions());
            replace_privately(&real, text).and_then(|()| before.map_or(Ok(()), |mode| fs::set_permissions(&real, mode)))
        }
        None => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        },
    };
    outcome.map_err(|error| unwritable(path, &error))
}

fn unreadable(path: &Path, reason: &str) -> Failure {
    Failure::user(
        format!("cannot use {}: {reason}", path.display()),
        "correct that file and try again; nothing was changed",
    )
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::user(
        format!("cannot write {}: {error}", path.display()),
        "check the owner of the directory and its space",
    )
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const RECORD: &str = "relay-setup.json";
