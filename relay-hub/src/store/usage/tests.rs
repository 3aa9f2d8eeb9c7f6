use super::*;
use crate::{
    ids::{AccountId, DeviceId, KeyId, TenantId},
    store::testing::TestHub,
};

const DAY: i64 = 86_400_000;

/// A call of tenant `at % 3`, with a key or a device in turn, on day `at % 5`.
struct Call {
    tenant: TenantId,
    caller: String,
    account: AccountId,
    model: &'static str,
    ending: &'static str,
    at_ms: i64,
    cost: i64,
}

async fn hub(count: i64) -> (TestHub, Vec<Call>) {
    let hub = TestHub::bare().await;
    let tenants = [(); 3].map(|()| TenantId::random());
    let (key, device, account) = (KeyId::random(), DeviceId::random(), AccountId::random());
    let endings = [
        "completed",
        "failed",
        "refused:rate_limit_exceeded",
        "client_gone",
        "vendor_cut",
        "abandoned",
    ];
    let calls: Vec<Call> = (0..count)
        .map(|at| Call {
            tenant: tenants[at as usize % 3].clone(),
            caller: if at % 2 == 0 {
                key.to_string()
            } else {
                device.to_string()
            },
            account: account.clone(),
            model: ["a", "b"][at as usize / 2 % 2],
            ending: endings[at as usize % 6],
            at_ms: at % 5 * DAY + at,
            cost: at,
        })
        .collect();
    let mut tx = hub.store.write().await.unwrap();
    for (at, tenant) in tenants.iter().enumerate() {
        sqlx::query("INSERT INTO tenant (id, name, created_ms) VALUES ($1, $2, 1)")
            .bind(tenant.as_str())
            .bind(format!("t{at}"))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    for (at, call) in calls.iter().enumerate() {
        sqlx::query(
            "INSERT INTO usage (seq, at_ms, call, hold, tenant, caller, account, endpoint, model, upstream_model, input, \
             cached, output, reasoning, cost, charged, price_version, status, ending, started_ms, link, streamed, detail) \
             VALUES ($1, $2, randomblob(16), $1, $3, $4, $5, '/v1/responses', $6, 'up', 10, 4, 5, 2, $7, $7, 1, 200, $8, \
             1, 'quic', 0, $9)",
        )
        .bind(at as i64 + 1)
        .bind(call.at_ms)
        .bind(call.tenant.as_str())
        .bind(&call.caller)
        .bind(call.account.as_str())
        .bind(call.model)
        .bind(call.cost)
        .bind(call.ending)
        .bind((at % 10 == 0).then_some(r#"{"input_audio":3,"web_search":2,"flags":["unpriced"]}"#))
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    (hub, calls)
}

async fn all(store: &Store, filter: &Filter) -> Vec<CallRow> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = page(store, filter, after, 7).await.unwrap();
        after = page.last().map(CallRow::place);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn summed(store: &Store, filter: &Filter, by: &[Group]) -> Vec<SumRow> {
    let mut rows = Vec::new();
    sums(store, filter, by, |row| {
        rows.push(row);
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    rows
}

#[tokio::test]
async fn page_by_page_each_matching_call_comes_once() {
    let (hub, calls) = hub(100).await;
    let (tenant, caller) = (calls[0].tenant.clone(), calls[0].caller.clone());
    let filters = [
        Filter::default(),
        Filter {
            tenant: Some(tenant.clone()),
            ..Filter::default()
        },
        Filter {
            caller: Some(caller.clone()),
            model: Some("b".into()),
            ..Filter::default()
        },
        Filter {
            tenant: Some(tenant.clone()),
            since_ms: Some(DAY),
            until_ms: Some(3 * DAY),
            account: Some(calls[0].account.clone()),
            ..Filter::default()
        },
        Filter {
            account: Some(AccountId::random()),
            ..Filter::default()
        },
    ];
    for filter in filters {
        let matches = |call: &&Call| {
            filter.tenant.as_ref().is_none_or(|tenant| call.tenant == *tenant)
                && filter.caller.as_ref().is_none_or(|caller| call.caller == *caller)
                && filter.model.as_ref().is_none_or(|model| call.model == model)
                && filter.account.as_ref().is_none_or(|account| call.account == *account)
                && filter.since_ms.is_none_or(|since| call.at_ms >= since)
                && filter.until_ms.is_none_or(|until| call.at_ms < until)
        };
        let mut wanted: Vec<_> = calls.iter().filter(matches).map(|call| call.cost).collect();
        let found = all(&hub.store, &filter).await;
        let mut found: Vec<_> = found.iter().map(|row| row.cost_nanos).collect();
        if filter.tenant.is_none() {
            assert!(found.is_sorted_by(|a, b| a > b), "the last one first");
        }
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted, "{filter:?}");
        let total = summed(&hub.store, &filter, &[]).await;
        assert_eq!(total.len(), 1, "without a group there is one row");
        assert_eq!(total[0].figures.cost.get(), wanted.iter().sum::<i64>());
    }
}

#[tokio::test]
async fn sums_by_anything_make_the_whole() {
    let (hub, _) = hub(120).await;
    for by in Group::ALL
        .map(|group| vec![group])
        .into_iter()
        .chain([Group::ALL.to_vec()])
    {
        let rows = summed(&hub.store, &Filter::default(), &by).await;
        let mut whole = Figures::default();
        rows.iter().for_each(|row| whole.add(&row.figures));
        let told = [
            whole.calls,
            whole.completed,
            whole.failed,
            whole.refused,
            whole.client_gone,
            whole.vendor_fault,
            whole.flagged,
            whole.input,
            whole.input_audio,
            whole.tool_calls,
        ];
        assert_eq!(told, [120, 20, 20, 20, 20, 20, 12, 1200, 36, 24], "{by:?}");
        assert_eq!(whole.charged.get(), (0..120).sum::<i64>(), "{by:?}");
    }
}

#[tokio::test]
async fn groups_have_names_and_are_in_order() {
    let (hub, _) = hub(30).await;
    let rows = summed(&hub.store, &Filter::default(), &[Group::Day, Group::Tenant, Group::Key]).await;
    let named: Vec<Vec<_>> = rows.iter().map(|row| row.group.values().collect()).collect();
    assert_eq!(named[0][..2], [Some("1970-01-01"), Some("t0")]);
    assert!(
        named.iter().any(|values| values[2].is_none()),
        "a device's calls have no key"
    );
    assert!(named.is_sorted());
    let json = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!((&json["tenant"], &json["calls"]), (&"t0".into(), &1.into()));
}
