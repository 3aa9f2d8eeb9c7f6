//! `relay-hub init`: makes a hub where there is none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Desk, Failure, now_ms};
use crate::{
    ca::{Authority, ServerIdentity, create_quic_key},
    config::{DataDir, TEMPLATE},
    files::{self, Readable},
    price_list,
    seal::{BOUND, Sealer, fresh_key},
    store::{Store, prices},
};

pub(super) async fn run(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let data = &desk.data;
    refuse_to_overwrite(data)?;
    let models = match make(data).await {
        Ok(models) => models,
        Err(failure) => {
            take_back(data);
            return Err(failure);
        }
    };
    let place = data.path().display().to_string();
    let line = format!("made a hub in {place} with prices of {models} models");
    desk.print.done(&json!({"data": place, "models": models}), &line)?;
    let flag = format!("--data {}", shell_word(&place));
    let steps = [
        format!("relay-hub tenant add acme {flag}"),
        format!("relay-hub tenant credit acme 10.00 {flag}"),
        format!(
            "relay-hub account add main --vendor openai --base-url https://api.openai.com --secret-env OPENAI_API_KEY {flag}"
        ),
        format!("relay-hub serve {flag}"),
        format!("relay-hub device token --tenant acme {flag}     # for `relay-agent enroll`"),
        format!("relay-hub key add --tenant acme {flag}          # for clients without the agent"),
    ];
    desk.print.talk("next:")?;
    for step in steps {
        desk.print.talk(&format!("  {step}"))?;
    }
    desk.print.talk(&format!(
        "back up {}: without it no vendor's secret opens again",
        desk.data.seal_key().display()
    ))?;
    Ok(())
}

/// Makes everything; how many models have a price.
async fn make(data: &DataDir) -> Result<usize, Failure> {
    make_directories(data)?;
    make_seal_key(data)?;
    write(&data.seal_bound(), BOUND.as_bytes(), Readable::OwnerOnly)?;
    create_quic_key(data)?;
    Authority::create(data)?;
    ServerIdentity::load(data, None)?;
    // SQLite gives its other files the mode of the first.
    write(&data.database(), b"", Readable::OwnerOnly)?;
    let store = Store::create(data).await?;
    let list = price_list::read("prices.toml", price_list::SHIPPED)?;
    let imported = prices::import(&store, &list, now_ms()).await?;
    store.close().await;
    // Last: a directory with settings is a whole one.
    write(&data.hub_toml(), TEMPLATE.as_bytes(), Readable::Ordinary)?;
    Ok(imported.added.len())
}

/// One that lies elsewhere may be there already: a credential of the service, say.
fn make_seal_key(data: &DataDir) -> Result<(), Failure> {
    let path = data.seal_key();
    if data.is_seal_key_elsewhere() && path.exists() {
        Sealer::open(data)?;
        return Ok(());
    }
    write(&path, &fresh_key(), Readable::OwnerOnly)
}

/// After a failure half-way: there was none of these before, so the next try finds none either.
fn take_back(data: &DataDir) {
    for path in files_of(data) {
        // Most were not made yet.
        fs::remove_file(path).ok();
    }
    fs::remove_dir(tls(data)).ok();
}

/// Every file that makes a hub.
fn files_of(data: &DataDir) -> Vec<PathBuf> {
    let beside = |end| {
        let mut name = data.database().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let seal_key = Some(data.seal_key()).filter(|_| !data.is_seal_key_elsewhere());
    let mut files = vec![
        data.hub_toml(),
        data.database(),
        beside("-wal"),
        beside("-shm"),
        data.seal_bound(),
        data.quic_key(),
        data.ca_certificate(),
        data.ca_key(),
        data.server_certificate(),
        data.server_key(),
    ];
    files.extend(seal_key);
    files
}

fn tls(data: &DataDir) -> PathBuf {
    data.ca_key().parent().unwrap_or(data.path()).to_owned()
}

fn refuse_to_overwrite(data: &DataDir) -> Result<(), Failure> {
    let there: Vec<String> = files_of(data)
        .iter()
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(Failure::fixable(format!(
        "there is a hub already, nothing was changed:\n{}",
        there.join("\n")
    ))
    .hint("serve it, or make another one with --data DIR"))
}

fn make_directories(data: &DataDir) -> Result<(), Failure> {
    for path in [data.path(), &tls(data)] {
        files::make_private_directory(path)
            .and_then(|()| close_to_others(path))
            .map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}

/// Also a directory that was there before.
#[cfg(unix)]
fn close_to_others(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn close_to_others(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn write(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), Failure> {
    files::write_new(path, bytes, readable).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let hint = if is_file {
        "a file is in the way"
    } else {
        "look at the owner and the mode of the directory, or use --data DIR"
    };
    Failure::fixable(format!("cannot make {}: {error}", path.display())).hint(hint)
}

/// As a POSIX shell takes it.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_init_leaves_nothing_that_stops_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        // A directory stands where a key should be.
        fs::create_dir(data.quic_key()).unwrap();
        assert!(make(&data).await.is_err());
        take_back(&data);
        fs::remove_dir(data.quic_key()).unwrap();
        refuse_to_overwrite(&data).unwrap();
        assert!(make(&data).await.unwrap() > 2);
    }

    #[test]
    fn a_path_is_shown_as_a_shell_takes_it() {
        assert_eq!(shell_word("/var/lib/relay-hub"), "/var/lib/relay-hub");
        assert_eq!(shell_word("/a b/it's"), r"'/a b/it'\''s'");
    }
}
