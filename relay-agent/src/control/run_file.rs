//! `run.json`: how the agent's commands find the one that runs. Written when it listens, removed when it stops.

use serde::{Deserialize, Serialize};

use crate::config::dir::{DataDir, DirError};

/// The running agent of a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Its process.
    pub pid: u32,
    /// What clients use, for example `http://127.0.0.1:8787/v1`.
    pub base_url: String,
}

impl RunFile {
    /// The agent that said it runs; it may have crashed since.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(dir: &DataDir) -> Result<Option<Self>, DirError> {
        Ok(dir.read(RUN_FILE)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub(crate) fn write(&self, dir: &DataDir) -> Result<(), DirError> {
        dir.write(RUN_FILE, &serde_json::to_string(self).unwrap_or_default())
    }

    /// Removes the file if it is still this agent's.
    pub(crate) fn remove(&self, dir: &DataDir) -> Result<(), DirError> {
        match Self::read(dir)? {
            Some(found) if found == *self => dir.remove(RUN_FILE),
            _ => Ok(()),
        }
    }
}

const RUN_FILE: &str = "run.json";
