//! All accounts at one revision of the directory, and for each tenant those that stand nearest to it. Knows no call.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use relay_protocol::Wire;

use super::{
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
    by_id: HashMap<AccountId, usize>,
    /// By tenant, worked out at its first call after the accounts have changed.
    pools: Arc<Pools>,
}

type Pools = RwLock<HashMap<(TenantId, Wire), Arc<Pool>>>;

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
        let pools = before.filter(|before| are_alike(&before.seats, &seats));
        Self {
            revision: directory.revision,
            by_id: places.map(|(at, seat)| (seat.account.id.clone(), at)).collect(),
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

    /// The accounts of a tenant that speak this dialect.
    pub(super) fn pool(&self, tenant: &TenantId, wire: Wire) -> Arc<Pool> {
        let key = (tenant.clone(), wire);
        let known = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = known.get(&key) {
            return pool.clone();
        }
        drop(known);
        let pool = Arc::new(Pool::of(&self.seats, tenant, wire));
        let mut known = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, pool.clone());
        pool
    }

    /// The accounts that are looked at for each call of a tenant, the nearest first.
    pub(super) fn near<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a Arc<Seat>> {
        pool.near.iter().filter_map(|at| self.seats.get(*at))
    }

    /// All accounts of a tenant, those of its pool and the others.
    pub(super) fn all<'a>(
        &'a self,
        pool: &Pool,
        tenant: &'a TenantId,
        wire: Wire,
    ) -> impl Iterator<Item = &'a Arc<Seat>> + use<'a> {
        let is_foreign = pool.is_foreign;
        let own = move |seat: &&Arc<Seat>| seat.may_serve(tenant, wire) && (is_foreign || seat.serves(wire));
        self.seats.iter().filter(own)
    }
}

/// The same accounts, shared in the same way: whatever was worked out by their places still holds.
fn are_alike(before: &[Arc<Seat>], now: &[Arc<Seat>]) -> bool {
    let is_alike = |(a, b): (&Arc<Seat>, &Arc<Seat>)| {
        a.account.id == b.account.id
            && a.account.vendor == b.account.vendor
            && a.account.wires == b.account.wires
            && a.share.users == b.share.users
            && a.share.weight == b.share.weight
    };
    before.len() == now.len() && before.iter().zip(now).all(is_alike)
}

impl Pool {
    fn of(seats: &[Arc<Seat>], tenant: &TenantId, wire: Wire) -> Self {
        let number = rank::number(&[tenant.as_str().as_bytes()]);
        let speaks = |seat: &Arc<Seat>| seat.share.users.has(tenant) && seat.serves(wire);
        let is_foreign = !seats.iter().any(speaks);
        let mut near: Vec<_> = seats
            .iter()
            .enumerate()
            .filter(|(_, seat)| seat.may_serve(tenant, wire) && (is_foreign || seat.serves(wire)))
            .map(|(at, seat)| (rank::score(number, seat.number, seat.share.weight), at))
            .collect();
        let has_more = near.len() > NEAR;
        near.sort_unstable_by_key(|(score, _)| std::cmp::Reverse(*score));
        near.truncate(NEAR);
        let near = near.into_iter().map(|(_, at)| at).collect();
        Self {
            number,
            near,
            has_more,
            is_foreign,
        }
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
