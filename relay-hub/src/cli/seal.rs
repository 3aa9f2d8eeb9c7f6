//! `relay-hub seal …`.

use clap::Subcommand;
use serde_json::json;

use super::{Desk, Failure};
use crate::{rotation, seal::Sealer};

#[derive(Subcommand)]
pub(super) enum Seal {
    /// Show the master keys by their ids, and how many secrets each seals.
    Show,
    /// Make a new master key and seal every secret under it. A running hub goes on and follows.
    Rotate,
    /// Seal every secret under the first key of the key file, where you put a new one in front yourself.
    Rewrap,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: &Seal) -> Result<(), Failure> {
    let (store, sealer) = (desk.store().await?, Sealer::open(&desk.data)?);
    let done = match command {
        Seal::Show => return show(desk).await,
        Seal::Rotate => rotation::rotate(&store, &sealer).await?,
        Seal::Rewrap => rotation::rewrap(&store, &sealer).await?,
    };
    let id = sealer.first().to_string();
    let line = format!("{done} secrets are newly sealed; all are under the master key {id}");
    desk.print.done(&json!({"key": id, "sealed": done}), &line)?;
    let path = desk.data.seal_key();
    Ok(desk.print.talk(&format!(
        "back up {}: without it no vendor's secret opens again",
        path.display()
    ))?)
}

async fn show(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let (store, sealer) = (desk.store().await?, Sealer::open(&desk.data)?);
    let first = sealer.first();
    let all = rotation::census(&store, &sealer).await?;
    let lines = all.iter().map(|under| {
        let state = match under.key {
            Some(key) if key == first => "seals",
            Some(_) if under.is_held => "opens",
            Some(_) => "missing from the key file",
            None => "of an older relay-hub: `seal rewrap` brings them up to date",
        };
        let key = under.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
        (key, under.values, state)
    });
    let lines: Vec<_> = lines.collect();
    let json: Vec<_> = lines
        .iter()
        .map(|(key, secrets, state)| json!({"key": key, "secrets": secrets, "state": state}))
        .collect();
    let rows: Vec<_> = lines
        .into_iter()
        .map(|(key, secrets, state)| vec![key, secrets.to_string(), state.to_owned()])
        .collect();
    Ok(desk.print.list(&json, &["KEY", "SECRETS", "STATE"], &rows)?)
}
