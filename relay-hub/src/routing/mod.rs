//! Decides which account serves a call. Knows accounts, tenants and how accounts fare; knows no sockets.
//!
//! A conversation keeps to its account, a tenant without one to its own. What a client names is kept as a hash of it
//! together with the tenant. `docs/routing.md` and `docs/health.md` have the rules.

mod choose;
mod counts;
mod fleet;
mod health;
mod homes;
mod names;
mod notes;
mod pins;
mod range;
mod rank;
mod refusals;
mod seat;
mod taken;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::HeaderMap;
use relay_protocol::{Hidden, Wire};
use relay_shared::{call::CallId, clock::Clock, tasks::Tasks};
use tracing::{error, info};

use self::{
    choose::{Ask, Decision, choose},
    counts::Counts,
    fleet::{Fleet, Need, Pool},
    health::{Health, Light, State},
    homes::Homes,
    names::Kind,
    notes::{Noted, Notes},
    pins::Pins,
    range::Fit,
    seat::{Seat, Standing},
};
use crate::{
    admission::{Bounds, Permit, Slots},
    directory::{Account, DirectoryHandle, Tenant},
    ids::{AccountId, TenantId},
    ledger::Choice,
    metrics::Page,
    refusal::Refused,
    store::{
        Store, StoreError,
        routes::{self, AttemptRow, HealthRow, Name},
    },
    vendor::Trouble,
};

pub use self::taken::{Occupied, Taken, Trail};

/// How long a vendor's word that it has no WebSocket is believed.
const NO_SOCKET_FOR: Duration = Duration::from_secs(600);
/// A choice that others undo so often is given up.
const ROUNDS: usize = 4;
/// So many pieces of reasoning that a request sends back are looked at, the last ones: nobody may know who made one.
const SENT_BACK: usize = 8;

/// What bounds the choice.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A conversation that was not used for so long may go to another account.
    pub pin_lifetime: Duration,
    /// So many conversations, responses and turns are remembered.
    pub pins: usize,
    /// Calls that wait for an account that has as many as it may.
    pub line: Bounds,
}

/// Chooses accounts. Cheap to clone.
#[derive(Clone)]
pub struct Routing(Arc<Inner>);

struct Inner {
    directory: DirectoryHandle,
    fleet: ArcSwap<Fleet>,
    /// What a hub before knew of accounts; taken by the fleet that has them.
    recalled: Mutex<HashMap<AccountId, Health>>,
    pins: Arc<Pins>,
    homes: Arc<Homes>,
    slots: Slots<AccountId>,
    /// Whose turn it is to wait for the next call of the minute.
    paces: Slots<AccountId>,
    /// A call waits no longer.
    patience: Duration,
    notes: Arc<Notes>,
    clock: Arc<dyn Clock>,
    counts: Counts,
    /// Accounts that made reasoning may be no longer their tenants'.
    has_narrowed: AtomicBool,
    without_socket: Mutex<HashMap<AccountId, Instant>>,
}

/// What a call tells of where it belongs.
pub struct Traces<'a> {
    /// Who calls.
    pub tenant: &'a Arc<Tenant>,
    /// In which dialect.
    pub wire: Wire,
    /// For which model, as its vendor calls it; not known yet where a socket is opened.
    pub model: Option<&'a str>,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// What its body says of its conversation, by the wire's own field.
    pub session: Option<&'a str>,
    /// The stored response that it goes on from.
    pub previous: Option<&'a str>,
    /// Its body, which may send back what an account hid in its answers; empty where a socket is opened.
    pub body: &'a [u8],
}

/// One call's right to use an account, with the permit that pays for it.
pub struct Lease {
    /// The slot and the hold.
    pub permit: Permit,
    /// The account, whose credential and ways out the call takes.
    pub taken: Taken,
}

/// A call that no account serves, with the permit that is not used.
pub struct Unleased {
    /// The slot and the hold.
    pub permit: Permit,
    /// What its client is told.
    pub refused: Refused,
}

/// The accounts as they are now, and those among which a call of a tenant chooses.
struct Candidates {
    fleet: Arc<Fleet>,
    pool: Arc<Pool>,
    /// Milliseconds since 1970.
    now: u64,
}

/// A call's wish, as hashes.
struct Wish<'a> {
    tenant: &'a Arc<Tenant>,
    need: Need<'a>,
    conversation: Option<Name>,
    /// A stored response, and the account that it belongs to.
    bound: Option<(Name, AccountId)>,
    turn_state: Option<Name>,
    /// Reasoning that it sends back, and the account that made it; looked for where nothing else tells whose the call is.
    reasoning: Option<(Name, AccountId)>,
}

impl<'a> Traces<'a> {
    const fn need(&self) -> Need<'a> {
        Need {
            wire: self.wire,
            model: self.model,
        }
    }
}

impl Routing {
    /// Chooses among the accounts of `directory`, with what a hub before wrote down.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(
        directory: DirectoryHandle,
        store: &Store,
        settings: Settings,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let pins = Arc::new(Pins::new(settings.pin_lifetime, settings.pins));
        let since = signed(pins.horizon_ms(now_ms(&*clock)));
        let rows = routes::pins(store, since, settings.pins / 2).await?;
        let owners: HashSet<_> = rows.iter().map(|row| row.account.clone()).collect();
        rows.into_iter().rev().for_each(|row| pins.recall(row));
        let recalled = routes::health(store).await?.into_iter();
        let mut recalled: HashMap<_, _> = recalled.map(|row| (row.account.clone(), recall(&row))).collect();
        let fleet = Fleet::of(&directory.load(), None, |id| {
            recalled.remove(id).map(Standing::recalled)
        });
        // Who may use which account may have changed while no hub ran.
        let has_narrowed =
            !owners.is_empty() && (fleet.seats().len() > 1 || owners.iter().any(|id| fleet.seat(id).is_none()));
        let notes = Arc::new(Notes::default());
        let noted = Noted {
            pins: pins.clone(),
            homes: Arc::new(Homes::recalled(routes::homes(store).await?)),
            notes: notes.clone(),
        };
        notes::follow(store.clone(), noted.clone(), clock.clone(), tasks);
        Ok(Self(Arc::new(Inner {
            directory,
            fleet: ArcSwap::from_pointee(fleet),
            recalled: Mutex::new(recalled),
            pins,
            homes: noted.homes,
            slots: Slots::new(settings.line),
            paces: Slots::new(settings.line),
            patience: settings.line.wait,
            notes,
            clock,
            counts: Counts::default(),
            has_narrowed: AtomicBool::new(has_narrowed),
            without_socket: Mutex::default(),
        })))
    }

    /// The account for one call. Waits in line where all that may serve it are busy.
    ///
    /// # Errors
    /// The tenant has no account; all are out of use; that of its conversation is gone; the line is full.
    pub async fn lease(&self, permit: Permit, traces: &Traces<'_>) -> Result<Lease, Box<Unleased>> {
        let taken = match self.plain(traces) {
            Some(taken) => Ok(taken),
            None => self.chosen(traces, true).await,
        };
        match taken {
            Ok(taken) => Ok(Lease { permit, taken }),
            Err(refused) => Err(Box::new(Unleased { permit, refused })),
        }
    }

    /// Whether an account of the tenant's is known to serve a model, or might.
    pub fn serves(&self, tenant: &TenantId, wire: Wire, model: &str) -> bool {
        let need = Need {
            wire,
            model: Some(model),
        };
        let fleet = self.fleet();
        fleet.seats().is_empty() || fleet.pool(tenant, need).fit > Fit::Another
    }

    /// The account for a socket, on which each call takes its place by [`Taken::attend`].
    ///
    /// # Errors
    /// As for [`Routing::lease`].
    pub async fn socket(&self, traces: &Traces<'_>) -> Result<Taken, Refused> {
        self.chosen(traces, false).await
    }

    /// Where there is nothing to choose and nothing to remember.
    fn plain(&self, traces: &Traces<'_>) -> Option<Taken> {
        let fleet = self.fleet();
        let only = fleet.only()?;
        let only = Some(only).filter(|only| only.is_reached(traces.wire) && !only.standing.is_troubled())?;
        let names_nothing = traces.previous.is_none()
            && names::conversation(traces.headers, traces.session).is_none()
            && !traces.headers.contains_key(&names::TURN_STATE)
            && (!self.has_narrowed()
                || self
                    .reasoning(traces.tenant, traces.wire, traces.body, self.now())
                    .is_none());
        names_nothing.then(|| {
            self.0.counts.chosen(Choice::Only);
            self.settle(&fleet, &traces.tenant.id, &only.account.id);
            Taken::plain(self, only.clone(), self.now())
        })
    }

    // Boxed: hardly any call of a hub with one account comes here, and every call would keep room for it.
    fn chosen<'a>(
        &'a self,
        traces: &'a Traces<'a>,
        is_call: bool,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Taken, Refused>> + Send + 'a>> {
        Box::pin(async move {
            let mut candidates = self.candidates(&traces.tenant.id, traces.need());
            // An account that was added a moment ago serves at once.
            if candidates.pool.is_empty() {
                self.0.directory.refresh().await;
                candidates = self.candidates(&traces.tenant.id, traces.need());
            }
            let wish = self.wish(traces, &candidates);
            for _ in 0..ROUNDS {
                let (seat, choice) = self.decide(&candidates, &wish)?;
                if let Some(taken) = self.take(&candidates, &wish, seat, choice, is_call).await? {
                    self.0.counts.chosen(choice);
                    return Ok(taken);
                }
                candidates = self.candidates(&traces.tenant.id, traces.need());
            }
            self.0.counts.refused();
            Err(refusals::contended())
        })
    }

    fn candidates(&self, tenant: &TenantId, need: Need<'_>) -> Candidates {
        let fleet = self.fleet();
        let pool = fleet.pool(tenant, need);
        let now = self.now();
        Candidates { fleet, pool, now }
    }

    fn wish<'a>(&self, traces: &Traces<'a>, candidates: &Candidates) -> Wish<'a> {
        let tenant = traces.tenant;
        let name = |kind, text: &[u8]| names::name(&tenant.id, kind, text);
        let need = traces.need();
        let previous = traces.previous.map(|id| name(Kind::Response, id.as_bytes()));
        let conversation = names::conversation(traces.headers, traces.session);
        let turn_state = traces.headers.get(&names::TURN_STATE);
        let mut wish = Wish {
            tenant,
            need,
            conversation: conversation.map(|text| self.conversation(tenant, need, candidates, text)),
            bound: previous.and_then(|name| Some((name, self.0.pins.find(&name, candidates.now)?))),
            turn_state: turn_state.map(|state| name(Kind::TurnState, state.as_bytes())),
            reasoning: None,
        };
        if self.named_account(&wish, candidates.now).is_none() && self.others_may_have_reasoned(candidates) {
            wish.reasoning = self.reasoning(tenant, need.wire, traces.body, candidates.now);
        }
        wish
    }

    /// Whose what the call names is.
    fn named_account(&self, wish: &Wish<'_>, now: u64) -> Option<(AccountId, Choice)> {
        let find = |name: Option<&Name>| name.and_then(|name| self.0.pins.find(name, now));
        let bound = wish.bound.as_ref().map(|(_, account)| (account.clone(), Choice::Bound));
        bound.or_else(|| {
            let pinned = find(wish.conversation.as_ref()).or_else(|| find(wish.turn_state.as_ref()));
            Some((pinned?, Choice::Pinned))
        })
    }

    /// Whether another account than the one that would serve the call may have made the reasoning that it sends back.
    fn others_may_have_reasoned(&self, candidates: &Candidates) -> bool {
        self.has_narrowed() || !candidates.pool.is_one()
    }

    /// The last reasoning that a request sends back of which is known who made it.
    fn reasoning(&self, tenant: &Tenant, wire: Wire, body: &[u8], now: u64) -> Option<(Name, AccountId)> {
        Hidden::sent_back(wire, body, SENT_BACK).iter().find_map(|hidden| {
            let name = names::name(&tenant.id, Kind::Hidden, hidden.as_bytes());
            Some((name, self.0.pins.find(&name, now)?))
        })
    }

    fn has_narrowed(&self) -> bool {
        self.0.has_narrowed.load(Ordering::Relaxed)
    }

    /// The name of a conversation, or of its aside where its account does not serve the model.
    fn conversation(
        &self,
        tenant: &Tenant,
        need: Need<'_>,
        Candidates { fleet, pool, now }: &Candidates,
        text: &[u8],
    ) -> Name {
        let own = names::name(&tenant.id, Kind::Conversation(need.wire), text);
        let Some(account) = self.0.pins.find(&own, *now) else {
            return own;
        };
        let is_fit = |seat: &Arc<Seat>| seat.range.fit(need.model) >= pool.fit;
        if fleet.seat(&account).is_none_or(is_fit) {
            return own;
        }
        let model = need.model.unwrap_or_default().as_bytes();
        names::name(&tenant.id, Kind::Aside(need.wire), &[model, b" ", text].concat())
    }

    /// What a stored response says goes before the conversation, that before a turn's state, and that before reasoning.
    fn decide(
        &self,
        Candidates { fleet, pool, now }: &Candidates,
        wish: &Wish<'_>,
    ) -> Result<(Arc<Seat>, Choice), Refused> {
        let (now, reasoning) = (*now, wish.reasoning.as_ref());
        let pinned = self
            .named_account(wish, now)
            .or_else(|| reasoning.map(|(_, account)| (account.clone(), Choice::Reasoning)));
        let home = self.home(fleet, pool, wish).filter(|_| pinned.is_none());
        let ask = Ask {
            tenant: &wish.tenant.id,
            home,
            need: wish.need,
            key: wish.conversation.as_ref().map_or(pool.number, names::number),
            is_named: wish.conversation.is_some(),
            pinned: pinned.as_ref().map(|(account, why)| (account, *why)),
            may_repin: wish.tenant.may_repin,
            tried: &[],
        };
        let refused = match choose(fleet, pool, &ask, |seat| seat.light(now, pool.is_one())) {
            Decision::Take(seat, choice) => return Ok((seat, choice)),
            Decision::Gone => refusals::gone(),
            Decision::Out(until) => {
                let wait = Duration::from_millis(until.saturating_sub(now));
                let only = fleet.near(pool).next().filter(|_| pool.is_one());
                refusals::out(wait, only.and_then(|seat| seat.standing.health().cause()))
            }
            Decision::Nobody => refusals::nobody(fleet.seats(), &wish.tenant.id),
        };
        self.0.counts.refused();
        Err(refused)
    }

    /// The account that serves what the tenant asks without naming a conversation, if one did before and still may.
    fn home<'a>(&self, fleet: &'a Fleet, pool: &Pool, wish: &Wish<'_>) -> Option<&'a Arc<Seat>> {
        if wish.conversation.is_some() {
            return None;
        }
        let tenant = &wish.tenant.id;
        let fit = |id: &AccountId| fleet.seat(id).filter(|seat| pool.takes(seat, tenant, wish.need));
        self.0.homes.find(tenant, fit)
    }

    /// An account has served what a tenant asked without naming a conversation.
    fn settle(&self, fleet: &Fleet, tenant: &TenantId, account: &AccountId) {
        let is_lost = |home: &AccountId| fleet.seat(home).is_none_or(|seat| !seat.share.users.has(tenant));
        self.0.homes.settle(tenant, account, is_lost, signed(self.now()));
    }

    /// The picture of the accounts, which is never older than the directory's.
    fn fleet(&self) -> Arc<Fleet> {
        let fleet = self.0.fleet.load_full();
        let directory = self.0.directory.load();
        if fleet.revision == directory.revision {
            return fleet;
        }
        let mut recalled = self.0.recalled.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.0.fleet.load_full();
        if before.revision >= directory.revision {
            return before;
        }
        let now = Arc::new(Fleet::of(&directory, Some(&before), |id| {
            recalled.remove(id).map(Standing::recalled)
        }));
        if now.is_narrower(&before) {
            self.0.has_narrowed.store(true, Ordering::Relaxed);
        }
        now.seats().iter().for_each(|seat| self.revive(seat));
        self.0.fleet.store(now.clone());
        now
    }

    /// What the operator has an account forgotten for is forgotten.
    fn revive(&self, seat: &Seat) {
        let revived = u64::try_from(seat.share.revived_ms).unwrap_or_default();
        if seat.standing.is_troubled() && revived > seat.standing.health().since() {
            self.change(seat, |health| *health = Health::default());
        }
    }

    /// Changes an account's health. What an operator should know is logged, and outlives the hub.
    fn change(&self, seat: &Seat, change: impl FnOnce(&mut Health)) {
        let (before, now) = seat.standing.change(change);
        let account = &seat.account;
        let (was_out, is_out) = (before.state().is_out(), now.state().is_out());
        // One that is out of use still is tried again at another time.
        if !(was_out || is_out) || before.state() == now.state() {
            return;
        }
        let row = match now.state() {
            State::Down { until } | State::Quarantined { until } => {
                let cause = now.cause().map_or("", Trouble::as_str);
                if !was_out {
                    error!(account = %account.id, name = %account.name, state = now.state().as_str(), cause,
                        "a vendor account is out of use");
                }
                Some(HealthRow {
                    account: account.id.clone(),
                    state: now.state().as_str().to_owned(),
                    cause: cause.to_owned(),
                    since_ms: signed(now.since()),
                    until_ms: signed(until),
                })
            }
            State::Well | State::Resting { .. } => {
                info!(account = %account.id, name = %account.name, "a vendor account is in use again");
                None
            }
        };
        self.0.notes.health(&account.id, row);
    }

    /// Notes the attempts of a call that had several.
    pub fn attempted(&self, call: CallId, attempts: Vec<AttemptRow>) {
        if !self.0.notes.attempts(call, attempts) {
            self.0.counts.unnoted();
        }
    }

    /// Milliseconds since 1970.
    fn now(&self) -> u64 {
        now_ms(&*self.0.clock)
    }

    /// Those who wait for an account are refused, and all that come.
    pub fn drain(&self) {
        self.0.slots.close();
        self.0.paces.close();
    }

    /// Tells how accounts fare and why calls went where they did.
    pub fn tell(&self, page: &mut Page) {
        let fleet = self.0.fleet.load();
        let states = ["well", "resting", "down", "quarantined"];
        let count = |state: &str| {
            let is_so = |seat: &&Arc<Seat>| seat.standing.health().state().as_str() == state;
            fleet.seats().iter().filter(is_so).count() as u64
        };
        let states = states.map(|state| ([("state", state)], count(state)));
        page.gauges("relay_accounts", "Vendor accounts by how they fare.", states);
        let unwritten = self.0.pins.dropped.load(Ordering::Relaxed);
        self.0.counts.tell(page, unwritten);
    }

    /// The account's WebSocket, as far as known.
    ///
    /// # Errors
    /// The vendor has none: the client falls back to HTTP at once.
    pub fn check_socket(&self, account: &Account) -> Result<(), Refused> {
        let mut without = self.0.without_socket.lock().unwrap_or_else(PoisonError::into_inner);
        without.retain(|_, since| since.elapsed() < NO_SOCKET_FOR);
        if account.websocket && !without.contains_key(&account.id) {
            return Ok(());
        }
        Err(refusals::no_socket())
    }

    /// Remembers that the vendor of this account has no WebSocket.
    pub fn has_no_socket(&self, account: &Account) -> Refused {
        self.0
            .without_socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(account.id.clone(), Instant::now());
        refusals::no_socket()
    }
}

fn recall(row: &HealthRow) -> Health {
    let until = u64::try_from(row.until_ms).unwrap_or_default();
    let state = match row.state.as_str() {
        "down" => State::Down { until },
        _ => State::Quarantined { until },
    };
    let cause = Trouble::ALL.into_iter().find(|trouble| trouble.as_str() == row.cause);
    Health::recalled(state, cause, u64::try_from(row.since_ms).unwrap_or_default())
}

/// Milliseconds since 1970.
fn now_ms(clock: &dyn Clock) -> u64 {
    let since = clock.wall().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Uniform, from the system's random source; the middle where that fails.
fn random() -> u16 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u16::from_be_bytes(bytes),
        Err(_) => u16::MAX / 2,
    }
}

#[cfg(test)]
mod tests;
