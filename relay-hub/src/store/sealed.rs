//! Every sealed value of the store, wherever it stands. Knows no key and opens nothing.

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::{
    Store, StoreError,
    sharing::{self, Users},
};
use crate::ids::AccountId;

/// A column of sealed values, and the field that each is bound to with its row's id.
#[derive(Debug, Clone, Copy)]
struct Column {
    table: &'static str,
    name: &'static str,
    of: Of,
}

/// Whose secrets a column has.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// An account's.
    Account,
    /// That of an account's way out.
    Way,
    /// A tenant's.
    Tenant,
}

impl Of {
    /// Which column names the account or the tenant.
    const fn column(self) -> &'static str {
        match self {
            Self::Account => "id",
            Self::Way => "account",
            Self::Tenant => "tenant",
        }
    }
}

/// All of them. A column's name is the field that its values are bound to.
const COLUMNS: &[Column] = &[
    Column {
        table: "vendor_account",
        name: "secret",
        of: Of::Account,
    },
    Column {
        table: "way_out",
        name: "password",
        of: Of::Way,
    },
    Column {
        table: "vendor_account",
        name: "more_secret",
        of: Of::Account,
    },
    Column {
        table: "token_key",
        name: "secret",
        of: Of::Tenant,
    },
];

/// One sealed value.
#[derive(Debug, Clone)]
pub struct SealedValue {
    column: Column,
    /// Whose it is.
    pub owner: String,
    /// For whom it stands there.
    pub holder: String,
    /// The value as it stands.
    pub sealed: Vec<u8>,
}

impl SealedValue {
    /// Which field of its owner it is.
    pub const fn field(&self) -> &'static str {
        self.column.name
    }
}

/// All sealed values, as one picture.
pub async fn all(store: &Store) -> Result<Vec<SealedValue>, StoreError> {
    let mut tx = store.readers().begin().await?;
    let values = read(&mut tx, None).await?;
    tx.commit().await?;
    Ok(values)
}

/// Those of all accounts, ways and keys, or of one account and its ways.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    account: Option<&AccountId>,
) -> Result<Vec<SealedValue>, StoreError> {
    let shares = sharing::read_all(connection).await?;
    let mut values = Vec::new();
    for &column in COLUMNS {
        if account.is_some() && matches!(column.of, Of::Tenant) {
            continue;
        }
        let (Column { table, name, .. }, whose) = (column, column.of.column());
        let select = format!(
            "SELECT id, {name} AS sealed, {whose} AS whose FROM {table} WHERE {name} IS NOT NULL AND ($1 IS NULL OR {whose} = $1)"
        );
        let rows = sqlx::query(AssertSqlSafe(select)).bind(account.map(AccountId::as_str));
        for row in rows.fetch_all(&mut *connection).await? {
            let whose: String = row.try_get("whose")?;
            let users = |account| shares.get(&account).map_or(Users::All, |share| share.users.clone());
            let holder = match column.of {
                Of::Account => users(AccountId::parse(&whose)?).holder().to_owned(),
                Of::Way => way_holder(&whose, &users(AccountId::parse(&whose)?)),
                Of::Tenant => whose,
            };
            values.push(SealedValue {
                column,
                owner: row.try_get("id")?,
                holder,
                sealed: row.try_get("sealed")?,
            });
        }
    }
    Ok(values)
}

/// For whom the secret of an account's way out stands there.
pub(crate) fn way_holder(account: &str, users: &Users) -> String {
    format!("{account} {}", users.holder())
}

/// Puts new values in the place of old ones, in one transaction. One that changed meanwhile is left alone.
pub async fn replace(store: &Store, values: &[(SealedValue, Vec<u8>)]) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    write(&mut tx, values).await?;
    tx.commit().await?;
    Ok(())
}

/// The same on a connection, in whose transaction more happens.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    values: &[(SealedValue, Vec<u8>)],
) -> Result<(), StoreError> {
    for (old, new) in values {
        let Column { table, name, .. } = old.column;
        let update = format!("UPDATE {table} SET {name} = $1 WHERE id = $2 AND {name} = $3");
        sqlx::query(AssertSqlSafe(update))
            .bind(new)
            .bind(&old.owner)
            .bind(&old.sealed)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn no_sealed_column_of_the_schema_is_forgotten() {
        let mut table = "";
        let mut found = Vec::new();
        for line in schema::steps().flat_map(str::lines) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["CREATE", "TABLE", name, ..] | ["ALTER", "TABLE", name, ..] => table = name,
                _ => {}
            }
            if !line.starts_with("--") && line.contains("-- ") && line.contains("sealed") {
                let name = if words[0] == "ALTER" { words[5] } else { words[0] };
                found.push((table, name));
            }
        }
        let known: Vec<_> = COLUMNS.iter().map(|column| (column.table, column.name)).collect();
        assert_eq!(found, known);
    }
}
