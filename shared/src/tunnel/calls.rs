//! How many calls run on a connection, how many may, and what must end with a call. Knows no transports.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};

/// The calls running on one connection, or on all.
#[derive(Debug, Default)]
pub(super) struct Calls {
    running: AtomicUsize,
    changed: Notify,
    room: OnceLock<Room>,
}

#[derive(Debug)]
struct Room {
    places: Semaphore,
    size: u32,
}

/// So many calls run already, which is all that may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full(pub(super) u32);

impl Calls {
    /// From now on so many calls may [`Calls::enter`]; the first word counts.
    pub(super) fn allow(&self, size: u32) {
        self.room.get_or_init(|| Room {
            places: Semaphore::new(usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS)),
            size,
        });
    }

    /// A call that needs no place.
    pub(super) fn begin(self: &Arc<Self>) -> Call {
        if self.running.fetch_add(1, Ordering::Relaxed) == 0 {
            self.changed.notify_waiters();
        }
        Call {
            calls: Arc::clone(self),
            has_place: false,
        }
    }

    /// A call, as soon as there is a place for it; those that wait get one in turn.
    pub(super) async fn enter(self: &Arc<Self>, wait: Duration) -> Result<Call, Full> {
        let Some(Room { places, size }) = self.room.get() else {
            return Ok(self.begin());
        };
        let place = match places.try_acquire() {
            Ok(place) => place,
            Err(_) => match tokio::time::timeout(wait, places.acquire()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) | Err(_) => return Err(Full(*size)),
            },
        };
        // It is given back with the call.
        place.forget();
        let mut call = self.begin();
        call.has_place = true;
        Ok(call)
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Waits until at least one call runs.
    pub(super) async fn busy(&self) {
        self.when(|running| running > 0).await;
    }

    /// Waits until no call runs.
    pub(super) async fn idle(&self) {
        self.when(|running| running == 0).await;
    }

    async fn when(&self, is_so: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self.running()) {
                return;
            }
            changed.await;
        }
    }
}

/// One running call; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    calls: Arc<Calls>,
    has_place: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(room) = self.calls.room.get()
            && self.has_place
        {
            room.places.add_permits(1);
        }
        if self.calls.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.calls.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_waits_for_a_place_so_long_and_no_longer() {
        let calls = Arc::new(Calls::default());
        calls.allow(2);
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(60));
        let (first, _second) = (calls.enter(long).await.unwrap(), calls.enter(long).await.unwrap());
        assert_eq!(calls.enter(short).await.unwrap_err(), Full(2));
        let unplaced = calls.begin();
        assert_eq!(calls.running(), 3);
        drop(unplaced);
        assert_eq!(
            calls.enter(short).await.unwrap_err(),
            Full(2),
            "no place was given back"
        );
        let (third, ()) = tokio::join!(calls.enter(long), async { drop(first) });
        assert!(third.is_ok());
        assert_eq!(calls.running(), 2);
    }
}
