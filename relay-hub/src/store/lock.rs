//! One hub a data directory: a file lock that the system releases with the process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    time::Duration,
};

use super::StoreError;
use crate::config::DataDir;

/// Held while a hub runs on its data directory.
pub struct HubLock {
    _file: File,
}

impl HubLock {
    /// Takes the lock, or tells who has it. Never waits.
    pub fn take(data: &DataDir) -> Result<Self, StoreError> {
        let path = data.lock();
        let failed = |source| StoreError::File {
            path: path.display().to_string(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let mut tries = 1;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // A command may be looking whether a hub runs.
                Err(TryLockError::WouldBlock) if tries < 5 => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let pid = file
                        .read_to_string(&mut text)
                        .ok()
                        .and_then(|_| text.trim().parse().ok());
                    return Err(StoreError::Locked {
                        path: data.path().display().to_string(),
                        pid,
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        write!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Whether no hub runs here.
    pub fn is_free(data: &DataDir) -> bool {
        OpenOptions::new()
            .write(true)
            .open(data.lock())
            .map_or(true, |file| file.try_lock().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hub_on_the_same_directory_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let first = HubLock::take(&data).unwrap();
        let told = HubLock::take(&data).err().unwrap().to_string();
        assert!(told.contains(&format!("pid {}", std::process::id())), "{told}");
        drop(first);
        assert!(HubLock::take(&data).is_ok());
    }
}
