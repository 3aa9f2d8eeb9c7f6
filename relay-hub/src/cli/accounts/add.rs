//! `relay-hub account add`.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;
use http::Uri;

use super::shown;
use crate::{
    cli::{Desk, Failure, now_ms, secret, typed},
    directory::SECRET_FIELD,
    egress,
    ids::AccountId,
    seal::Sealer,
    store::accounts::{self, AccountRow},
    vendor::VendorKind,
};

#[derive(Args)]
pub(in crate::cli) struct Add {
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

pub(super) async fn run(desk: &mut Desk<'_>, words: Add) -> Result<(), Failure> {
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
        disabled_ms: None,
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
