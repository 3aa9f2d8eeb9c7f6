//! Random calls, failures, changes of the operator and time that passes, beside a model of a few lines.
//! `RELAY_ROUTING_DECISIONS` says how many.

use super::*;

/// What the model knows of one conversation: where it was answered last, and when.
type Known = HashMap<(usize, u64), (AccountId, u64)>;

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a test is told how long to look")]
async fn decisions_keep_their_promises_whatever_happens() {
    let wanted: usize = std::env::var("RELAY_ROUTING_DECISIONS").map_or(50_000, |text| text.parse().unwrap());
    let bench = Bench::new(ACCOUNTS, TENANTS).await;
    let mut dice = Dice(20_261_121);
    for tenant in bench.tenants.iter().take(TENANTS / 2) {
        tenants::set_repin(&bench.hub.store, tenant, "allow").await.unwrap();
    }
    let (mut known, mut running) = (Known::new(), Vec::<(Taken, usize, Option<u64>)>::new());
    let mut seen = BTreeSet::new();
    let (mut refused, mut waited, mut moved) = (0, 0, 0);
    for at in 0..wanted {
        if at % 2_000 == 0 {
            let change = Change {
                users: Some(random_users(&mut dice, &bench.tenants)),
                weight: Some(u8::try_from(1 + dice.roll(5)).unwrap()),
                concurrency: Some((dice.roll(2) == 0).then(|| 1 + u32::try_from(dice.roll(4)).unwrap())),
                rpm: Some((dice.roll(4) == 0).then_some(60)),
                models: None,
                revived_ms: None,
            };
            running.clear();
            bench.share(dice.of(&bench.accounts), change).await;
        }
        bench.clock.pass(Duration::from_millis(dice.roll(1_500)));
        let now = bench.routing.now();
        let tenant_at = usize::try_from(dice.roll(TENANTS as u64)).unwrap();
        let thread = (dice.roll(4) > 0).then(|| dice.roll(CONVERSATIONS));
        let tenant = bench.tenant(tenant_at);
        let fleet = bench.routing.fleet();
        // Where the model says that the conversation is, and whether that may serve it.
        let home = thread.and_then(|thread| known.get(&(tenant_at, thread)));
        let home = home.filter(|(_, used)| now - used < u64::try_from(LIFETIME.as_millis()).unwrap());
        let home = home.map(|(account, _)| account.clone());
        let is_lost = home.as_ref().map(|home| {
            let seat = fleet.seat(home).filter(|seat| seat.share.users.has(&tenant.id));
            let is_alone = fleet.pool(&tenant.id, NEED).is_one();
            seat.is_none_or(|seat| matches!(seat.light(now, is_alone), Light::Out(_)))
        });
        let mut taken = match bench.call(&tenant, thread.map(|thread| thread.to_string()).as_deref()) {
            None => {
                waited += 1;
                continue;
            }
            Some(Err(refused_as)) => {
                let code = refused_as.public.code;
                let is_right = match is_lost {
                    Some(true) if !tenant.may_repin => {
                        matches!(code, Code::ConversationGone | Code::AccountUnavailable)
                    }
                    Some(false) => matches!(code, Code::RateLimited | Code::Overloaded),
                    _ => matches!(code, Code::RateLimited | Code::Overloaded | Code::AccountUnavailable),
                };
                assert!(is_right, "{code:?} in decision {at}");
                refused += 1;
                continue;
            }
            Some(Ok(taken)) => taken,
        };
        let may_use = |taken: &Taken| taken.seat_of(&fleet).share.users.has(&tenant.id);
        assert!(may_use(&taken), "decision {at}: an account of somebody else");
        seen.insert(taken.choice.as_str());
        match (&home, is_lost) {
            (Some(home), Some(false)) => assert_eq!(taken.account.id, *home, "decision {at}: moved from a fit account"),
            (Some(_), Some(true)) => {
                assert!(tenant.may_repin, "decision {at}: moved where that is refused");
                assert_eq!(taken.choice, Choice::Repinned, "decision {at}");
                moved += 1;
            }
            _ => assert_ne!(taken.choice, Choice::Repinned, "decision {at}: nothing to move"),
        }
        // What becomes of it.
        let trouble = (dice.roll(6) == 0).then(|| *dice.of(&Trouble::ALL));
        if taken.choice == Choice::Repinned {
            // It belongs to nobody until another account has answered.
            thread.and_then(|thread| known.remove(&(tenant_at, thread)));
        }
        match trouble {
            Some(trouble) => {
                taken.met(trouble, (dice.roll(3) == 0).then_some(Duration::from_secs(20)));
                if trouble.may_move()
                    && let Some(failed) = taken.another()
                {
                    assert!(
                        may_use(&taken),
                        "decision {at}: failed over to an account of somebody else"
                    );
                    assert!(
                        home.is_none() || is_lost == Some(true),
                        "decision {at}: a conversation left its account"
                    );
                    assert_ne!(failed.account.id, taken.account.id);
                    seen.insert(taken.choice.as_str());
                    served(&taken);
                    keep(&mut known, (tenant_at, thread), &taken, now);
                }
            }
            None => {
                served(&taken);
                keep(&mut known, (tenant_at, thread), &taken, now);
            }
        }
        if home.is_some() && is_lost == Some(false) {
            // It was used, whatever came of it.
            let used = thread.and_then(|thread| known.get_mut(&(tenant_at, thread)));
            used.unwrap().1 = now;
        }
        running.push((taken, tenant_at, thread));
        while running.len() > 30 {
            let at = usize::try_from(dice.roll(running.len() as u64)).unwrap();
            running.swap_remove(at);
        }
        assert_ceilings(&fleet, &running, at);
    }
    let all: BTreeSet<_> = ["tenant", "ranked", "pinned", "repinned", "detour", "failover"].into();
    assert!(all.is_subset(&seen), "{seen:?}");
    assert!(
        refused > 0 && waited > 0 && moved > 0,
        "{refused} refused, {waited} waited, {moved} moved"
    );
    println!(
        "{wanted} decisions: {refused} refused, {waited} would wait, {moved} conversations moved where that is allowed"
    );
    drop(running);
    bench.tasks.shutdown(Duration::from_secs(5)).await;
}

fn keep(known: &mut Known, (tenant, thread): (usize, Option<u64>), taken: &Taken, now: u64) {
    if let Some(thread) = thread {
        known.insert((tenant, thread), (taken.account.id.clone(), now));
    }
}

fn assert_ceilings(fleet: &Fleet, running: &[(Taken, usize, Option<u64>)], at: usize) {
    let mut calls = HashMap::<&AccountId, u32>::new();
    for (taken, ..) in running {
        *calls.entry(&taken.account.id).or_default() += 1;
    }
    for seat in fleet.seats() {
        let most = seat.share.concurrency.unwrap_or(u32::MAX);
        let has = calls.get(&seat.account.id).copied().unwrap_or_default();
        assert!(
            has <= most,
            "decision {at}: {has} calls at an account that may have {most}"
        );
    }
}
