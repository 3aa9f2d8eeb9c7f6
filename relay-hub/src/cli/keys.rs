//! `relay-hub key …`.

use clap::Subcommand;
use serde_json::json;

use super::{
    Desk, Failure, now_ms,
    print::{moment, standing},
};
use crate::{
    ids::KeyId,
    store::keys::{self, KeyText},
};

#[derive(Subcommand)]
pub(super) enum Key {
    /// Make an API key. It is shown now and never again.
    Add {
        /// Name or id.
        #[arg(long)]
        tenant: String,
        /// What you call the key.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Show keys without their secrets.
    List {
        /// Name or id; without it, everybody's.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Refuse a key from now on.
    Revoke {
        /// The key's id (`key_…`), or the key itself.
        key: String,
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Key) -> Result<(), Failure> {
    match command {
        Key::Add { tenant, name } => add(desk, &tenant, &name).await,
        Key::List { tenant } => list(desk, tenant.as_deref()).await,
        Key::Revoke { key, tenant } => revoke(desk, &tenant, &key).await,
    }
}

async fn add(desk: &mut Desk<'_>, tenant: &str, name: &str) -> Result<(), Failure> {
    if name.len() > 64 || name.chars().any(char::is_control) {
        return Err(Failure::fixable("the key's name is too long or has control characters").hint("at most 64 bytes"));
    }
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    let (id, key) = keys::add(&store, &tenant.id, name, now_ms()).await?;
    desk.print.done(
        &json!({"key": key.expose(), "id": id, "tenant": tenant.id, "name": name}),
        key.expose(),
    )?;
    Ok(desk
        .print
        .talk(&format!("this is key {id} of {}: it is not shown again", tenant.name))?)
}

async fn list(desk: &mut Desk<'_>, tenant: Option<&str>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant_id(&store, tenant).await?;
    let all = keys::list(&store, tenant.as_ref()).await?;
    let names = desk.tenant_names(&store).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|k| {
            vec![
                k.id.to_string(),
                names.get(&k.tenant).cloned().unwrap_or_default(),
                if k.name.is_empty() {
                    "-".to_owned()
                } else {
                    k.name.clone()
                },
                moment(k.created_ms),
                standing(k.revoked_ms),
            ]
        })
        .collect();
    Ok(desk
        .print
        .list(&all, &["ID", "TENANT", "NAME", "ADDED", "STATE"], &rows)?)
}

async fn revoke(desk: &mut Desk<'_>, tenant: &str, key: &str) -> Result<(), Failure> {
    let id = KeyText::read(key).map_or_else(|| KeyId::parse(key), |text| Ok(text.id));
    // What was typed may be a secret: it is not repeated.
    let id = id
        .map_err(|_| Failure::fixable("this is neither a key's id nor a key").hint("`relay-hub key list` shows ids"))?;
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    if keys::revoke(&store, &tenant.id, &id, now_ms()).await? {
        return Ok(desk
            .print
            .done(&json!({"id": id, "revoked": true}), &format!("revoked {id}"))?);
    }
    Err(Failure::fixable(format!("{} has no active key {id}", tenant.name)).hint("`relay-hub key list` shows them"))
}
