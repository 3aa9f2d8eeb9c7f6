//! Where things are in the data directory.

use std::path::{Path, PathBuf};

/// The hub's data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
    /// Where the sealing key is, if not here.
    seal_key: Option<PathBuf>,
}

impl DataDir {
    /// A directory that need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { path, seal_key: None }
    }

    /// The same with the sealing key elsewhere, so that a copy of the directory opens nothing.
    #[must_use]
    pub fn with_seal_key(self, path: Option<PathBuf>) -> Self {
        Self { seal_key: path, ..self }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings.
    pub fn hub_toml(&self) -> PathBuf {
        self.path.join("hub.toml")
    }

    /// The SQLite database.
    pub fn database(&self) -> PathBuf {
        self.path.join("hub.sqlite")
    }

    /// Holds of the last moments.
    pub fn flight(&self) -> PathBuf {
        self.path.join("hub.flight")
    }

    /// Seals vendors' secrets.
    pub fn seal_key(&self) -> PathBuf {
        self.seal_key.clone().unwrap_or_else(|| self.path.join("seal.key"))
    }

    /// Says that every secret is bound to who may use it.
    pub fn seal_bound(&self) -> PathBuf {
        self.path.join("seal.bound")
    }

    /// Whether the key lies elsewhere.
    pub fn is_seal_key_elsewhere(&self) -> bool {
        self.seal_key.is_some()
    }

    /// Reset, connection-id and token keys of the QUIC endpoint.
    pub fn quic_key(&self) -> PathBuf {
        self.path.join("quic.key")
    }

    /// Locked while a hub runs here.
    pub fn lock(&self) -> PathBuf {
        self.path.join("hub.lock")
    }

    /// Process id and bound addresses of the running hub.
    pub fn run_json(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// The device CA's certificate, PEM.
    pub fn ca_certificate(&self) -> PathBuf {
        self.path.join("tls/ca.crt")
    }

    /// The device CA's private key, PEM.
    pub fn ca_key(&self) -> PathBuf {
        self.path.join("tls/ca.key")
    }

    /// The hub's own certificate chain (leaf, CA), PEM.
    pub fn server_certificate(&self) -> PathBuf {
        self.path.join("tls/server.crt")
    }

    /// The hub's own private key, PEM.
    pub fn server_key(&self) -> PathBuf {
        self.path.join("tls/server.key")
    }
}
