use proptest::prelude::*;
use relay_protocol::ToolCalls;

use super::*;

fn unit(text: &str) -> Nanos {
    text.parse().unwrap()
}

fn rates(input: &str, cached: &str, output: &str) -> Rates {
    Rates::plain(unit(input), unit(cached), unit(input), unit(output))
}

fn price() -> Price {
    Price::plain(1, rates("1.25", "0.125", "10"))
}

fn usage(input: u64, cached: u64, output: u64) -> Usage {
    let t = Tokens::new;
    Usage {
        input: t(input),
        cached: t(cached),
        output: t(output),
        ..Usage::default()
    }
}

fn cost(price: &Price, usage: &Usage, tier: Option<&str>) -> Cost {
    price.cost(usage, tier, Times::ONE)
}

fn amount(price: &Price, usage: &Usage) -> String {
    cost(price, usage, None).amount.to_string()
}

#[test]
fn cached_input_is_part_of_the_input() {
    // 800 × 1.25 + 200 × 0.125 + 100 × 10, per million.
    assert_eq!(amount(&price(), &usage(1_000, 200, 100)), "0.002025");
}

#[test]
fn half_a_billionth_is_rounded_up_once() {
    for (input, expected) in [(500_000, 1), (499_999, 0)] {
        let mut price = price();
        price.standard.base.input = Nanos::new(input);
        assert_eq!(cost(&price, &usage(1, 0, 0), None).amount, Nanos::new(expected));
    }
    // 0.4 + 0.4 billionths: two roundings would give nothing.
    let mut price = price();
    price.standard.base = Rates::plain(Nanos::new(400_000), unit("0"), unit("0"), Nanos::new(400_000));
    assert_eq!(cost(&price, &usage(1, 0, 1), None).amount, Nanos::new(1));
    // 0.8 billionths, at 0.6 of the price: rounded before the factor it would be one.
    assert_eq!(
        price.cost(&usage(1, 0, 1), None, "0.6".parse().unwrap()).amount,
        Nanos::ZERO
    );
}

#[test]
fn what_nobody_can_pay_is_the_maximum() {
    let most = Most {
        input: Tokens::new(u64::MAX),
        output: Tokens::new(u64::MAX),
        ..Most::default()
    };
    assert_eq!(price().bound(&most, None, Times::ONE), Nanos::MAX);
}

#[test]
fn each_kind_of_token_has_its_price() {
    let mut price = price();
    price.standard.base = Rates {
        input: unit("1"),
        cached: unit("0.1"),
        cache_write: unit("2"),
        cache_write_long: Some(unit("4")),
        output: unit("10"),
        reasoning: Some(unit("20")),
        input_audio: Some(unit("40")),
        input_image: Some(unit("3")),
        output_audio: Some(unit("80")),
        output_image: Some(unit("30")),
    };
    price.tools.web_search = Some(unit("0.01"));
    let t = Tokens::new;
    let used = Usage {
        input: t(1_000_000),
        cached: t(100_000),
        cache_write: t(200_000),
        cache_write_long: t(50_000),
        input_audio: t(300_000),
        input_image: t(100_000),
        output: t(1_000_000),
        reasoning: t(400_000),
        output_audio: t(100_000),
        output_image: t(50_000),
        tools: ToolCalls {
            web_search: 3,
            ..ToolCalls::default()
        },
    };
    // In: 300k text, 100k read, 150k and 50k written, 300k sound, 100k pictures. Out: 450k, 400k, 100k, 50k.
    // 0.3 + 0.01 + 0.3 + 0.2 + 12 + 0.3, then 4.5 + 8 + 8 + 1.5, then three searches.
    assert_eq!(amount(&price, &used), "35.14");
}

#[test]
fn what_has_no_price_is_charged_at_the_dearest_and_told() {
    let mut sound = usage(1_000_000, 0, 0);
    sound.input_audio = Tokens::new(1_000_000);
    let found = cost(&price(), &sound, None);
    assert_eq!((found.amount, found.is_unpriced), (unit("1.25"), true));
    let mut searched = usage(0, 0, 0);
    searched.tools.other = 2;
    let mut price = price();
    price.tools.file_search = Some(unit("0.0025"));
    price.tools.web_search = Some(unit("0.01"));
    let found = cost(&price, &searched, None);
    assert_eq!((found.amount, found.is_unpriced), (unit("0.02"), true));
    assert!(!cost(&price, &usage(5, 5, 5), None).is_unpriced);
}

fn tiered() -> Price {
    let mut price = price();
    price.standard.long = vec![Long {
        above: Tokens::new(272_000),
        rates: rates("2.5", "0.25", "15"),
    }];
    let tier = |tier: &str, base: Rates| Service {
        tier: tier.to_owned(),
        tariff: Tariff { base, long: Vec::new() },
    };
    price.service = vec![
        tier("flex", rates("0.5", "0.05", "5")),
        tier("priority", rates("3", "0.3", "20")),
    ];
    price
}

#[test]
fn past_a_threshold_the_whole_call_is_rated_anew() {
    assert_eq!(amount(&tiered(), &usage(272_000, 0, 1_000_000)), "10.34");
    assert_eq!(amount(&tiered(), &usage(272_001, 0, 1_000_000)), "15.6800025");
}

#[test]
fn the_tier_that_the_vendor_names_is_charged() {
    let used = usage(1_000_000, 0, 0);
    let mut price = tiered();
    price.standard.long.clear();
    for (tier, expected, is_unknown) in [
        (None, "1.25", false),
        (Some("default"), "1.25", false),
        (Some("auto"), "1.25", false),
        (Some("flex"), "0.50", false),
        (Some("priority"), "3.00", false),
        (Some("ludicrous"), "3.00", true),
    ] {
        let found = cost(&price, &used, tier);
        assert_eq!(
            (found.amount.to_string().as_str(), found.is_unknown_tier),
            (expected, is_unknown),
            "{tier:?}"
        );
    }
}

#[test]
fn a_hold_covers_the_dearest_tier_that_may_come_back() {
    let most = Most {
        input: Tokens::new(1_000_000),
        ..Most::default()
    };
    let mut price = tiered();
    price.standard.long.clear();
    for (tier, expected) in [
        (None, "1.25"),
        (Some("flex"), "1.25"),
        (Some("priority"), "3.00"),
        (Some("auto"), "3.00"),
        (Some("ludicrous"), "3.00"),
    ] {
        assert_eq!(price.bound(&most, tier, Times::ONE).to_string(), expected, "{tier:?}");
    }
}

#[test]
fn a_price_is_the_same_after_it_was_written_down() {
    let mut price = tiered();
    price.tools.web_search = Some(unit("0.01"));
    price.standard.base.input_audio = Some(unit("40"));
    price.version = 0;
    let text = serde_json::to_string(&price).unwrap();
    assert_eq!(serde_json::from_str::<Price>(&text).unwrap(), price);
    assert!(!text.contains("reasoning"), "{text}");
}

fn some_rates() -> impl Strategy<Value = Rates> {
    let one = || (0_i64..=1_000_000_000_000).prop_map(Nanos::new);
    let maybe = || prop::option::of(one());
    let needed = (one(), one(), one(), one());
    let rest = (maybe(), maybe(), maybe(), maybe(), maybe(), maybe());
    (needed, rest).prop_map(|((input, cached, cache_write, output), rest)| Rates {
        cache_write_long: rest.0,
        reasoning: rest.1,
        input_audio: rest.2,
        input_image: rest.3,
        output_audio: rest.4,
        output_image: rest.5,
        ..Rates::plain(input, cached, cache_write, output)
    })
}

fn a_tariff() -> impl Strategy<Value = Tariff> {
    let long = prop::collection::btree_map(1_u64..1_000_000, some_rates(), 0..3);
    (some_rates(), long).prop_map(|(base, long)| Tariff {
        base,
        long: long
            .into_iter()
            .map(|(above, rates)| Long {
                above: Tokens::new(above),
                rates,
            })
            .collect(),
    })
}

fn a_price() -> impl Strategy<Value = Price> {
    let tool = || prop::option::of((0_i64..=1_000_000_000).prop_map(Nanos::new));
    let tools = (tool(), tool(), tool(), tool());
    (a_tariff(), a_tariff(), tools).prop_map(|(standard, flex, tools)| Price {
        version: 1,
        standard,
        service: vec![Service {
            tier: "flex".into(),
            tariff: flex,
        }],
        tools: ToolPrices {
            web_search: tools.0,
            file_search: tools.1,
            code_interpreter: tools.2,
            image_generation: tools.3,
        },
    })
}

fn some_usage() -> impl Strategy<Value = Usage> {
    let count = || 0_u64..2_000_000;
    let parts = prop::collection::vec(count(), 10);
    (parts, prop::collection::vec(0_u32..5, 5)).prop_map(|(parts, tools)| {
        let t = |at: usize| Tokens::new(parts[at]);
        let part = |at: usize, of: u64| Tokens::new(parts[at] % (of + 1));
        let cached = part(1, parts[0]);
        let cache_write = part(2, parts[0] - cached.get());
        let input_audio = part(4, parts[0]);
        let reasoning = part(7, parts[6]);
        let output_audio = part(8, parts[6] - reasoning.get());
        Usage {
            input: t(0),
            cached,
            cache_write,
            cache_write_long: part(3, cache_write.get()),
            input_audio,
            input_image: part(5, parts[0] - input_audio.get()),
            output: t(6),
            reasoning,
            output_audio,
            output_image: part(9, parts[6] - reasoning.get() - output_audio.get()),
            tools: ToolCalls {
                web_search: tools[0],
                file_search: tools[1],
                code_interpreter: tools[2],
                image_generation: tools[3],
                other: tools[4],
            },
        }
    })
}

fn a_tier() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, Some("default"), Some("flex"), Some("auto"), Some("unknown")])
}

proptest! {
    #[test]
    fn the_bound_covers_the_cost(price in a_price(), used in some_usage(), asked in a_tier(), millionths in 0_i64..=3_000_000) {
        let times = Times::from_millionths(millionths).unwrap();
        let tools = used.tools;
        let most = Most {
            input: used.input,
            output: used.output,
            tools: tools.web_search + tools.file_search + tools.code_interpreter + tools.image_generation + tools.other,
            kinds: Kinds { audio: true, image: true, long_cache: true },
        };
        let bound = price.bound(&most, asked, times);
        // What can come back: the tier asked for or the default one; anything where the vendor may choose.
        let served = if matches!(asked, Some("auto" | "unknown")) { vec![None, Some("flex"), Some("x")] } else { vec![None, asked] };
        for tier in served {
            prop_assert!(price.cost(&used, tier, times).amount <= bound, "{tier:?}");
        }
    }

    #[test]
    fn more_tokens_never_cost_less_within_a_tier(price in a_price(), used in some_usage(), more in 0_u64..1000) {
        let mut price = price;
        price.standard.long.clear();
        let mut larger = used;
        larger.output = Tokens::new(used.output.get() + more);
        larger.input = Tokens::new(used.input.get() + more);
        prop_assert!(cost(&price, &used, None).amount <= cost(&price, &larger, None).amount);
    }

    #[test]
    fn tiers_that_rise_keep_the_cost_rising(base in some_rates(), step in some_rates(), used in some_usage(), above in 1_u64..2_000_000, more in 0_u64..1000) {
        let mut price = Price::plain(1, base);
        price.standard.long = vec![Long { above: Tokens::new(above), rates: base.dearer(&step) }];
        let mut larger = used;
        larger.input = Tokens::new(used.input.get() + more);
        prop_assert!(cost(&price, &used, None).amount <= cost(&price, &larger, None).amount);
    }

    #[test]
    fn every_token_is_charged_once(used in some_usage(), price in 1_i64..1_000_000) {
        let each = Nanos::new(price * 1_000_000);
        let one = Some(each);
        let flat = Rates { cache_write_long: one, reasoning: one, input_audio: one, input_image: one, output_audio: one, output_image: one,
            ..Rates::plain(each, each, each, each) };
        let mut used = used;
        used.tools = ToolCalls::default();
        let tokens = i64::try_from(used.input.get() + used.output.get()).unwrap();
        prop_assert_eq!(cost(&Price::plain(1, flat), &used, None).amount.get(), tokens * price);
    }
}
