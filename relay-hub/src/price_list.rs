//! Reads a price list file, TOML or JSON with the same keys: decimal strings per million tokens, every problem at once.
//! Touches no database.

use std::collections::BTreeSet;

use relay_protocol::Tokens;
use relay_shared::config::Problems;
use serde_json::{Map, Value};

use crate::{
    money::{AmountError, Nanos, Price},
    store::prices::PriceRow,
};

/// The list that comes with this version.
pub const SHIPPED: &str = include_str!("../prices.toml");

/// Reads a list. `name` is used in the words of problems, and as the source where the file names none.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(name: &str, text: &str) -> Result<Vec<PriceRow>, Problems> {
    let mut at = Reader::default();
    let file = match parse(name, text) {
        Ok(file) => file,
        Err(problem) => {
            at.problems.push(shown(name), problem, "");
            return Err(at.problems);
        }
    };
    at.known("", &file, &FILE_KEYS);
    let version = at.maybe_text(&file, "version");
    let source = at.maybe_text(&file, "source");
    let mut origin = source.unwrap_or_else(|| name.to_owned());
    if let Some(version) = version {
        origin = format!("{origin}, {version}");
    }
    let rows = match file.get("model") {
        Some(Value::Array(lines)) if !lines.is_empty() => {
            let lines = lines.iter().enumerate();
            lines
                .filter_map(|(index, line)| at.entry(index, line, &origin))
                .collect()
        }
        _ => {
            at.problems
                .push("model", "there is no model in the list", "each begins with [[model]]");
            Vec::new()
        }
    };
    at.problems.or(rows)
}

/// One line from a command's words: the unit prices as a file would have them.
///
/// # Errors
/// Everything that is wrong with it.
pub fn one(
    name: &str,
    units: [(&str, Option<String>); 4],
    context: u64,
    max_output: u64,
) -> Result<PriceRow, Problems> {
    let mut line = Map::new();
    line.insert("name".to_owned(), name.into());
    line.insert("context".to_owned(), context.into());
    line.insert("max_output".to_owned(), max_output.into());
    for (key, unit) in units {
        unit.map(|unit| line.insert(key.to_owned(), unit.into()));
    }
    let mut at = Reader::default();
    match at.line("", &line, "relay-hub price set") {
        Some(row) => at.problems.or(row),
        None => Err(at.problems),
    }
}

fn parse(name: &str, text: &str) -> Result<Map<String, Value>, String> {
    let is_json = text.trim_start().starts_with('{') || name.ends_with(".json");
    let value: Value = if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        toml::from_str(text).map_err(|error| {
            let line = error.span().and_then(|span| text.get(..span.start));
            let line = line.map_or(1, |before| before.matches('\n').count() + 1);
            format!("{} in line {line}", error.message().lines().next().unwrap_or_default())
        })?
    };
    match value {
        Value::Object(file) => Ok(file),
        _ => Err("this is no price list".to_owned()),
    }
}

#[derive(Default)]
struct Reader {
    problems: Problems,
    /// Models named so far.
    seen: BTreeSet<String>,
}

impl Reader {
    fn entry(&mut self, index: usize, line: &Value, origin: &str) -> Option<PriceRow> {
        let place = format!("model {}", index + 1);
        let Value::Object(line) = line else {
            self.problems.push(place, "is no table", "each begins with [[model]]");
            return None;
        };
        let place = match line.get("name").and_then(Value::as_str) {
            Some(name) => format!("{place} ({})", shown(name)),
            None => place,
        };
        self.line(&place, line, origin)
    }

    fn line(&mut self, place: &str, line: &Map<String, Value>, origin: &str) -> Option<PriceRow> {
        self.known(place, line, &LINE_KEYS);
        let model = self.model(place, line.get("name").and_then(Value::as_str));
        let input = self.needed_price(place, line, "input");
        let output = self.needed_price(place, line, "output");
        let cached = self.price(place, line, "cached").or(input);
        let cache_write = self.price(place, line, "cache_write").or(input);
        let context = self.tokens(place, line, "context");
        let max_output = self.tokens(place, line, "max_output");
        Some(PriceRow {
            model: model?,
            price: Price {
                version: 0,
                input: input?,
                cached: cached?,
                cache_write: cache_write?,
                output: output?,
            },
            context: context?,
            max_output: max_output?,
            source: origin.to_owned(),
            at_ms: 0,
        })
    }

    fn known(&mut self, place: &str, table: &Map<String, Value>, keys: &[&str]) {
        for key in table.keys().filter(|key| !keys.contains(&key.as_str())) {
            let hint = format!("there are: {}", keys.join(", "));
            self.problems.push(dotted(place, &shown(key)), "unknown key", hint);
        }
    }

    fn model(&mut self, place: &str, name: Option<&str>) -> Option<String> {
        let Some(name) = name else {
            self.problems
                .push(place, "has no name", "name = \"gpt-…\", as the vendor calls the model");
            return None;
        };
        if !is_model_name(name) {
            let hint = format!("1 to {LONGEST_MODEL} letters, digits and signs, without spaces and quotes");
            self.problems.push(place, "is not a model's name", hint);
            return None;
        }
        if !self.seen.insert(name.to_owned()) {
            self.problems.push(place, "is in the list twice", "");
            return None;
        }
        Some(name.to_owned())
    }

    fn needed_price(&mut self, place: &str, line: &Map<String, Value>, key: &str) -> Option<Nanos> {
        if !line.contains_key(key) {
            self.problems.push(
                dotted(place, key),
                "is missing",
                format!("{key} = \"1.25\", per million tokens"),
            );
        }
        self.price(place, line, key)
    }

    fn price(&mut self, place: &str, line: &Map<String, Value>, key: &str) -> Option<Nanos> {
        let value = line.get(key)?;
        let Value::String(text) = value else {
            let hint = format!("{key} = \"1.25\": a text, so that nothing rounds it");
            self.problems
                .push(dotted(place, key), "is not a decimal in quotes", hint);
            return None;
        };
        match unit_price(text) {
            Ok(price) => Some(price),
            Err(problem) => {
                self.problems.push(dotted(place, key), problem, "");
                None
            }
        }
    }

    fn tokens(&mut self, place: &str, line: &Map<String, Value>, key: &str) -> Option<Tokens> {
        let found = line.get(key).and_then(Value::as_u64);
        match found.filter(|&count| (1..=MOST_TOKENS).contains(&count)) {
            Some(count) => Some(Tokens::new(count)),
            None => {
                let problem = if line.contains_key(key) {
                    "is no such number of tokens"
                } else {
                    "is missing"
                };
                let hint = format!("{key} = 128000: a number from 1 to {MOST_TOKENS}");
                self.problems.push(dotted(place, key), problem, hint);
                None
            }
        }
    }

    fn maybe_text(&mut self, file: &Map<String, Value>, key: &str) -> Option<String> {
        match file.get(key)? {
            Value::String(text) if text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control) => {
                Some(text.clone())
            }
            _ => {
                let hint = format!("one line in quotes of at most {LONGEST_TEXT} characters");
                self.problems.push(key, "cannot be kept", hint);
                None
            }
        }
    }
}

fn unit_price(text: &str) -> Result<Nanos, String> {
    let price: Nanos = text.parse().map_err(|error: AmountError| error.to_string())?;
    if price > DEAREST {
        return Err(format!("{price} per million tokens is absurd: at most {DEAREST}"));
    }
    Ok(price)
}

fn is_model_name(name: &str) -> bool {
    (1..=LONGEST_MODEL).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && !b"\"'`\\".contains(&b))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn dotted(place: &str, key: &str) -> String {
    if place.is_empty() {
        key.to_owned()
    } else {
        format!("{place}.{key}")
    }
}

const FILE_KEYS: [&str; 3] = ["version", "source", "model"];
const LINE_KEYS: [&str; 7] = [
    "name",
    "input",
    "cached",
    "cache_write",
    "output",
    "context",
    "max_output",
];
const MOST_TOKENS: u64 = 100_000_000;
const DEAREST: Nanos = Nanos::new(1_000_000_000_000_000);
const LONGEST_MODEL: usize = 128;
const LONGEST_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_list_is_sound() {
        let rows = read("prices.toml", SHIPPED).unwrap();
        for row in &rows {
            assert!(row.price.cached <= row.price.input, "{}", row.model);
            assert!(row.price.input < row.price.output, "{}", row.model);
            assert!(row.max_output <= row.context, "{}", row.model);
        }
        let codex = rows.iter().find(|row| row.model == "gpt-5.2-codex").unwrap();
        assert_eq!(codex.price.input.to_string(), "1.75");
        assert_eq!(codex.price.cached.to_string(), "0.175");
        assert_eq!(codex.price.cache_write, codex.price.input);
        for model in ["gpt-5.5", "gpt-5-mini", "gpt-4.1", "gpt-4o", "o3", "o4-mini"] {
            assert!(rows.iter().any(|row| row.model == model), "{model}");
        }
    }

    #[test]
    fn json_says_the_same_as_toml() {
        let toml = "source = 's'\n[[model]]\nname = 'm'\ninput = '1'\noutput = '2'\ncontext = 3\nmax_output = 4\n";
        let json = r#"{"source":"s","model":[{"name":"m","input":"1","output":"2","context":3,"max_output":4}]}"#;
        let rows = read("a.toml", toml).unwrap();
        assert_eq!(rows, read("a.json", json).unwrap());
        assert_eq!(rows[0].price.cached.to_string(), "1.00");
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
            "model 3 (b c).output: 2000000.00 per million tokens is absurd",
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
}
