//! Every sealed value of the store, wherever it stands. Knows no key and opens nothing.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError};

/// A column of sealed values, and the field that each is bound to with its row's id.
#[derive(Debug, Clone, Copy)]
struct Column {
    table: &'static str,
    name: &'static str,
}

/// All of them. A column's name is the field that its values are bound to.
const COLUMNS: &[Column] = &[
    Column {
        table: "vendor_account",
        name: "secret",
    },
    Column {
        table: "way_out",
        name: "password",
    },
    Column {
        table: "vendor_account",
        name: "more_secret",
    },
    Column {
        table: "token_key",
        name: "secret",
    },
];

/// One sealed value.
#[derive(Debug, Clone)]
pub struct SealedValue {
    column: Column,
    /// Whose it is.
    pub owner: String,
    /// The value as it stands.
    pub sealed: Vec<u8>,
}

impl SealedValue {
    /// Which field of its owner it is.
    pub const fn field(&self) -> &'static str {
        self.column.name
    }
}

/// All sealed values.
pub async fn all(store: &Store) -> Result<Vec<SealedValue>, StoreError> {
    let mut values = Vec::new();
    for &column in COLUMNS {
        let Column { table, name } = column;
        let select = format!("SELECT id, {name} AS sealed FROM {table} WHERE {name} IS NOT NULL");
        for row in sqlx::query(AssertSqlSafe(select)).fetch_all(store.readers()).await? {
            values.push(SealedValue {
                column,
                owner: row.try_get("id")?,
                sealed: row.try_get("sealed")?,
            });
        }
    }
    Ok(values)
}

/// Puts new values in the place of old ones, in one transaction. One that changed meanwhile is left alone.
pub async fn replace(store: &Store, values: &[(SealedValue, Vec<u8>)]) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    for (old, new) in values {
        let Column { table, name } = old.column;
        let update = format!("UPDATE {table} SET {name} = $1 WHERE id = $2 AND {name} = $3");
        sqlx::query(AssertSqlSafe(update))
            .bind(new)
            .bind(&old.owner)
            .bind(&old.sealed)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
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
