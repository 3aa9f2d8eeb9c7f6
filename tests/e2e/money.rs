//! Every call is held before, settled once after, and in the books; refused calls cost nothing.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use relay_tests::vendor::{Break, Ended, Gate, Script, Usage};
use serde_json::json;

use crate::{MODEL, ask, ask_chat, events, setup};

#[tokio::test(flavor = "multi_thread")]
async fn each_ending_is_settled_once_to_the_unit() {
    let world = setup().start().await;
    let odd = Usage {
        input: 1_234_567,
        cached: 1_000_003,
        output: 7_777,
        reasoning: 7_000,
    };
    let tiny = Usage {
        input: 1,
        cached: 0,
        output: 0,
        reasoning: 0,
    };
    for client in [world.through_agent(), world.through_hub()] {
        for (path, body, script) in [
            ("/responses", ask(false), Script::message("a ").usage(odd)),
            ("/responses", ask(true), Script::message("b ").usage(tiny)),
            (
                "/responses",
                ask(true),
                Script::incomplete("max_output_tokens").usage(odd),
            ),
            ("/responses", ask(true), Script::failed("server_error", "x").usage(tiny)),
            ("/responses/compact", ask(false), Script::message("c ").usage(odd)),
            (
                "/chat/completions",
                ask_chat(json!({})),
                Script::message("d ").usage(odd),
            ),
            (
                "/chat/completions",
                ask_chat(json!({"stream": true})),
                Script::message("e ").usage(tiny),
            ),
        ] {
            world.vendor.next(script);
            let answer = client.post(path, body).await.unwrap().rest().await;
            assert_eq!(
                (answer.status.as_u16(), &answer.cut),
                (200, &None),
                "{path}: {}",
                answer.text()
            );
            // Finished means billed: the books are right the moment the last byte is here.
            assert_eq!(world.books().open_holds().await, 0, "{path}");
        }
    }
    let rows = world.books().settled(14).await;
    assert_eq!(rows.len(), 14);
    let endings: Vec<&str> = rows.iter().take(4).map(|row| row.ending.as_str()).collect();
    assert_eq!(endings, ["completed", "completed", "incomplete", "failed"]);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_at_once_add_up() {
    let world = setup().start().await;
    let clients = [world.through_agent(), world.through_hub()];
    world.vendor.otherwise(Script::deltas(9, 20));
    let calls = (0..100).map(|number| {
        let client = &clients[number % 2];
        async move {
            client
                .post("/responses", ask(number % 3 == 0))
                .await
                .unwrap()
                .rest()
                .await
        }
    });
    for answer in join_all(calls).await {
        assert_eq!((answer.status.as_u16(), answer.cut), (200, None));
    }
    assert_eq!(world.books().settled(100).await.len(), 100);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credit_a_call_is_refused_before_the_vendor() {
    let world = crate::Setup { credit: 1, ..setup() }.start().await;
    let dear = json!({"model": MODEL, "input": "x", "max_output_tokens": 200_000}).to_string();
    for client in [world.through_agent(), world.through_hub()] {
        let answer = client.post("/responses", dear.clone()).await.unwrap().rest().await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.error_code(), "insufficient_quota", "{}", answer.text());
        assert!(!answer.headers.contains_key("retry-after"), "waiting does not help");
    }
    assert_eq!(world.vendor.posts().len(), 0);
    let rows = world.books().settled(2).await;
    assert!(
        rows.iter()
            .all(|row| row.charged == 0 && row.ending.starts_with("refused")),
        "{rows:#?}"
    );
    world
        .hub
        .command(&["tenant", "credit", &world.tenant, "10"])
        .await
        .succeeded();
    let answer = world
        .through_agent()
        .post("/responses", dear)
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(answer.status, 200, "after more credit: {}", answer.text());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_cannot_spend_the_same_money() {
    let world = crate::Setup { credit: 1, ..setup() }.start().await;
    // Each may cost 0.5 of 1: three do not fit, whatever their order.
    let half = json!({"model": MODEL, "input": "x", "max_output_tokens": 49_000, "stream": true}).to_string();
    let gate = Gate::new(0);
    world.vendor.otherwise(Script::message("x ").gate(&gate));
    let clients: Vec<_> = (0..8).map(|_| world.through_hub()).collect();
    let refused = AtomicUsize::new(0);
    let calls = join_all(clients.iter().map(async |client| {
        let answer = client.post("/responses", half.clone()).await.unwrap();
        refused.fetch_add(usize::from(answer.status == 429), Ordering::Relaxed);
        answer
    }));
    let opening = async {
        world
            .vendor
            .until("two calls", Duration::from_secs(10), |vendor| vendor.posts().len() >= 2)
            .await;
        // A call that ends gives back what it did not spend, to whoever has not been answered yet.
        let others = async {
            while refused.load(Ordering::Relaxed) < 6 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), others).await.ok();
        gate.release(1_000);
    };
    let (answers, ()) = tokio::join!(calls, opening);
    let granted = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = refused.into_inner();
    assert_eq!((granted, refused), (2, 6));
    for answer in answers {
        answer.rest().await;
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_not_found_and_costs_nothing() {
    let world = setup().start().await;
    for client in [world.through_agent(), world.through_hub()] {
        let body = json!({"model": "gpt-unheard-of", "input": "x"}).to_string();
        let answer = client.post("/responses", body).await.unwrap().rest().await;
        assert_eq!(
            (answer.status.as_u16(), answer.error_code().as_str()),
            (404, "model_not_found")
        );
        assert!(
            answer.json()["error"]["message"]
                .as_str()
                .unwrap()
                .contains("gpt-unheard-of"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(world.vendor.posts().len(), 0);
    let rows = world.books().settled(2).await;
    assert!(
        rows.iter().all(|row| row.charged == 0 && row.status == 404),
        "{rows:#?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vendor_errors_are_passed_on_and_cost_nothing() {
    let world = setup().start().await;
    let client = world.through_agent();
    let scripts = [
        Script::error(400, "invalid_request_error", Some("invalid_value"), "no"),
        Script::error(429, "rate_limit_exceeded", Some("rate_limit_exceeded"), "slow").header("retry-after", "7"),
        Script::error(429, "rate_limit_exceeded", Some("rate_limit_exceeded"), "slow").header("retry-after-ms", "6100"),
        Script::error(500, "server_error", None, "oops"),
        Script::error(503, "server_error", Some("server_is_overloaded"), "busy"),
        Script::hang_up(Break::Fin),
        Script::hang_up(Break::Reset),
        Script::garbage(b"not HTTP at all\r\n\r\n"),
    ];
    for script in scripts {
        let status = if script.hang_up.is_some() || script.garbage.is_some() {
            502
        } else {
            script.status
        };
        world.vendor.next(script);
        let answer = client.post("/responses", ask(true)).await.unwrap().rest().await;
        assert_eq!(
            (answer.status.as_u16(), &answer.cut),
            (status, &None),
            "{}",
            answer.text()
        );
        if status == 429 {
            assert_eq!(answer.headers["retry-after"], "7");
        }
    }
    let rows = world.books().settled(8).await;
    assert_eq!(rows.len(), 8);
    assert!(rows.iter().all(|row| row.charged == 0), "{rows:#?}");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_head_is_noticed_and_the_hold_ends() {
    let world = setup().start().await;
    for client in [world.through_agent(), world.through_hub()] {
        world.vendor.next(Script::hang());
        let before = world.vendor.posts().len();
        let call = client.post("/responses", ask(true));
        tokio::select! {
            _ = call => panic!("the vendor never answers"),
            () = world.vendor.until("the call", Duration::from_secs(10), |vendor| vendor.posts().len() > before) => {}
        }
        let gone = |vendor: &relay_tests::vendor::Vendor| vendor.truth().entries()[before].ended == Ended::ClientGone;
        world.vendor.until("the cancel", Duration::from_secs(1), gone).await;
    }
    let rows = world.books().settled(2).await;
    assert!(
        rows.iter().all(|row| row.ending.starts_with("client_gone")),
        "{rows:#?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_usage_is_estimated_and_says_so() {
    let world = setup().start().await;
    world.vendor.next(Script::deltas(100, 40).no_usage());
    let answer = world
        .through_agent()
        .post("/responses", ask(true))
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(events(&answer.body).last().unwrap()["type"], "response.completed");
    let rows = world.books().settled(1).await;
    assert_eq!(rows[0].source.as_deref(), Some("estimated"), "{rows:#?}");
    assert!(rows[0].charged > 0, "{rows:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_usage_is_not_believed() {
    let world = setup().start().await;
    for usage in [
        Usage {
            input: 5,
            cached: 500,
            output: 5,
            reasoning: 0,
        },
        Usage {
            input: u64::MAX / 4,
            cached: 0,
            output: 5,
            reasoning: 0,
        },
    ] {
        world.vendor.next(Script::deltas(3, 40).usage(usage));
        let answer = world
            .through_agent()
            .post("/responses", ask(true))
            .await
            .unwrap()
            .rest()
            .await;
        assert_eq!(answer.cut, None);
    }
    let rows = world.books().settled(2).await;
    assert!(
        rows.iter().all(|row| row.source.as_deref() == Some("estimated")),
        "{rows:#?}"
    );
    world.assert_sound().await;
}
