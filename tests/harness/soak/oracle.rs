//! What a call must cost, computed here alone: prices, tenants' factors, and an arithmetic that shares no code with
//! the hub.

use std::fmt::Write;

use relay_tests::vendor::Usage;

/// Billionths of the unit for a million tokens.
#[derive(Clone, Copy)]
struct Price {
    input: i64,
    cached: i64,
    output: i64,
    reasoning: Option<i64>,
}

struct Model {
    letter: u8,
    price: Price,
    /// The whole call costs this once its input is more.
    long: Option<(u64, Price)>,
}

const fn price(input: i64, cached: i64, output: i64, reasoning: Option<i64>) -> Price {
    Price {
        input,
        cached,
        output,
        reasoning,
    }
}

/// Prices that leave something to round at nearly every call.
const MODELS: [Model; 4] = [
    Model {
        letter: b'a',
        price: price(1_234_567_891, 123_456_789, 9_876_543_217, None),
        long: None,
    },
    Model {
        letter: b'b',
        price: price(1, 1, 3, None),
        long: None,
    },
    Model {
        letter: b'c',
        price: price(15_000_000_000, 1_500_000_000, 120_000_000_000, Some(60_000_000_001)),
        long: None,
    },
    Model {
        letter: b'd',
        price: price(2_000_000_000, 200_000_000, 10_000_000_000, None),
        long: Some((100_000, price(4_000_000_007, 400_000_000, 15_000_000_000, None))),
    },
];
/// What some tenants pay for model `a`, whatever their factor.
const OWN: Price = price(3_300_000_000, 33_000_000, 7_700_000_001, None);

/// The letters of the models' names.
pub(crate) fn models() -> [u8; 4] {
    [b'a', b'b', b'c', b'd']
}

/// By how many millionths of the list's price a tenant pays; none as the list says.
pub(crate) fn times(tenant: u16) -> Option<i64> {
    (!tenant.is_multiple_of(7)).then(|| 700_001 + i64::from(tenant) * 13_337)
}

/// Whether a tenant has a price of its own for model `a`: input, cached, output as the command line takes them.
pub(crate) fn own(tenant: u16) -> Option<[String; 3]> {
    (tenant % 8 == 3).then(|| [OWN.input, OWN.cached, OWN.output].map(decimal))
}

/// What a call costs, in billionths.
pub(crate) fn cost(tenant: u16, model: u8, usage: Usage) -> i64 {
    let Some(model) = MODELS.iter().find(|known| known.letter == model) else {
        return 0;
    };
    let has_own = model.letter == b'a' && own(tenant).is_some();
    let (price, times) = match &model.long {
        _ if has_own => (OWN, 1_000_000),
        Some((above, long)) if usage.input > *above => (*long, times(tenant).unwrap_or(1_000_000)),
        _ => (model.price, times(tenant).unwrap_or(1_000_000)),
    };
    let reasoning = price.reasoning.unwrap_or(price.output);
    let parts = [
        (usage.input - usage.cached, price.input),
        (usage.cached, price.cached),
        (usage.output - usage.reasoning, price.output),
        (usage.reasoning, reasoning),
    ];
    let sum: i128 = parts
        .iter()
        .map(|(tokens, price)| i128::from(*tokens) * i128::from(*price))
        .sum();
    let millionths_of_millionths = sum * i128::from(times);
    // Half up.
    i64::try_from((millionths_of_millionths + 500_000_000_000) / 1_000_000_000_000).unwrap_or(i64::MAX)
}

/// The price list as a file.
pub(crate) fn price_list() -> String {
    let mut list = "version = \"soak\"\nsource = \"the soak\"\n".to_owned();
    for model in &MODELS {
        let name = format!("soak-{}", char::from(model.letter));
        write!(
            list,
            "\n[[model]]\nname = \"{name}\"\ncontext = 4000000\nmax_output = 1280000\n"
        )
        .expect("a string grows");
        list.push_str(&lines(model.price));
        if let Some((above, long)) = &model.long {
            write!(list, "\n[[model.long]]\nabove = {above}\n{}", lines(*long)).expect("a string grows");
        }
    }
    list
}

fn lines(price: Price) -> String {
    let reasoning = price
        .reasoning
        .map(|reasoning| format!("reasoning = \"{}\"\n", decimal(reasoning)));
    format!(
        "input = \"{}\"\ncached = \"{}\"\noutput = \"{}\"\n{}",
        decimal(price.input),
        decimal(price.cached),
        decimal(price.output),
        reasoning.unwrap_or_default()
    )
}

/// Billionths as the decimal that commands take.
pub(crate) fn decimal(nanos: i64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// A decimal that commands print, in billionths.
pub(crate) fn nanos(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let part: i64 = format!("{part:0<9}").parse().ok()?;
    Some(
        sign * (whole
            .parse::<i64>()
            .ok()?
            .checked_mul(1_000_000_000)?
            .checked_add(part)?),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_worked_out_by_hand() {
        let usage = |input, cached, output, reasoning| Usage {
            input,
            cached,
            output,
            reasoning,
        };
        // 1000000 tokens at 15.00, half of them cached at 1.50; 0.25 M out at 120, of which 0.05 M at 60.000000001.
        let usage_c = usage(1_000_000, 500_000, 250_000, 50_000);
        assert_eq!(
            cost(0, b'c', usage_c),
            7_500_000_000 + 750_000_000 + 24_000_000_000 + 3_000_000_000
        );
        // One token at a billionth for a million rounds down, half a million of them to one.
        assert_eq!(
            (cost(0, b'b', usage(1, 0, 0, 0)), cost(0, b'b', usage(500_000, 0, 0, 0))),
            (0, 1)
        );
        // The whole call past the threshold.
        assert_eq!(cost(0, b'd', usage(100_000, 0, 0, 0)), 200_000_000);
        assert_eq!(cost(0, b'd', usage(100_001, 0, 0, 0)), 400_004_001);
        // Tenant 1 pays 0.713338 times; tenant 3 its own price for `a`, without its factor.
        assert_eq!(cost(1, b'd', usage(100_000, 0, 0, 0)), 142_667_600);
        assert_eq!(cost(3, b'a', usage(1_000_000, 0, 0, 0)), 3_300_000_000);
        assert_eq!(nanos("12.05"), Some(12_050_000_000));
        assert_eq!(nanos(&decimal(1_000_000_007)), Some(1_000_000_007));
    }
}
