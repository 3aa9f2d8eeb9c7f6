//! Every kind of use is charged by its price, in the tier the vendor names, at what the tenant pays; computed here from
//! the vendor's truth log and a price list of this file alone.

use std::fs;

use relay_tests::vendor::{Break, Entry, Extra, PLAIN, Script, Usage};
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, setup};

const LIST: &str = r#"
[[model]]
name = "rich"
input = "2"
cached = "0.2"
cache_write = "2.5"
cache_write_long = "4"
output = "10"
reasoning = "12"
input_audio = "40"
input_image = "3"
output_audio = "80"
context = 1000000
max_output = 100000
[model.tools]
web_search = "0.01"
file_search = "0.0025"
[[model.long]]
above = 200000
input = "4"
cached = "0.4"
cache_write = "5"
output = "15"
[[model.service]]
tier = "flex"
times = "0.5"
[[model.service]]
tier = "priority"
input = "5"
cached = "0.5"
output = "25"
"#;

/// Billionths for each token, by tier and size; nothing of the hub's code is in it.
fn rate(tier: &str, is_long: bool) -> [i64; 9] {
    // Text, pictures, sound, cached, written, written for long, output, reasoning, sound out.
    match (tier, is_long) {
        ("default", false) => [2000, 3000, 40_000, 200, 2500, 4000, 10_000, 12_000, 80_000],
        ("default", true) => [4000, 4000, 40_000, 400, 5000, 4000, 15_000, 15_000, 80_000],
        ("flex", false) => [1000, 1500, 20_000, 100, 1250, 2000, 5000, 6000, 40_000],
        ("flex", true) => [2000, 2000, 20_000, 200, 2500, 2000, 7500, 7500, 40_000],
        // It has no thresholds of its own and no prices of the rarer kinds.
        ("priority", _) => [5000, 5000, 40_000, 500, 5000, 4000, 25_000, 25_000, 80_000],
        _ => panic!("no such tier: {tier}"),
    }
}

/// What one call costs by its entry in the truth log, in billionths, half up, at so many thousandths of the price.
fn cost(entry: &Entry, thousandths: i64) -> i64 {
    let usage = entry.billed().unwrap();
    let number = |count: u64| i64::try_from(count).unwrap();
    let part = |details: &Value, key: &str| details[key].as_i64().unwrap_or(0);
    let (input, output) = (&entry.extra.input_details, &entry.extra.output_details);
    let (audio, image) = (part(input, "audio_tokens"), part(input, "image_tokens"));
    let written = part(input, "cache_write_tokens");
    let long = part(&input["cache_write_tokens_details"], "ttl_12h_tokens");
    let (cached, reasoning) = (number(usage.cached), number(usage.reasoning));
    let out_audio = part(output, "audio_tokens");
    let counts = [
        number(usage.input) - cached - written - audio - image,
        image,
        audio,
        cached,
        written - long,
        long,
        number(usage.output) - reasoning - out_audio,
        reasoning,
        out_audio,
    ];
    let rate = rate(entry.extra.tier, usage.input > 200_000);
    let tokens: i64 = counts.into_iter().zip(rate).map(|(count, rate)| count * rate).sum();
    let tools: i64 = entry.extra.tools.iter().map(|kind| tool(kind)).sum();
    ((tokens + tools) * thousandths + 500) / 1000
}

fn tool(kind: &str) -> i64 {
    match kind {
        "web_search_call" => 10_000_000,
        "file_search_call" => 2_500_000,
        "function_call" => 0,
        _ => panic!("no price for {kind}"),
    }
}

async fn world() -> World {
    let world = setup().start().await;
    let file = world.scratch().join("rich.toml");
    fs::write(&file, LIST).unwrap();
    let list = file.display().to_string();
    world
        .hub
        .command(&["price", "import", "--yes", &list])
        .await
        .succeeded();
    world
}

fn usage(input: u64, cached: u64, output: u64, reasoning: u64) -> Usage {
    Usage {
        input,
        cached,
        output,
        reasoning,
    }
}

fn rich() -> Extra {
    Extra {
        tools: vec![
            "web_search_call",
            "function_call",
            "file_search_call",
            "web_search_call",
        ],
        input_details: json!({"audio_tokens": 100, "image_tokens": 200, "cache_write_tokens": 300,
            "cache_write_tokens_details": {"ttl_30m_tokens": 200, "ttl_12h_tokens": 100}}),
        output_details: json!({"audio_tokens": 50}),
        ..PLAIN.clone()
    }
}

fn body(more: Value) -> String {
    let mut body = json!({"model": "rich", "input": "x"});
    body.as_object_mut()
        .unwrap()
        .append(&mut more.as_object().unwrap().clone());
    body.to_string()
}

/// Asks and reads the whole answer.
async fn call(world: &World, body: String, script: Script) {
    let client = world.through_agent();
    world.vendor.next(script);
    let answer = client.post("/responses", body).await.unwrap().rest().await;
    assert_eq!((answer.status.as_u16(), &answer.cut), (200, &None), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_tier_and_size_is_charged_to_the_unit() {
    let world = world().await;
    let mut calls = 0;
    for tier in ["default", "flex", "priority"] {
        for used in [
            usage(10_001, 3_333, 1_001, 17),
            usage(200_000, 0, 107, 0),
            usage(200_001, 100_000, 999, 500),
        ] {
            for (stream, mut extra) in [(true, PLAIN.clone()), (false, rich()), (true, rich())] {
                extra.tier = tier;
                let script = Script::message("a b c ").usage(used).extra(extra);
                call(&world, body(json!({"stream": stream, "service_tier": tier})), script).await;
                calls += 1;
            }
        }
    }
    // The tier that the answer names is the one that is paid, whatever was asked for.
    let script = Script::message("d ")
        .usage(usage(5_000, 0, 100, 0))
        .extra(Extra { tier: "flex", ..rich() });
    call(&world, body(json!({"service_tier": "priority"})), script).await;
    let rows = world.books().settled(calls + 1).await;
    let truth = world.vendor.truth().entries();
    let mut sum = 0;
    for (row, entry) in rows.iter().zip(&truth) {
        assert_eq!(row.response_id.as_deref(), Some(entry.response_id.as_str()));
        assert_eq!(
            (row.cost, row.charged),
            (cost(entry, 1000), cost(entry, 1000)),
            "{entry:#?}\n{row:#?}"
        );
        sum += row.charged;
    }
    assert_eq!(
        world.books().balance(&world.tenant).await.posted,
        1_000_000_000_000 - sum
    );
    let detail = rows.last().unwrap().detail.clone().unwrap();
    assert_eq!(
        detail,
        json!({"tier": "flex", "cache_write_long": 100, "input_audio": 100, "input_image": 200, "output_audio": 50,
            "web_search": 2, "file_search": 1})
    );
    assert_eq!(rows[0].detail, None, "a plain call carries nothing more");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_pays_its_factor_or_its_own_price_at_once() {
    let world = world().await;
    let used = usage(1_237, 100, 313, 7);
    let ask = async || call(&world, body(json!({})), Script::message("a ").usage(used)).await;
    let price = async |words: &[&str]| {
        let words: Vec<&str> = ["price"]
            .iter()
            .chain(words)
            .copied()
            .chain(["--tenant", "acme"])
            .collect();
        world.hub.command(&words).await.succeeded();
        // A running hub looks four times a second; this is twice that.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    };
    ask().await;
    price(&["times", "0.333"]).await;
    ask().await;
    price(&[
        "set",
        "rich",
        "--input",
        "1",
        "--cached",
        "1",
        "--output",
        "1",
        "--reasoning",
        "1",
    ])
    .await;
    ask().await;
    price(&["unset", "rich"]).await;
    ask().await;
    let rows = world.books().settled(4).await;
    let entry = &world.vendor.truth().entries()[0];
    let charged: Vec<i64> = rows.iter().map(|row| row.charged).collect();
    let own = i64::try_from(used.input + used.output).unwrap() * 1000;
    assert_eq!(charged, [cost(entry, 1000), cost(entry, 333), own, cost(entry, 333)]);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_is_missing_or_makes_no_sense_is_counted_here_and_flagged() {
    let world = world().await;
    let text = "a ".repeat(5_000);
    let nonsense = |nonsense: Value| Extra {
        nonsense: Some(nonsense),
        ..PLAIN.clone()
    };
    let all = [
        (Script::message(&text).no_usage(), "unreported"),
        (
            Script::message(&text).extra(nonsense(json!({"input_tokens": -5, "output_tokens": 1}))),
            "unsound",
        ),
        (
            Script::message(&text).extra(nonsense(json!({"input_tokens": 1, "output_tokens": 5_000_000_000_i64}))),
            "unsound",
        ),
        (
            Script::message(&text).extra(nonsense(
                json!({"input_tokens": 10, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 11}}),
            )),
            "unsound",
        ),
    ];
    let count = all.len() * 2;
    let mut flags = Vec::new();
    for (script, flag) in all {
        for output in [64, 4_000] {
            call(
                &world,
                body(json!({"stream": true, "max_output_tokens": output})),
                script.clone(),
            )
            .await;
            flags.push((flag, output));
        }
    }
    let rows = world.books().settled(count).await;
    for (row, (flag, output)) in rows.iter().zip(flags) {
        let is_clamped = output == 64;
        let expected = if is_clamped {
            json!([flag, "clamped", "by_bytes"])
        } else {
            json!([flag, "by_bytes"])
        };
        assert_eq!(row.detail.as_ref().unwrap()["flags"], expected, "{row:#?}");
        assert_eq!(row.source.as_deref(), Some("estimated"));
        assert!(row.charged > 0 && row.charged <= row.held.unwrap(), "{row:#?}");
        assert_eq!(row.charged == row.held.unwrap(), is_clamped, "{row:#?}");
    }
    let totals = world.hub.json(&["usage", "--totals"]).await;
    assert_eq!(totals[0]["flagged"], count, "{totals}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_price_is_refused_or_charged_at_the_dearest_and_flagged() {
    let world = world().await;
    for more in [
        json!({"service_tier": "priority"}),
        json!({"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]}),
    ] {
        let mut body = json!({"model": MODEL, "input": "x"});
        body.as_object_mut()
            .unwrap()
            .append(&mut more.as_object().unwrap().clone());
        let answer = world
            .through_hub()
            .post("/responses", body.to_string())
            .await
            .unwrap()
            .rest()
            .await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("no price"), "{}", answer.text());
    }
    assert_eq!(world.vendor.posts().len(), 0, "refused before the vendor");
    let used = usage(1_000, 0, 100, 0);
    let odd = |extra: Extra| Script::message("a ").usage(used).extra(extra);
    call(
        &world,
        body(json!({})),
        odd(Extra {
            tier: "ludicrous",
            ..PLAIN.clone()
        }),
    )
    .await;
    call(
        &world,
        body(json!({})),
        odd(Extra {
            tools: vec!["moon_walk_call"],
            ..PLAIN.clone()
        }),
    )
    .await;
    let rows = world.books().settled(4).await;
    let charged: Vec<_> = rows[2..]
        .iter()
        .map(|row| (row.charged, row.detail.clone().unwrap()["flags"].clone()))
        .collect();
    let expected = [
        (1_000 * 5_000 + 100 * 25_000, json!(["unknown_tier"])),
        (1_000 * 2_000 + 100 * 10_000 + 10_000_000, json!(["unpriced"])),
    ];
    assert_eq!(charged, expected);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_covers_what_a_request_only_names() {
    let world = world().await;
    let tokens = |count: i64| count * 4_000;
    let output = 100 * 15_000;
    let whole = tokens(1_000_000) * 5 / 4 + output;
    let asks = [
        (json!({}), None),
        (json!({"previous_response_id": "resp_x"}), Some(whole)),
        (json!({"prompt": {"id": "pmpt_x"}}), Some(whole)),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]}),
            Some(whole),
        ),
    ];
    for (more, _) in &asks {
        let mut more = more.clone();
        more["max_output_tokens"] = json!(100);
        call(&world, body(more), Script::message("a ").usage(usage(10, 0, 5, 0))).await;
    }
    let rows = world.books().settled(asks.len()).await;
    for (row, (more, least)) in rows.iter().zip(asks) {
        let held = row.held.unwrap();
        match least {
            None => assert!(held < 2_000_000, "{held}"),
            // Stored input may be sound.
            Some(least) => assert!(held >= least, "{more}: {held} < {least}"),
        }
        assert!(row.charged <= held);
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_vendor_breaks_off_is_free_with_its_tools() {
    let world = world().await;
    let extra = Extra {
        tools: vec!["web_search_call"],
        ..PLAIN.clone()
    };
    let script = Script::message(&"a ".repeat(50)).extra(extra).cut(3_000, Break::Reset);
    world.vendor.next(script);
    let answer = world
        .through_hub()
        .post("/responses", body(json!({"stream": true})))
        .await
        .unwrap()
        .rest()
        .await;
    assert!(answer.text().contains("web_search_call"), "{}", answer.text());
    // The vendor broke it off without a usage: nothing is charged, tools included.
    let rows = world.books().settled(1).await;
    assert_eq!(
        (rows[0].charged, rows[0].ending.as_str()),
        (0, "vendor_cut"),
        "{rows:#?}"
    );
    world.assert_sound().await;
}
