//! A data directory with a database and keys, for tests beside the code.

use std::sync::Arc;

use sqlx::ConnectOptions as _;
use tempfile::TempDir;

use super::{Store, sharing::Change};
use crate::{
    ca::{Authority, create_quic_key},
    config::DataDir,
    files::{self, Readable},
    ids::AccountId,
    rotation,
    seal::{Bound, Sealer, fresh_key},
};

/// Removed when dropped.
pub(crate) struct TestHub {
    pub(crate) dir: TempDir,
    pub(crate) data: DataDir,
    pub(crate) store: Store,
    pub(crate) sealer: Arc<Sealer>,
}

impl TestHub {
    /// With everything `relay-hub init` makes but its settings.
    pub(crate) async fn new() -> Self {
        let hub = Self::bare().await;
        files::make_private_directory(hub.data.ca_key().parent().unwrap()).unwrap();
        Authority::create(&hub.data).unwrap();
        create_quic_key(&hub.data).unwrap();
        hub
    }

    /// Database and sealing key alone.
    pub(crate) async fn bare() -> Self {
        Self::over("").await
    }

    /// The same over a database that these statements make first.
    pub(crate) async fn over(sql: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        files::write_new(&data.seal_key(), &fresh_key(), Readable::OwnerOnly).unwrap();
        if !sql.is_empty() {
            let mut connection = super::options(&data).create_if_missing(true).connect().await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
                .execute(&mut connection)
                .await
                .unwrap();
        }
        files::write_new(&data.seal_bound(), b"", Readable::OwnerOnly).unwrap();
        let store = Store::create(&data).await.unwrap();
        let sealer = Arc::new(Sealer::open(&data).unwrap());
        Self {
            dir,
            data,
            store,
            sealer,
        }
    }

    /// A secret of an account that everybody may use.
    pub(crate) fn seal(&self, account: &str, field: &str, secret: &str) -> Vec<u8> {
        self.seal_for("shared", account, field, secret)
    }

    /// A secret that stands there for this holder.
    pub(crate) fn seal_for(&self, holder: &str, owner: &str, field: &str, secret: &str) -> Vec<u8> {
        let bound = Bound { owner, field, holder };
        self.sealer.seal(bound, secret).unwrap()
    }

    /// Changes who may use an account, and how much of it.
    pub(crate) async fn share(&self, account: &AccountId, change: &Change) {
        let changed = rotation::share(&self.store, &self.sealer, account, change).await;
        changed.unwrap();
    }
}
