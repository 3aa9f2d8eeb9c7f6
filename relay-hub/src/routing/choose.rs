//! The decision itself: a pure function of who asks, what is pinned, and how each account looks.

use std::sync::Arc;

use super::{
    fleet::{Fleet, Need, Pool},
    health::Light,
    rank,
    seat::Seat,
};
use crate::{
    ids::{AccountId, TenantId},
    ledger::Choice,
};

/// What a decision is made by.
pub(super) struct Ask<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) need: Need<'a>,
    /// The number of the conversation, or of the tenant where the call names none.
    pub(super) key: u64,
    /// What goes before all others: the account that served what the tenant asked before.
    pub(super) home: Option<&'a Arc<Seat>>,
    /// Whether the call names its conversation.
    pub(super) is_named: bool,
    /// The account that it belongs to, and why: its conversation, its reasoning, or what is there and nowhere else.
    pub(super) pinned: Option<(&'a AccountId, Choice)>,
    /// The tenant lets its conversations go on elsewhere.
    pub(super) may_repin: bool,
    /// Accounts that this call has tried already.
    pub(super) tried: &'a [AccountId],
}

/// What was decided.
pub(super) enum Decision {
    /// This account, for this reason.
    Take(Arc<Seat>, Choice),
    /// The account of the conversation is no more, or no longer the tenant's.
    Gone,
    /// Every account that may serve the call is out of use; the first of them is tried again then.
    Out(u64),
    /// The tenant has no account.
    Nobody,
}

/// Decides. `look` tells how an account looks now.
pub(super) fn choose(fleet: &Fleet, pool: &Pool, ask: &Ask<'_>, mut look: impl FnMut(&Seat) -> Light) -> Decision {
    if pool.is_unserved {
        return Decision::Nobody;
    }
    if let Some((pinned, why)) = ask.pinned {
        let own = fleet
            .seat(pinned)
            .filter(|seat| seat.may_serve(ask.tenant, ask.need.wire));
        let light = own.map(|seat| (seat, look(seat)));
        match light {
            Some((_, Light::Out(until))) if !ask.may_leave() => return Decision::Out(until),
            None if !ask.may_leave() => return Decision::Gone,
            Some((_, Light::Out(_))) | None => {}
            Some((seat, _)) => {
                return Decision::Take(seat.clone(), why);
            }
        }
    }
    // It may be far down in the ranking by now.
    let is_other = |seat: &&Arc<Seat>| !ask.is_home(seat);
    let mut found = Best::default();
    let near = fleet.near(pool).filter(is_other);
    for seat in ask.home.into_iter().chain(near) {
        found.see(seat, ask, &mut look);
        if found.is_final() {
            break;
        }
    }
    if found.best.is_none() && pool.has_more() {
        found = Best::default();
        let all = fleet.all(pool, ask.tenant, ask.need).filter(is_other);
        ask.home
            .into_iter()
            .chain(all)
            .for_each(|seat| found.see(seat, ask, &mut look));
    }
    match (found.best, found.until) {
        (Some((.., seat)), _) => {
            let why = why(ask, pool.len(), found.first < found.top);
            Decision::Take(seat.clone(), why)
        }
        (None, Some(until)) => Decision::Out(until),
        (None, None) => Decision::Nobody,
    }
}

impl Ask<'_> {
    fn is_home(&self, seat: &Arc<Seat>) -> bool {
        self.home.is_some_and(|home| Arc::ptr_eq(home, seat))
    }

    const fn may_leave(&self) -> bool {
        self.may_repin && !matches!(self.pinned, Some((_, Choice::Bound)))
    }
}

/// The score of a home.
const HOME: u64 = u64::MAX;

/// The best so far.
#[derive(Default)]
struct Best<'a> {
    best: Option<(Light, u64, &'a Arc<Seat>)>,
    /// The score of that one, and of the one that ranks first, whatever it looks like.
    first: u64,
    top: u64,
    /// The first moment at which one that is out of use is tried again.
    until: Option<u64>,
}

impl<'a> Best<'a> {
    fn see(&mut self, seat: &'a Arc<Seat>, ask: &Ask<'_>, look: &mut impl FnMut(&Seat) -> Light) {
        if ask.tried.contains(&seat.account.id) {
            return;
        }
        let score = if ask.is_home(seat) {
            HOME
        } else {
            rank::score(ask.key, seat.number, seat.share.weight)
        };
        self.top = self.top.max(score);
        let light = look(seat);
        if let Light::Out(until) = light {
            self.until = Some(self.until.map_or(until, |so_far| so_far.min(until)));
            return;
        }
        let is_better = match &self.best {
            None => true,
            Some((best, highest, _)) => light < *best || (light == *best && score > *highest),
        };
        if is_better {
            self.best = Some((light, score, seat));
            self.first = score;
        }
    }

    /// Nothing goes before a home that may be taken.
    const fn is_final(&self) -> bool {
        matches!(self.best, Some((Light::Open, HOME, _)))
    }
}

const fn why(ask: &Ask<'_>, candidates: usize, is_detour: bool) -> Choice {
    match ask {
        Ask { pinned: Some(_), .. } => Choice::Repinned,
        Ask { tried: [_, ..], .. } => Choice::Failover,
        _ if candidates == 1 => Choice::Only,
        _ if is_detour => Choice::Detour,
        Ask { is_named: true, .. } => Choice::Ranked,
        _ => Choice::Tenant,
    }
}
