//! `relay-hub account …`.

mod add;
mod credential;
mod import;
mod probe;

use clap::Subcommand;
use serde_json::json;

use super::{Desk, Failure, now_ms, print::moment, sharing, there_are, typed};
use crate::{
    config::parse_duration,
    store::{
        Store,
        accounts::{self, AccountRow},
        ways,
    },
    vendor::Settings,
};

#[derive(Subcommand)]
pub(super) enum Account {
    /// Add an account at a vendor. Its secret is sealed before it is stored.
    Add(Box<add::Add>),
    /// Add many accounts from a file, all of them or none.
    Import(import::Import),
    /// Show accounts without their secrets.
    List,
    /// Show all about one account but its secret.
    Show {
        /// Name or id.
        name: String,
    },
    /// Make a small call with an account, and tell what failed. The call is one that costs nothing where the vendor has
    /// such a call: the list of its models. Bedrock has none, and is asked for one token of a model.
    Test {
        /// Name or id.
        name: String,
        /// Bedrock: the model to ask, as Bedrock names it.
        #[arg(long)]
        model: Option<String>,
    },
    /// Take an account out of use. Running calls go on, new ones go to another account or are refused.
    Disable {
        /// Name or id.
        name: String,
        /// For so long, such as 30m or 1h: then it is back by itself. Without it, until `account enable`.
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
    },
    /// Bring an account back into use.
    Enable {
        /// Name or id.
        name: String,
    },
    /// Change an account's weight and ceilings.
    Set(sharing::Set),
    /// Say which tenants may use an account.
    Share(sharing::Sharing),
    /// Show how accounts fare, who may use them and how much.
    Health,
    /// Forget what is known of an account's health: it is used again at once.
    Revive {
        /// Name or id.
        name: String,
    },
    /// Remove an account: no further call uses it.
    Remove {
        /// Name or id.
        name: String,
    },
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Account) -> Result<(), Failure> {
    match command {
        Account::Add(words) => add::run(desk, *words).await,
        Account::Import(words) => import::run(desk, &words).await,
        Account::List => list(desk).await,
        Account::Show { name } => show(desk, &name).await,
        Account::Test { name, model } => Box::pin(probe::run(desk, &name, model.as_deref())).await,
        Account::Disable { name, time } => disable(desk, &name, time.as_deref()).await,
        Account::Enable { name } => set_disabled(desk, &name, None, None).await,
        Account::Set(words) => sharing::set(desk, &words).await,
        Account::Share(words) => sharing::share(desk, &words).await,
        Account::Health => sharing::health(desk).await,
        Account::Revive { name } => sharing::revive(desk, &name).await,
        Account::Remove { name } => remove(desk, &name).await,
    }
}

/// The account of that name or id.
pub(super) async fn find(store: &Store, name: &str) -> Result<AccountRow, Failure> {
    let mut known = accounts::list(store).await?;
    match known.iter().position(|row| row.name == name || row.id.as_str() == name) {
        Some(at) => Ok(known.swap_remove(at)),
        None => {
            let names: Vec<_> = known.iter().map(|row| row.name.as_str()).collect();
            Err(Failure::fixable(format!("there is no account `{}`", typed(name)))
                .hint(there_are(&names, "relay-hub account add NAME")))
        }
    }
}

fn shown(row: &AccountRow) -> serde_json::Value {
    let AccountRow {
        id,
        name,
        vendor,
        base_url,
        credential,
        secret: _,
        more_secret: _,
        settings,
        websocket,
        allows_private,
        created_ms,
        disabled_ms,
        disabled_until_ms,
    } = row;
    let settings: serde_json::Value = serde_json::from_str(settings).unwrap_or_default();
    json!({
        "id": id, "name": name, "vendor": vendor, "base_url": base_url, "credential": credential, "settings": settings,
        "websocket": websocket,
        "allows_private": allows_private, "created_ms": created_ms, "disabled_ms": disabled_ms,
        "disabled_until_ms": disabled_until_ms,
    })
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let all = accounts::list(&desk.store().await?).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|a| {
            vec![
                a.name.clone(),
                a.id.to_string(),
                a.vendor.clone(),
                a.base_url.clone(),
                yes_or_no(a.websocket),
                moment(a.created_ms),
                standing(a),
            ]
        })
        .collect();
    let json: Vec<_> = all.iter().map(shown).collect();
    Ok(desk.print.list(
        &json,
        &["NAME", "ID", "VENDOR", "BASE URL", "WEBSOCKET", "ADDED", "STATE"],
        &rows,
    )?)
}

async fn show(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let row = find(&store, name).await?;
    let ways = ways::list(&store)
        .await?
        .into_iter()
        .filter(|way| way.account == row.id);
    let ways: Vec<_> = ways.map(|way| (way.name, way.through.to_string())).collect();
    if desk.print.is_json() {
        let mut told = shown(&row);
        told["ways"] = ways
            .iter()
            .map(|(name, through)| json!({"name": name, "through": through}))
            .collect();
        return Ok(desk.print.json(&told)?);
    }
    let leaves = ways.iter().map(|(name, through)| format!("{name} ({through})"));
    let leaves = leaves.collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        ("name", row.name.clone()),
        ("id", row.id.to_string()),
        ("vendor", row.vendor.clone()),
        ("base URL", row.base_url.clone()),
        ("credential", row.credential.clone()),
        ("websocket", yes_or_no(row.websocket)),
        ("private addresses", yes_or_no(row.allows_private)),
        (
            "leaves by",
            if ways.is_empty() {
                "the system's own address".to_owned()
            } else {
                leaves
            },
        ),
        ("added", moment(row.created_ms)),
        ("state", standing(&row)),
    ];
    let settings: Settings = serde_json::from_str(&row.settings).unwrap_or_default();
    lines.extend(settings.told());
    for (what, value) in lines {
        desk.print.line(&format!("{what:<18} {value}"))?;
    }
    Ok(())
}

async fn disable(desk: &mut Desk<'_>, name: &str, time: Option<&str>) -> Result<(), Failure> {
    let now_ms = now_ms();
    let until_ms = match time {
        None => None,
        Some(text) => {
            let time = parse_duration(text).filter(|time| !time.is_zero());
            let time = time.and_then(|time| i64::try_from(time.as_millis()).ok());
            let until_ms = time.and_then(|time| now_ms.checked_add(time));
            Some(until_ms.ok_or_else(|| {
                Failure::fixable(format!("`{}` is no time", typed(text))).hint("write a duration such as 30m or 1h")
            })?)
        }
    };
    set_disabled(desk, name, Some(now_ms), until_ms).await
}

async fn set_disabled(
    desk: &mut Desk<'_>,
    name: &str,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
) -> Result<(), Failure> {
    let store = desk.store().await?;
    let row = find(&store, name).await?;
    let changed = accounts::disable(&store, &row.id, since_ms, until_ms).await?;
    let (is_disabled, word) = (
        since_ms.is_some(),
        if since_ms.is_some() { "disabled" } else { "enabled" },
    );
    let already = if changed { "" } else { "already " };
    let until = until_ms
        .map(|until| format!(" until {}", moment(until)))
        .unwrap_or_default();
    Ok(desk.print.done(
        &json!({"id": row.id, "name": row.name, "disabled": is_disabled, "disabled_until_ms": until_ms, "changed": changed}),
        &format!("account {} is {already}{word}{until}", row.name),
    )?)
}

fn yes_or_no(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

fn standing(row: &AccountRow) -> String {
    match (row.disabled_ms, row.disabled_until_ms) {
        (None, _) => "in use".to_owned(),
        (Some(at), None) => format!("disabled {}", moment(at)),
        (Some(at), Some(until)) => format!("disabled {}, until {}", moment(at), moment(until)),
    }
}

async fn remove(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let row = find(&store, name).await?;
    let removed = accounts::remove(&store, row.id.as_str()).await?;
    Ok(desk.print.done(
        &json!({"id": row.id, "name": row.name, "removed": removed}),
        &format!("removed account {} ({})", row.name, row.id),
    )?)
}
