//! `relay-hub account import`: many accounts from one file, all of them or none.

mod record;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
};

use clap::Args;
use relay_shared::config::{Problem, Problems};
use serde_json::{Value, json};

use self::record::Record;
use super::add;
use crate::{
    cli::{Desk, Failure},
    ids::TenantId,
    seal::Sealer,
    store::{
        accounts::{self, AccountRow},
        sharing::{Change, Users},
        tenants,
    },
    vendor::CredentialKind,
};

#[derive(Args)]
pub(in crate::cli) struct Import {
    /// TOML or JSON with a list `account`, or CSV whose first line has the keys: the words of `account add`, `share` and
    /// `set` with `_` for `-`.
    file: PathBuf,
    /// Tell what is wrong with the file, and add nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Tenants by their names and by their ids.
type Tenants = HashMap<String, TenantId>;

pub(super) async fn run(desk: &mut Desk<'_>, words: &Import) -> Result<(), Failure> {
    let file = words.file.display().to_string();
    let text = fs::read_to_string(&words.file).map_err(|error| {
        Failure::fixable(format!("cannot read {file}: {error}")).hint("name a file of accounts in TOML, JSON or CSV")
    })?;
    let records = record::read(&file, &text).map_err(|problems| Failure::from(problems).hint(UNCHANGED))?;
    let (store, sealer) = (desk.store().await?, Sealer::open(&desk.data)?);
    let known = tenants::list(&store).await?.into_iter();
    let known: Tenants = known
        .flat_map(|tenant| {
            [
                (tenant.id.as_str().to_owned(), tenant.id.clone()),
                (tenant.name, tenant.id),
            ]
        })
        .collect();
    let mut names: HashSet<String> = accounts::list(&store).await?.into_iter().map(|row| row.name).collect();
    let (mut all, mut problems) = (Vec::new(), Problems::new());
    for record in &records {
        let mut own = Problems::new();
        let read = account(record, &known, &sealer, &mut own)?;
        if let Some(name) = record.name().filter(|name| !names.insert((*name).to_owned())) {
            own.push(
                "name",
                format!("there is already an account named `{name}`"),
                "take another",
            );
        }
        own.iter().for_each(|problem| at(record, problem, &mut problems));
        all.extend(read);
    }
    if !problems.is_empty() {
        return Err(Failure::from(problems).hint(UNCHANGED));
    }
    if words.dry_run {
        let line = format!("{} accounts can be added; none was", all.len());
        return Ok(desk.print.done(&json!({"added": 0, "fit": all.len()}), &line)?);
    }
    accounts::add_all(&store, &all).await?;
    let told: Vec<Value> = all
        .iter()
        .map(|(row, _)| json!({"id": row.id, "name": row.name}))
        .collect();
    let line = format!("added {} accounts", all.len());
    Ok(desk.print.done(&json!({"added": all.len(), "accounts": told}), &line)?)
}

/// One account, sealed; none where something is wrong with it.
fn account(
    record: &Record,
    known: &Tenants,
    sealer: &Sealer,
    problems: &mut Problems,
) -> Result<Option<(AccountRow, Change)>, Failure> {
    let (words, change) = (record.words(problems), record.change(known, problems));
    let Some(words) = words else { return Ok(None) };
    let checked = match add::check(&words, problems) {
        Ok(checked) => checked,
        Err(failure) => return failure.note("secret", problems).map(|()| None),
    };
    if checked.kind() == CredentialKind::RefreshToken && matches!(change.users, Some(Users::Named(_))) {
        let problem = "the credential is personal: it serves one tenant alone";
        problems.push("with", problem, "write exclusive, with that tenant");
    }
    if !problems.is_empty() {
        return Ok(None);
    }
    let row = add::sealed(words, checked, change.users.as_ref(), sealer)?;
    Ok(Some((row, change)))
}

/// A problem of one record among those of the file: words of the command line become keys.
fn at(record: &Record, problem: &Problem, problems: &mut Problems) {
    let key = problem.key.trim_start_matches("--").replace('-', "_");
    problems.push(
        format!("{}.{key}", record.place()),
        problem.problem.clone(),
        problem.hint.clone(),
    );
}

const UNCHANGED: &str = "no account was added";
