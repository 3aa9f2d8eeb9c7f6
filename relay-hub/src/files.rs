//! Writes files that must be whole, and readable by their owner only where they hold a secret.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readable {
    /// Whoever the directory admits.
    Ordinary,
    /// The owner alone (0600 where the system knows modes).
    OwnerOnly,
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    restrict(&mut options, readable);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a file as a whole: a reader sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    // A leftover of a crashed process with the same id is nobody's.
    match fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    write_new(&beside, bytes, readable)?;
    fs::rename(&beside, path)?;
    sync_directory(path)
}

/// So that the new name outlives a loss of power too.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes a directory, and those above it, for the owner alone.
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

#[cfg(unix)]
fn restrict(options: &mut fs::OpenOptions, readable: Readable) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(match readable {
        Readable::Ordinary => 0o644,
        Readable::OwnerOnly => 0o600,
    });
}

#[cfg(not(unix))]
fn restrict(_options: &mut fs::OpenOptions, _readable: Readable) {}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"1", Readable::OwnerOnly).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            write_new(&path, b"2", Readable::OwnerOnly).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        replace(&path, b"3", Readable::OwnerOnly).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
