use relay_protocol::{Tokens, Usage};

use super::*;
use crate::money::Times;

#[test]
fn the_shipped_list_is_sound() {
    let rows = read("prices.toml", SHIPPED).unwrap();
    for row in &rows {
        let price = &row.price;
        let tariffs = price
            .service
            .iter()
            .map(|service| &service.tariff)
            .chain([&price.standard]);
        for tariff in tariffs {
            let mut below = &tariff.base;
            for rates in [below].into_iter().chain(tariff.long.iter().map(|long| &long.rates)) {
                assert!(rates.cached <= rates.input, "{}", row.model);
                let embeds = row.max_output.get() == 1;
                assert_eq!(rates.output < rates.input, embeds, "{}", row.model);
                assert!(!embeds || rates.output == "0".parse().unwrap(), "{}", row.model);
                assert!(rates.cache_write_long.is_none_or(|long| long >= rates.cache_write));
                assert_eq!(rates.dearer(below), *rates, "more input costs more: {}", row.model);
                below = rates;
            }
            assert_eq!(tariff.long.len(), price.standard.long.len(), "{}", row.model);
        }
        assert!(row.max_output <= row.context, "{}", row.model);
        assert!(price.tools.web_search.is_some(), "{}", row.model);
    }
    let find = |name: &str| rows.iter().find(|row| row.model == name).unwrap();
    let codex = &find("gpt-5.2-codex").price.standard.base;
    assert_eq!(
        (codex.input.to_string(), codex.cached.to_string()),
        ("1.75".into(), "0.175".into())
    );
    assert_eq!(codex.cache_write, codex.input);
    let sol = find("gpt-6.1-sol");
    assert_eq!(sol.context, Tokens::new(1_050_000));
    let tiers: Vec<_> = sol.price.service.iter().map(|service| service.tier.as_str()).collect();
    assert_eq!(tiers, ["flex", "priority", "ultrafast"]);
    let fast = &sol.price.service[1].tariff;
    assert_eq!(
        (fast.base.input.to_string(), fast.long[0].rates.output.to_string()),
        ("4.00".into(), "30.00".into())
    );
    for (model, price) in [
        ("text-embedding-3-small", "0.02"),
        ("text-embedding-3-large", "0.13"),
        ("text-embedding-ada-002", "0.1"),
        ("gemini-embedding-001", "0.15"),
    ] {
        assert_eq!(find(model).price.standard.base.input, price.parse().unwrap(), "{model}");
    }
    for model in ["gpt-5.5", "gpt-5-mini", "gpt-4.1", "gpt-4o", "o3", "o4-mini"] {
        find(model);
    }
}

/// Amazon asks the vendor's own price, a tenth more within one part of the world, two tenths more of the government.
#[test]
fn a_model_at_bedrock_costs_what_it_does_there() {
    let rows = read("prices.toml", SHIPPED).unwrap();
    let find = |name: &str| rows.iter().find(|row| row.model == name);
    let at_bedrock: Vec<_> = rows
        .iter()
        .filter(|row| row.model.contains("anthropic.claude"))
        .collect();
    assert_eq!(at_bedrock.len(), 100);
    for row in at_bedrock {
        let (place, model) = row.model.split_once("anthropic.").unwrap();
        let times = match place {
            "" | "global." => "1",
            "us-gov." => "1.2",
            _ => "1.1",
        };
        let own = model.trim_end_matches(":0").trim_end_matches("-v1");
        let own = &find(own).unwrap_or_else(|| panic!("{own}")).price.standard.base;
        let times = times.parse().unwrap();
        assert_eq!(row.price.standard.base, own.times(times).unwrap(), "{}", row.model);
    }

    // 7 read at 3.30 a million, 10,000 from the cache at 0.33, 2,000 into it at 4.125 and 500 for an hour at 6.60, 300
    // written at 16.50: 23.1 + 3,300 + 8,250 + 3,300 + 4,950 millionths.
    let usage = Usage {
        input: Tokens::new(12_507),
        cached: Tokens::new(10_000),
        cache_write: Tokens::new(2_500),
        cache_write_long: Tokens::new(500),
        output: Tokens::new(300),
        ..Usage::default()
    };
    let price = &find("us.anthropic.claude-sonnet-4-5-20250929-v1:0").unwrap().price;
    assert_eq!(price.cost(&usage, None, Times::ONE).amount.to_string(), "0.0198231");
    assert!(
        find("us.anthropic.claude-sonnet-9-v1:0").is_none(),
        "what is not listed has no price"
    );
}

#[test]
fn json_says_the_same_as_toml() {
    let toml = "source = 's'\n[[model]]\nname = 'm'\ninput = '1'\noutput = '2'\ncontext = 3\nmax_output = 4\n";
    let json = r#"{"source":"s","model":[{"name":"m","input":"1","output":"2","context":3,"max_output":4}]}"#;
    let rows = read("a.toml", toml).unwrap();
    assert_eq!(rows, read("a.json", json).unwrap());
    assert_eq!(rows[0].price.standard.base.cached.to_string(), "1.00");
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "verzion = '1'\n\
        [[model]]\nname = 'a'\ninput = 1.25\noutput = '-1'\ncontext = 0\nmax_output = 1\n\
        [[model]]\ninput = '1'\noutput = '1'\ncontext = 1\nmax_output = 1\nprice = 1\n\
        [[model]]\nname = 'b c'\ninput = '1'\noutput = '2000000'\ncontext = 1\n\
        [[model]]\nname = 'd'\ninput = '1'\noutput = '1'\ncontext = 1\nmax_output = 1\n\
        [[model]]\nname = 'd'\ninput = '1'\ncached = 'x'\ncontext = 1\nmax_output = 1\n";
    let told = read("p.toml", text).unwrap_err().to_string();
    for part in [
        "verzion: unknown key",
        "model 1 (a).input: is not a decimal in quotes",
        "model 1 (a).output: `-1` is negative",
        "model 1 (a).context: is no such number",
        "model 2: has no name",
        "model 2.price: unknown key",
        "model 3 (b c): is not a model's name",
        "model 3 (b c).output: 2000000.00 is absurd",
        "model 3 (b c).max_output: is missing",
        "model 5 (d): is in the list twice",
        "model 5 (d).cached: `x` is not an amount",
        "model 5 (d).output: is missing",
    ] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    assert_eq!(told.lines().count(), 12, "{told}");
}

#[test]
fn what_is_no_list_is_told_with_its_line() {
    for (text, part) in [
        ("[[model]]\nname = \n", "line 2"),
        ("{\"model\": ", "line 1"),
        ("", "there is no model"),
        ("model = []", "there is no model"),
        ("[]", "no"),
    ] {
        let told = read("p.toml", text).unwrap_err().to_string();
        assert!(told.contains(part), "{text}: {told}");
    }
}
