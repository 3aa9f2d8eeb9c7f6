//! `relay-hub device …`.

use std::{fs, net::SocketAddr};

use clap::Subcommand;
use relay_shared::enrolment::Token;
use serde_json::json;

use super::{
    Desk, Failure, now_ms,
    print::{moment, standing},
};
use crate::{
    ca::Authority,
    config::{Config, DataDir, Overrides, on_this_machine},
    ids::DeviceId,
    store::{
        devices::{self, TOKEN_LIFE_MS},
        lock::HubLock,
    },
};

#[derive(Subcommand)]
pub(super) enum Device {
    /// Make a token for `relay-agent enroll`: good once, for ten minutes.
    Token {
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
    /// Show enrolled devices.
    List {
        /// Name or id; without it, everybody's.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Refuse a device from now on, and end its connections.
    Revoke {
        /// The device's id (`dev_…`).
        device: String,
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Device) -> Result<(), Failure> {
    match command {
        Device::Token { tenant } => token(desk, &tenant).await,
        Device::List { tenant } => list(desk, tenant.as_deref()).await,
        Device::Revoke { device, tenant } => revoke(desk, &tenant, &device).await,
    }
}

async fn token(desk: &mut Desk<'_>, tenant: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    if tenant.suspended {
        return Err(
            Failure::fixable(format!("tenant {} is suspended", tenant.name)).hint("`relay-hub tenant resume` first")
        );
    }
    let hub = reachable(&desk.data)?;
    let fingerprint = Authority::open(&desk.data)?.fingerprint();
    let now_ms = now_ms();
    let secret = devices::add_token(&store, &tenant.id, now_ms).await?;
    let token = Token {
        hub: hub.clone(),
        fingerprint,
        secret,
    }
    .encode();
    let expires_ms = now_ms.saturating_add(TOKEN_LIFE_MS);
    let json = json!({"token": token.expose(), "tenant": tenant.id, "hub": hub, "expires_ms": expires_ms, "expires": moment(expires_ms)});
    desk.print.done(&json, token.expose())?;
    let until = moment(expires_ms);
    desk.print.talk(&format!(
        "good once, until {until}; on the device: relay-agent enroll TOKEN (dials {hub})"
    ))?;
    if hub.parse().is_ok_and(|hub: SocketAddr| hub.ip().is_loopback()) {
        desk.print
            .talk("only this machine can dial that: for other devices set tunnel.advertise in hub.toml")?;
    }
    Ok(())
}

/// What devices dial: what hub.toml advertises, else where the hub listens now, else where it would listen.
pub(super) fn reachable(data: &DataDir) -> Result<String, Failure> {
    let config = Config::load(data, &Overrides::default())?;
    if let Some(advertise) = config.tunnel.advertise {
        return Ok(advertise);
    }
    let listen = running(data).unwrap_or(config.tunnel.listen);
    if listen.port() == 0 {
        return Err(
            Failure::fixable("the hub's port is not known: it takes a free one at start, and does not run")
                .hint("start it, or set tunnel.advertise in hub.toml"),
        );
    }
    Ok(on_this_machine(listen).to_string())
}

/// The tunnel's address of the hub that runs here. A file that a crash left says nothing.
fn running(data: &DataDir) -> Option<SocketAddr> {
    if HubLock::is_free(data) {
        return None;
    }
    let text = fs::read_to_string(data.run_json()).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json.get("tunnel")?.as_str()?.parse().ok()
}

async fn list(desk: &mut Desk<'_>, tenant: Option<&str>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant_id(&store, tenant).await?;
    let all = devices::list(&store, tenant.as_ref()).await?;
    let names = desk.tenant_names(&store).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|d| {
            let (enrolled, until) = (moment(d.created_ms), moment(d.not_after_ms));
            vec![
                d.id.to_string(),
                names.get(&d.tenant).cloned().unwrap_or_default(),
                d.name.clone(),
                enrolled,
                until,
                standing(d.revoked_ms),
            ]
        })
        .collect();
    Ok(desk.print.list(
        &all,
        &["ID", "TENANT", "NAME", "ENROLLED", "CERTIFICATE UNTIL", "STATE"],
        &rows,
    )?)
}

async fn revoke(desk: &mut Desk<'_>, tenant: &str, device: &str) -> Result<(), Failure> {
    let id = DeviceId::parse(device)
        .map_err(|error| Failure::fixable(error.to_string()).hint("`relay-hub device list` shows ids"))?;
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    if devices::revoke(&store, &tenant.id, &id, now_ms()).await? {
        return Ok(desk
            .print
            .done(&json!({"id": id, "revoked": true}), &format!("revoked {id}"))?);
    }
    Err(Failure::fixable(format!("{} has no active device {id}", tenant.name))
        .hint("`relay-hub device list` shows them"))
}
