//! `relay-hub init`: makes a hub where there is none.

use std::{fs, path::Path};

use serde_json::json;

use super::{Desk, Failure, now_ms};
use crate::{
    ca::{Authority, QuicKeys, ServerIdentity},
    config::{DataDir, TEMPLATE},
    files::{self, Readable},
    price_list,
    seal::fresh_key,
    store::{Store, prices},
};

pub(super) async fn run(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let data = &desk.data;
    refuse_to_overwrite(data)?;
    make_directories(data)?;
    write(&data.seal_key(), &fresh_key(), Readable::OwnerOnly)?;
    QuicKeys::create(data)?;
    Authority::create(data)?;
    ServerIdentity::load(data, None)?;
    let store = Store::create(data).await?;
    let list = price_list::read("prices.toml", price_list::SHIPPED)?;
    let imported = prices::import(&store, &list, now_ms()).await?;
    store.close().await;
    // Last: a directory with settings is a whole one.
    write(&data.hub_toml(), TEMPLATE.as_bytes(), Readable::Ordinary)?;

    let place = data.path().display().to_string();
    let line = format!("made a hub in {place} with prices of {} models", imported.added.len());
    desk.print
        .done(&json!({"data": place, "models": imported.added.len()}), &line)?;
    let flag = format!("--data {place}");
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

fn refuse_to_overwrite(data: &DataDir) -> Result<(), Failure> {
    let files = [
        data.hub_toml(),
        data.database(),
        data.seal_key(),
        data.quic_key(),
        data.ca_certificate(),
        data.ca_key(),
        data.server_certificate(),
        data.server_key(),
    ];
    let there: Vec<String> = files
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
    for path in [data.path(), data.ca_key().parent().unwrap_or(data.path())] {
        files::make_private_directory(path).map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), Failure> {
    files::write_new(path, bytes, readable).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let hint = if is_file {
        "a file is in the way"
    } else {
        "look at the owner and the mode of the directory, or use --data DIR"
    };
    Failure::fixable(format!("cannot make {}: {error}", path.display())).hint(hint)
}
