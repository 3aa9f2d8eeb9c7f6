//! Who may use which account, and how much of it at once. The database itself refuses an exclusive account a second tenant.

use std::collections::{BTreeSet, HashMap};

use sqlx::{Row as _, SqliteConnection};

use super::{
    Store, StoreError,
    sealed::{self, SealedValue},
};
use crate::{
    ids::{AccountId, TenantId},
    limit::ModelName,
};

/// The largest weight.
pub const HEAVIEST: u8 = 100;

/// How an account is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Who may use it.
    pub users: Users,
    /// Its share of tenants and conversations, beside the weights of the others: 1 to [`HEAVIEST`].
    pub weight: u8,
    /// Calls at once.
    pub concurrency: Option<u32>,
    /// Calls a minute.
    pub rpm: Option<u32>,
    /// The models that it serves and no other, as its vendor calls them; without, as far as their names tell.
    pub models: Option<Vec<ModelName>>,
    /// What its health was before, milliseconds since 1970, is forgotten.
    pub revived_ms: i64,
}

/// Who may use an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Every tenant.
    All,
    /// Those that the operator names.
    Named(BTreeSet<TenantId>),
    /// One, or nobody yet.
    Exclusive(Option<TenantId>),
}

impl Users {
    /// Whether a tenant is among them.
    pub fn has(&self, tenant: &TenantId) -> bool {
        match self {
            Self::All => true,
            Self::Named(tenants) => tenants.contains(tenant),
            Self::Exclusive(only) => only.as_ref() == Some(tenant),
        }
    }

    /// Its name in the table.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Named(_) => "named",
            Self::Exclusive(_) => "exclusive",
        }
    }

    /// For whom an account's secrets stand there, as they are bound: its one tenant, several, or nobody yet.
    pub fn holder(&self) -> &str {
        match self {
            Self::All | Self::Named(_) => "shared",
            Self::Exclusive(Some(tenant)) => tenant.as_str(),
            Self::Exclusive(None) => "nobody",
        }
    }

    /// Those that are named.
    pub fn tenants(&self) -> Vec<&TenantId> {
        match self {
            Self::All => Vec::new(),
            Self::Named(tenants) => tenants.iter().collect(),
            Self::Exclusive(only) => only.iter().collect(),
        }
    }
}

impl Share {
    /// Everybody's, with no ceiling.
    pub const fn is_plain(&self) -> bool {
        matches!(self.users, Users::All) && self.concurrency.is_none() && self.rpm.is_none() && self.models.is_none()
    }
}

impl Default for Share {
    fn default() -> Self {
        Self {
            users: Users::All,
            weight: 1,
            concurrency: None,
            rpm: None,
            models: None,
            revived_ms: 0,
        }
    }
}

/// What the operator changes of a share; what is not named stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Who may use it from now on.
    pub users: Option<Users>,
    /// Its weight.
    pub weight: Option<u8>,
    /// Calls at once; `Some(None)` for no ceiling.
    pub concurrency: Option<Option<u32>>,
    /// Calls a minute.
    pub rpm: Option<Option<u32>>,
    /// The models that it serves; `Some(None)` for whatever its vendor has.
    pub models: Option<Option<Vec<ModelName>>>,
    /// Forget what is known of its health.
    pub revived_ms: Option<i64>,
}

/// Changes an account's share, all of it or nothing. Where that changes for whom its secrets stand there, `anew` seals
/// each of them, in the same transaction: it is given a value, and its new holder.
pub async fn set<E: From<StoreError>>(
    store: &Store,
    account: &AccountId,
    change: &Change,
    anew: impl Fn(&SealedValue, &str) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let mut tx = store.write().await?;
    if change.users.is_none() {
        self::change(&mut tx, account, change).await?;
        return Ok(tx.commit().await.map_err(StoreError::from)?);
    }
    let before = sealed::read(&mut tx, Some(account)).await?;
    self::change(&mut tx, account, change).await?;
    let now = sealed::read(&mut tx, Some(account)).await?;
    let changed = before
        .into_iter()
        .zip(now)
        .filter(|(old, now)| old.holder != now.holder);
    let changed = changed.map(|(old, now)| Ok((old.clone(), anew(&old, &now.holder)?)));
    let changed = changed.collect::<Result<Vec<_>, E>>()?;
    sealed::write(&mut tx, &changed).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(())
}

/// The same on a connection, in whose transaction more happens.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    account: &AccountId,
    change: &Change,
) -> Result<(), StoreError> {
    let models = change
        .models
        .as_ref()
        .map(|models| models.as_ref().map(|models| listed(models)));
    sqlx::query("INSERT INTO account_share (account) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(account.as_str())
        .execute(&mut *connection)
        .await?;
    if let Some(users) = &change.users {
        set_users(connection, account, users).await?;
    }
    sqlx::query(
        "UPDATE account_share SET weight = coalesce($2, weight), \
         concurrency = CASE WHEN $3 THEN $4 ELSE concurrency END, rpm = CASE WHEN $5 THEN $6 ELSE rpm END, \
         revived_ms = coalesce($7, revived_ms), models = CASE WHEN $8 THEN $9 ELSE models END WHERE account = $1",
    )
    .bind(account.as_str())
    .bind(change.weight)
    .bind(change.concurrency.is_some())
    .bind(change.concurrency.flatten())
    .bind(change.rpm.is_some())
    .bind(change.rpm.flatten())
    .bind(change.revived_ms)
    .bind(models.is_some())
    .bind(models.flatten())
    .execute(&mut *connection)
    .await?;
    if change.revived_ms.is_some() {
        sqlx::query("DELETE FROM account_health WHERE account = $1")
            .bind(account.as_str())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn set_users(connection: &mut SqliteConnection, account: &AccountId, users: &Users) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM account_tenants WHERE account = $1")
        .bind(account.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE account_share SET sharing = $2 WHERE account = $1")
        .bind(account.as_str())
        .bind(users.as_str())
        .execute(&mut *connection)
        .await?;
    for tenant in users.tenants() {
        sqlx::query("INSERT INTO account_tenants (account, tenant) VALUES ($1, $2)")
            .bind(account.as_str())
            .bind(tenant.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Who may use an account, on a connection whose transaction does more.
pub(super) async fn users(connection: &mut SqliteConnection, account: &AccountId) -> Result<Users, StoreError> {
    let share = read_all(connection).await?.remove(account);
    Ok(share.map_or(Users::All, |share| share.users))
}

/// The shares of all accounts that have one other than the default.
pub async fn list(store: &Store) -> Result<HashMap<AccountId, Share>, StoreError> {
    read_all(&mut *store.readers().acquire().await?).await
}

/// The same on a connection whose transaction makes it one picture with other reads.
pub(crate) async fn read_all(connection: &mut SqliteConnection) -> Result<HashMap<AccountId, Share>, StoreError> {
    let mut tenants = HashMap::<String, BTreeSet<TenantId>>::new();
    for row in sqlx::query("SELECT account, tenant FROM account_tenants")
        .fetch_all(&mut *connection)
        .await?
    {
        let tenant = TenantId::parse(row.try_get("tenant")?)?;
        tenants.entry(row.try_get("account")?).or_default().insert(tenant);
    }
    let mut all = HashMap::new();
    for row in sqlx::query("SELECT account, sharing, weight, concurrency, rpm, models, revived_ms FROM account_share")
        .fetch_all(connection)
        .await?
    {
        let account: &str = row.try_get("account")?;
        let mut own = tenants.remove(account).unwrap_or_default();
        let users = match row.try_get("sharing")? {
            "all" => Users::All,
            "exclusive" => Users::Exclusive(own.pop_first()),
            _ => Users::Named(own),
        };
        let share = Share {
            users,
            weight: row.try_get("weight")?,
            concurrency: row.try_get("concurrency")?,
            rpm: row.try_get("rpm")?,
            models: row.try_get::<Option<&str>, _>("models")?.map(models),
            revived_ms: row.try_get("revived_ms")?,
        };
        all.insert(AccountId::parse(account)?, share);
    }
    Ok(all)
}

/// As the table has them.
fn listed(models: &[ModelName]) -> String {
    let models: Vec<_> = models.iter().map(ModelName::as_str).collect();
    models.join(" ")
}

fn models(listed: &str) -> Vec<ModelName> {
    listed.split(' ').filter_map(ModelName::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{tenants, testing::TestHub};

    /// Of an account whose secret nobody opens here.
    async fn set_of(hub: &TestHub, account: &AccountId, change: &Change) -> Result<(), StoreError> {
        set(&hub.store, account, change, |old, _| {
            Ok::<_, StoreError>(old.sealed.clone())
        })
        .await
    }

    async fn account(hub: &TestHub) -> AccountId {
        let id = AccountId::random();
        let mut tx = hub.store.write().await.unwrap();
        sqlx::query(
            "INSERT INTO vendor_account (id, name, vendor, base_url, secret, websocket, created_ms) \
             VALUES ($1, 'a', 'openai', 'https://v.example', x'00', 0, 1)",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
        id
    }

    #[tokio::test]
    async fn a_share_reads_back_and_what_is_not_named_stays() {
        let hub = TestHub::new().await;
        let id = account(&hub).await;
        let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
        let change = Change {
            users: Some(Users::Exclusive(Some(tenant.clone()))),
            concurrency: Some(Some(3)),
            ..Change::default()
        };
        set_of(&hub, &id, &change).await.unwrap();
        let change = Change {
            weight: Some(7),
            models: Some(Some(models("gpt-6* o3"))),
            ..Change::default()
        };
        set_of(&hub, &id, &change).await.unwrap();
        set_of(&hub, &id, &Change::default()).await.unwrap();
        let share = list(&hub.store).await.unwrap().remove(&id).unwrap();
        assert_eq!(share.models, Some(models("gpt-6* o3")));
        assert_eq!((share.weight, share.concurrency, share.rpm), (7, Some(3), None));
        assert!(share.users.has(&tenant) && !share.users.has(&TenantId::random()));
    }

    #[tokio::test]
    async fn the_database_refuses_an_exclusive_account_a_second_tenant() {
        let hub = TestHub::new().await;
        let one = tenants::add(&hub.store, "one", 1).await.unwrap();
        let two = tenants::add(&hub.store, "two", 1).await.unwrap();
        let id = account(&hub).await;
        let users = |users| Change {
            users: Some(users),
            ..Change::default()
        };
        set_of(&hub, &id, &users(Users::Exclusive(Some(one.clone()))))
            .await
            .unwrap();
        let mut tx = hub.store.write().await.unwrap();
        let second = sqlx::query("INSERT INTO account_tenants (account, tenant) VALUES ($1, $2)")
            .bind(id.as_str())
            .bind(two.as_str())
            .execute(&mut *tx)
            .await;
        assert!(second.unwrap_err().to_string().contains("has one tenant"));
        drop(tx);
        let both = Users::Named([one, two].into());
        set_of(&hub, &id, &users(both)).await.unwrap();
        let mut tx = hub.store.write().await.unwrap();
        let narrowed = sqlx::query("UPDATE account_share SET sharing = 'exclusive' WHERE account = $1")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await;
        assert!(narrowed.unwrap_err().to_string().contains("has one tenant"));
    }
}
