//! Where things are in the data directory.

use std::path::{Path, PathBuf};

/// The hub's data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// A directory that need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The settings.
    pub fn hub_toml(&self) -> PathBuf {
        self.0.join("hub.toml")
    }

    /// The SQLite database.
    pub fn database(&self) -> PathBuf {
        self.0.join("hub.sqlite")
    }

    /// Holds of the last moments.
    pub fn flight(&self) -> PathBuf {
        self.0.join("hub.flight")
    }

    /// Seals vendors' secrets.
    pub fn seal_key(&self) -> PathBuf {
        self.0.join("seal.key")
    }

    /// Reset, connection-id and token keys of the QUIC endpoint.
    pub fn quic_key(&self) -> PathBuf {
        self.0.join("quic.key")
    }

    /// Locked while a hub runs here.
    pub fn lock(&self) -> PathBuf {
        self.0.join("hub.lock")
    }

    /// Process id and bound addresses of the running hub.
    pub fn run_json(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The device CA's certificate, PEM.
    pub fn ca_certificate(&self) -> PathBuf {
        self.0.join("tls/ca.crt")
    }

    /// The device CA's private key, PEM.
    pub fn ca_key(&self) -> PathBuf {
        self.0.join("tls/ca.key")
    }

    /// The hub's own certificate chain (leaf, CA), PEM.
    pub fn server_certificate(&self) -> PathBuf {
        self.0.join("tls/server.crt")
    }

    /// The hub's own private key, PEM.
    pub fn server_key(&self) -> PathBuf {
        self.0.join("tls/server.key")
    }
}
