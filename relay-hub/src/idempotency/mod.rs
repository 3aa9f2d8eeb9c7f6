//! Has a request that is sent twice run once: an `Idempotency-Key` stands for one call, for a day. Keeps no body, so
//! whoever asks again gets a receipt. Knows no wire, no vendor and no price.
//!
//! A call that runs is known here; what was let go to a vendor is also a row, durable before the vendor is called, so
//! that a call of a hub that died is told of and not run again.

mod refusals;
mod writer;

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName};
use relay_shared::{
    call::CallId,
    clock::{Clock as _, SystemClock},
    tasks::Tasks,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    identity::Caller,
    ledger::{self, Ledger, LedgerDown},
    refusal::Refused,
    store::{
        Store, StoreError,
        idempotency::{self as table, Change, Entry, Known, Name},
        millis,
    },
};
use writer::Order;

/// The header that a client chooses.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// All calls with a key. Cheap to clone.
#[derive(Clone)]
pub struct Idempotency(Arc<Inner>);

struct Inner {
    store: Store,
    epoch: i64,
    running: Mutex<HashMap<Name, Running>>,
    orders: mpsc::Sender<Order>,
}

/// What a running call was asked.
#[derive(Clone, Copy)]
struct Running {
    request: [u8; 32],
    call: CallId,
}

/// A key that stands for one running call. Dropped before [`Claim::leaves`] is done, it stands for nothing again.
pub struct Claim {
    inner: Arc<Inner>,
    name: Name,
    running: Running,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In memory alone.
    Begun,
    /// It may be a row, but the call has not left.
    Writing,
    /// The call may have left.
    Left,
}

impl Idempotency {
    /// Over the hub's own store and the epoch of its ledger.
    pub fn start(store: Store, ledger: &Ledger, tasks: &Tasks) -> Self {
        let (orders, waiting) = mpsc::channel(MOST_WAITING);
        let inner = Arc::new(Inner {
            store,
            epoch: ledger.epoch(),
            running: Mutex::default(),
            orders,
        });
        let write = writer::run(Arc::downgrade(&inner), waiting, tasks.token());
        tasks.spawn("idempotency", write);
        Self(inner)
    }

    /// Claims the request's key for `call`; none where it has no key. `asked` is the path, in one spelling.
    ///
    /// # Errors
    /// The key is no key, stands for another request, or for a call that runs or has ended.
    pub async fn claim(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        asked: &str,
        body: &[u8],
        call: CallId,
    ) -> Result<Option<Box<Claim>>, Refused> {
        if !headers.contains_key(KEY) {
            return Ok(None);
        }
        let name = Name {
            caller: caller.by.as_str().to_owned(),
            hash: read(headers)?,
        };
        let running = Running {
            request: fingerprint(&[asked.as_bytes(), body]),
            call,
        };
        // Boxed: hardly any call comes here, and every call would keep room for it.
        Box::pin(self.claim_as(name, running)).await.map(Some)
    }

    async fn claim_as(&self, name: Name, running: Running) -> Result<Box<Claim>, Refused> {
        let first = self.begin(&name, running);
        // Memory first, then the table: a row is written before its call is forgotten here.
        let known = self.find(&name, first.is_err()).await?;
        if let Some(known) = known {
            self.may_run_again(&known, running, first.is_err())?;
        }
        first.map_err(|other| refusals::running(&other, running.request))
    }

    /// The claim, or the call that has it.
    fn begin(&self, name: &Name, running: Running) -> Result<Box<Claim>, Running> {
        match self.0.running().entry(name.clone()) {
            Slot::Occupied(other) => Err(*other.get()),
            Slot::Vacant(place) => {
                place.insert(running);
                Ok(Box::new(Claim {
                    inner: self.0.clone(),
                    name: name.clone(),
                    running,
                    state: State::Begun,
                }))
            }
        }
    }

    /// What the tables say of that key; where an end is missing that may be durable, they are brought up to date.
    async fn find(&self, name: &Name, is_running: bool) -> Result<Option<Known>, Refused> {
        let since_ms = millis(SystemClock.wall()).saturating_sub(KEPT_MS);
        let found = table::find(&self.0.store, name, since_ms).await.map_err(away)?;
        match found {
            Some(known) if known.end.is_none() && !is_running && known.epoch == self.0.epoch => {
                ledger::post(&self.0.store).await.map_err(away)?;
                table::find(&self.0.store, name, since_ms).await.map_err(away)
            }
            found => Ok(found),
        }
    }

    /// A call that the vendor refused ran nowhere: it may be tried again under its key.
    fn may_run_again(&self, known: &Known, asked: Running, is_running: bool) -> Result<(), Refused> {
        if known.request != asked.request {
            return Err(refusals::reused());
        }
        match &known.end {
            Some(end) if end.ending == REFUSED_BY_VENDOR && end.is_answered => Ok(()),
            Some(end) => Err(refusals::ended(known.call, end)),
            None if known.epoch != self.0.epoch => Err(refusals::lost(known.call)),
            None if is_running => Ok(()),
            None => Err(refusals::still_running(known.call)),
        }
    }
}

/// [`Claim::leaves`], where there is a claim.
///
/// # Errors
/// It cannot be written now.
pub async fn leaves(claim: Option<Box<Claim>>, number: i64) -> Result<Option<Box<Claim>>, Refused> {
    match claim {
        None => Ok(None),
        // Boxed: hardly any call comes here, and every call would keep room for it.
        Some(claim) => Box::pin(claim.leaves(number)).await.map(Some),
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<Name, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, name: &Name) {
        self.running().remove(name);
    }
}

impl Claim {
    /// Writes, durably, that the key stands for the call with the hold of this number: from here on it may leave.
    ///
    /// # Errors
    /// It cannot be written now.
    pub async fn leaves(mut self: Box<Self>, number: i64) -> Result<Box<Self>, Refused> {
        let entry = Entry {
            name: self.name.clone(),
            request: self.running.request,
            call: self.running.call,
            number,
            at_ms: millis(SystemClock.wall()),
        };
        let (reply, written) = oneshot::channel();
        self.state = State::Writing;
        let order = Order {
            change: Change::Take(entry),
            reply: Some(reply),
        };
        let is_queued = self.inner.orders.send(order).await.is_ok();
        if !is_queued || written.await != Ok(true) {
            return Err(LedgerDown.into());
        }
        self.state = State::Left;
        Ok(self)
    }
}

impl Drop for Claim {
    /// Signals only; the writer does the work.
    fn drop(&mut self) {
        if self.state == State::Writing {
            let order = Order {
                change: Change::Free(self.name.clone(), self.running.call),
                reply: None,
            };
            if self.inner.orders.try_send(order).is_ok() {
                return;
            }
        }
        self.inner.forget(&self.name);
    }
}

/// The SHA-256 of the key in these headers.
fn read(headers: &HeaderMap) -> Result<[u8; 32], Refused> {
    let mut values = headers.get_all(KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refusals::malformed("is there more than once"));
    };
    let text = value.as_bytes();
    if text.is_empty() {
        return Err(refusals::malformed("is empty"));
    } else if text.len() > LONGEST {
        return Err(refusals::malformed("is longer than 255 characters"));
    } else if !text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Err(refusals::malformed("has characters other than printable ASCII"));
    }
    Ok(fingerprint(&[text]))
}

fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

fn away(error: StoreError) -> Refused {
    Refused::from(LedgerDown).caused_by(error)
}

/// How long a key stands for its call: a day.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
const LONGEST: usize = 255;
const MOST_WAITING: usize = 1024;
const REFUSED_BY_VENDOR: &str = "vendor_error";

#[cfg(test)]
mod tests;
