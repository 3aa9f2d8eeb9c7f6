use std::pin::Pin;

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::limit::Scope;

type Waiting = Pin<Box<dyn Future<Output = Result<Slot<Scope>, Full<Scope>>>>>;

const LONG: Duration = Duration::from_secs(3_600);

fn slots(calls: usize, calls_per_tenant: usize, wait: Duration) -> Slots<Scope> {
    Slots::new(Bounds {
        calls,
        calls_per_tenant,
        wait,
    })
}

fn roomy() -> Slots<Scope> {
    slots(1_000, 1_000, LONG)
}

fn ask(slots: &Slots<Scope>, tenant: &TenantId, gates: &[Gate<Scope>]) -> Waiting {
    match slots.ask(tenant, gates.to_vec()) {
        Ok(place) => Box::pin(place.slot()),
        Err(full) => Box::pin(std::future::ready(Err(full))),
    }
}

/// The slot, if it is there.
fn got(waiting: &mut Waiting) -> Option<Slot<Scope>> {
    waiting.now_or_never().and_then(Result::ok)
}

fn refused(waiting: &mut Waiting) -> Option<Full<Scope>> {
    waiting.now_or_never().and_then(Result::err)
}

fn global(most: usize) -> Vec<Gate<Scope>> {
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
        let (mut waiting, mut running): (Vec<Waiting>, Vec<Slot<Scope>>) = Default::default();
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
