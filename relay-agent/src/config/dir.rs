//! The data directory: private to its user, written atomically. Refuses to work in one that others can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A data directory whose permissions were found to be right.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

/// Why the data directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// It is not there.
    #[error("no data directory at {}", .0.display())]
    Missing(PathBuf),
    /// Others could read or change it.
    #[error("{} has mode {mode:04o}: others could read it", path.display())]
    TooOpen {
        /// The directory or file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The permissions it should have.
        wanted: u32,
    },
    /// It is a symbolic link, or not what it should be.
    #[error("{} is not a plain {wanted}", path.display())]
    Odd {
        /// What was looked at.
        path: PathBuf,
        /// "file" or "directory".
        wanted: &'static str,
    },
    /// The system said no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// "read", "write" or "create".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl From<DirError> for Failure {
    fn from(error: DirError) -> Self {
        let hint = match &error {
            DirError::Missing(_) => "enrol this machine first: relay-agent enroll TOKEN".to_owned(),
            DirError::TooOpen { path, wanted, .. } => format!("run: chmod {wanted:o} {}", path.display()),
            DirError::Odd { path, wanted } => format!("move {} away; a plain {wanted} is made anew", path.display()),
            DirError::Io { path, .. } => format!("check the owner and the space of {}", path.display()),
        };
        Self::user(error.to_string(), hint)
    }
}

impl DataDir {
    /// Opens the directory, making it (mode 0700) when it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or others can read it.
    pub fn create(path: &Path) -> Result<Self, DirError> {
        if fs::symlink_metadata(path).is_err() {
            make_private(path).map_err(|source| io_error("create", path, source))?;
        }
        Self::open(path)
    }

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// When it is missing, or others can read it.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DirError::Missing(path.to_owned())),
            Err(source) => return Err(io_error("read", path, source)),
        };
        if !found.is_dir() {
            return Err(DirError::Odd {
                path: path.to_owned(),
                wanted: "directory",
            });
        }
        refuse_open(path, &found, 0o700)?;
        Ok(Self(path.to_owned()))
    }

    /// The directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file that only its owner may read; `None` when it is not there.
    ///
    /// # Errors
    /// When it is a link, others can read it, or reading fails.
    pub fn read(&self, name: &str) -> Result<Option<String>, DirError> {
        let path = self.file(name);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("read", &path, source)),
        };
        if !found.is_file() {
            return Err(DirError::Odd { path, wanted: "file" });
        }
        refuse_open(&path, &found, 0o600)?;
        fs::read_to_string(&path)
            .map(Some)
            .map_err(|source| io_error("read", &path, source))
    }

    /// Writes a file (mode 0600) so that a crash leaves the old text or the new one.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, name: &str, text: &str) -> Result<(), DirError> {
        let path = self.file(name);
        replace_privately(&path, text).map_err(|source| io_error("write", &path, source))
    }

    /// Removes a file; one that is not there is as good as removed.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self, name: &str) -> Result<(), DirError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, source)),
            _ => Ok(()),
        }
    }
}

/// Writes `text` (mode 0600) beside `path`, then renames it over `path`.
pub(crate) fn replace_privately(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    // A leftover of a crash may be in the way; `create_new` below does not follow what someone planted.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_parent(path)
}

/// A rename is only durable when its directory is.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if cfg!(unix) && !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> DirError {
    DirError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(unix)]
fn refuse_open(path: &Path, found: &fs::Metadata, wanted: u32) -> Result<(), DirError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(DirError::TooOpen {
        path: path.to_owned(),
        mode,
        wanted,
    })
}

// Elsewhere the profile directory of a user is private to that user, and files inherit it.
#[cfg(not(unix))]
fn make_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(not(unix))]
fn refuse_open(_path: &Path, _found: &fs::Metadata, _wanted: u32) -> Result<(), DirError> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_written_is_private_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&home.path().join("a/b")).unwrap();
        assert_eq!(mode_of(dir.path()), 0o700);
        assert_eq!(dir.read("x").unwrap(), None);
        for text in ["one", "two"] {
            dir.write("x", text).unwrap();
            assert_eq!(dir.read("x").unwrap().as_deref(), Some(text));
        }
        assert_eq!(mode_of(&dir.file("x")), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
        dir.remove("x").unwrap();
        dir.remove("x").unwrap();
    }

    #[test]
    fn looser_permissions_are_refused_with_the_chmod_to_run() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data");
        let dir = DataDir::create(&path).unwrap();
        dir.write("k", "secret").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o601] {
            chmod(&dir.file("k"), mode);
            let hint = Failure::from(dir.read("k").unwrap_err());
            assert_eq!(
                hint.hint(),
                Some(format!("run: chmod 600 {}", dir.file("k").display()).as_str())
            );
        }
        for mode in [0o750, 0o705, 0o711, 0o755, 0o770, 0o777] {
            chmod(&path, mode);
            let hint = Failure::from(DataDir::open(&path).unwrap_err());
            assert_eq!(hint.hint(), Some(format!("run: chmod 700 {}", path.display()).as_str()));
        }
    }

    #[test]
    fn a_planted_link_is_neither_read_nor_written_through() {
        let home = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&home.path().join("data")).unwrap();
        let target = home.path().join("victim");
        fs::write(&target, "untouched").unwrap();
        symlink(&target, dir.file("k")).unwrap();
        assert!(matches!(dir.read("k"), Err(DirError::Odd { .. })));
        dir.write("k", "secret").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        assert_eq!(dir.read("k").unwrap().as_deref(), Some("secret"));
    }
}
