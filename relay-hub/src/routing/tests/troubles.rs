//! Accounts that fail, and accounts that have as many calls as they may.

use super::*;

#[tokio::test]
async fn a_refused_credential_outlives_the_hub_until_it_is_revived() {
    let bench = Bench::new(2, 1).await;
    let tenant = bench.tenant(0);
    for _ in 0..2 {
        let taken = bench.call(&tenant, None).unwrap().unwrap();
        taken.answered(StatusCode::UNAUTHORIZED, &HeaderMap::new());
    }
    assert!(bench.call(&tenant, None).unwrap().is_err(), "no storm");
    let after = bench.again().await;
    assert!(after.call(&tenant, None).unwrap().is_err());
    after.clock.pass(Duration::from_secs(90));
    let tried = (0..4).filter(|_| after.call(&tenant, None).unwrap().is_ok()).count();
    assert_eq!(tried, 2, "one call a minute tries each");
    // Nor does a hub try them that starts again within that minute.
    let after = after.again().await;
    assert!(after.call(&tenant, None).unwrap().is_err());
    let noted = routes::health(&after.hub.store).await.unwrap();
    let now = signed(after.routing.now());
    assert!(noted.iter().all(|row| row.until_ms > now + 59_000), "{noted:?}");
    let change = Change {
        revived_ms: Some(signed(after.routing.now())),
        ..Change::default()
    };
    after.share(&after.accounts[0].clone(), change).await;
    assert!((0..4).all(|_| after.call(&tenant, None).unwrap().is_ok()));
}

#[tokio::test]
async fn a_dead_account_is_tried_once_a_minute_even_where_it_is_the_only_one() {
    let bench = Bench::new(1, 1).await;
    let tenant = bench.tenant(0);
    for thread in [None, Some("thread"), None, Some("thread")] {
        let taken = bench.call(&tenant, thread).unwrap().unwrap();
        taken.answered(StatusCode::UNAUTHORIZED, &HeaderMap::new());
    }
    bench.clock.pass(Duration::from_secs(60));
    let mut tried = Vec::new();
    for second in 0..600 {
        for thread in [None, Some("thread")] {
            match bench.call(&tenant, thread).unwrap() {
                Ok(taken) => {
                    taken.answered(StatusCode::UNAUTHORIZED, &HeaderMap::new());
                    tried.push(second);
                }
                Err(refused) => {
                    assert_eq!(refused.public.code, Code::AccountUnavailable);
                    let wait = refused.public.retry_after.unwrap();
                    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(75));
                }
            }
        }
        bench.clock.pass(Duration::from_secs(1));
    }
    assert!((7..=10).contains(&tried.len()), "{tried:?}");
    assert!(tried.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{tried:?}");
    // The first answer brings it back.
    bench.clock.pass(Duration::from_secs(75));
    let taken = bench.call(&tenant, None).unwrap().unwrap();
    taken.answered(StatusCode::OK, &HeaderMap::new());
    assert!((0..4).all(|_| bench.call(&tenant, None).unwrap().is_ok()));
}

#[tokio::test]
async fn a_busy_account_lets_the_next_call_wait_its_turn() {
    let bench = Bench::new(1, 2).await;
    let change = Change {
        concurrency: Some(Some(1)),
        ..Change::default()
    };
    bench.share(&bench.accounts[0].clone(), change).await;
    let (one, two) = (bench.tenant(0), bench.tenant(1));
    let first = bench.call(&one, None).unwrap().unwrap();
    let headers = HeaderMap::new();
    let asked = Traces {
        tenant: &two,
        wire: Wire::Responses,
        model: None,
        headers: &headers,
        session: None,
        previous: None,
        body: &[],
    };
    let mut second = bench.routing.chosen(&asked, true);
    assert!((&mut second).now_or_never().is_none(), "it waits");
    drop(first);
    assert!(second.now_or_never().unwrap().is_ok());
    let change = Change {
        concurrency: Some(None),
        rpm: Some(Some(6_000)),
        ..Change::default()
    };
    bench.share(&bench.accounts[0].clone(), change).await;
    assert!((0..6_000).all(|_| bench.call(&one, None).unwrap().is_ok()));
    // The minute is used up: the next ones wait for it, and tenants take turns.
    let none = HeaderMap::new();
    let asked = [&one, &one, &one, &two].map(|tenant| traces(tenant, &none));
    let mut calls = asked.each_ref().map(|asked| bench.routing.chosen(asked, true));
    assert!(calls.iter_mut().all(|call| call.now_or_never().is_none()));
    let mut calls: FuturesUnordered<_> = calls
        .into_iter()
        .enumerate()
        .map(|(at, call)| call.map(move |_| at))
        .collect();
    let mut served = Vec::new();
    for _ in 0..4 {
        bench.clock.pass(Duration::from_millis(10));
        served.extend(calls.next().await);
    }
    assert_eq!(served, [0, 1, 3, 2]);
    // A line that is full is told for how long to wait.
    let mut line: Vec<_> = (0..6).map(|_| bench.routing.chosen(&asked[0], true)).collect();
    let refused = line.iter_mut().find_map(|call| call.now_or_never()).unwrap();
    let refused = refused.err().unwrap();
    assert_eq!(refused.public.code, Code::RateLimited);
    assert!(refused.public.retry_after.is_some());
}
