//! Reading on an answer whose client has left, to the vendor's own count. Knows no bytes and no money.

use std::future::pending;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

use crate::{config::Limits, directory::OnAbort};

/// An answer that is read on for its usage alone.
pub(super) struct Drain {
    until: Instant,
    _place: SemaphorePermit<'static>,
}

impl Drain {
    /// Begins where the tenant chose so and few enough are read on already.
    pub(super) fn begin(on_abort: OnAbort, limits: &Limits) -> Option<Self> {
        match on_abort {
            OnAbort::Cut => None,
            OnAbort::Drain => Some(Self {
                until: Instant::now() + limits.abort_drain_timeout,
                _place: PLACES.try_acquire().ok()?,
            }),
        }
    }

    /// When it has to end; never where nothing is read on.
    pub(super) fn end(drain: Option<&Self>) -> impl Future<Output = ()> + use<> {
        let until = drain.map(|drain| drain.until);
        async move {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        }
    }
}

/// The client's slot is free, so that something else has to bound how many calls run for nobody.
static PLACES: Semaphore = Semaphore::const_new(1_024);
