//! All accounts at one revision of the directory, and for each tenant those that stand nearest to it. Knows no call.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use relay_protocol::Wire;

use super::{
    range::{Fit, Range, class},
    rank,
    seat::{Seat, Standing},
};
use crate::{
    directory::Directory,
    ids::{AccountId, TenantId},
};

/// So many accounts of a tenant are looked at for each call; only when all of them are out of use, the others are. What a
/// choice costs does not grow with the number of accounts.
const NEAR: usize = 64;

/// All accounts at one revision of the directory.
pub(super) struct Fleet {
    pub(super) revision: u64,
    seats: Vec<Arc<Seat>>,
    /// Each once, as the accounts stand: pools that are taken over from a fleet before are found by this order.
    ranges: Vec<Range>,
    by_id: HashMap<AccountId, usize>,
    /// By tenant, worked out at its first call after the accounts have changed.
    pools: Arc<Pools>,
}

type Pools = RwLock<HashMap<(TenantId, Wire, u64), Arc<Pool>>>;

/// What a call needs of an account.
#[derive(Clone, Copy)]
pub(super) struct Need<'a> {
    /// To be reached in this dialect.
    pub(super) wire: Wire,
    /// To serve this model, named as its vendor does; not known yet where a socket is opened.
    pub(super) model: Option<&'a str>,
}

/// The accounts that a tenant may use, as far as they are looked at for each call.
pub(super) struct Pool {
    /// The tenant's number in the ranking.
    pub(super) number: u64,
    /// Their places, the nearest first.
    near: Box<[usize]>,
    /// There are more.
    has_more: bool,
    /// None speaks the dialect itself: their calls are translated.
    is_foreign: bool,
    /// How well its accounts fit the model: the others fit it less.
    pub(super) fit: Fit,
    /// There are accounts, but their operators name other models.
    pub(super) is_unserved: bool,
}

impl Fleet {
    /// Of a directory. Standings are taken over from the fleet before, and made by `recall` for an account that it did
    /// not have.
    pub(super) fn of(
        directory: &Directory,
        before: Option<&Self>,
        mut recall: impl FnMut(&AccountId) -> Option<Standing>,
    ) -> Self {
        let standing = |id: &AccountId| before.and_then(|before| Some(before.seat(id)?.standing.clone()));
        let seats: Vec<_> = directory
            .accounts
            .iter()
            .map(|account| {
                let share = directory.shares.get(&account.id).cloned().unwrap_or_default();
                let standing =
                    standing(&account.id).unwrap_or_else(|| Arc::new(recall(&account.id).unwrap_or_default()));
                Arc::new(Seat::new(account.clone(), share, standing))
            })
            .collect();
        let places = seats.iter().enumerate();
        let mut seen = HashSet::new();
        let ranges = seats.iter().map(|seat| &seat.range).filter(|range| seen.insert(*range));
        let ranges = ranges.cloned().collect();
        let pools = before.filter(|before| are_alike(&before.seats, &seats));
        Self {
            revision: directory.revision,
            by_id: places.map(|(at, seat)| (seat.account.id.clone(), at)).collect(),
            ranges,
            pools: pools.map(|before| before.pools.clone()).unwrap_or_default(),
            seats,
        }
    }

    pub(super) fn seats(&self) -> &[Arc<Seat>] {
        &self.seats
    }

    pub(super) fn seat(&self, id: &AccountId) -> Option<&Arc<Seat>> {
        self.seats.get(*self.by_id.get(id)?)
    }

    /// The only account, where it is everybody's and has no ceiling: then there is nothing to choose.
    pub(super) fn only(&self) -> Option<&Arc<Seat>> {
        match self.seats.as_slice() {
            [only] if only.share.is_plain() => Some(only),
            _ => None,
        }
    }

    /// The accounts of a tenant that fit best.
    pub(super) fn pool(&self, tenant: &TenantId, need: Need<'_>) -> Arc<Pool> {
        let key = (tenant.clone(), need.wire, class(&self.ranges, need.model));
        let known = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = known.get(&key) {
            return pool.clone();
        }
        drop(known);
        let pool = Arc::new(Pool::of(&self.seats, tenant, need));
        let mut known = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, pool.clone());
        pool
    }

    /// The accounts that are looked at for each call of a tenant, the nearest first.
    pub(super) fn near<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a Arc<Seat>> {
        pool.near.iter().filter_map(|at| self.seats.get(*at))
    }

    /// All accounts of a tenant that fit as well as those of its pool, which are among them.
    pub(super) fn all<'a>(
        &'a self,
        pool: &'a Pool,
        tenant: &'a TenantId,
        need: Need<'a>,
    ) -> impl Iterator<Item = &'a Arc<Seat>> {
        self.seats.iter().filter(move |seat| pool.takes(seat, tenant, need))
    }
}

impl Fleet {
    /// Whether somebody has lost an account since.
    pub(super) fn is_narrower(&self, before: &Self) -> bool {
        let is_kept = |seat: &Arc<Seat>| {
            let now = self.seat(&seat.account.id);
            now.is_some_and(|now| now.share.users == seat.share.users)
        };
        !before.seats.iter().all(is_kept)
    }
}

fn are_alike(before: &[Arc<Seat>], now: &[Arc<Seat>]) -> bool {
    let is_alike = |(a, b): (&Arc<Seat>, &Arc<Seat>)| {
        a.account.id == b.account.id
            && a.account.vendor == b.account.vendor
            && a.account.wires == b.account.wires
            && a.share.users == b.share.users
            && a.share.weight == b.share.weight
            && a.share.models == b.share.models
    };
    before.len() == now.len() && before.iter().zip(now).all(is_alike)
}

impl Pool {
    fn of(seats: &[Arc<Seat>], tenant: &TenantId, need: Need<'_>) -> Self {
        let reached = || seats.iter().filter(|seat| seat.may_serve(tenant, need.wire));
        let fit = reached()
            .map(|seat| seat.range.fit(need.model))
            .max()
            .unwrap_or(Fit::Unfit);
        let mut pool = Self {
            number: rank::number(&[tenant.as_str().as_bytes()]),
            near: Box::default(),
            has_more: false,
            is_foreign: false,
            is_unserved: fit == Fit::Unfit && reached().next().is_some(),
            fit,
        };
        pool.is_foreign = !reached().any(|seat| pool.takes(seat, tenant, need));
        let places = seats.iter().enumerate();
        let own = places.filter(|(_, seat)| pool.takes(seat, tenant, need));
        let ranked = own.map(|(at, seat)| (rank::score(pool.number, seat.number, seat.share.weight), at));
        let mut near: Vec<_> = ranked.collect();
        pool.has_more = near.len() > NEAR;
        near.sort_unstable_by_key(|(score, _)| std::cmp::Reverse(*score));
        near.truncate(NEAR);
        pool.near = near.into_iter().map(|(_, at)| at).collect();
        pool
    }

    /// Whether an account is one of them.
    pub(super) fn takes(&self, seat: &Seat, tenant: &TenantId, need: Need<'_>) -> bool {
        let is_near = seat.serves(need.wire) || self.is_foreign;
        let is_fit = self.fit > Fit::Unfit && seat.range.fit(need.model) == self.fit;
        is_near && is_fit && seat.may_serve(tenant, need.wire)
    }

    /// How many are looked at for each call.
    pub(super) const fn len(&self) -> usize {
        self.near.len()
    }

    /// No account may serve the tenant in this dialect.
    pub(super) const fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// There is no other account to go to.
    pub(super) const fn is_one(&self) -> bool {
        self.near.len() == 1
    }

    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }
}
