//! Reads a price list file: decimal strings per million tokens, every problem at once. Knows no store.

use std::collections::HashSet;

use relay_protocol::Tokens;
use relay_shared::config::{Problems, load_toml};
use serde::Deserialize;

use crate::{
    money::{Nanos, Price},
    store::prices::PriceRow,
};

/// The list that comes with this version.
pub const SHIPPED: &str = include_str!("../prices.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: String,
    /// The list's own word for its date or edition.
    version: String,
    model: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    input: String,
    cached: Option<String>,
    cache_write: Option<String>,
    output: String,
    context: u64,
    max_output: u64,
}

/// Reads a list. `file` is for the problems' words.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &str, text: &str) -> Result<Vec<PriceRow>, Problems> {
    let File { source, version, model } = load_toml(file, text)?;
    let mut problems = Problems::new();
    let (mut rows, mut seen) = (Vec::new(), HashSet::new());
    for line in &model {
        if !seen.insert(line.name.as_str()) {
            problems.push(
                format!("model `{}`", shown(&line.name)),
                "is listed twice",
                "keep one of the lines",
            );
        }
        match row(line, format!("{source}, {version}")) {
            Ok(row) => rows.push(row),
            Err(found) => problems.append(found),
        }
    }
    problems.or(rows)
}

fn row(line: &Line, source: String) -> Result<PriceRow, Problems> {
    let Line {
        name,
        input,
        cached,
        cache_write,
        output,
        context,
        max_output,
    } = line;
    let cached = cached.as_ref().unwrap_or(input);
    let cache_write = cache_write.as_ref().unwrap_or(input);
    let mut problems = Problems::new();
    let key = format!("model `{}`", shown(name));
    let mut unit = |column: &str, text: &str| match text.parse::<Nanos>() {
        Ok(price) if price <= DEAREST => price,
        Ok(price) => {
            problems.push(
                format!("{key}, {column}"),
                format!("{price} per million tokens is absurd"),
                "at most 1,000,000",
            );
            Nanos::ZERO
        }
        Err(error) => {
            problems.push(
                format!("{key}, {column}"),
                error.to_string(),
                "a decimal string per million tokens, like \"1.25\"",
            );
            Nanos::ZERO
        }
    };
    let price = Price {
        version: 0,
        input: unit("input", input),
        cached: unit("cached", cached),
        cache_write: unit("cache_write", cache_write),
        output: unit("output", output),
    };
    if !is_model_name(name) {
        problems.push(
            &key,
            "is not a model's name",
            "1 to 128 visible characters without spaces",
        );
    }
    for (column, count) in [("context", *context), ("max_output", *max_output)] {
        if !(1..=100_000_000).contains(&count) {
            problems.push(
                format!("{key}, {column}"),
                format!("{count} is out of range"),
                "from 1 to 100,000,000 tokens",
            );
        }
    }
    let (context, max_output) = (Tokens::new(*context), Tokens::new(*max_output));
    problems.or(PriceRow {
        model: name.clone(),
        price,
        context,
        max_output,
        source,
        at_ms: 0,
    })
}

/// One line from a command's words.
///
/// # Errors
/// Everything that is wrong with it.
pub fn one(
    name: &str,
    [input, cached, cache_write, output]: [Option<&str>; 4],
    context: u64,
    max_output: u64,
) -> Result<PriceRow, Problems> {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let line = Line {
        name: name.to_owned(),
        input: text(input).unwrap_or_default(),
        cached: text(cached),
        cache_write: text(cache_write),
        output: text(output).unwrap_or_default(),
        context,
        max_output,
    };
    row(&line, "price set".to_owned())
}

fn is_model_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

const DEAREST: Nanos = Nanos::new(1_000_000_000_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_list_is_sound() {
        let rows = read("prices.toml", SHIPPED).unwrap();
        for model in [
            "gpt-5.2",
            "gpt-5.2-codex",
            "gpt-5.5",
            "gpt-5-mini",
            "gpt-4.1",
            "gpt-4o",
            "o3",
            "o4-mini",
        ] {
            assert!(rows.iter().any(|row| row.model == model), "{model}");
        }
        for row in rows {
            assert!(
                row.price.cached <= row.price.input && row.price.input < row.price.output,
                "{}",
                row.model
            );
            assert!(row.max_output <= row.context, "{}", row.model);
        }
    }

    #[test]
    fn all_problems_of_a_list_are_told_at_once() {
        let text = "source = \"s\"\nversion = \"d\"\n[[model]]\nname = \"a\"\ninput = \"-1\"\noutput = \"1.2345678901\"\ncontext = 0\nmax_output = 1\n\
                    [[model]]\nname = \"a\"\ninput = \"1\"\noutput = \"999999999\"\ncontext = 1\nmax_output = 1\n";
        let problems = read("x.toml", text).unwrap_err().to_string();
        for part in ["negative", "decimals", "context", "listed twice", "absurd"] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        assert!(read("x.toml", "source = 1").is_err());
    }
}
