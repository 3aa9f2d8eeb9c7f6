use relay_protocol::{Tokens, Usage};

use super::*;
use crate::{
    price_list,
    store::{prices, tenants, testing::TestHub},
};

const LIST: &str = "[[model]]\nname='m'\ninput='1'\noutput='10'\ncontext=1000\nmax_output=100\n\
    [[model.service]]\ntier='flex'\ntimes='0.5'\n";

fn list(input: &str) -> Vec<PriceRow> {
    price_list::read("p", &LIST.replace("input='1'", &format!("input='{input}'"))).unwrap()
}

async fn offer(hub: &TestHub, tenant: &TenantId) -> Offer {
    let row = prices::list(&hub.store).await.unwrap().remove(0);
    find(&hub.store, tenant).await.unwrap().offer("m", &Arc::new(row.price))
}

#[tokio::test]
async fn every_charge_can_be_found_again_by_its_version() {
    let hub = TestHub::bare().await;
    let acme = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let other = tenants::add(&hub.store, "other", 1).await.unwrap();
    let used = Usage {
        input: Tokens::new(777),
        output: Tokens::new(55),
        ..Usage::default()
    };
    let own = list("3").remove(0).price;
    let mut charges = Vec::new();
    for step in 0..8 {
        match step {
            0 => drop(prices::import(&hub.store, &list("1"), 1).await.unwrap()),
            1 => drop(
                set_times(&hub.store, &acme, "0.333333".parse().unwrap(), 2)
                    .await
                    .unwrap(),
            ),
            2 => drop(set_price(&hub.store, &acme, "m", Some(&own), 3).await.unwrap()),
            3 => drop(set_times(&hub.store, &acme, "1.5".parse().unwrap(), 4).await.unwrap()),
            4 => drop(prices::import(&hub.store, &list("2"), 5).await.unwrap()),
            5 => drop(set_price(&hub.store, &acme, "m", None, 6).await.unwrap()),
            6 => drop(set_times(&hub.store, &other, "7".parse().unwrap(), 7).await.unwrap()),
            _ => drop(prices::import(&hub.store, &list("9"), 8).await.unwrap()),
        }
        for tenant in [&acme, &other] {
            let offer = offer(&hub, tenant).await;
            charges.push((tenant.clone(), offer.version, offer.cost(&used, Some("flex"))));
        }
    }
    assert_eq!(charges.len(), 16);
    for (tenant, version, cost) in charges {
        let found = at(&hub.store, &tenant, "m", version).await.unwrap().unwrap();
        assert_eq!((found.version, found.cost(&used, Some("flex"))), (version, cost));
    }
    assert_eq!(at(&hub.store, &acme, "m", 0).await.unwrap(), None);
}

#[tokio::test]
async fn a_price_of_its_own_is_not_multiplied() {
    let hub = TestHub::bare().await;
    let acme = tenants::add(&hub.store, "acme", 1).await.unwrap();
    prices::import(&hub.store, &list("1"), 1).await.unwrap();
    set_times(&hub.store, &acme, "2".parse().unwrap(), 1).await.unwrap();
    assert_eq!(offer(&hub, &acme).await.times.to_string(), "2.00");
    let own = list("3").remove(0).price;
    set_price(&hub.store, &acme, "m", Some(&own), 1).await.unwrap();
    let offer = offer(&hub, &acme).await;
    assert_eq!((offer.times, offer.version), (Times::ONE, 3));
    assert_eq!(offer.price.standard, own.standard);
    assert_eq!(offer.price.service, own.service);
}

#[tokio::test]
async fn rows_of_tenants_are_immutable_and_a_running_hub_sees_them() {
    let hub = TestHub::bare().await;
    let acme = tenants::add(&hub.store, "acme", 1).await.unwrap();
    let revision = async || {
        let row = sqlx::query("SELECT revision FROM hub")
            .fetch_one(hub.store.readers())
            .await;
        row.unwrap().get::<i64, _>(0)
    };
    let before = revision().await;
    set_times(&hub.store, &acme, Times::ONE, 1).await.unwrap();
    set_price(&hub.store, &acme, "m", None, 1).await.unwrap();
    assert_eq!(revision().await, before + 2);
    for sql in [
        "UPDATE tenant_times SET millionths = 1",
        "DELETE FROM tenant_times",
        "UPDATE tenant_price SET model = 'x'",
        "DELETE FROM tenant_price",
    ] {
        let mut tx = hub.store.write().await.unwrap();
        let refused = sqlx::query(sql).execute(&mut *tx).await.unwrap_err().to_string();
        assert!(refused.contains("immutable"), "{refused}");
    }
}
