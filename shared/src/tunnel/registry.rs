//! The open connections of the hub's port, to be counted and closed. Knows no requests.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::server::{ACCESS_DENIED, Peer, Served};

/// The connections of a port.
#[derive(Default)]
pub(super) struct Registry {
    entries: Mutex<HashMap<u64, (Peer, Closer)>>,
    next: AtomicU64,
    left: Notify,
}

/// How one of them is closed.
pub(super) enum Closer {
    Quic(quinn::Connection),
    H2(CancellationToken),
}

impl Closer {
    pub(super) fn close(&self, reason: &str) {
        match self {
            Self::Quic(connection) => connection.close(ACCESS_DENIED, reason.as_bytes()),
            Self::H2(closed) => closed.cancel(),
        }
    }
}

impl Registry {
    pub(super) fn enter(&self, served: &Arc<Served>, peer: &Peer, closer: Closer) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.entries().insert(id, (peer.clone(), closer));
        Entry {
            id,
            served: Arc::clone(served),
        }
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.entries().is_empty() {
                return;
            }
            left.await;
        }
    }

    pub(super) fn entries(&self) -> MutexGuard<'_, HashMap<u64, (Peer, Closer)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, listed until this is dropped.
pub(super) struct Entry {
    id: u64,
    served: Arc<Served>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.served.registry.entries().remove(&self.id);
        self.served.registry.left.notify_waiters();
    }
}
