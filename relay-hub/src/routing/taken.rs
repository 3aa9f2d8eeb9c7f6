//! An account as one attempt of one call takes it: its place among the account's calls, and what is to be told of how it
//! went.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use relay_protocol::{Hidden, Usage, Wire};
use tokio::time::Instant;
use tracing::warn;

use super::{
    Ask, Candidates, Decision, Light, Routing, Wish, choose,
    fleet::{Fleet, Need},
    names::{self, Kind},
    random,
    range::Fit,
    refusals,
    seat::{Seat, Standing},
};
use crate::{
    admission::{Full, Place, Slot},
    directory::{Account, Tenant},
    ids::{AccountId, TenantId},
    ledger::Choice,
    refusal::Refused,
    store::routes::Name,
    vendor::{self, Trouble},
};

/// An account, taken by one attempt of one call.
pub struct Taken {
    /// Whose credential and ways out the attempt takes.
    pub account: Arc<Account>,
    /// Why this one.
    pub choice: Choice,
    routing: Routing,
    seat: Arc<Seat>,
    _place: Option<Occupied>,
    began_ms: u64,
    /// None where there is nothing to remember and no other account.
    course: Option<Box<Course>>,
}

/// What is remembered of a call, and by what another account is found for it.
struct Course {
    tenant: Arc<Tenant>,
    wire: Wire,
    model: Option<Box<str>>,
    conversation: Option<Name>,
    /// The reasoning by which the account was found.
    reasoning: Option<Name>,
    /// The conversation is this account's and stays there.
    is_pinned: bool,
    /// The tenant has other accounts for such a call: it matters who made an answer's reasoning.
    has_others: bool,
    /// What the tenant asks like this is the account's from now on, once it has served.
    makes_home: bool,
    drops_turn_state: bool,
    tried: Vec<AccountId>,
}

/// One of the calls that an account may have at once. Dropped, it makes room.
pub struct Occupied {
    _slot: Slot<AccountId>,
    standing: Arc<Standing>,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.standing.end();
    }
}

impl Routing {
    /// Takes an account that was chosen; `None` where somebody was faster, and it has to be chosen anew.
    pub(super) async fn take(
        &self,
        candidates: &Candidates,
        wish: &Wish<'_>,
        seat: Arc<Seat>,
        choice: Choice,
        is_call: bool,
    ) -> Result<Option<Taken>, Refused> {
        let now = candidates.now;
        let is_spared = || candidates.pool.is_one() && self.spare(&seat, now);
        if seat.standing.is_troubled() && !is_spared() && self.enter(&seat, now).is_err() {
            return Ok(None);
        }
        let place = if is_call {
            self.occupy(&seat, wish.tenant).await?
        } else {
            None
        };
        if !self.agree(wish, &seat.account.id, choice) {
            return Ok(None);
        }
        Ok(Some(Taken {
            course: Some(Box::new(self.course(candidates, wish, &seat, choice))),
            account: seat.account.clone(),
            choice,
            routing: self.clone(),
            seat,
            _place: place,
            began_ms: self.now(),
        }))
    }

    /// Whether the conversation goes to this account: of two calls that begin it, the first one decides.
    fn agree(&self, wish: &Wish<'_>, account: &AccountId, choice: Choice) -> bool {
        if let Some((name, _)) = &wish.bound {
            self.0.pins.claim(name, account, self.now());
        }
        let reasoning = wish.reasoning.as_ref().map(|(name, _)| name);
        match (reasoning, choice) {
            (Some(name), Choice::Repinned) => self.0.pins.give(name, account, self.now()),
            (Some(name), _) => drop(self.0.pins.claim(name, account, self.now())),
            (None, _) => {}
        }
        let Some(name) = &wish.conversation else { return true };
        match choice {
            Choice::Bound => true,
            Choice::Repinned => {
                self.0.pins.give(name, account, self.now());
                true
            }
            _ => self.0.pins.claim(name, account, self.now()) == *account,
        }
    }

    fn course(
        &self,
        Candidates { fleet, pool, .. }: &Candidates,
        wish: &Wish<'_>,
        seat: &Seat,
        choice: Choice,
    ) -> Course {
        // One that nobody knows may be of an account that is no more.
        let may_be_another_s = || fleet.seats().len() > 1 || self.has_narrowed();
        let owner = |name| self.0.pins.find(name, self.now());
        let drops_turn_state = match wish.turn_state.as_ref().map(owner) {
            None => false,
            Some(Some(owner)) => owner != seat.account.id,
            Some(None) => may_be_another_s(),
        };
        Course {
            tenant: wish.tenant.clone(),
            wire: wish.need.wire,
            model: wish.need.model.map(Into::into),
            conversation: wish.conversation,
            reasoning: wish.reasoning.as_ref().map(|(name, _)| *name),
            is_pinned: matches!(choice, Choice::Pinned | Choice::Bound | Choice::Reasoning),
            makes_home: wish.conversation.is_none() && matches!(choice, Choice::Only | Choice::Tenant),
            has_others: !pool.is_one(),
            drops_turn_state,
            tried: Vec::new(),
        }
    }

    /// Whether the tenant's only account is left to it outside of the turns.
    fn spare(&self, seat: &Seat, now: u64) -> bool {
        let mut is_spared = false;
        self.change(seat, |health| is_spared = health.spare(now));
        is_spared
    }

    fn enter(&self, seat: &Seat, now: u64) -> Result<(), u64> {
        if !seat.standing.is_troubled() {
            return Ok(());
        }
        let mut entered = Ok(());
        self.change(seat, |health| entered = health.enter(now, random()));
        entered
    }

    /// A place among the calls of the account, in line for it if there is none.
    async fn occupy(&self, seat: &Arc<Seat>, tenant: &Tenant) -> Result<Option<Occupied>, Refused> {
        let place = match self.ask(seat, tenant)? {
            None => None,
            Some(place) => Some(place.slot().await.map_err(|full| refusals::full(&full))?),
        };
        self.keep_pace(seat, tenant).await?;
        Ok(place.map(|slot| Occupied::new(slot, seat)))
    }

    /// Counts a call among those of the minute, in line for it where there are as many as may be.
    async fn keep_pace(&self, seat: &Seat, tenant: &Tenant) -> Result<(), Refused> {
        if seat.share.rpm.is_none() {
            return Ok(());
        }
        let until = Instant::now() + self.0.patience;
        let paced = |full: &Full<AccountId>| match full {
            Full::Closed => refusals::full(full),
            Full::Line(_) | Full::Late(_) => refusals::paced(Duration::from_millis(seat.pause(self.now()))),
        };
        // One call of the account waits for the minute, the others for that one, and tenants take turns.
        let place = self.0.paces.ask(&tenant.id, vec![(seat.account.id.clone(), 1)]);
        let _turn = place
            .map_err(|full| paced(&full))?
            .slot()
            .await
            .map_err(|full| paced(&full))?;
        while let Err(wait) = seat.count(self.now()) {
            let wait = Duration::from_millis(wait);
            if Instant::now() + wait > until {
                return Err(refusals::paced(wait));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn ask(&self, seat: &Seat, tenant: &Tenant) -> Result<Option<Place<AccountId>>, Refused> {
        let Some(most) = seat.share.concurrency else {
            return Ok(None);
        };
        let gate = (seat.account.id.clone(), usize::try_from(most).unwrap_or(usize::MAX));
        let place = self.0.slots.ask(&tenant.id, vec![gate]);
        place.map(Some).map_err(|full| refusals::full(&full))
    }
}

impl Course {
    /// By what the call belongs to its account.
    fn names(&self) -> impl Iterator<Item = &Name> {
        self.conversation.iter().chain(&self.reasoning)
    }
}

impl Occupied {
    fn new(slot: Slot<AccountId>, seat: &Seat) -> Self {
        seat.standing.begin();
        Self {
            _slot: slot,
            standing: seat.standing.clone(),
        }
    }
}

impl Taken {
    /// Where there is nothing to choose and nothing to remember.
    pub(super) fn plain(routing: &Routing, seat: Arc<Seat>, now_ms: u64) -> Self {
        Self {
            account: seat.account.clone(),
            choice: Choice::Only,
            routing: routing.clone(),
            seat,
            _place: None,
            began_ms: now_ms,
            course: None,
        }
    }

    /// A call on a socket takes its place.
    ///
    /// # Errors
    /// The account is no longer the tenant's; it has as many calls as it may, and the line is full; the call goes on from a
    /// response that another account has, or from reasoning that another one made.
    pub async fn attend(
        &self,
        tenant: &Tenant,
        previous: Option<&str>,
        body: &[u8],
    ) -> Result<Option<Occupied>, Refused> {
        let name = previous.map(|id| names::name(&tenant.id, Kind::Response, id.as_bytes()));
        let owner = name.and_then(|name| self.routing.0.pins.find(&name, self.routing.now()));
        match owner {
            Some(owner) if owner != self.account.id => return Err(refusals::gone()),
            Some(_) => {}
            None => self.check_reasoning(tenant, body)?,
        }
        let fleet = self.routing.fleet();
        let seat = fleet.seat(&self.account.id);
        let seat = seat.filter(|seat| seat.share.users.has(&tenant.id));
        self.routing.occupy(seat.ok_or_else(refusals::gone)?, tenant).await
    }

    /// A socket has its account before anything is asked on it. Reasoning that another one made is refused here, and a
    /// conversation that has no answer yet goes to that one when its client opens the next socket.
    fn check_reasoning(&self, tenant: &Tenant, body: &[u8]) -> Result<(), Refused> {
        let Some(course) = &self.course else { return Ok(()) };
        let pins = &self.routing.0.pins;
        let has_answered = |name: &Name| pins.is_firm(name, &self.account.id);
        if tenant.may_repin || course.conversation.as_ref().is_some_and(has_answered) {
            return Ok(());
        }
        let need = Need {
            wire: course.wire,
            model: None,
        };
        let candidates = self.routing.candidates(&tenant.id, need);
        if !self.routing.others_may_have_reasoned(&candidates) {
            return Ok(());
        }
        match self.routing.reasoning(tenant, course.wire, body, candidates.now) {
            Some((_, owner)) if owner != self.account.id => {
                if let Some(name) = &course.conversation {
                    pins.give(name, &owner, candidates.now);
                }
                Err(refusals::elsewhere())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it is to be remembered who made an answer's reasoning.
    pub fn remembers_reasoning(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.has_others)
    }

    /// Whether this account serves a model, on a socket, and no other of the tenant's fits it better.
    pub fn serves(&self, tenant: &TenantId, model: &str) -> bool {
        let fleet = self.routing.fleet();
        let need = Need {
            wire: Wire::Responses,
            model: Some(model),
        };
        let fit = fleet.seat(&self.account.id).map(|seat| seat.range.fit(Some(model)));
        // An account that is gone is told of where it is taken.
        fit.is_none_or(|fit| fit > Fit::Unfit && fit >= fleet.pool(tenant, need).fit)
    }

    /// Resolves when the account is no longer this tenant's: disabled, removed, or shared with others.
    pub async fn withdrawn(&self, tenant: &TenantId) {
        let mut changes = self.routing.0.directory.subscribe();
        let is_ours = |fleet: &Fleet| {
            let seat = fleet.seat(&self.account.id);
            seat.is_some_and(|seat| seat.share.users.has(tenant))
        };
        while is_ours(&self.routing.fleet()) {
            if changes.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Takes out of a head what belongs to another account.
    pub fn clean(&self, headers: &mut HeaderMap) {
        if self.course.as_ref().is_some_and(|course| course.drops_turn_state) {
            headers.remove(&names::TURN_STATE);
        }
    }

    /// The head of an answer came.
    pub fn answered(&self, status: StatusCode, headers: &HeaderMap) {
        if let Some(trouble) = Trouble::of(status, headers) {
            let window = vendor::window(headers, b"", super::signed(self.routing.now()));
            return self.met(trouble, window);
        }
        if self.seat.standing.is_troubled() {
            self.routing.change(&self.seat, |health| health.answered(self.began_ms));
        }
        let Some(course) = &self.course else { return };
        let (pins, now) = (&self.routing.0.pins, self.routing.now());
        if status.is_success() {
            course.names().for_each(|name| pins.keep(name, &self.account.id, now));
        }
        let is_served = status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS;
        if is_served && course.makes_home && self.choice != Choice::Failover {
            let fleet = self.routing.fleet();
            self.routing.settle(&fleet, &course.tenant.id, &self.account.id);
        }
        if let Some(state) = headers.get(&names::TURN_STATE) {
            let name = names::name(&course.tenant.id, Kind::TurnState, state.as_bytes());
            pins.keep(&name, &self.account.id, now);
        }
    }

    /// The body of a refusal came: some vendors say there for how long.
    pub fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
        if let Some(trouble @ Trouble::Limited) = Trouble::of(status, headers)
            && let Some(window) = vendor::window(headers, body, super::signed(self.routing.now()))
        {
            self.told(trouble, Some(window));
        }
    }

    /// The attempt met trouble.
    pub fn met(&self, trouble: Trouble, window: Option<Duration>) {
        self.routing.0.counts.met(trouble);
        self.told(trouble, window);
        if let Some(course) = &self.course {
            let pins = &self.routing.0.pins;
            course.names().for_each(|name| pins.release(name, &self.account.id));
        }
    }

    fn told(&self, trouble: Trouble, window: Option<Duration>) {
        self.routing.change(&self.seat, |health| {
            health.met(trouble, self.began_ms, self.routing.now(), window, random());
        });
    }

    /// Whether another account might serve the call, should this one fail at it.
    pub fn may_move(&self) -> bool {
        let fleet = self.routing.0.fleet.load();
        fleet.seats().len() > 1 && self.course.as_ref().is_some_and(|course| !course.is_pinned)
    }

    /// Takes another account in its place, where one is free. The one that failed is handed back.
    pub fn another(&mut self) -> Option<Self> {
        let course = self.course.as_mut().filter(|course| !course.is_pinned)?;
        let mut tried = std::mem::take(&mut course.tried);
        tried.push(self.account.id.clone());
        let found = self.routing.free(course, &mut tried);
        course.tried = tried;
        let (seat, place) = found?;
        self.routing.0.counts.chosen(Choice::Failover);
        let next = Self {
            account: seat.account.clone(),
            choice: Choice::Failover,
            routing: self.routing.clone(),
            seat,
            _place: place,
            began_ms: self.routing.now(),
            course: None,
        };
        let mut failed = std::mem::replace(self, next);
        self.course = failed.course.take();
        Some(failed)
    }

    /// Goes back to the account that failed: no other can be asked.
    pub fn back_to(&mut self, failed: Self) {
        let unfit = std::mem::replace(self, failed);
        if let Some(course) = &unfit.course {
            let pins = &unfit.routing.0.pins;
            course.names().for_each(|name| pins.release(name, &unfit.account.id));
        }
        self.course = unfit.course;
    }

    #[cfg(test)]
    pub(super) fn seat_of<'a>(&self, fleet: &'a Fleet) -> &'a Arc<Seat> {
        fleet.seat(&self.account.id).unwrap()
    }

    /// What is to be told when the call has ended.
    pub fn trail(&self) -> Option<Box<Trail>> {
        let course = self.course.as_ref()?;
        Some(Box::new(Trail {
            routing: self.routing.clone(),
            tenant: course.tenant.clone(),
            account: self.account.id.clone(),
            conversation: course.conversation,
        }))
    }
}

impl Routing {
    /// Another account that is free now.
    fn free(&self, course: &Course, tried: &mut Vec<AccountId>) -> Option<(Arc<Seat>, Option<Occupied>)> {
        let fleet = self.fleet();
        let need = Need {
            wire: course.wire,
            model: course.model.as_deref(),
        };
        let pool = fleet.pool(&course.tenant.id, need);
        loop {
            let now = self.now();
            let ask = Ask {
                tenant: &course.tenant.id,
                need,
                key: course.conversation.as_ref().map_or(pool.number, names::number),
                home: None,
                is_named: course.conversation.is_some(),
                pinned: None,
                may_repin: false,
                tried,
            };
            let Decision::Take(seat, _) = choose(&fleet, &pool, &ask, |seat| seat.light(now, false)) else {
                return None;
            };
            if seat.light(now, false) == Light::Open
                && self.enter(&seat, now).is_ok()
                && let Some(place) = self.free_place(&seat, &course.tenant)
            {
                course
                    .names()
                    .for_each(|name| self.0.pins.give(name, &seat.account.id, now));
                return Some((seat, place));
            }
            tried.push(seat.account.id.clone());
        }
    }

    fn free_place(&self, seat: &Arc<Seat>, tenant: &Tenant) -> Option<Option<Occupied>> {
        let slot = match self.ask(seat, tenant) {
            Ok(None) => None,
            Ok(Some(Place::Free(slot))) => Some(slot),
            Ok(Some(Place::InLine(_))) | Err(_) => return None,
        };
        seat.count(self.now()).ok()?;
        Some(slot.map(|slot| Occupied::new(slot, seat)))
    }
}

/// What is to be told when a call has ended: where its answer is stored, and how its conversation used the cache.
pub struct Trail {
    routing: Routing,
    tenant: Arc<Tenant>,
    account: AccountId,
    conversation: Option<Name>,
}

impl Trail {
    /// The answer has this in it that no other account can read. Of an answer in a conversation that has a name the last
    /// of it is enough: it is asked for only when the conversation goes on under another name.
    pub fn hid(&self, hidden: &[Hidden]) {
        let (pins, now) = (&self.routing.0.pins, self.routing.now());
        let most = if self.conversation.is_some() { 1 } else { hidden.len() };
        for hidden in hidden.iter().rev().take(most) {
            let name = names::name(&self.tenant.id, Kind::Hidden, hidden.as_bytes());
            pins.keep(&name, &self.account, now);
        }
    }

    /// The vendor has this answer of the call's, and no other account has.
    pub fn stored(&self, response: &str) {
        let name = names::name(&self.tenant.id, Kind::Response, response.as_bytes());
        self.routing.0.pins.keep(&name, &self.account, self.routing.now());
    }

    /// The call ended, with an answer or without. True where the vendor's cache of its conversation has been lost.
    pub fn ended(&self, is_answered: bool, usage: Option<&Usage>) -> bool {
        let Some(name) = &self.conversation else { return false };
        let (pins, now) = (&self.routing.0.pins, self.routing.now());
        // On a socket no head says that the account has answered.
        if is_answered {
            pins.keep(name, &self.account, now);
        }
        let turn = usage.and_then(|usage| pins.turn(name, &self.account, usage, now));
        let Some(turn) = turn else { return false };
        self.routing.0.counts.turn(turn.cached);
        if turn.is_lost {
            warn!(tenant = %self.tenant.id, account = %self.account, cached = turn.cached,
                "the vendor's cache of a conversation was lost: its next turns cost more");
        }
        turn.is_lost
    }
}
