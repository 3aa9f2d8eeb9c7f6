//! The file of master keys: the first seals, all of them open. Knows no sealed value.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, RandomizedNonceKey},
    digest, rand,
};
use zeroize::Zeroizing;

use super::SealError;
use crate::{
    config::DataDir,
    files::{self, Readable},
};

pub(super) const KEY_LENGTH: usize = 32;
/// A file holds the key that seals, the one before it, and the one that comes, at most.
const MOST_KEYS: usize = 3;
/// What the file says that stands for it.
pub(crate) const BOUND: &str = "Every secret of this hub is bound to who may use it. Without this file those of older hubs would be taken again.\n";

/// Which master key, by its digest; tells nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 4]);

impl KeyId {
    pub(super) const fn new(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    fn of(key: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"relay-hub seal.key\n");
        context.update(key);
        let digest = context.finish();
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }

    pub(super) const fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

pub(super) struct Master {
    pub(super) id: KeyId,
    pub(super) key: RandomizedNonceKey,
}

/// Holds the master keys of one data directory.
pub struct Sealer {
    path: PathBuf,
    keys: ArcSwap<Keys>,
    /// Written once every value is bound to its holder. Outside the database, so that whoever writes there cannot have
    /// an old value taken again.
    bound: PathBuf,
    takes_unheld: AtomicBool,
}

struct Keys {
    first: Master,
    others: Vec<Master>,
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = &Master> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl Sealer {
    /// Reads the master keys of a data directory.
    pub fn open(data: &DataDir) -> Result<Self, SealError> {
        let path = data.seal_key();
        let keys = ArcSwap::from_pointee(read(&path)?);
        let bound = data.seal_bound();
        // One that may be there is there.
        let takes_unheld = AtomicBool::new(!bound.try_exists().unwrap_or(true));
        Ok(Self {
            path,
            keys,
            bound,
            takes_unheld,
        })
    }

    /// Whether values that are not bound to their holder open: not every one is bound yet.
    pub fn takes_unheld(&self) -> bool {
        self.takes_unheld.load(Ordering::Acquire)
    }

    /// From now on they do not, whoever opens the data directory. Durable when it returns.
    pub fn refuse_unheld(&self) -> Result<(), SealError> {
        files::replace(&self.bound, BOUND.as_bytes(), Readable::OwnerOnly).map_err(|source| SealError::Unwritable {
            path: self.bound.display().to_string(),
            source,
        })?;
        self.takes_unheld.store(false, Ordering::Release);
        Ok(())
    }

    /// The key that seals.
    pub fn first(&self) -> KeyId {
        self.keys.load().first.id
    }

    /// All keys, the one that seals first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.load().all().map(|master| master.id).collect()
    }

    /// Puts a new key in front. The one before it stays, for hubs that run and for what is not sealed anew yet; those
    /// before that go. Durable when it returns.
    pub fn renew(&self) -> Result<(), SealError> {
        let before = bytes(&self.path)?;
        let kept = before.get(..KEY_LENGTH).unwrap_or_default();
        let bytes = Zeroizing::new([fresh_key().as_slice(), kept].concat());
        files::replace(&self.path, &bytes, Readable::OwnerOnly).map_err(|source| SealError::Unwritable {
            path: self.path.display().to_string(),
            source,
        })?;
        self.reread()
    }

    pub(super) fn with_first<T>(&self, work: impl FnOnce(&Master) -> Result<T, SealError>) -> Result<T, SealError> {
        work(&self.keys.load().first)
    }

    /// Works with the first key with which it succeeds.
    pub(super) fn with_any<T>(&self, work: impl Fn(&Master) -> Result<T, SealError>) -> Result<T, SealError> {
        let keys = self.keys.load();
        keys.all().find_map(|master| work(master).ok()).ok_or(SealError::Broken)
    }

    /// Works with this key, which may have come since the file was read.
    pub(super) fn with<T>(
        &self,
        id: KeyId,
        work: impl FnOnce(&Master) -> Result<T, SealError>,
    ) -> Result<T, SealError> {
        let is_known = self.keys.load().all().any(|master| master.id == id);
        if !is_known {
            self.reread()?;
        }
        let keys = self.keys.load();
        let master = keys.all().find(|master| master.id == id);
        work(master.ok_or(SealError::Broken)?)
    }

    fn reread(&self) -> Result<(), SealError> {
        self.keys.store(read(&self.path)?.into());
        Ok(())
    }
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let unreadable = |source| SealError::Unreadable {
        path: path.display().to_string(),
        source,
    };
    fs::read(path).map(Zeroizing::new).map_err(unreadable)
}

fn read(path: &Path) -> Result<Keys, SealError> {
    let bytes = bytes(path)?;
    let bad = || SealError::BadKey(path.display().to_string());
    if bytes.len() % KEY_LENGTH != 0 || bytes.len() > MOST_KEYS * KEY_LENGTH {
        return Err(bad());
    }
    let mut masters = bytes.chunks_exact(KEY_LENGTH).map(master);
    let first = masters.next().ok_or_else(bad)??;
    let others = masters.collect::<Result<_, _>>()?;
    Ok(Keys { first, others })
}

fn master(bytes: &[u8]) -> Result<Master, SealError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealError::Broken)?;
    let id = KeyId::of(bytes);
    Ok(Master { id, key })
}

/// A fresh key, of a file or of one value.
pub(crate) fn fresh_key() -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; KEY_LENGTH]);
    rand::fill(&mut key).expect("the system's random source answers");
    key
}
