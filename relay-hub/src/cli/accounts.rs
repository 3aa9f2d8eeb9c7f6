//! `relay-hub account …`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use http::Uri;
use serde_json::json;

use super::{Desk, Failure, now_ms, print::moment, secret, there_are, typed};
use crate::{
    directory::{SECRET_FIELD, VendorKind},
    egress,
    ids::AccountId,
    seal::Sealer,
    store::{
        Store,
        accounts::{self, AccountRow},
    },
};

#[derive(Subcommand)]
pub(super) enum Account {
    /// Add an account at a vendor. Its secret is sealed before it is stored.
    Add(Add),
    /// Show accounts without their secrets.
    List,
    /// Remove an account: no further call uses it.
    Remove {
        /// Name or id.
        name: String,
    },
}

#[derive(Args)]
pub(super) struct Add {
    /// What you call it.
    name: String,
    /// Which vendor.
    #[arg(long, value_parser = VendorKind::NAMES)]
    vendor: String,
    /// Where its API begins, such as https://api.openai.com.
    #[arg(long, value_name = "URL")]
    base_url: String,
    #[command(flatten)]
    secret: SecretFrom,
    /// It does not offer Responses over WebSocket.
    #[arg(long)]
    no_websocket: bool,
    /// Its vendor may be at an address that is not public, such as 10.1.2.3.
    #[arg(long)]
    allow_private: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct SecretFrom {
    /// The environment variable that holds the secret.
    #[arg(long, value_name = "VAR")]
    secret_env: Option<String>,
    /// The file that holds the secret.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Account) -> Result<(), Failure> {
    match command {
        Account::Add(words) => add(desk, words).await,
        Account::List => list(desk).await,
        Account::Remove { name } => remove(desk, &name).await,
    }
}

async fn add(desk: &mut Desk<'_>, words: Add) -> Result<(), Failure> {
    let Add {
        name,
        vendor,
        base_url,
        secret,
        no_websocket,
        allow_private,
    } = words;
    let base_url = parse_base_url(&base_url, allow_private)?;
    let SecretFrom {
        secret_env,
        secret_file,
    } = &secret;
    let secret = secret::read(secret_env.as_deref(), secret_file.as_deref(), "the vendor's key")?
        .ok_or_else(|| Failure::usage("no secret is named").hint("use --secret-env or --secret-file"))?;
    let store = desk.store().await?;
    let id = AccountId::random();
    let sealed = Sealer::open(&desk.data)?.seal(id.as_str(), SECRET_FIELD, secret.expose())?;
    let row = AccountRow {
        id,
        name,
        vendor,
        base_url,
        secret: sealed,
        websocket: !no_websocket,
        allows_private: allow_private,
        created_ms: now_ms(),
    };
    accounts::add(&store, &row).await?;
    Ok(desk
        .print
        .done(&shown(&row), &format!("added account {} ({})", row.name, row.id))?)
}

/// Without a trailing slash. Plain HTTP would show the secret to the network, so it is for this machine only. Whoever
/// writes an address of this machine means it; another one that is not public must be allowed.
fn parse_base_url(text: &str, allows_private: bool) -> Result<String, Failure> {
    let wrong = |problem: &str| {
        Failure::fixable(format!("the base URL `{}` {problem}", typed(text)))
            .hint("write it like https://api.openai.com")
    };
    let uri: Uri = text.parse().map_err(|_| wrong("cannot be read"))?;
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| wrong("names no host"))?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(Failure::fixable("the base URL holds a user or a password")
            .hint("give the secret by --secret-env or --secret-file"));
    }
    if text.contains(['?', '#']) {
        return Err(wrong("has a query or a fragment"));
    }
    if uri.port().is_some_and(|port| port.as_u16() == 0) {
        return Err(wrong("has a port that nobody can reach"));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok();
    let is_here = bare.eq_ignore_ascii_case("localhost") || address.is_some_and(|ip| ip.is_loopback());
    if address.is_some_and(|ip| !egress::is_public(ip)) && !is_here && !allows_private {
        return Err(Failure::fixable(format!(
            "the base URL `{}` leads to an address that is not public",
            typed(text)
        ))
        .hint("add --allow-private if the vendor is inside your network"));
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_here => {}
        Some("http") => {
            return Err(wrong(
                "is plain HTTP to another machine: the secret would cross the network in clear",
            ));
        }
        _ => return Err(wrong("is neither https nor http")),
    }
    Ok(text.trim_end_matches('/').to_owned())
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
        secret: _,
        websocket,
        allows_private,
        created_ms,
    } = row;
    json!({
        "id": id, "name": name, "vendor": vendor, "base_url": base_url, "websocket": websocket,
        "allows_private": allows_private, "created_ms": created_ms,
    })
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let all = accounts::list(&desk.store().await?).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|a| {
            let websocket = if a.websocket { "yes" } else { "no" }.to_owned();
            vec![
                a.name.clone(),
                a.id.to_string(),
                a.vendor.clone(),
                a.base_url.clone(),
                websocket,
                moment(a.created_ms),
            ]
        })
        .collect();
    let json: Vec<_> = all.iter().map(shown).collect();
    Ok(desk.print.list(
        &json,
        &["NAME", "ID", "VENDOR", "BASE URL", "WEBSOCKET", "ADDED"],
        &rows,
    )?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_secret_crosses_no_network_in_clear() {
        for (text, kept) in [
            ("https://api.openai.com/", "https://api.openai.com"),
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9"),
            ("http://[::1]:9/", "http://[::1]:9"),
            ("http://localhost", "http://localhost"),
        ] {
            assert_eq!(parse_base_url(text, false).unwrap(), kept);
        }
        for text in [
            "http://10.0.0.1",
            "http://api.openai.com",
            "ftp://x",
            "api.openai.com",
            "https://",
            "https://u:p@x",
            "https://x?k=v",
            "https://x/v1#f",
            "https://x:0",
            "https://10.0.0.1",
            "https://169.254.169.254/latest",
            "https://[fd00::1]",
        ] {
            assert!(parse_base_url(text, false).is_err(), "{text}");
        }
        assert!(parse_base_url("https://10.0.0.1", true).is_ok());
    }
}
