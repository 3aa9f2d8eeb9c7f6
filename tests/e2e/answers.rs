//! What the books answer: `usage` and `ledger` by tenant, key, device, model, account and day, as table, CSV and JSON.

use relay_tests::vendor::{Script, Usage};
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, ask, setup};

const USAGE: Usage = Usage {
    input: 1_000,
    cached: 400,
    output: 50,
    reasoning: 20,
};
/// 600 × 1 + 400 × 0.1 + 50 × 10 per million, in billionths.
const COST: i64 = 1_140_000;
const CREDIT: i64 = 1_000_000_000_000;

/// Four calls of a device (one failed), two of a key, one refused; the id of the first.
async fn called() -> (World, String) {
    let world = setup().start().await;
    world.vendor.otherwise(Script::message("x ").usage(USAGE));
    let mut first: Option<String> = None;
    for client in [world.through_hub(), world.through_agent(), world.through_agent()] {
        for streamed in [false, true] {
            let answer = client.post("/responses", ask(streamed)).await.unwrap().rest().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let id = answer.headers.get("relay-call-id");
            first = first.or_else(|| id.map(|id| id.to_str().unwrap().to_owned()));
        }
    }
    world.vendor.next(Script::failed("server_error", "x").usage(USAGE));
    world
        .through_agent()
        .post("/responses", ask(true))
        .await
        .unwrap()
        .rest()
        .await;
    let unknown = json!({"model": "=unheard-of", "input": "x"}).to_string();
    let refused = world
        .through_hub()
        .post("/responses", unknown)
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(refused.status, 404);
    world.books().settled(8).await;
    (world, first.unwrap())
}

async fn sums(world: &World, words: &[&str]) -> Vec<Value> {
    let words: Vec<_> = ["usage"].into_iter().chain(words.iter().copied()).collect();
    world.hub.json(&words).await.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_by_whatever_it_is_asked_for() {
    let (world, _) = called().await;
    let device = sums(&world, &["--by", "device,key"]).await;
    let calls: Vec<_> = device.iter().map(|row| row["calls"].as_i64().unwrap()).collect();
    assert_eq!(calls, [3, 5], "the key's, with the refused one, before the device's");
    let id = device[1]["device"].as_str().unwrap();
    let narrowed = sums(&world, &["--device", id, "--by", "total"]).await;
    assert_eq!((narrowed.len(), &narrowed[0]["failed"]), (1, &1.into()));
    assert_eq!(narrowed[0]["charged"], "0.0057", "5 × {COST}");
    let all = sums(
        &world,
        &["--by", "tenant,account,model", "--since", "1h", "--model", MODEL],
    )
    .await;
    assert_eq!(
        (&all[0]["tenant"], &all[0]["account"]),
        (&"acme".into(), &"main".into())
    );
    assert_eq!(
        (&all[0]["calls"], &all[0]["input"], &all[0]["cached"]),
        (&7.into(), &7_000.into(), &2_800.into())
    );
    assert!(sums(&world, &["--by", "day", "--until", "2020-01-01"]).await.is_empty());
    let table = world.hub.command(&["usage", "--by", "ending"]).await.succeeded().stdout;
    assert!(table.lines().last().unwrap().starts_with("total"), "{table}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_has_every_call_and_no_formula() {
    let (world, first) = called().await;
    let csv = world.hub.command(&["usage", "--csv"]).await.succeeded().stdout;
    let lines: Vec<_> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 1 + 8 + 1, "heads, calls, the end of the last line:\n{csv}");
    assert!(lines[0].starts_with("call,started,") && lines[8].starts_with(&first));
    let columns = lines[0].split(',').count();
    assert!(
        lines[8].split(',').count() == columns && lines[8].contains(",0.00114,0.00114,"),
        "{csv}"
    );
    assert!(lines[1].contains(",'=unheard-of,"), "{csv}");
    let few = world.hub.command(&["usage", "--limit", "2"]).await.succeeded();
    assert!(
        few.stdout.starts_with("CALL") && few.stderr.contains("--limit shows more"),
        "{few:#?}"
    );
    assert_eq!(sums(&world, &["--limit", "3"]).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_each_transfer_with_the_balance_it_left() {
    let (world, first) = called().await;
    let list = world.hub.json(&["ledger", "list", "--tenant", "acme"]).await;
    let amounts: Vec<i64> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["amount_nanos"].as_i64().unwrap())
        .collect();
    assert_eq!(amounts, [vec![COST; 7], vec![CREDIT]].concat());
    assert_eq!(
        (&list[0]["balance"], &list[7]["balance"]),
        (&"999.99202".into(), &"1000.00".into())
    );
    assert_eq!(
        (&list[6]["kind"], &list[6]["call"]),
        (&"charge".into(), &first.as_str().into())
    );
    let charges = world
        .hub
        .json(&["ledger", "list", "--tenant", "acme", "--kind", "charge", "--limit", "1"])
        .await;
    assert_eq!(charges[0]["balance"], list[0]["balance"]);
    let kinds = world
        .hub
        .command(&["ledger", "list", "--by", "tenant,kind", "--csv"])
        .await
        .succeeded();
    let wanted =
        "tenant,kind,transfers,credited,debited\r\nacme,charge,7,0.00,0.00798\r\nacme,credit,1,1000.00,0.00\r\n";
    assert_eq!(kinds.stdout, wanted);
    for by in ["usage", "ledger"] {
        let shown = world.hub.json(&[by, "show", &first]).await;
        assert_eq!(
            (&shown[0]["charged_nanos"], &shown[0]["ending"]),
            (&COST.into(), &"completed".into())
        );
        assert_eq!(shown[0]["transfers"][0]["amount_nanos"], COST);
        let response = shown[0]["response_id"].as_str().unwrap();
        assert_eq!(world.hub.json(&[by, "show", response]).await, shown);
    }
    let told = world.hub.command(&["usage", "show", &first]).await.succeeded().stdout;
    assert!(told.contains("price version") && told.contains("0.00114"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_question_is_told_at_once() {
    let world = setup().start().await;
    let words = [
        "usage",
        "--tenant",
        "nobody",
        "--key",
        "key_x",
        "--account",
        "none",
        "--since",
        "never",
    ];
    let more = ["--by", "colour,model,model", "--until", "1w"];
    let ended = world.hub.command(&[&words[..], &more[..]].concat()).await;
    assert_eq!(ended.exit_code, Some(1), "{ended:#?}");
    for part in [
        "there are 7 problems",
        "--tenant: there is no tenant",
        "there are: acme",
        "--key: there is no such key",
        "--account: there is no vendor account `none`",
        "there are: main",
        "--since: `never` is no moment",
        "--until: `1w` is no moment",
        "--by: `colour` is nothing to sum by",
        "--by: `model` is there twice",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let ended = world
        .hub
        .command(&["ledger", "list", "--since", "2d", "--until", "3d", "--kind", "X'"])
        .await;
    assert!(
        ended.stderr.contains("2 problems") && ended.stderr.contains("--until"),
        "{ended:#?}"
    );
    let ended = world
        .hub
        .command(&["usage", "show", "00000000000000000000000000000000"])
        .await;
    assert!(
        ended.exit_code == Some(1) && ended.stderr.contains("hint"),
        "{ended:#?}"
    );
    let ended = world.hub.command(&["usage", "--csv", "--json"]).await;
    assert_eq!(ended.exit_code, Some(2), "{ended:#?}");
}
