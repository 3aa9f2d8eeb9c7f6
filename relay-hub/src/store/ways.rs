//! Ways out of vendor accounts, as operators add them. Their passwords are sealed before they come here.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError, nodes, sealed, sharing, tenants::is_name};
use crate::{
    ids::{AccountId, WayId},
    way::{Family, NodeAt, Region, Through},
};

/// A way out as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayRow {
    /// The id.
    pub id: WayId,
    /// Whose it is.
    pub account: AccountId,
    /// The operator's name for it.
    pub name: String,
    /// By what it leaves.
    pub through: Through,
    /// Where its egress node is, where it leaves by one.
    pub node: Option<NodeAt>,
    /// The sealed password of a proxy's user.
    pub password: Option<Vec<u8>>,
    /// Where it leaves.
    pub region: Option<Region>,
    /// The lowest is taken first.
    pub priority: i64,
    /// Which addresses of a vendor are tried first.
    pub prefers: Option<Family>,
    /// It may lead to addresses that are not public.
    pub allows_private: bool,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

#[cfg(test)]
impl WayRow {
    /// A way of this account by an address of this machine.
    pub(crate) fn for_tests(account: AccountId, name: &str) -> Self {
        Self {
            id: WayId::random(),
            account,
            name: name.to_owned(),
            through: Through::Source(std::net::Ipv4Addr::new(127, 0, 0, 77).into()),
            node: None,
            password: None,
            region: None,
            priority: 1,
            prefers: None,
            allows_private: true,
            created_ms: 1,
        }
    }
}

/// Why a way out cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddWayError {
    /// The name is taken.
    #[error("there is already a way out named `{0}`")]
    Taken(String),
    /// It has an owner.
    #[error("`{through}` is the way out `{name}` of account {account}: a way out belongs to one account only")]
    Owned {
        /// By what it leaves.
        through: Through,
        /// What it is called.
        name: String,
        /// The owner's name.
        account: String,
    },
    /// Empty, too long, or with characters that tables and logs should not see.
    #[error("this cannot be a way's name: use 1 to 64 letters, digits, `.`, `_`, `-`, `@`, or spaces between them")]
    BadName,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AddWayError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Adds a way out and tells how it stands there. `seal` seals its password, where it has one, for those who may use its
/// account then.
pub async fn add<E: From<AddWayError>>(
    store: &Store,
    way: &WayRow,
    seal: impl FnOnce(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<WayRow, E> {
    let mut tx = store.write().await.map_err(AddWayError::from)?;
    let users = sharing::users(&mut tx, &way.account).await.map_err(AddWayError::from)?;
    let way = WayRow {
        password: seal(&sealed::way_holder(way.account.as_str(), &users))?,
        ..way.clone()
    };
    insert(&mut tx, &way).await?;
    tx.commit().await.map_err(AddWayError::from)?;
    Ok(way)
}

/// Whether this can be a way's name.
pub(crate) fn is_way_name(name: &str) -> bool {
    is_name(name) && name != DIRECT
}

async fn insert(tx: &mut SqliteConnection, way: &WayRow) -> Result<(), AddWayError> {
    if !is_way_name(&way.name) {
        return Err(AddWayError::BadName);
    }
    let through = way.through.to_string();
    let like = sqlx::query(
        "SELECT w.name, w.through, a.name AS account FROM way_out AS w JOIN vendor_account AS a ON a.id = w.account \
         WHERE w.name = $1 OR w.through = $2",
    )
    .bind(&way.name)
    .bind(&through)
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(like) = like {
        let name: String = like.try_get("name")?;
        if like.try_get::<String, _>("through")? != through {
            return Err(AddWayError::Taken(name));
        }
        return Err(AddWayError::Owned {
            through: way.through.clone(),
            name,
            account: like.try_get("account")?,
        });
    }
    sqlx::query(
        "INSERT INTO way_out (id, account, name, through, password, region, priority, prefers, allows_private, \
         created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(way.id.as_str())
    .bind(way.account.as_str())
    .bind(&way.name)
    .bind(through)
    .bind(&way.password)
    .bind(way.region.as_ref().map(Region::as_str))
    .bind(way.priority)
    .bind(way.prefers.map(Family::number))
    .bind(way.allows_private)
    .bind(way.created_ms)
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes a way out. False where there is none with this id.
pub async fn remove(store: &Store, id: &WayId) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query("DELETE FROM way_out WHERE id = $1")
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// All ways out, each account's together and in the order in which they are taken.
pub async fn list(store: &Store) -> Result<Vec<WayRow>, StoreError> {
    read_all(&mut *store.readers().acquire().await?).await
}

/// The same on a connection whose transaction makes it one picture with other reads.
pub(crate) async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<WayRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT w.id, w.account, w.name, w.through, w.password, w.region, w.priority, w.prefers, w.allows_private, \
         w.created_ms, n.address, n.revoked_ms FROM way_out w LEFT JOIN egress_node n ON w.through = 'node ' || n.id \
         ORDER BY w.account, w.priority, w.name",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// A way that cannot be read is an error: its account would leave by another.
fn read(row: &SqliteRow) -> Result<WayRow, StoreError> {
    let id = WayId::parse(row.try_get("id")?)?;
    let corrupt = |what: &str| StoreError::Corrupt(format!("the {what} of {id}"));
    let region: Option<&str> = row.try_get("region")?;
    let prefers: Option<i64> = row.try_get("prefers")?;
    let through = Through::parse(row.try_get("through")?).map_err(|_| corrupt("address"))?;
    let address: Option<&str> = row.try_get("address")?;
    Ok(WayRow {
        account: AccountId::parse(row.try_get("account")?)?,
        name: row.try_get("name")?,
        node: match (&through, address) {
            (Through::Node(node), Some(address)) => Some(nodes::read_at(node, address, row.try_get("revoked_ms")?)?),
            (Through::Node(_), None) => return Err(corrupt("node")),
            (Through::Source(_) | Through::Proxy(_), _) => None,
        },
        through,
        password: row.try_get("password")?,
        region: match region {
            Some(region) => Some(Region::parse(region).ok_or_else(|| corrupt("region"))?),
            None => None,
        },
        priority: row.try_get("priority")?,
        prefers: prefers.and_then(Family::parse),
        allows_private: row.try_get("allows_private")?,
        created_ms: row.try_get("created_ms")?,
        id,
    })
}

/// What rows say of calls whose account has no way of its own.
const DIRECT: &str = "direct";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{accounts, testing::TestHub};

    async fn account(hub: &TestHub, name: &str) -> AccountId {
        let row = accounts::AccountRow::for_tests(AccountId::random(), name);
        accounts::add(&hub.store, &row).await.unwrap();
        row.id
    }

    fn way(account: &AccountId, name: &str, through: Through) -> WayRow {
        WayRow {
            through,
            password: Some(vec![1]),
            region: Region::parse("eu"),
            priority: 10,
            prefers: Some(Family::V6),
            allows_private: false,
            created_ms: 2,
            ..WayRow::for_tests(account.clone(), name)
        }
    }

    async fn add_to(hub: &TestHub, way: &WayRow) -> Result<WayRow, AddWayError> {
        add(&hub.store, way, |_| Ok(None)).await
    }

    #[tokio::test]
    async fn the_database_refuses_a_second_owner() {
        let hub = TestHub::bare().await;
        let (one, two) = (account(&hub, "one").await, account(&hub, "two").await);
        let source = Through::source("192.0.2.1").unwrap();
        let first = way(&one, "a", source.clone());
        add_to(&hub, &first).await.unwrap();
        let told = add_to(&hub, &way(&two, "b", source.clone()))
            .await
            .unwrap_err()
            .to_string();
        assert!(told.contains("way out `a` of account one"), "{told}");
        let taken = add_to(&hub, &way(&two, "a", Through::source("192.0.2.2").unwrap())).await;
        assert!(matches!(taken, Err(AddWayError::Taken(name)) if name == "a"));

        let mut connection = hub.store.connection().await.unwrap();
        for sql in [
            "UPDATE way_out SET account = (SELECT id FROM vendor_account WHERE name = 'two')",
            "UPDATE way_out SET through = 'source 192.0.2.9'",
            "INSERT INTO way_out SELECT 'way_0123456789abcdef', (SELECT id FROM vendor_account WHERE name = 'two'), \
             'b', through, NULL, NULL, 1, NULL, 0, 1 FROM way_out",
            "INSERT OR REPLACE INTO way_out SELECT 'way_0123456789abcdef', (SELECT id FROM vendor_account WHERE name = \
             'two'), 'b', through, NULL, NULL, 1, NULL, 0, 1 FROM way_out",
            "INSERT OR REPLACE INTO way_out SELECT id, (SELECT id FROM vendor_account WHERE name = 'two'), 'b', \
             'source 192.0.2.3', NULL, NULL, 1, NULL, 0, 1 FROM way_out",
            "INSERT INTO way_out SELECT 'way_0123456789abcdef', 'acc_nobody', 'b', 'source 192.0.2.3', NULL, NULL, 1, \
             NULL, 0, 1",
        ] {
            assert!(sqlx::raw_sql(sql).execute(&mut connection).await.is_err(), "{sql}");
        }
        let all = list(&hub.store).await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((&all[0].through, &all[0].region), (&first.through, &first.region));

        // Another spelling of what has an owner is no way at all: nothing leaves by it.
        for other in [
            "source ::ffff:192.0.2.1",
            "source  192.0.2.1",
            "HTTP://proxy.example:80",
            "http://proxy.example",
        ] {
            let sql = format!(
                "INSERT INTO way_out SELECT 'way_0123456789abcdef', (SELECT id FROM vendor_account WHERE name = 'two'), \
                 'b', '{other}', NULL, NULL, 1, NULL, 0, 1"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap();
            assert!(matches!(list(&hub.store).await, Err(StoreError::Corrupt(_))), "{other}");
            sqlx::raw_sql("DELETE FROM way_out WHERE name = 'b'")
                .execute(&mut connection)
                .await
                .unwrap();
        }

        // Given up, it may have another owner.
        assert!(accounts::remove(&hub.store, "one").await.unwrap());
        assert!(list(&hub.store).await.unwrap().is_empty());
        add_to(&hub, &way(&two, "b", source)).await.unwrap();
    }
}
