//! One model's line of a price list: its prices by kind, size, service tier and tool.

use relay_protocol::Tokens;
use relay_shared::config::Problems;

use crate::{
    money::{AmountError, Long, Nanos, Price, Rates, Service, Tariff, Times, ToolPrices},
    store::prices::PriceRow,
    tree::{Kind, Node, Table, shown},
};

/// Collects what is wrong while it reads.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Problems,
}

impl Reader {
    /// A model's line; `tools` are the file's prices for those that it does not name.
    pub(super) fn row(&mut self, place: &str, line: &Table, tools: ToolPrices, origin: &str) -> Option<PriceRow> {
        self.known(place, line, &LINE_KEYS);
        let model = self.model(place, line.get("name"));
        let base = self.rates(place, line, None);
        let long = base.map(|base| self.long(place, line, &base));
        let tools = self.tools(place, line, tools);
        let context = self.tokens(place, line, "context");
        let max_output = self.tokens(place, line, "max_output");
        let standard = Tariff {
            base: base?,
            long: long?,
        };
        let service = self.service(place, line, &standard);
        Some(PriceRow {
            model: model?,
            price: Price {
                version: 0,
                standard,
                service,
                tools,
            },
            context: context?,
            max_output: max_output?,
            source: origin.to_owned(),
            at_ms: 0,
        })
    }

    pub(super) fn known(&mut self, place: &str, table: &Table, keys: &[&str]) {
        for (key, node) in table.0.iter().filter(|(key, _)| !keys.contains(&key.as_str())) {
            let hint = format!("there are: {}", keys.join(", "));
            self.push(place, &shown(key), node, "unknown key", hint);
        }
    }

    /// Prices of tools; what is not named is as `otherwise`.
    pub(super) fn tools(&mut self, place: &str, line: &Table, otherwise: ToolPrices) -> ToolPrices {
        let Some(node) = line.get("tools") else {
            return otherwise;
        };
        let Kind::Table(tools) = &node.kind else {
            let hint = "[tools] with lines such as web_search = \"0.01\", per call";
            self.push(place, "tools", node, "is no table", hint);
            return otherwise;
        };
        let place = dotted(place, "tools");
        self.known(&place, tools, &TOOL_KEYS);
        let mut price = |key: &str, otherwise: Option<Nanos>| self.price(&place, tools, key).or(otherwise);
        ToolPrices {
            web_search: price("web_search", otherwise.web_search),
            file_search: price("file_search", otherwise.file_search),
            code_interpreter: price("code_interpreter", otherwise.code_interpreter),
            image_generation: price("image_generation", otherwise.image_generation),
        }
    }

    /// Prices of tokens. What a tier does not name of the rarer kinds costs as in `base`.
    fn rates(&mut self, place: &str, line: &Table, base: Option<&Rates>) -> Option<Rates> {
        let input = self.needed_price(place, line, "input");
        let output = self.needed_price(place, line, "output");
        let cached = self.price(place, line, "cached").or(input);
        let cache_write = self.price(place, line, "cache_write").or(input);
        let mut rare =
            |key: &str, pick: fn(&Rates) -> Option<Nanos>| self.price(place, line, key).or_else(|| base.and_then(pick));
        let rates = Rates {
            cache_write_long: rare("cache_write_long", |base| base.cache_write_long),
            reasoning: rare("reasoning", |_| None),
            input_audio: rare("input_audio", |base| base.input_audio),
            input_image: rare("input_image", |_| None),
            output_audio: rare("output_audio", |base| base.output_audio),
            output_image: rare("output_image", |base| base.output_image),
            ..Rates::plain(input?, cached?, cache_write?, output?)
        };
        Some(rates)
    }

    /// Prices past thresholds, which must rise.
    fn long(&mut self, place: &str, line: &Table, base: &Rates) -> Vec<Long> {
        let mut all: Vec<Long> = Vec::new();
        for (index, node) in self.list(place, line, "long").iter().enumerate() {
            let place = dotted(place, &format!("long {}", index + 1));
            let Some(table) = self.table(&place, node) else {
                continue;
            };
            let keys: Vec<_> = RATE_KEYS.into_iter().chain(["above"]).collect();
            self.known(&place, table, &keys);
            let above = self.tokens(&place, table, "above");
            let rates = self.rates(&place, table, Some(base));
            let (Some(above), Some(rates)) = (above, rates) else {
                continue;
            };
            if all.last().is_some_and(|last| last.above >= above) {
                let hint = "write the thresholds from the lowest to the highest";
                self.push(&place, "above", node, "is not above the one before", hint);
            }
            all.push(Long { above, rates });
        }
        all
    }

    /// The other service tiers, each with a factor or with prices of its own.
    fn service(&mut self, place: &str, line: &Table, standard: &Tariff) -> Vec<Service> {
        let mut all: Vec<Service> = Vec::new();
        for (index, node) in self.list(place, line, "service").iter().enumerate() {
            let place = dotted(place, &format!("service {}", index + 1));
            let Some(table) = self.table(&place, node) else {
                continue;
            };
            let keys: Vec<_> = RATE_KEYS.into_iter().chain(["tier", "times", "long"]).collect();
            self.known(&place, table, &keys);
            let Some(tier) = self.tier(&place, node, table) else {
                continue;
            };
            if all.iter().any(|known| known.tier == tier) {
                self.push(&place, "tier", node, "has prices twice", "leave one of the two out");
            }
            if let Some(tariff) = self.tariff(&place, table, standard) {
                all.push(Service { tier, tariff });
            }
        }
        all
    }

    fn tier(&mut self, place: &str, node: &Node, table: &Table) -> Option<String> {
        let is_name = |text: &str| {
            (1..=LONGEST_TIER).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        match table.get("tier").map(|node| &node.kind) {
            Some(Kind::Text(text)) if matches!(text.as_str(), "default" | "standard" | "auto") => {
                let hint = "its prices are those of the model itself";
                self.push(place, "tier", node, "is the default tier", hint);
                None
            }
            Some(Kind::Text(text)) if is_name(text) => Some(text.clone()),
            _ => {
                let hint = "tier = \"flex\", as the vendor calls it";
                self.push(place, "tier", node, "is no name of a service tier", hint);
                None
            }
        }
    }

    fn tariff(&mut self, place: &str, table: &Table, standard: &Tariff) -> Option<Tariff> {
        let Some(factor) = table.get("times") else {
            let base = self.rates(place, table, Some(&standard.base))?;
            let mut long = self.long(place, table, &base);
            if long.is_empty() {
                // Where the list does not say, the dearer of the two: never too little.
                let dearer = |long: &Long| Long {
                    above: long.above,
                    rates: base.dearer(&long.rates),
                };
                long = standard.long.iter().map(dearer).collect();
            }
            return Some(Tariff { base, long });
        };
        if table.get("input").is_some() || table.get("output").is_some() {
            let hint = "either times or prices";
            self.push(place, "times", factor, "stands beside prices", hint);
        }
        let times = match &factor.kind {
            Kind::Text(text) => text.parse::<Times>().ok(),
            _ => None,
        };
        let Some(times) = times else {
            let hint = "times = \"0.5\": from 0 to 1000, with at most six decimals";
            self.push(place, "times", factor, "is no factor", hint);
            return None;
        };
        let tariff = multiplied(standard, times);
        if tariff.is_none() {
            let hint = "write the prices of this tier out";
            self.push(place, "times", factor, "does not come out even", hint);
        }
        tariff
    }

    fn list<'a>(&mut self, place: &str, line: &'a Table, key: &str) -> &'a [Node] {
        match line.get(key).map(|node| (node, &node.kind)) {
            None => &[],
            Some((_, Kind::List(list))) => list,
            Some((node, _)) => {
                let hint = format!("each begins with [[model.{key}]]");
                self.push(place, key, node, "is no list of tables", hint);
                &[]
            }
        }
    }

    fn table<'a>(&mut self, place: &str, node: &'a Node) -> Option<&'a Table> {
        match &node.kind {
            Kind::Table(table) => Some(table),
            _ => {
                self.problems
                    .push(place, "is no table", "begin it with double brackets");
                None
            }
        }
    }

    fn model(&mut self, place: &str, name: Option<&Node>) -> Option<String> {
        let Some(Kind::Text(name)) = name.map(|node| &node.kind) else {
            self.problems
                .push(place, "has no name", "name = \"gpt-…\", as the vendor calls the model");
            return None;
        };
        if !is_model_name(name) {
            let hint = format!("1 to {LONGEST_MODEL} letters, digits and signs, without spaces and quotes");
            self.problems.push(place, "is not a model's name", hint);
            return None;
        }
        Some(name.clone())
    }

    fn needed_price(&mut self, place: &str, line: &Table, key: &str) -> Option<Nanos> {
        if line.get(key).is_none() {
            let hint = format!("{key} = \"1.25\", per million tokens");
            self.problems.push(dotted(place, key), "is missing", hint);
        }
        self.price(place, line, key)
    }

    fn price(&mut self, place: &str, line: &Table, key: &str) -> Option<Nanos> {
        let node = line.get(key)?;
        let Kind::Text(text) = &node.kind else {
            let hint = format!("{key} = \"1.25\": a text, so that nothing rounds it");
            self.push(place, key, node, "is not a decimal in quotes", hint);
            return None;
        };
        let hint = "a decimal such as \"1.25\"";
        match unit_price(text) {
            Ok(price) => Some(price),
            Err(problem) => {
                self.push(place, key, node, problem, hint);
                None
            }
        }
    }

    fn tokens(&mut self, place: &str, line: &Table, key: &str) -> Option<Tokens> {
        let hint = format!("{key} = 128000: a number from 1 to {MOST_TOKENS}");
        let Some(node) = line.get(key) else {
            self.problems.push(dotted(place, key), "is missing", hint);
            return None;
        };
        match node.kind {
            Kind::Number(count) if (1..=MOST_TOKENS).contains(&count) => Some(Tokens::new(count)),
            _ => {
                self.push(place, key, node, "is no such number of tokens", hint);
                None
            }
        }
    }

    /// A problem of one key, told with the line of that key.
    fn push(&mut self, place: &str, key: &str, node: &Node, problem: impl Into<String>, hint: impl Into<String>) {
        let key = dotted(place, key);
        let place = match (node.line, key.split_once(": ")) {
            (0, _) => key,
            (line, Some((before, rest))) if before.starts_with("line ") => format!("line {line}: {rest}"),
            (line, _) => format!("line {line}: {key}"),
        };
        self.problems.push(place, problem, hint);
    }
}

fn multiplied(tariff: &Tariff, times: Times) -> Option<Tariff> {
    let long = tariff.long.iter().map(|long| {
        let rates = long.rates.times(times)?;
        Some(Long {
            above: long.above,
            rates,
        })
    });
    Some(Tariff {
        base: tariff.base.times(times)?,
        long: long.collect::<Option<_>>()?,
    })
}

fn unit_price(text: &str) -> Result<Nanos, String> {
    let price: Nanos = text.parse().map_err(|error: AmountError| error.to_string())?;
    if price > DEAREST {
        return Err(format!("{price} is absurd: at most {DEAREST}"));
    }
    Ok(price)
}

fn is_model_name(name: &str) -> bool {
    (1..=LONGEST_MODEL).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && !b"\"'`\\".contains(&b))
}

fn dotted(place: &str, key: &str) -> String {
    if place.is_empty() {
        key.to_owned()
    } else {
        format!("{place}.{key}")
    }
}

const RATE_KEYS: [&str; 10] = [
    "input",
    "cached",
    "cache_write",
    "cache_write_long",
    "output",
    "reasoning",
    "input_audio",
    "input_image",
    "output_audio",
    "output_image",
];
const LINE_KEYS: [&str; 16] = [
    "name",
    "input",
    "cached",
    "cache_write",
    "cache_write_long",
    "output",
    "reasoning",
    "input_audio",
    "input_image",
    "output_audio",
    "output_image",
    "context",
    "max_output",
    "tools",
    "long",
    "service",
];
const TOOL_KEYS: [&str; 4] = ["web_search", "file_search", "code_interpreter", "image_generation"];
const MOST_TOKENS: u64 = 100_000_000;
const DEAREST: Nanos = Nanos::new(1_000_000_000_000_000);
const LONGEST_MODEL: usize = 128;
const LONGEST_TIER: usize = 32;
