//! Rows that stand already: nobody changes them unseen, and a database of an earlier schema keeps them.

use super::*;

/// A database as the first schema had it: a credit, a charged call, a free one and one that runs.
fn first_schema() -> String {
    let tenant = TenantId::random();
    let entry = |kind, hold, idem, debit, credit, amount| rules::Transfer {
        kind,
        hold,
        idem,
        debit,
        credit,
        amount: Nanos::new(amount),
        at_ms: 1,
        note: "",
    };
    let credited = entry("credit", None, Some("r"), "funding", tenant.as_str(), 1_000);
    let charged = entry("charge", Some(1), None, tenant.as_str(), "revenue", 150);
    let first = rules::Head::START.next(&credited).unwrap();
    let second = first.next(&charged).unwrap();
    let hex = |hash: [u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut sql = include_str!("../../store/schema.sql").to_owned();
    sql += &format!(
        "INSERT INTO tenant (id, name, created_ms) VALUES ('{tenant}', 'acme', 1);
         INSERT INTO account (id, posted, held) VALUES ('{tenant}', 850, 400);
         UPDATE account SET posted = -1000 WHERE id = 'funding';
         UPDATE account SET posted = 150 WHERE id = 'revenue';
         INSERT INTO transfer VALUES (1, 'credit', NULL, 'r', 'funding', '{tenant}', 1000, 1, '', x'{}');
         INSERT INTO transfer VALUES (2, 'charge', 1, NULL, '{tenant}', 'revenue', 150, 1, '', x'{}');",
        hex(first.hash),
        hex(second.hash),
    );
    for (hold, state, charged) in [(1, 1, Some(150)), (2, 2, Some(0)), (7, 0, None)] {
        sql += &format!(
            "INSERT INTO hold VALUES ({hold}, randomblob(16), '{tenant}', 'key', 'm', 400, 1, 1, {state}, 1);"
        );
        if let Some(charged) = charged {
            sql += &format!(
                "INSERT INTO usage (at_ms, call, hold, tenant, caller, endpoint, model, upstream_model, cost, charged, \
                 price_version, status, ending, started_ms, link, streamed) VALUES (1, randomblob(16), {hold}, \
                 '{tenant}', 'key', '', 'm', 'm', {charged}, {charged}, 1, 200, 'completed', 1, 'quic', 0);"
            );
        }
    }
    sql + "PRAGMA user_version = 1;"
}

#[tokio::test]
async fn a_database_of_the_first_schema_keeps_its_books() {
    let hub = TestHub::over(&first_schema()).await;
    let verdict = verify(&hub.store).await.unwrap();
    assert!(verdict.ok, "{:?}", verdict.problems);
    assert_eq!((verdict.transfers, verdict.open_holds, verdict.holds), (2, 1, 3));
    let books = Books::over(hub).await;
    let tenant = tenants::list(&books.hub.store).await.unwrap().remove(0).id;
    let wish = wish(&tenant, 300);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    hold.settle(Nanos::new(200), row(&wish, Ending::Completed))
        .await
        .unwrap();
    assert_eq!(books.balance(&tenant).await, (1_000 - 150 - 200, 0));
    books.close().await;
}

/// The rows of a table are changed behind the hub's back, with its guards taken away.
async fn tamper(statements: &[&'static str]) -> Vec<String> {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    for charge in [100, 250, 0] {
        let wish = wish(&tenant, 300);
        let hold = books.ledger.reserve(wish.clone()).await.unwrap();
        hold.settle(Nanos::new(charge), row(&wish, Ending::Completed))
            .await
            .unwrap();
    }
    let hub = books.close().await;
    let mut connection = hub.store.connection().await.unwrap();
    for sql in statements {
        sqlx::raw_sql(*sql).execute(&mut connection).await.unwrap();
    }
    verify(&hub.store).await.unwrap().problems
}

#[tokio::test]
async fn every_change_behind_the_hubs_back_is_found() {
    let unguard = "DROP TRIGGER transfer_no_update; DROP TRIGGER transfer_no_delete; DROP TRIGGER usage_no_update; \
                   DROP TRIGGER hold_no_update;";
    for change in [
        "UPDATE transfer SET amount = amount + 1 WHERE seq = 2",
        "UPDATE transfer SET at_ms = at_ms + 1 WHERE seq = 1",
        "UPDATE transfer SET hash = zeroblob(32) WHERE seq = 3",
        "DELETE FROM transfer WHERE seq = 3",
        "DELETE FROM transfer WHERE seq = 1",
        "UPDATE account SET posted = posted + 1 WHERE id LIKE 'ten_%'",
        "UPDATE account SET held = held + 1 WHERE id LIKE 'ten_%'",
        "UPDATE usage SET charged = charged + 1 WHERE seq = 1",
        "UPDATE usage SET hold = 1 WHERE hold = 3",
        "INSERT INTO hold VALUES (3, zeroblob(16), 'ten_x', '', '', 0, 1, 1, 1, NULL, NULL, NULL)",
        "INSERT INTO unposted VALUES (9, 1, 'why', x'00')",
        "DELETE FROM usage WHERE seq = 2",
    ] {
        let problems = tamper(&[unguard, change]).await;
        let others: Vec<_> = problems.iter().filter(|problem| !problem.contains("guard")).collect();
        assert!(!others.is_empty(), "{change}: {problems:?}");
    }
}

#[tokio::test]
async fn the_database_refuses_to_change_the_past() {
    let hub = Books::open().await;
    let tenant = hub.tenant(1_000).await;
    let wish = wish(&tenant, 300);
    let hold = hub.ledger.reserve(wish.clone()).await.unwrap();
    hold.settle(Nanos::new(100), row(&wish, Ending::Completed))
        .await
        .unwrap();
    let hub = hub.close().await;
    let mut connection = hub.store.connection().await.unwrap();
    for sql in [
        "UPDATE transfer SET amount = 1",
        "DELETE FROM transfer",
        "UPDATE usage SET charged = 0",
        "UPDATE account SET posted = -1 WHERE id LIKE 'ten_%'",
        "UPDATE account SET held = -1",
    ] {
        assert!(sqlx::raw_sql(sql).execute(&mut connection).await.is_err(), "{sql}");
    }
}
