//! `relay-hub account add`.

use std::net::IpAddr;

use clap::Args;
use http::Uri;
use relay_protocol::Wire;
use relay_shared::{config::Problems, secret::Secret};

use super::{
    credential::{CredentialWords, Given},
    shown,
};
use crate::{
    cli::{Desk, Failure, now_ms, typed},
    directory::{MORE_SECRET_FIELD, SECRET_FIELD},
    egress,
    ids::AccountId,
    seal::{Bound, Sealer},
    store::{
        accounts::{self, AccountRow},
        sharing::Users,
        tenants,
    },
    vendor::{CredentialKind, Settings, VendorKind},
};

#[derive(Args)]
pub(in crate::cli) struct Add {
    /// What you call it.
    pub(super) name: String,
    /// Which vendor.
    #[arg(long, value_parser = VendorKind::NAMES)]
    pub(super) vendor: String,
    /// Where its API begins, such as https://api.openai.com. Bedrock's follows from --aws-region.
    #[arg(long, value_name = "URL", required_unless_present = "aws_region")]
    pub(super) base_url: Option<String>,
    #[command(flatten)]
    pub(super) credential: CredentialWords,
    /// Azure: name deployments, by this version of the API, instead of the v1 API.
    #[arg(long, value_name = "VERSION")]
    pub(super) api_version: Option<String>,
    /// The wires it speaks, where they are not all of its vendor's.
    #[arg(long, value_delimiter = ',', value_parser = Settings::WIRES)]
    pub(super) wires: Vec<String>,
    /// It does not offer Responses over WebSocket.
    #[arg(long)]
    pub(super) no_websocket: bool,
    /// Try the vendor's addresses of this IP version first, unless a way out says otherwise.
    #[arg(long, value_name = "4|6", value_parser = PREFERENCES)]
    pub(super) prefer: Option<String>,
    /// Its vendor may be at an address that is not public, such as 10.1.2.3.
    #[arg(long)]
    pub(super) allow_private: bool,
}

/// IP versions that may be preferred.
pub(super) const PREFERENCES: [&str; 2] = ["4", "6"];

/// What the words of an account come to, its secrets not yet sealed.
pub(super) struct Checked {
    vendor: VendorKind,
    base_url: String,
    settings: Settings,
    given: Given,
}

impl Checked {
    /// What its secret is.
    pub(super) const fn kind(&self) -> CredentialKind {
        self.given.kind
    }
}

/// Checks the words, reads the secrets, and notes all that is wrong.
///
/// # Errors
/// There is no such vendor; no secret is named.
pub(super) fn check(words: &Add, problems: &mut Problems) -> Result<Checked, Failure> {
    let vendor = VendorKind::parse(&words.vendor).ok_or_else(|| Failure::usage("there is no such vendor"))?;
    if !tenants::is_name(&words.name) {
        let hint = "use 1 to 64 letters, digits, `.`, `_`, `-`, `@`, or spaces between them";
        problems.push("name", "cannot be an account's name", hint);
    }
    let mut base_url = String::new();
    let given = words.base_url.clone();
    let given = given.unwrap_or_else(|| words.credential.bedrock_url());
    match parse_url("base URL", &given, words.allow_private) {
        Ok(url) => base_url = url,
        Err(failure) => failure.note("--base-url", problems)?,
    }
    let mut settings = settings(words, vendor, problems);
    let given = words
        .credential
        .read(vendor, (&base_url, words.allow_private), &mut settings, problems)?;
    Ok(Checked {
        vendor,
        base_url,
        settings,
        given,
    })
}

/// An account as the store keeps it, under a fresh id, sealed for these users; where none are named, for those that it
/// has by itself.
///
/// # Errors
/// It cannot be sealed.
pub(super) fn sealed(
    words: Add,
    checked: Checked,
    users: Option<&Users>,
    sealer: &Sealer,
) -> Result<AccountRow, Failure> {
    let Checked {
        vendor,
        base_url,
        settings,
        given,
    } = checked;
    let id = AccountId::random();
    let by_itself = if given.kind == CredentialKind::RefreshToken {
        Users::Exclusive(None)
    } else {
        Users::All
    };
    let seal = |field, secret: &Secret<String>| {
        let bound = Bound {
            owner: id.as_str(),
            field,
            holder: users.unwrap_or(&by_itself).holder(),
        };
        sealer.seal(bound, secret.expose())
    };
    let more = given.more.as_ref().map(|more| seal(MORE_SECRET_FIELD, more));
    Ok(AccountRow {
        name: words.name,
        vendor: vendor.as_str().to_owned(),
        base_url,
        credential: given.kind.as_str().to_owned(),
        secret: seal(SECRET_FIELD, &given.secret)?,
        more_secret: more.transpose()?,
        websocket: !words.no_websocket && has_websocket(vendor, &settings),
        settings: serde_json::to_string(&settings).map_err(|error| Failure::from_error(&error))?,
        allows_private: words.allow_private,
        created_ms: now_ms(),
        disabled_ms: None,
        disabled_until_ms: None,
        id,
    })
}

pub(super) async fn run(desk: &mut Desk<'_>, words: Add) -> Result<(), Failure> {
    let mut problems = Problems::new();
    let checked = check(&words, &mut problems)?;
    problems.or(())?;
    let kind = checked.kind();
    let store = desk.store().await?;
    let row = sealed(words, checked, None, &Sealer::open(&desk.data)?)?;
    accounts::add(&store, &row).await?;
    desk.print
        .done(&shown(&row), &format!("added account {} ({})", row.name, row.id))?;
    if kind == CredentialKind::RefreshToken {
        let name = &row.name;
        desk.print.talk(&format!(
            "its credential is personal: `relay-hub account share {name} --exclusive TENANT` names the one tenant that it serves"
        ))?;
    }
    Ok(())
}

fn settings(words: &Add, vendor: VendorKind, problems: &mut Problems) -> Settings {
    let mut settings = Settings {
        wires: Some(words.wires.clone()).filter(|wires| !wires.is_empty()),
        prefers: words.prefer.as_deref().and_then(|version| version.parse().ok()),
        ..Settings::default()
    };
    if settings
        .wires()
        .is_some_and(|wires| !wires.iter().any(|wire| vendor.speaks(*wire)))
    {
        let problem = format!("{} speaks none of them", vendor.as_str());
        problems.push("--wires", problem, "leave it out: its vendor says what it speaks");
    }
    let Some(version) = &words.api_version else {
        return settings;
    };
    let is_version = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if vendor != VendorKind::Azure {
        problems.push("--api-version", "is for Azure alone", "leave it out");
    } else if version.is_empty() || !version.bytes().all(is_version) {
        problems.push("--api-version", "is no version", "such as 2024-10-21");
    }
    if settings.wires.as_ref().is_some_and(|wires| wires != &["chat"]) {
        problems.push(
            "--wires",
            "deployments speak chat alone",
            "leave --api-version out for the v1 API",
        );
    }
    settings.api_version = Some(version.clone());
    settings.wires = Some(vec!["chat".to_owned()]);
    settings
}

/// Whether an account like this may offer Responses over WebSocket. Azure's answers to an upgrade are not those of OpenAI.
fn has_websocket(vendor: VendorKind, settings: &Settings) -> bool {
    let speaks = settings.wires().is_none_or(|wires| wires.contains(&Wire::Responses));
    match vendor {
        VendorKind::OpenAi | VendorKind::Compatible => speaks,
        VendorKind::Azure | VendorKind::Anthropic | VendorKind::Gemini | VendorKind::Bedrock => false,
    }
}

/// Without a trailing slash. Plain HTTP would show the secret to the network, so it is for this machine only. Whoever
/// writes an address of this machine means it; another one that is not public must be allowed.
pub(super) fn parse_url(what: &str, text: &str, allows_private: bool) -> Result<String, Failure> {
    // What may hold a password or a key is not repeated.
    let named = match text.contains(['@', '?', '#']) {
        true => String::new(),
        false => format!(" `{}`", typed(text)),
    };
    let wrong = |problem: &str| {
        Failure::fixable(format!("the {what}{named} {problem}")).hint("write it like https://api.openai.com")
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
        return Err(Failure::fixable(format!("the {what} holds a user or a password"))
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
    if !egress::may_be_written(bare, allows_private) {
        return Err(wrong("leads to an address that is not public")
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
            assert_eq!(parse_url("base URL", text, false).unwrap(), kept);
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
            assert!(parse_url("base URL", text, false).is_err(), "{text}");
        }
        assert!(parse_url("base URL", "https://10.0.0.1", true).is_ok());
        for text in [
            "https://u:canary@x",
            "https://u:can ary@x",
            "https://x?key=canary",
            "ftp://u:canary@x",
        ] {
            let told = format!("{:?}", parse_url("base URL", text, false));
            assert!(!told.contains("canary") && !told.contains("ary@"), "{told}");
        }
    }
}
