//! Accounts as the directory has them: their secrets opened for those who may use them. Knows no tenant's calls.

use std::{collections::HashMap, sync::Arc};

use sqlx::SqliteConnection;
use tracing::error;

use super::{Account, Directory};
use crate::{
    ids::AccountId,
    seal::{Bound, Sealer},
    store::{
        StoreError,
        accounts::{self, AccountRow},
        sealed::way_holder,
        sharing::Users,
        ways::{self, WayRow},
    },
    vendor::{Credential, CredentialKind, Settings, VendorKind},
    way::{Family, WayOut},
};

/// Reads the accounts that are in use, and when the first of the others is again. One that has not changed since `before`
/// stays the same: its secrets are not opened again, and what was made of it is kept.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    before: &Directory,
    directory: &mut Directory,
) -> Result<(), StoreError> {
    let mut ways: HashMap<AccountId, Vec<WayRow>> = HashMap::new();
    for way in ways::read_all(connection).await? {
        ways.entry(way.account.clone()).or_default().push(way);
    }
    let known: HashMap<_, _> = before.accounts.iter().map(|account| (&account.id, account)).collect();
    for row in accounts::read_all(connection).await? {
        if row.disabled_ms.is_some() {
            let returns_ms = row.disabled_until_ms.into_iter().chain(directory.returns_ms);
            directory.returns_ms = returns_ms.min();
            continue;
        }
        let users = directory
            .shares
            .get(&row.id)
            .map_or(Users::All, |share| share.users.clone());
        let source = (row.clone(), ways.remove(&row.id).unwrap_or_default(), users);
        let same = before.sources.get(&row.id).filter(|known| **known == source);
        let account = match same.and_then(|_| known.get(&row.id)) {
            Some(known) => Some(Arc::clone(known)),
            None => open_account(row, source.1.clone(), &source.2, sealer),
        };
        if let Some(account) = account {
            directory.sources.insert(account.id.clone(), source);
            directory.accounts.push(account);
        }
    }
    Ok(())
}

/// An account that cannot be used is left out and told of: the others go on serving. Its secrets open for those who may
/// use it, and who they were sealed for.
pub(crate) fn open_account(row: AccountRow, ways: Vec<WayRow>, users: &Users, sealer: &Sealer) -> Option<Arc<Account>> {
    let AccountRow {
        id,
        name,
        vendor,
        base_url,
        credential,
        secret,
        more_secret,
        settings,
        websocket,
        allows_private,
        created_ms: _,
        disabled_ms: _,
        disabled_until_ms: _,
    } = row;
    let opened = (|| {
        let vendor = VendorKind::parse(&vendor).ok_or("a vendor this version does not know")?;
        let base_url = base_url.parse().map_err(|_| "its base URL cannot be read")?;
        let open = |field, sealed: &[u8]| {
            let bound = Bound {
                owner: id.as_str(),
                field,
                holder: users.holder(),
            };
            let opened = sealer.open_secret(bound, sealed);
            opened.map_err(|_| "its sealed secret does not open")
        };
        let kind = CredentialKind::parse(&credential).ok_or("a credential this version does not know")?;
        let settings: Settings = serde_json::from_str(&settings).map_err(|_| "its settings cannot be read")?;
        let more = more_secret.map(|sealed| open(MORE_SECRET_FIELD, &sealed)).transpose()?;
        let credential = Credential::open(kind, &settings, open(SECRET_FIELD, &secret)?, more);
        let credential = credential.map_err(|_| "its credential is incomplete")?;
        let prefers = settings.prefers.and_then(|number| Family::parse(number.into()));
        let ways = ways.into_iter().map(|way| open_way(way, prefers, users, sealer));
        let ways = ways.collect::<Option<Vec<_>>>();
        let ways = ways.ok_or("the sealed password of a way out does not open")?;
        Ok::<_, &'static str>((vendor, base_url, credential, settings, prefers, ways))
    })();
    match opened {
        Ok((vendor, base_url, credential, settings, prefers, ways)) => Some(Arc::new(Account {
            id,
            name,
            vendor,
            base_url,
            credential,
            wires: settings.wires(),
            settings,
            websocket,
            allows_private,
            prefers,
            ways,
        })),
        Err(reason) => {
            error!(account = %id, %name, reason, "vendor account cannot be used: remove it and add it again");
            None
        }
    }
}

/// An account without one of its ways out would leave by another, so it is the whole account that is left out.
fn open_way(row: WayRow, prefers: Option<Family>, users: &Users, sealer: &Sealer) -> Option<Arc<WayOut>> {
    let holder = way_holder(row.account.as_str(), users);
    let bound = Bound {
        owner: row.id.as_str(),
        field: PASSWORD_FIELD,
        holder: &holder,
    };
    let password = match &row.password {
        Some(sealed) => Some(sealer.open_secret(bound, sealed).ok()?),
        None => None,
    };
    Some(Arc::new(WayOut {
        id: row.id,
        name: row.name.into(),
        through: row.through,
        node: row.node,
        password,
        region: row.region,
        prefers: row.prefers.or(prefers),
        allows_private: row.allows_private,
    }))
}

/// Which field of an account its sealed secret is bound to.
pub(crate) const SECRET_FIELD: &str = "secret";
/// And its second one.
pub(crate) const MORE_SECRET_FIELD: &str = "more_secret";
/// Which field of a way out its sealed password is bound to.
pub(crate) const PASSWORD_FIELD: &str = "password";
