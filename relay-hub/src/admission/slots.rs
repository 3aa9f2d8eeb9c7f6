//! Calls that run at once, and the line of those that wait for it: bounded, and fair between tenants. Knows how
//! many calls of each key may run, such as of a tenant or of an account; knows no call.
//!
//! Tenants take turns: whoever has a thousand calls in line gets no more turns than who has one.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::ids::TenantId;

/// What calls are counted by, and how many of it may run at once.
pub(super) type Gate<K> = (K, usize);

/// How long the line may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls of all tenants that wait.
    pub calls: usize,
    /// Calls of one tenant that wait.
    pub calls_per_tenant: usize,
    /// How long one may wait.
    pub wait: Duration,
}

/// Why a call does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Full<K> {
    /// This scope has all its calls running, and the line is full.
    Line(Gate<K>),
    /// This scope had all its calls running for as long as one may wait.
    Late(Gate<K>),
    /// The hub takes no more calls.
    Closed,
}

/// Hands out slots. Cheap to clone.
#[derive(Clone)]
pub struct Slots<K: Key>(Arc<Inner<K>>);

/// What calls can be counted by.
pub trait Key: Clone + Eq + Hash {}

impl<K: Clone + Eq + Hash> Key for K {}

struct Inner<K: Key> {
    bounds: Bounds,
    state: Mutex<State<K>>,
}

struct State<K: Key> {
    running: HashMap<K, Running>,
    lines: HashMap<TenantId, VecDeque<Waiter<K>>>,
    /// Tenants with a line, in the order of their turns.
    turns: VecDeque<TenantId>,
    waiting: usize,
    last: u64,
    is_closed: bool,
}

struct Running {
    calls: usize,
    /// As it was told last: the operator may change it.
    most: usize,
}

struct Waiter<K: Key> {
    id: u64,
    gates: Arc<[Gate<K>]>,
    call: oneshot::Sender<Result<Slot<K>, Full<K>>>,
}

/// A call may run. Dropped, it makes room for the next.
pub struct Slot<K: Key> {
    of: Arc<Inner<K>>,
    gates: Arc<[Gate<K>]>,
}

/// What was asked for: a slot that was free, or a place in line.
pub enum Place<K: Key> {
    /// There was one.
    Free(Slot<K>),
    /// There was none.
    InLine(InLine<K>),
}

/// A place in line. Dropped, it is given up.
pub struct InLine<K: Key> {
    of: Arc<Inner<K>>,
    tenant: TenantId,
    id: u64,
    /// What it was that had no room.
    gate: Gate<K>,
    until: Instant,
    called: oneshot::Receiver<Result<Slot<K>, Full<K>>>,
}

impl<K: Key> Slots<K> {
    /// With a line of this length.
    pub fn new(bounds: Bounds) -> Self {
        let state = Mutex::new(State {
            running: HashMap::new(),
            lines: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            last: 0,
            is_closed: false,
        });
        Self(Arc::new(Inner { bounds, state }))
    }

    /// Takes a slot, or a place in line for one.
    ///
    /// # Errors
    /// The line is full, or the hub ends.
    pub fn ask(&self, tenant: &TenantId, gates: Vec<Gate<K>>) -> Result<Place<K>, Full<K>> {
        let gates: Arc<[Gate<K>]> = gates.into();
        let mut state = self.0.state();
        if state.is_closed {
            return Err(Full::Closed);
        }
        // A limit that was raised lets those in first who wait.
        let called = if state.learn(&gates) {
            state.next_calls()
        } else {
            Vec::new()
        };
        let place = match state.blocked_by(&gates).cloned() {
            None => {
                // Nobody in line could take what is free, so this is no pushing in.
                state.begin(&gates);
                let of = self.0.clone();
                Ok(Place::Free(Slot { of, gates }))
            }
            Some(gate) => self.line_up(&mut state, tenant, gates, gate).map(Place::InLine),
        };
        drop(state);
        self.0.call(called);
        place
    }

    fn line_up(
        &self,
        state: &mut State<K>,
        tenant: &TenantId,
        gates: Arc<[Gate<K>]>,
        gate: Gate<K>,
    ) -> Result<InLine<K>, Full<K>> {
        let bounds = &self.0.bounds;
        let (call, called) = oneshot::channel();
        state.last = state.last.wrapping_add(1);
        let id = state.last;
        if !state.join(tenant, Waiter { id, gates, call }, bounds) {
            return Err(Full::Line(gate));
        }
        Ok(InLine {
            of: self.0.clone(),
            tenant: tenant.clone(),
            id,
            gate,
            until: Instant::now() + bounds.wait,
            called,
        })
    }

    /// Refuses all that wait, and all that come.
    pub fn close(&self) {
        let mut state = self.0.state();
        state.is_closed = true;
        state.turns.clear();
        state.waiting = 0;
        let lines = std::mem::take(&mut state.lines);
        drop(state);
        for waiter in lines.into_values().flatten() {
            drop(waiter.call.send(Err(Full::Closed)));
        }
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        let state = self.0.state();
        assert_eq!(state.waiting, state.lines.values().map(VecDeque::len).sum::<usize>());
        assert_eq!(state.turns.len(), state.lines.len());
        state.waiting
    }
}

impl<K: Key> Place<K> {
    /// Waits for its turn, if it must.
    ///
    /// # Errors
    /// The place was taken by another, the wait too long, or the hub ends.
    pub async fn slot(self) -> Result<Slot<K>, Full<K>> {
        match self {
            Self::Free(slot) => Ok(slot),
            Self::InLine(place) => place.called().await,
        }
    }
}

impl<K: Key> InLine<K> {
    async fn called(mut self) -> Result<Slot<K>, Full<K>> {
        if let Ok(word) = tokio::time::timeout_at(self.until, &mut self.called).await {
            return word.unwrap_or(Err(Full::Closed));
        }
        // Between the end of the wait and this look it may have been called.
        self.called
            .try_recv()
            .unwrap_or_else(|_| Err(Full::Late(self.gate.clone())))
    }
}

impl<K: Key> Drop for InLine<K> {
    fn drop(&mut self) {
        // A slot that was handed over and not taken goes back with the channel.
        self.of.state().leave(&self.tenant, self.id);
    }
}

impl<K: Key> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.end(&self.gates);
        let next = state.next_calls();
        drop(state);
        self.of.call(next);
    }
}

impl<K: Key> Inner<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands slots to those whose calls count as running already. Outside of the lock: a slot that nobody takes
    /// comes back at once.
    fn call(self: &Arc<Self>, waiters: Vec<Waiter<K>>) {
        for Waiter { gates, call, .. } in waiters {
            let of = self.clone();
            drop(call.send(Ok(Slot { of, gates })));
        }
    }
}

impl<K: Key> State<K> {
    /// Takes over what the gates say now. True where one became wider.
    fn learn(&mut self, gates: &[Gate<K>]) -> bool {
        let mut is_wider = false;
        for (scope, most) in gates {
            if let Some(running) = self.running.get_mut(scope) {
                is_wider |= *most > running.most;
                running.most = *most;
            }
        }
        is_wider && self.waiting > 0
    }

    fn blocked_by<'a>(&self, gates: &'a [Gate<K>]) -> Option<&'a Gate<K>> {
        let is_full = |(scope, _): &&Gate<K>| self.running.get(scope).is_some_and(|of| of.calls >= of.most);
        gates.iter().find(is_full)
    }

    fn begin(&mut self, gates: &[Gate<K>]) {
        for (scope, most) in gates {
            let none = Running { calls: 0, most: *most };
            self.running.entry(scope.clone()).or_insert(none).calls += 1;
        }
    }

    fn end(&mut self, gates: &[Gate<K>]) {
        for (scope, _) in gates {
            if let Some(of) = self.running.get_mut(scope) {
                of.calls = of.calls.saturating_sub(1);
                // What waiters were told of it may be older than what it was told last.
                if of.calls == 0 && self.waiting == 0 {
                    self.running.remove(scope);
                }
            }
        }
    }

    /// Puts a call in line, unless that is full. A full line is shared: the last of the longest one makes room for a
    /// tenant whose line would stay shorter.
    fn join(&mut self, tenant: &TenantId, waiter: Waiter<K>, bounds: &Bounds) -> bool {
        let own = self.lines.get(tenant).map_or(0, VecDeque::len);
        if own >= bounds.calls_per_tenant || (self.waiting >= bounds.calls && !self.make_room(own)) {
            return false;
        }
        if own == 0 {
            self.turns.push_back(tenant.clone());
        }
        self.lines.entry(tenant.clone()).or_default().push_back(waiter);
        self.waiting += 1;
        true
    }

    fn make_room(&mut self, own: usize) -> bool {
        let longest = self.lines.values_mut().max_by_key(|line| line.len());
        let Some(last) = longest.filter(|line| line.len() > own + 1).and_then(VecDeque::pop_back) else {
            return false;
        };
        self.waiting -= 1;
        if let Some(gate) = self.blocked_by(&last.gates).or(last.gates.first()).cloned() {
            drop(last.call.send(Err(Full::Line(gate))));
        }
        true
    }

    /// Everybody whose turn it is and whose gates are open; they count as running from here on.
    fn next_calls(&mut self) -> Vec<Waiter<K>> {
        let mut called = Vec::new();
        let mut in_vain = 0;
        while in_vain < self.turns.len() {
            let Some(tenant) = self.turns.pop_front() else { break };
            match self.next_of(&tenant) {
                Some(waiter) => {
                    self.begin(&waiter.gates);
                    called.push(waiter);
                    in_vain = 0;
                }
                None => in_vain += 1,
            }
            if self.lines.contains_key(&tenant) {
                self.turns.push_back(tenant);
            }
        }
        called
    }

    /// The first in a tenant's line that may run: one that waits for a key does not keep up another of another key.
    fn next_of(&mut self, tenant: &TenantId) -> Option<Waiter<K>> {
        let line = self.lines.get(tenant)?;
        let at = line
            .iter()
            .position(|waiter| self.blocked_by(&waiter.gates).is_none())?;
        self.remove(tenant, at)
    }

    fn remove(&mut self, tenant: &TenantId, at: usize) -> Option<Waiter<K>> {
        let line = self.lines.get_mut(tenant)?;
        let waiter = line.remove(at)?;
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(tenant);
        }
        Some(waiter)
    }

    fn leave(&mut self, tenant: &TenantId, id: u64) {
        let at = self
            .lines
            .get(tenant)
            .and_then(|line| line.iter().position(|waiter| waiter.id == id));
        if at.and_then(|at| self.remove(tenant, at)).is_some() && !self.lines.contains_key(tenant) {
            self.turns.retain(|other| other != tenant);
        }
    }
}

#[cfg(test)]
mod tests;
