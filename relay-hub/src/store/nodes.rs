//! Egress nodes and the single-use tokens they enrol with.

use relay_shared::secret::Secret;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    Store, StoreError,
    devices::TOKEN_LIFE_MS,
    keys::{fresh_secret, hash},
    tenants::is_name,
};
use crate::{ids::NodeId, way::NodeAt};

/// An egress node as commands show it.
#[derive(Debug, Clone)]
pub struct NodeRow {
    /// The id.
    pub id: NodeId,
    /// The operator's name for it.
    pub name: String,
    /// Where the hub dials it.
    pub at: NodeAt,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When it enrolled last, milliseconds since 1970.
    pub enrolled_ms: Option<i64>,
    /// When its certificate was made last, milliseconds since 1970.
    pub renewed_ms: Option<i64>,
    /// End of its certificate's life, milliseconds since 1970.
    pub not_after_ms: Option<i64>,
    /// When it was revoked, milliseconds since 1970.
    pub revoked_ms: Option<i64>,
}

/// Why a node gets no token.
#[derive(Debug, thiserror::Error)]
pub enum NodeTokenError {
    /// It was revoked, for good.
    #[error("the egress node `{0}` was revoked")]
    Revoked(String),
    /// Empty, too long, or with characters that tables and logs should not see.
    #[error("this cannot be a node's name: use 1 to 64 letters, digits, `.`, `_`, `-`, `@`, or spaces between them")]
    BadName,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for NodeTokenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Makes a token for the node of this name, which becomes known with it, or is given the address. The token's secret is
/// returned here and nowhere else.
pub async fn add_token(
    store: &Store,
    name: &str,
    at: &NodeAt,
    now_ms: i64,
) -> Result<(NodeId, Secret<String>), NodeTokenError> {
    if !is_name(name) {
        return Err(NodeTokenError::BadName);
    }
    let mut tx = store.write().await?;
    let row = sqlx::query(
        "INSERT INTO egress_node (id, name, address, created_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO UPDATE SET address = excluded.address RETURNING id, revoked_ms",
    )
    .bind(NodeId::random().as_str())
    .bind(name)
    .bind(at.to_string())
    .bind(now_ms)
    .fetch_one(&mut *tx)
    .await?;
    if row.try_get::<Option<i64>, _>("revoked_ms")?.is_some() {
        return Err(NodeTokenError::Revoked(name.to_owned()));
    }
    let id = NodeId::parse(row.try_get("id")?).map_err(StoreError::from)?;
    // The last token is the one that is good.
    sqlx::query("DELETE FROM egress_node_token WHERE node = $1")
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    let secret = fresh_secret();
    sqlx::query("INSERT INTO egress_node_token (hash, node, expires_ms) VALUES ($1, $2, $3)")
        .bind(hash(secret.expose()).to_vec())
        .bind(id.as_str())
        .bind(now_ms.saturating_add(TOKEN_LIFE_MS))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok((id, secret))
}

/// What became of a token that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// It was good, and is used up now; the node's id and name.
    Good(NodeId, String),
    Unknown,
    Used,
    Expired,
    Revoked,
}

/// Uses a token up and notes its node's key, both or neither. A node that was enrolled before goes by the new key alone.
pub(crate) async fn redeem(
    store: &Store,
    secret: &str,
    key_hash: [u8; 32],
    now_ms: i64,
    not_after_ms: i64,
) -> Result<Redeemed, StoreError> {
    let hash = hash(secret).to_vec();
    let mut tx = store.write().await?;
    let row = sqlx::query(
        "SELECT t.used_ms, t.expires_ms, n.id, n.name, n.revoked_ms FROM egress_node_token t \
         JOIN egress_node n ON n.id = t.node WHERE t.hash = $1",
    )
    .bind(&hash)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(Redeemed::Unknown) };
    if row.try_get::<Option<i64>, _>("used_ms")?.is_some() {
        return Ok(Redeemed::Used);
    }
    if row.try_get::<i64, _>("expires_ms")? <= now_ms {
        return Ok(Redeemed::Expired);
    }
    if row.try_get::<Option<i64>, _>("revoked_ms")?.is_some() {
        return Ok(Redeemed::Revoked);
    }
    let id = NodeId::parse(row.try_get("id")?)?;
    sqlx::query("UPDATE egress_node_token SET used_ms = $2 WHERE hash = $1")
        .bind(&hash)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "UPDATE egress_node SET public_key = $2, enrolled_ms = $3, renewed_ms = $3, not_after_ms = $4 WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(key_hash.to_vec())
    .bind(now_ms)
    .bind(not_after_ms)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Redeemed::Good(id, row.try_get("name")?))
}

/// Where a node stands that wants another certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It may have one; its name.
    Good(String),
    Unknown,
    Revoked,
}

/// Notes that the node with that key gets another certificate, if it may. A wrong key is an unknown node.
pub(crate) async fn renew(
    store: &Store,
    id: &NodeId,
    key_hash: [u8; 32],
    now_ms: i64,
    not_after_ms: i64,
) -> Result<Renewal, StoreError> {
    let mut tx = store.write().await?;
    let row = sqlx::query("SELECT name, revoked_ms FROM egress_node WHERE id = $1 AND public_key = $2")
        .bind(id.as_str())
        .bind(key_hash.to_vec())
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(Renewal::Unknown) };
    if row.try_get::<Option<i64>, _>("revoked_ms")?.is_some() {
        return Ok(Renewal::Revoked);
    }
    sqlx::query("UPDATE egress_node SET renewed_ms = $2, not_after_ms = $3 WHERE id = $1")
        .bind(id.as_str())
        .bind(now_ms)
        .bind(not_after_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Renewal::Good(row.try_get("name")?))
}

/// All nodes, oldest first.
pub async fn list(store: &Store) -> Result<Vec<NodeRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, address, created_ms, enrolled_ms, renewed_ms, not_after_ms, revoked_ms FROM egress_node \
         ORDER BY created_ms, id",
    )
    .fetch_all(store.readers())
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<NodeRow, StoreError> {
    let id = NodeId::parse(row.try_get("id")?)?;
    let revoked_ms: Option<i64> = row.try_get("revoked_ms")?;
    Ok(NodeRow {
        name: row.try_get("name")?,
        at: read_at(&id, row.try_get("address")?, revoked_ms)?,
        created_ms: row.try_get("created_ms")?,
        enrolled_ms: row.try_get("enrolled_ms")?,
        renewed_ms: row.try_get("renewed_ms")?,
        not_after_ms: row.try_get("not_after_ms")?,
        revoked_ms,
        id,
    })
}

/// Where a node is, as its row has it.
pub(super) fn read_at(id: &NodeId, address: &str, revoked_ms: Option<i64>) -> Result<NodeAt, StoreError> {
    let at = NodeAt::parse(address).ok_or_else(|| StoreError::Corrupt(format!("the address of {id}")))?;
    Ok(NodeAt {
        is_revoked: revoked_ms.is_some(),
        ..at
    })
}

/// Revokes a node. False where there is no such node that is still good.
pub async fn revoke(store: &Store, id: &NodeId, now_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query("UPDATE egress_node SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL")
        .bind(id.as_str())
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestHub;

    #[tokio::test]
    async fn a_token_enrols_its_node_once_and_a_revoked_node_not_at_all() {
        let hub = TestHub::bare().await;
        let at = NodeAt::parse("node.example:8443").unwrap();
        let (id, first) = add_token(&hub.store, "ohio", &at, 1).await.unwrap();
        let (same, second) = add_token(&hub.store, "ohio", &at, 2).await.unwrap();
        assert_eq!(id, same);
        let redeem = async |secret: &Secret<String>, now_ms| {
            redeem(&hub.store, secret.expose(), [1; 32], now_ms, 99).await.unwrap()
        };
        assert_eq!(redeem(&first, 3).await, Redeemed::Unknown);
        assert_eq!(redeem(&second, 2 + TOKEN_LIFE_MS).await, Redeemed::Expired);
        assert_eq!(redeem(&second, 3).await, Redeemed::Good(id.clone(), "ohio".to_owned()));
        assert_eq!(redeem(&second, 4).await, Redeemed::Used);

        let renew = async |key| renew(&hub.store, &id, [key; 32], 5, 100).await.unwrap();
        assert_eq!(renew(2).await, Renewal::Unknown);
        assert_eq!(renew(1).await, Renewal::Good("ohio".to_owned()));
        let (_, third) = add_token(&hub.store, "ohio", &at, 6).await.unwrap();
        assert!(revoke(&hub.store, &id, 7).await.unwrap() && !revoke(&hub.store, &id, 8).await.unwrap());
        assert_eq!(renew(1).await, Renewal::Revoked);
        assert_eq!(redeem(&third, 8).await, Redeemed::Revoked);
        let refused = add_token(&hub.store, "ohio", &at, 9).await;
        assert!(matches!(refused, Err(NodeTokenError::Revoked(name)) if name == "ohio"));
        let listed = list(&hub.store).await.unwrap();
        assert_eq!((listed[0].not_after_ms, listed[0].revoked_ms), (Some(100), Some(7)));
        assert!(listed[0].at.is_revoked);
    }
}
