//! What a tenant asks without naming a conversation stays with the account that served it first.

use super::*;

fn is_of(fleet: &Fleet, tenant: &Tenant, account: &AccountId) -> bool {
    fleet.seat(account).is_some_and(|seat| seat.share.users.has(&tenant.id))
}

#[tokio::test]
async fn neither_accounts_that_are_added_nor_restarts_move_a_tenant() {
    let mut bench = Bench::new(1, 8).await;
    let mut dice = Dice(20_261_122);
    let mut homes = HashMap::<usize, AccountId>::new();
    let (mut served_at_home, mut lost) = (0, 0);
    for at in 0..4_000 {
        match dice.roll(120) {
            0 | 1 => {
                let id = add_account(&bench.hub, &format!("added-{at}")).await;
                bench.accounts.push(id);
                bench.directory.refresh().await;
            }
            2 => bench = bench.again().await,
            3 => {
                let weight = Some(u8::try_from(1 + dice.roll(9)).unwrap());
                let change = Change {
                    weight,
                    ..Change::default()
                };
                bench.share(dice.of(&bench.accounts), change).await;
            }
            4 if bench.accounts.len() > 2 => {
                let users = Some(random_users(&mut dice, &bench.tenants));
                let change = Change {
                    users,
                    ..Change::default()
                };
                bench.share(dice.of(&bench.accounts), change).await;
            }
            _ => {}
        }
        let who = usize::try_from(dice.roll(8)).unwrap();
        let tenant = bench.tenant(who);
        let Ok(taken) = bench.call(&tenant, None).unwrap() else {
            assert_eq!(bench.routing.fleet().pool(&tenant.id, NEED).len(), 0, "call {at}");
            continue;
        };
        let fleet = bench.routing.fleet();
        match homes.get(&who) {
            Some(home) if is_of(&fleet, &tenant, home) => {
                assert_eq!(taken.account.id, *home, "call {at} of tenant {who}");
                served_at_home += 1;
            }
            Some(_) => lost += 1,
            None => {}
        }
        served(&taken);
        homes.insert(who, taken.account.id.clone());
    }
    assert!(bench.accounts.len() > 20, "{} accounts", bench.accounts.len());
    assert!(
        served_at_home > 3_000 && lost > 5,
        "{served_at_home} at home, {lost} lost"
    );
}

#[tokio::test]
async fn a_tenant_comes_back_to_its_account_when_that_is_well_again() {
    let bench = Bench::new(3, 1).await;
    let tenant = bench.tenant(0);
    let first = bench.call(&tenant, None).unwrap().unwrap();
    served(&first);
    first.met(Trouble::Failing, None);
    let detour = bench.call(&tenant, None).unwrap().unwrap();
    assert_eq!(detour.choice, Choice::Detour);
    assert_ne!(detour.account.id, first.account.id);
    served(&detour);
    bench.clock.pass(Duration::from_secs(60));
    let again = bench.call(&tenant, None).unwrap().unwrap();
    assert_eq!((&again.account.id, again.choice), (&first.account.id, Choice::Tenant));
}

#[tokio::test]
async fn each_model_of_a_tenant_has_a_home_that_serves_it() {
    let bench = Bench::new(2, 1).await;
    let (tenant, none) = (bench.tenant(0), HeaderMap::new());
    let [one, two] = [bench.accounts[0].clone(), bench.accounts[1].clone()];
    let named = |names: &[&str]| Change {
        models: Some(Some(names.iter().filter_map(|name| ModelName::parse(name)).collect())),
        ..Change::default()
    };
    bench.share(&one, named(&["gpt-*"])).await;
    bench.share(&two, named(&["deepseek-*"])).await;
    let call = async |model| {
        let asked = Traces {
            model: Some(model),
            ..traces(&tenant, &none)
        };
        let taken = bench.routing.chosen(&asked, true).await.ok().unwrap();
        served(&taken);
        taken.account.id.clone()
    };
    assert_eq!(
        (call("gpt-6-sol").await, call("deepseek-r2").await),
        (one.clone(), two.clone())
    );
    for name in ["more", "others", "again"] {
        let id = add_account(&bench.hub, name).await;
        bench.share(&id, named(&["gpt-*", "deepseek-*"])).await;
    }
    assert_eq!((call("gpt-6-sol").await, call("deepseek-r2").await), (one, two));
}
