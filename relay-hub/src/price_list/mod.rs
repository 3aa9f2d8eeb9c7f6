//! Reads a price list file, TOML or JSON with the same keys: decimal strings, every problem at once with its line.
//! Touches no database.

mod line;

use std::collections::BTreeSet;

use relay_shared::config::Problems;
use serde_json::Value;

use self::line::Reader;
use crate::{
    money::ToolPrices,
    store::prices::PriceRow,
    tree::{Kind, Node, Table, shown},
};

/// The list that comes with this version.
pub const SHIPPED: &str = include_str!("../../prices.toml");

/// Reads a list. `name` is used in the words of problems, and as the source where the file names none.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(name: &str, text: &str) -> Result<Vec<PriceRow>, Problems> {
    let file = Node::parse(name, text)?;
    let mut at = Reader::default();
    at.known("", &file, &FILE_KEYS);
    let version = maybe_text(&mut at, &file, "version");
    let source = maybe_text(&mut at, &file, "source");
    let mut origin = source.unwrap_or_else(|| name.to_owned());
    if let Some(version) = version {
        origin = format!("{origin}, {version}");
    }
    let tools = at.tools("", &file, ToolPrices::default());
    let rows = match file.get("model").map(|node| &node.kind) {
        Some(Kind::List(lines)) if !lines.is_empty() => {
            let lines = lines.iter().enumerate();
            let mut seen = BTreeSet::new();
            lines
                .filter_map(|(index, node)| entry(&mut at, &mut seen, index, node, tools, &origin))
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

/// One line from a command's words, with the keys of a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn one(line: Value) -> Result<PriceRow, Problems> {
    let mut at = Reader::default();
    let Kind::Table(line) = Node::of_json(line).kind else {
        return Err(at.problems);
    };
    match at.row("", &line, ToolPrices::default(), "relay-hub price set") {
        Some(row) => at.problems.or(row),
        None => Err(at.problems),
    }
}

fn entry(
    at: &mut Reader,
    seen: &mut BTreeSet<String>,
    index: usize,
    node: &Node,
    tools: ToolPrices,
    origin: &str,
) -> Option<PriceRow> {
    let line = match node.line {
        0 => String::new(),
        line => format!("line {line}: "),
    };
    let place = format!("{line}model {}", index + 1);
    let Kind::Table(table) = &node.kind else {
        at.problems.push(place, "is no table", "each begins with [[model]]");
        return None;
    };
    let name = match table.get("name").map(|node| &node.kind) {
        Some(Kind::Text(name)) => Some(name),
        _ => None,
    };
    let place = name.map_or(place.clone(), |name| format!("{place} ({})", shown(name)));
    let row = at.row(&place, table, tools, origin);
    if name.is_some_and(|name| !seen.insert(name.clone())) {
        at.problems
            .push(place, "is in the list twice", "leave one of the two out");
    }
    row
}

fn maybe_text(at: &mut Reader, file: &Table, key: &str) -> Option<String> {
    match &file.get(key)?.kind {
        Kind::Text(text) if text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control) => {
            Some(text.clone())
        }
        _ => {
            let hint = format!("one line in quotes of at most {LONGEST_TEXT} characters");
            at.problems.push(key, "cannot be kept", hint);
            None
        }
    }
}

const FILE_KEYS: [&str; 4] = ["version", "source", "tools", "model"];
const LONGEST_TEXT: usize = 200;

#[cfg(test)]
mod tests;
