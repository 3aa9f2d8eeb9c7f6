//! `relay-hub reconcile`: a vendor's export beside the books, request by request and day by day.

use std::fs;

use relay_tests::program::Ended;
use relay_tests::vendor::{Script, Usage};
use relay_tests::world::World;
use serde_json::Value;

use crate::{ask, setup};

/// Four calls with usage, one of them failed, and one that the vendor refused.
async fn called() -> (World, Vec<Value>) {
    let world = setup().start().await;
    let client = world.through_hub();
    for input in [100, 2_000, 30_000] {
        let usage = Usage {
            input,
            cached: 50,
            output: 10,
            reasoning: 5,
        };
        world.vendor.next(Script::message("x ").usage(usage));
        client.post("/responses", ask(true)).await.unwrap().rest().await;
    }
    let odd = Usage {
        input: 7,
        cached: 0,
        output: 3,
        reasoning: 0,
    };
    world.vendor.next(Script::failed("server_error", "x").usage(odd));
    client.post("/responses", ask(true)).await.unwrap().rest().await;
    world
        .vendor
        .next(Script::error(400, "invalid_request_error", None, "no"));
    client.post("/responses", ask(true)).await.unwrap().rest().await;
    world.books().settled(5).await;
    let calls = world.hub.json(&["usage"]).await.as_array().unwrap().clone();
    let billed = calls.into_iter().filter(|call| !call["input"].is_null()).collect();
    (world, billed)
}

async fn reconcile(world: &World, file: &str, more: &[&str]) -> Ended {
    let path = world.scratch().join("export.csv");
    fs::write(&path, file).unwrap();
    let words = ["reconcile", path.to_str().unwrap(), "--json"];
    world.hub.command(&[&words[..], more].concat()).await
}

/// An export as gateways write it: a line a request.
fn requests(calls: &[Value]) -> String {
    let mut file = "\u{feff}X-Request-ID,Model,Prompt Tokens,completion_tokens,Cost\r\n".to_owned();
    for call in calls {
        let text = |name: &str| call[name].as_str().unwrap().to_owned();
        let (id, cost) = (text("vendor_request_id"), text("cost"));
        file += &format!("{id},\"a, model\",{},{},${cost}\r\n", call["input"], call["output"]);
    }
    file
}

fn kinds(ended: &Ended) -> Vec<String> {
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    let differences = found["differences"].as_array().unwrap().iter();
    differences
        .map(|difference| difference["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_by_request_is_compared_call_by_call() {
    let (world, calls) = called().await;
    assert_eq!(calls.len(), 4, "what the vendor refused it does not bill");
    let file = requests(&calls);
    let same = reconcile(&world, &file, &[]).await;
    assert_eq!((same.exit_code, kinds(&same)), (Some(0), vec![]), "{same:#?}");
    assert!(same.stdout.contains("\"equal\":true,\"matched\":4"), "{same:#?}");
    // By the answer's id as well, under a head of one's own.
    let by_answer = calls
        .iter()
        .map(|call| format!("{}\n", call["response_id"].as_str().unwrap()));
    let by_answer = format!("Answer\n{}", by_answer.collect::<String>());
    let same = reconcile(&world, &by_answer, &["--column", "id=answer"]).await;
    assert_eq!(same.exit_code, Some(0), "{same:#?}");
    // The newest first: the failed one is told with other tokens, another cost, under another id; one twice.
    let other = file.replace(",7,3,", ",8,3,").replacen("$0.00", "$1.00", 1);
    let id = calls[1]["vendor_request_id"].as_str().unwrap();
    let other = other.replace(id, "req_of_nobody")
        + &format!("{},m,100,10,\r\n", calls[3]["vendor_request_id"].as_str().unwrap());
    let differ = reconcile(&world, &other, &[]).await;
    assert_eq!(differ.exit_code, Some(1), "{differ:#?}");
    assert_eq!(
        kinds(&differ),
        ["tokens", "cost", "missing_here", "missing_there", "twice_there"],
        "{differ:#?}"
    );
    let no_cost = reconcile(&world, &other, &["--no-cost"]).await;
    assert_eq!(kinds(&no_cost).len(), 4, "{no_cost:#?}");
    let told: Value = serde_json::from_str(&differ.stdout).unwrap();
    assert_eq!(
        (&told["differences"][0]["line"], &told["differences"][0]["call"]),
        (&2.into(), &calls[0]["call"])
    );
    assert_eq!(told["differences"][0]["there"], "in 8 out 3");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_by_day_is_compared_by_its_sums() {
    let (world, calls) = called().await;
    let sums = world.hub.json(&["usage", "--by", "day,upstream_model"]).await;
    let day = sums[0]["day"].as_str().unwrap();
    let model = sums[0]["upstream_model"].as_str().unwrap();
    let (input, cached) = (&sums[0]["input"], &sums[0]["cached"]);
    // As the vendor's own usage export has it: the snapshot's name, lines that add up, and days with nothing.
    let file = format!(
        "start_time_iso,end_time,model,num_model_requests,input_tokens,input_cached_tokens,output_tokens,amount_value\n\
         {day}T00:00:00+00:00,0,{model}-2026-01-31,3,{input},{cached},30,\n{day}T01:00:00+00:00,0,{model},1,0,0,3,{}\n\
         2020-01-01T00:00:00+00:00,0,,0,0,0,0,0\n",
        sums[0]["cost"].as_str().unwrap()
    );
    let same = reconcile(&world, &file, &[]).await;
    assert_eq!((same.exit_code, kinds(&same)), (Some(0), vec![]), "{same:#?}");
    let other = file.replace(",3,", ",2,").replace(",30,", ",35,") + &format!("{day},0,other,1,1,1,1,1\n");
    let differ = reconcile(&world, &other, &["--by", "day"]).await;
    assert_eq!(
        (differ.exit_code, kinds(&differ)),
        (Some(1), vec!["missing_here".into(), "requests".into(), "tokens".into()])
    );
    let earlier = reconcile(&world, &file, &["--until", "2019-12-31"]).await;
    assert_eq!(earlier.exit_code, Some(0), "nothing there, nothing here: {earlier:#?}");
    let _ = calls;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_export_is_told_line_by_line_at_once() {
    let world = setup().start().await;
    let file = "request_id,input_tokens,cost\na,1,2\n,1,2\nb,many,x\nc,-1,1e999\nd,1\n";
    let bad = reconcile(&world, file, &[]).await;
    assert_eq!(bad.exit_code, Some(2), "{bad:#?}");
    let told: Value = serde_json::from_str(&bad.stderr).unwrap();
    let problems = told["error"]["problems"].as_array().unwrap();
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| problem["key"].as_str().unwrap())
        .collect();
    for (line, count) in [("line 3", 1), ("line 4", 2), ("line 5", 2), ("line 6", 1)] {
        assert_eq!(
            lines.iter().filter(|told| **told == line).count(),
            count,
            "{line}: {problems:#?}"
        );
    }
    let many: String = (0..500).map(|_| "x,many,1\n").collect();
    let bad = reconcile(&world, &format!("id,input,cost\n{many}"), &[]).await;
    assert!(
        bad.stderr.len() < 10_000 && bad.stderr.contains("480 more lines"),
        "{bad:#?}"
    );
    for (file, more, code) in [
        ("", &[][..], 2),
        ("a,b\n", &[], 2),
        ("id\n", &["--column", "id=nope"], 2),
        (
            "id\n",
            &["--column", "colour=id", "--tolerance", "x", "--since", "never"],
            2,
        ),
        ("id\n", &[], 0),
    ] {
        let ended = reconcile(&world, file, more).await;
        assert_eq!(ended.exit_code, Some(code), "{file:?} {more:?}: {ended:#?}");
    }
    let gone = world.hub.command(&["reconcile", "/nowhere/export.csv"]).await;
    assert!(
        gone.exit_code == Some(2) && gone.stderr.contains("/nowhere/export.csv"),
        "{gone:#?}"
    );
}
