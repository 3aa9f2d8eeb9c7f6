//! `relay-hub account …`.

use std::{fs, net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use http::Uri;
use relay_shared::secret::Secret;
use serde_json::json;

use super::{Desk, Failure, now_ms, print::moment, there_are, typed};
use crate::{
    directory::{SECRET_FIELD, VendorKind},
    ids::AccountId,
    seal::Sealer,
    store::accounts::{self, AccountRow},
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
    } = words;
    let base_url = parse_base_url(&base_url)?;
    let secret = read_secret(&secret)?;
    let store = desk.store().await?;
    let id = AccountId::random();
    let sealed = Sealer::open(&desk.data)?.seal(&id, SECRET_FIELD, secret.expose())?;
    let row = AccountRow {
        id,
        name,
        vendor,
        base_url,
        secret: sealed,
        websocket: !no_websocket,
        created_ms: now_ms(),
    };
    accounts::add(&store, &row).await?;
    Ok(desk
        .print
        .done(&shown(&row), &format!("added account {} ({})", row.name, row.id))?)
}

/// Without a trailing slash. Plain HTTP would show the secret to the network, so it is for this machine only.
fn parse_base_url(text: &str) -> Result<String, Failure> {
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
    let is_here = bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
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

fn read_secret(from: &SecretFrom) -> Result<Secret<String>, Failure> {
    let (text, place) = match (&from.secret_env, &from.secret_file) {
        (Some(name), _) => {
            #[expect(
                clippy::disallowed_methods,
                reason = "the operator named this variable on the command line"
            )]
            let value = std::env::var(name);
            let missing = |_| {
                Failure::fixable(format!(
                    "the environment variable {} is not set, or is not text",
                    typed(name)
                ))
                .hint("set it for this command, or use --secret-file")
            };
            (
                Secret::new(value.map_err(missing)?),
                format!("the environment variable {}", typed(name)),
            )
        }
        (None, Some(path)) => {
            let place = path.display().to_string();
            let unreadable = |error| {
                Failure::fixable(format!("cannot read {place}: {error}"))
                    .hint("name a file that holds the vendor's key")
            };
            (Secret::new(fs::read_to_string(path).map_err(unreadable)?), place)
        }
        (None, None) => return Err(Failure::fixable("no secret is named").hint("use --secret-env or --secret-file")),
    };
    let trimmed = text.expose().trim();
    if trimmed.is_empty() {
        return Err(Failure::fixable(format!("{place} is empty")).hint("put the vendor's key there"));
    }
    if !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            Failure::fixable(format!("{place} holds something that cannot be a vendor's key"))
                .hint("one line of visible ASCII characters"),
        );
    }
    Ok(Secret::new(trimmed.to_owned()))
}

fn shown(row: &AccountRow) -> serde_json::Value {
    let AccountRow {
        id,
        name,
        vendor,
        base_url,
        secret: _,
        websocket,
        created_ms,
    } = row;
    json!({
        "id": id, "name": name, "vendor": vendor, "base_url": base_url, "websocket": websocket, "created_ms": created_ms,
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
    let known = accounts::list(&store).await?;
    let Some(row) = known.iter().find(|row| row.name == name || row.id.as_str() == name) else {
        let names: Vec<_> = known.iter().map(|row| row.name.as_str()).collect();
        return Err(Failure::fixable(format!("there is no account `{}`", typed(name)))
            .hint(there_are(&names, "relay-hub account add NAME")));
    };
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
            assert_eq!(parse_base_url(text).unwrap(), kept);
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
        ] {
            assert!(parse_base_url(text).is_err(), "{text}");
        }
    }
}
