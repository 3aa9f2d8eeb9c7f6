//! Calls that run at once, and the line of those that wait for it: bounded, and fair between tenants. Knows scopes and
//! how many each may have running; knows no call.
//!
//! Tenants take turns: whoever has a thousand calls in line gets no more turns than who has one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{ids::TenantId, limit::Scope};

/// A scope, and how many calls of it may run at once.
pub(super) type Gate = (Scope, usize);

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
pub(super) enum Full {
    /// This scope has all its calls running, and the line is full.
    Line(Gate),
    /// This scope had all its calls running for as long as one may wait.
    Late(Gate),
    /// The hub takes no more calls.
    Closed,
}

/// Hands out slots. Cheap to clone.
#[derive(Clone)]
pub(super) struct Slots(Arc<Inner>);

struct Inner {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<Scope, Running>,
    lines: HashMap<TenantId, VecDeque<Waiter>>,
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

struct Waiter {
    id: u64,
    gates: Arc<[Gate]>,
    call: oneshot::Sender<Result<Slot, Full>>,
}

/// A call may run. Dropped, it makes room for the next.
pub(super) struct Slot {
    of: Arc<Inner>,
    gates: Arc<[Gate]>,
}

/// What was asked for: a slot that was free, or a place in line.
pub(super) enum Place {
    Free(Slot),
    InLine(InLine),
}

/// A place in line. Dropped, it is given up.
pub(super) struct InLine {
    of: Arc<Inner>,
    tenant: TenantId,
    id: u64,
    /// What it was that had no room.
    gate: Gate,
    until: Instant,
    called: oneshot::Receiver<Result<Slot, Full>>,
}

impl Slots {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Inner { bounds, state }))
    }

    /// Takes a slot, or a place in line for one.
    pub(super) fn ask(&self, tenant: &TenantId, gates: Vec<Gate>) -> Result<Place, Full> {
        let gates: Arc<[Gate]> = gates.into();
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

    fn line_up(&self, state: &mut State, tenant: &TenantId, gates: Arc<[Gate]>, gate: Gate) -> Result<InLine, Full> {
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
    pub(super) fn close(&self) {
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

impl Place {
    /// Waits for its turn, if it must.
    ///
    /// # Errors
    /// The place was taken by another, the wait too long, or the hub ends.
    pub(super) async fn slot(self) -> Result<Slot, Full> {
        match self {
            Self::Free(slot) => Ok(slot),
            Self::InLine(place) => place.called().await,
        }
    }
}

impl InLine {
    async fn called(mut self) -> Result<Slot, Full> {
        if let Ok(word) = tokio::time::timeout_at(self.until, &mut self.called).await {
            return word.unwrap_or(Err(Full::Closed));
        }
        // Between the end of the wait and this look it may have been called.
        self.called
            .try_recv()
            .unwrap_or_else(|_| Err(Full::Late(self.gate.clone())))
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        // A slot that was handed over and not taken goes back with the channel.
        self.of.state().leave(&self.tenant, self.id);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.end(&self.gates);
        let next = state.next_calls();
        drop(state);
        self.of.call(next);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands slots to those whose calls count as running already. Outside of the lock: a slot that nobody takes
    /// comes back at once.
    fn call(self: &Arc<Self>, waiters: Vec<Waiter>) {
        for Waiter { gates, call, .. } in waiters {
            let of = self.clone();
            drop(call.send(Ok(Slot { of, gates })));
        }
    }
}

impl State {
    /// Takes over what the gates say now. True where one became wider.
    fn learn(&mut self, gates: &[Gate]) -> bool {
        let mut is_wider = false;
        for (scope, most) in gates {
            if let Some(running) = self.running.get_mut(scope) {
                is_wider |= *most > running.most;
                running.most = *most;
            }
        }
        is_wider && self.waiting > 0
    }

    fn blocked_by<'a>(&self, gates: &'a [Gate]) -> Option<&'a Gate> {
        let is_full = |(scope, _): &&Gate| self.running.get(scope).is_some_and(|of| of.calls >= of.most);
        gates.iter().find(is_full)
    }

    fn begin(&mut self, gates: &[Gate]) {
        for (scope, most) in gates {
            let none = Running { calls: 0, most: *most };
            self.running.entry(scope.clone()).or_insert(none).calls += 1;
        }
    }

    fn end(&mut self, gates: &[Gate]) {
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
    fn join(&mut self, tenant: &TenantId, waiter: Waiter, bounds: &Bounds) -> bool {
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
    fn next_calls(&mut self) -> Vec<Waiter> {
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
    fn next_of(&mut self, tenant: &TenantId) -> Option<Waiter> {
        let line = self.lines.get(tenant)?;
        let at = line
            .iter()
            .position(|waiter| self.blocked_by(&waiter.gates).is_none())?;
        self.remove(tenant, at)
    }

    fn remove(&mut self, tenant: &TenantId, at: usize) -> Option<Waiter> {
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
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Result<Slot, Full>>>>;

    const LONG: Duration = Duration::from_secs(3_600);

    fn slots(calls: usize, calls_per_tenant: usize, wait: Duration) -> Slots {
        Slots::new(Bounds {
            calls,
            calls_per_tenant,
            wait,
        })
    }

    fn roomy() -> Slots {
        slots(1_000, 1_000, LONG)
    }

    fn ask(slots: &Slots, tenant: &TenantId, gates: &[Gate]) -> Waiting {
        match slots.ask(tenant, gates.to_vec()) {
            Ok(place) => Box::pin(place.slot()),
            Err(full) => Box::pin(std::future::ready(Err(full))),
        }
    }

    /// The slot, if it is there.
    fn got(waiting: &mut Waiting) -> Option<Slot> {
        waiting.now_or_never().and_then(Result::ok)
    }

    fn refused(waiting: &mut Waiting) -> Option<Full> {
        waiting.now_or_never().and_then(Result::err)
    }

    fn global(most: usize) -> Vec<Gate> {
        vec![(Scope::Global, most)]
    }

    #[tokio::test]
    async fn tenants_take_turns_whatever_the_length_of_their_lines() {
        let slots = roomy();
        let (busy, calm) = (TenantId::random(), TenantId::random());
        let mut running = got(&mut ask(&slots, &busy, &global(1)));
        let mut busy_line: Vec<_> = (0..100).map(|_| ask(&slots, &busy, &global(1))).collect();
        let mut calm_line: Vec<_> = (0..3).map(|_| ask(&slots, &calm, &global(1))).collect();
        let mut order = String::new();
        for _ in 0..8 {
            drop(running.take());
            if let Some(slot) = busy_line.iter_mut().find_map(got) {
                order.push('b');
                running = Some(slot);
                drop(busy_line.remove(0));
            } else if let Some(slot) = calm_line.iter_mut().find_map(got) {
                order.push('c');
                running = Some(slot);
                drop(calm_line.remove(0));
            }
        }
        assert_eq!(order, "bcbcbcbb");
        assert_eq!(slots.waiting(), 95);
    }

    #[tokio::test]
    async fn one_full_gate_does_not_keep_up_calls_of_another() {
        let slots = roomy();
        let tenant = TenantId::random();
        let gates = |name: &str| vec![(Scope::Global, 10), (Scope::Model(name.into()), 1)];
        let first = got(&mut ask(&slots, &tenant, &gates("a"))).unwrap();
        let mut behind = ask(&slots, &tenant, &gates("a"));
        let mut other = ask(&slots, &tenant, &gates("b"));
        assert!(got(&mut other).is_some() && got(&mut behind).is_none());
        drop(first);
        assert!(got(&mut behind).is_some());
    }

    #[tokio::test]
    async fn a_tenant_s_line_is_bounded_and_a_full_line_is_shared() {
        let slots = slots(4, 3, LONG);
        let (busy, calm, late) = (TenantId::random(), TenantId::random(), TenantId::random());
        let _running = got(&mut ask(&slots, &busy, &global(1))).unwrap();
        let mut busy_line: Vec<_> = (0..4).map(|_| ask(&slots, &busy, &global(1))).collect();
        assert_eq!(refused(&mut busy_line[3]), Some(Full::Line((Scope::Global, 1))));
        let _one = ask(&slots, &calm, &global(1));
        let mut two = ask(&slots, &calm, &global(1));
        assert!(
            refused(&mut busy_line[2]).is_some(),
            "the last of the longest line makes room"
        );
        let mut three = ask(&slots, &calm, &global(1));
        assert_eq!(
            refused(&mut three),
            Some(Full::Line((Scope::Global, 1))),
            "a line as long as the longest"
        );
        let mut first_of_late = ask(&slots, &late, &global(1));
        let gone = [&mut busy_line[1], &mut two].map(|place| refused(place).is_some());
        assert_eq!(
            gone.iter().filter(|is_gone| **is_gone).count(),
            1,
            "one of the two longest lines"
        );
        assert!(refused(&mut first_of_late).is_none());
        assert_eq!(slots.waiting(), 4);
    }

    #[tokio::test]
    async fn who_leaves_the_line_frees_his_place_and_a_slot_that_nobody_took() {
        let slots = slots(2, 2, LONG);
        let tenant = TenantId::random();
        let running = got(&mut ask(&slots, &tenant, &global(1))).unwrap();
        let first = ask(&slots, &tenant, &global(1));
        let second = ask(&slots, &tenant, &global(1));
        drop(first);
        assert_eq!(slots.waiting(), 1);
        let mut third = ask(&slots, &tenant, &global(1));
        drop(running);
        drop(second);
        assert!(got(&mut third).is_some(), "the second was called and had left");
        assert_eq!(slots.waiting(), 0);
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_for_what() {
        let slots = slots(5, 5, Duration::ZERO);
        let tenant = TenantId::random();
        let gates = [(Scope::Global, 5), (Scope::Tenant(tenant.clone()), 1)];
        let running = ask(&slots, &tenant, &gates).await.unwrap();
        let late = ask(&slots, &tenant, &gates).await.err();
        assert_eq!(late, Some(Full::Late(gates[1].clone())));
        assert_eq!(slots.waiting(), 0);
        drop(running);
        assert!(ask(&slots, &tenant, &gates).await.is_ok(), "what is free needs no time");
    }

    #[tokio::test]
    async fn a_raised_limit_lets_in_who_waits_first_and_a_lowered_one_holds_at_once() {
        let slots = roomy();
        let tenant = TenantId::random();
        let first = got(&mut ask(&slots, &tenant, &global(1))).unwrap();
        let mut second = ask(&slots, &tenant, &global(1));
        let mut third = ask(&slots, &tenant, &global(2));
        let second = got(&mut second).unwrap();
        assert!(got(&mut third).is_none());
        let mut fourth = ask(&slots, &tenant, &global(1));
        drop(first);
        assert!(got(&mut third).is_none() && got(&mut fourth).is_none());
        drop(second);
        assert!(got(&mut third).is_some());
    }

    #[tokio::test]
    async fn at_the_end_everybody_is_told() {
        let slots = roomy();
        let tenant = TenantId::random();
        let _running = got(&mut ask(&slots, &tenant, &global(1))).unwrap();
        let mut waiting = ask(&slots, &tenant, &global(1));
        slots.close();
        assert_eq!(refused(&mut waiting), Some(Full::Closed));
        assert_eq!(refused(&mut ask(&slots, &tenant, &global(1))), Some(Full::Closed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever comes, ends or leaves: no gate is ever passed, nobody waits for what is free, and in the end
        /// nothing is left.
        #[test]
        fn gates_hold_and_nothing_is_wasted_or_lost(
            steps in prop::collection::vec((0usize..3, 0usize..3, 0u8..4, any::<prop::sample::Index>()), 1..120),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _inside = runtime.enter();
            let slots = slots(12, 6, LONG);
            let tenants: Vec<_> = (0..3).map(|_| TenantId::random()).collect();
            let models = ["a", "b", "c"].map(|name| Scope::Model(name.to_owned()));
            let (mut waiting, mut running): (Vec<Waiting>, Vec<Slot>) = Default::default();
            for (who, what, action, which) in steps {
                match action {
                    0 if !running.is_empty() => drop(running.swap_remove(which.index(running.len()))),
                    1 if !waiting.is_empty() => drop(waiting.swap_remove(which.index(waiting.len()))),
                    _ => {
                        let tenant = Scope::Tenant(tenants[who].clone());
                        let gates = [(Scope::Global, 4), (tenant, 2), (models[what].clone(), 2)];
                        waiting.push(ask(&slots, &tenants[who], &gates));
                    }
                }
                let polled = waiting.into_iter().filter_map(|mut place| match (&mut place).now_or_never() {
                    Some(Ok(slot)) => {
                        running.push(slot);
                        None
                    }
                    Some(Err(_)) => None,
                    None => Some(place),
                });
                waiting = polled.collect();
                prop_assert_eq!(slots.waiting(), waiting.len());
                let state = slots.0.state();
                prop_assert!(state.running.values().all(|of| of.calls <= of.most));
                prop_assert_eq!(state.running.get(&Scope::Global).map_or(0, |of| of.calls), running.len());
                let idle = state.lines.values().flatten().find(|waiter| state.blocked_by(&waiter.gates).is_none());
                prop_assert!(idle.is_none(), "somebody waits for what is free");
            }
            drop(waiting);
            drop(running);
            prop_assert_eq!(slots.waiting(), 0);
            prop_assert!(slots.0.state().running.values().all(|of| of.calls == 0));
        }
    }
}
