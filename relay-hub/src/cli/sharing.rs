//! `relay-hub account set | share | health | revive`: who may use an account, how much at once, and how it fares.

use clap::Args;
use relay_shared::config::Problems;
use serde_json::json;

use super::{Desk, Failure, accounts, now_ms, print::moment, terms, typed};
use crate::ids::AccountId;
use crate::limit::ModelName;
use crate::rotation;
use crate::seal::Sealer;
use crate::store::{
    Store, routes,
    sharing::{self, Change, HEAVIEST, Share, Users},
    tenants,
};
use crate::vendor::{CredentialKind, Settings};

#[derive(Args)]
#[group(required = true, multiple = true, args = ["weight", "concurrency", "rpm", "models", "prefer"])]
pub(super) struct Set {
    /// Name or id.
    name: String,
    /// Its share of tenants and conversations beside the weights of other accounts, 1 to 100.
    #[arg(long, value_name = "N")]
    weight: Option<String>,
    /// Calls that it may have at once, or `none`.
    #[arg(long, value_name = "N|none")]
    concurrency: Option<String>,
    /// Calls that it may have a minute, or `none`.
    #[arg(long, value_name = "N|none")]
    rpm: Option<String>,
    /// The models that it serves and no other, as its vendor calls them: `gpt-6-sol,o3*`, or `any` for what its vendor has.
    #[arg(long, value_name = "MODELS|any")]
    models: Option<String>,
    /// Try the vendor's addresses of this IP version first, or `none`; a way out may say otherwise.
    #[arg(long, value_name = "4|6|none", value_parser = ["4", "6", "none"])]
    prefer: Option<String>,
}

#[derive(Args)]
pub(super) struct Sharing {
    /// Name or id.
    name: String,
    #[command(flatten)]
    between: Between,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Between {
    /// Every tenant may use it, as of a new account.
    #[arg(long)]
    all: bool,
    /// These tenants may use it and no other.
    #[arg(long, value_name = "TENANT", num_args = 1..)]
    with: Vec<String>,
    /// This tenant alone may use it; the database refuses it a second one.
    #[arg(long, value_name = "TENANT")]
    exclusive: Option<String>,
}

pub(super) async fn set(desk: &mut Desk<'_>, words: &Set) -> Result<(), Failure> {
    let mut problems = Problems::new();
    let mut number = |key: &str, text: &Option<String>, most: i64| match text.as_deref() {
        None => None,
        Some("none") => Some(None),
        Some(text) => terms::count(&mut problems, key, text, most)
            .and_then(|count| u32::try_from(count).ok())
            .map(Some),
    };
    let change = Change {
        concurrency: number("--concurrency", &words.concurrency, 1_000_000),
        rpm: number("--rpm", &words.rpm, 100_000_000),
        weight: number("--weight", &words.weight, i64::from(HEAVIEST))
            .flatten()
            .and_then(|weight| u8::try_from(weight).ok()),
        ..Change::default()
    };
    let models = words.models.as_deref().map(|text| models(&mut problems, text));
    problems.or(())?;
    if let Some(prefer) = &words.prefer {
        prefers(desk, &words.name, prefer.parse().ok()).await?;
    }
    apply(desk, &words.name, &Change { models, ..change }).await
}

fn models(problems: &mut Problems, text: &str) -> Option<Vec<ModelName>> {
    let read = |name: &str| {
        let model = ModelName::parse(name.trim());
        if model.is_none() {
            let told = format!("`{}` is no model's name", typed(name));
            problems.push("--models", told, "as in `gpt-6-sol,o3*`, or `any`");
        }
        model
    };
    (text.trim() != "any").then(|| text.split(',').filter_map(read).collect())
}

/// Which IP version is tried first; none has no preference.
async fn prefers(desk: &mut Desk<'_>, name: &str, version: Option<u8>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let account = accounts::find(&store, name).await?;
    let mut settings: Settings =
        serde_json::from_str(&account.settings).map_err(|error| Failure::from_error(&error))?;
    settings.prefers = version;
    let settings = serde_json::to_string(&settings).map_err(|error| Failure::from_error(&error))?;
    Ok(crate::store::accounts::set_settings(&store, &account.id, &settings).await?)
}

pub(super) async fn share(desk: &mut Desk<'_>, words: &Sharing) -> Result<(), Failure> {
    let Between { all, with, exclusive } = &words.between;
    let store = desk.store().await?;
    check_personal(&store, &words.name, exclusive.is_some()).await?;
    let mut named = Vec::new();
    for tenant in with.iter().chain(exclusive) {
        named.push(desk.tenant(&store, tenant).await?.id);
    }
    let users = if *all {
        Users::All
    } else if exclusive.is_some() {
        Users::Exclusive(named.pop())
    } else {
        Users::Named(named.into_iter().collect())
    };
    let change = Change {
        users: Some(users),
        ..Change::default()
    };
    apply(desk, &words.name, &change).await
}

/// A personal credential serves the one tenant that it was given for. The database holds to that; here it is told why.
async fn check_personal(store: &Store, name: &str, is_exclusive: bool) -> Result<(), Failure> {
    let account = accounts::find(store, name).await?;
    if account.credential != CredentialKind::RefreshToken.as_str() {
        return Ok(());
    }
    let shares = sharing::list(store).await?;
    let has_tenant = shares
        .get(&account.id)
        .is_some_and(|share| !share.users.tenants().is_empty());
    if is_exclusive && !has_tenant {
        return Ok(());
    }
    let (problem, hint) = if has_tenant {
        (
            "serves its tenant for good",
            "remove it, and add it anew with a token of the other tenant's own",
        )
    } else {
        ("serves one tenant alone", "name it: --exclusive TENANT")
    };
    Err(Failure::fixable(format!(
        "the credential of account {} is personal: it {problem}",
        account.name
    ))
    .hint(hint))
}

/// Forgets what is known of an account's health: it is used again at once.
pub(super) async fn revive(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let change = Change {
        revived_ms: Some(now_ms()),
        ..Change::default()
    };
    apply(desk, name, &change).await
}

async fn apply(desk: &mut Desk<'_>, name: &str, change: &Change) -> Result<(), Failure> {
    let store = desk.store().await?;
    let account = accounts::find(&store, name).await?;
    rotation::share(&store, &Sealer::open(&desk.data)?, &account.id, change).await?;
    let share = sharing::list(&store).await?.remove(&account.id).unwrap_or_default();
    let told = told(&store, &share).await?;
    let mut json = json!({"id": account.id, "name": account.name});
    for (key, value) in &told {
        json[*key] = value.clone().into();
    }
    let line: Vec<_> = told.iter().map(|(key, value)| format!("{key} {value}")).collect();
    Ok(desk
        .print
        .done(&json, &format!("account {}: {}", account.name, line.join(", ")))?)
}

/// Who may use an account.
pub(super) async fn users(store: &Store, account: &AccountId) -> Result<Users, Failure> {
    let share = sharing::list(store).await?.remove(account);
    Ok(share.map_or(Users::All, |share| share.users))
}

async fn told(store: &Store, share: &Share) -> Result<Vec<(&'static str, String)>, Failure> {
    let ceiling = |most: Option<u32>| most.map_or_else(|| "none".to_owned(), |most| most.to_string());
    let users = match &share.users {
        Users::All => "all tenants".to_owned(),
        users => {
            let known = tenants::list(store).await?;
            let named = users.tenants();
            let names = known.iter().filter(|tenant| named.contains(&&tenant.id));
            let names: Vec<_> = names.map(|tenant| tenant.name.as_str()).collect();
            format!("{}: {}", users.as_str(), names.join(" "))
        }
    };
    let models = share.models.as_ref().map_or_else(
        || "any".to_owned(),
        |models| models.iter().map(ModelName::as_str).collect::<Vec<_>>().join(","),
    );
    Ok(vec![
        ("users", users),
        ("weight", share.weight.to_string()),
        ("concurrency", ceiling(share.concurrency)),
        ("rpm", ceiling(share.rpm)),
        ("models", models),
    ])
}

/// How the accounts fare that the hub has taken out of use, as of its last note.
pub(super) async fn health(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let (out, shares) = (routes::health(&store).await?, sharing::list(&store).await?);
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for account in crate::store::accounts::list(&store).await? {
        let note = out.iter().find(|note| note.account == account.id);
        let share = shares.get(&account.id).cloned().unwrap_or_default();
        let told = told(&store, &share).await?;
        let mut json = json!({
            "id": account.id, "name": account.name, "state": note.map_or("in use", |note| note.state.as_str()),
            "cause": note.map(|note| &note.cause), "since_ms": note.map(|note| note.since_ms),
            "tried_again_ms": note.map(|note| note.until_ms),
        });
        let mut row = vec![account.name.clone(), text(&json["state"]), text(&json["cause"])];
        let when = |ms: Option<i64>| ms.map(moment).unwrap_or_default();
        row.push(when(note.map(|note| note.since_ms)));
        row.push(when(note.map(|note| note.until_ms)));
        for (key, value) in told {
            json[key] = value.clone().into();
            row.push(value);
        }
        rows.push(row);
        all.push(json);
    }
    let heads = [
        "NAME",
        "STATE",
        "CAUSE",
        "SINCE",
        "TRIED AGAIN",
        "USERS",
        "WEIGHT",
        "CONCURRENCY",
        "RPM",
        "MODELS",
    ];
    Ok(desk.print.list(&all, &heads, &rows)?)
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
