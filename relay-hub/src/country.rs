//! In which country an address is, by a database file in MaxMind's format (version 2). Off without a file. Knows no rules.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use maxminddb::{MaxMindDbError, Reader, path};
use relay_shared::tasks::Tasks;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::limit::Country;

/// Tells countries. Cheap to clone.
#[derive(Clone, Default)]
pub struct Countries(Option<Arc<Known>>);

struct Known {
    path: PathBuf,
    reader: ArcSwap<Reader<Vec<u8>>>,
}

/// Why a file is no database of countries.
#[derive(Debug, thiserror::Error)]
pub enum CountryError {
    /// It cannot be read.
    #[error("cannot read the database of countries {path}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("{path} is no database of countries in MaxMind's format")]
    Format {
        /// Which file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: MaxMindDbError,
    },
}

/// By what a file is seen to be another: when it was written, and how long it is.
type Stamp = Option<(SystemTime, u64)>;

impl Countries {
    /// Reads a database, and reads it again whenever the file changes. What cannot be used then leaves the one before.
    ///
    /// # Errors
    /// The file cannot be read, or is no such database.
    pub async fn open(file: &Path, tasks: &Tasks) -> Result<Self, CountryError> {
        let seen = stamp(file).await;
        let known = Arc::new(Known {
            path: file.to_owned(),
            reader: ArcSwap::from_pointee(read(file).await?),
        });
        tasks.spawn("countries", keep_up(known.clone(), seen, tasks.token()));
        Ok(Self(Some(known)))
    }

    /// Whether there is a database.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The country of an address; none where the database does not say.
    pub fn of(&self, address: IpAddr) -> Option<Country> {
        let reader = self.0.as_ref()?.reader.load();
        let found = reader.lookup(address.to_canonical()).ok()?;
        ["country", "registered_country"].into_iter().find_map(|which| {
            let code: Option<&str> = found.decode_path(&path![which, "iso_code"]).ok()?;
            Country::parse(code?)
        })
    }
}

async fn read(file: &Path) -> Result<Reader<Vec<u8>>, CountryError> {
    let path = || file.display().to_string();
    let bytes = tokio::fs::read(file)
        .await
        .map_err(|source| CountryError::File { path: path(), source })?;
    Reader::from_source(bytes).map_err(|source| CountryError::Format { path: path(), source })
}

async fn stamp(file: &Path) -> Stamp {
    let told = tokio::fs::metadata(file).await.ok()?;
    Some((told.modified().ok()?, told.len()))
}

async fn keep_up(known: Arc<Known>, mut seen: Stamp, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let now = stamp(&known.path).await;
        if now == seen {
            continue;
        }
        seen = now;
        match read(&known.path).await {
            Ok(reader) => {
                info!(path = %known.path.display(), "the database of countries was read anew");
                known.reader.store(Arc::new(reader));
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the database of countries stays as it was"
            ),
        }
    }
}

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
