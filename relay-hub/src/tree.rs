//! An operator's file as a tree that remembers its lines, from TOML or JSON. Knows no key of any file.

use relay_shared::config::Problems;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

/// A value and the line it stands in.
pub(crate) struct Node {
    /// From 1; 0 where it is not known.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Text(String),
    Number(u64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// What no file of ours has.
    Other,
}

/// Members in their order.
#[derive(Default)]
pub(crate) struct Table(pub(crate) Vec<(String, Node)>);

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }
}

impl Node {
    /// Reads a file's text.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Table, Problems> {
        if text.trim_start().starts_with('{') || name.ends_with(".json") {
            return Self::parse_json(name, text);
        }
        let (table, broken) = DeTable::parse_recoverable(text);
        let mut problems = Problems::new();
        for error in &broken {
            let at = error.span().map_or(1, |span| line(text, span.start));
            let problem = error.message().lines().next().unwrap_or_default();
            problems.push(format!("{} line {at}", shown(name)), problem, "write it as TOML");
        }
        problems.or(Table::of_toml(text, table.into_inner()))
    }

    fn parse_json(name: &str, text: &str) -> Result<Table, Problems> {
        let mut problems = Problems::new();
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => {
                let members = map.into_iter().map(|(key, value)| (key, Self::of_json(value)));
                return Ok(Table(members.collect()));
            }
            Ok(_) => problems.push(shown(name), "this is no table", "begin with {"),
            Err(error) => {
                let at = format!("{} line {}", shown(name), error.line());
                problems.push(at, error.to_string(), "write it as JSON");
            }
        }
        Err(problems)
    }

    /// The same from a value without lines.
    pub(crate) fn of_json(value: Value) -> Self {
        let kind = match value {
            Value::String(text) => Kind::Text(text),
            Value::Number(number) => number.as_u64().map_or(Kind::Other, Kind::Number),
            Value::Array(list) => Kind::List(list.into_iter().map(Self::of_json).collect()),
            Value::Object(map) => {
                let members = map.into_iter().map(|(key, value)| (key, Self::of_json(value)));
                Kind::Table(Table(members.collect()))
            }
            Value::Bool(is_so) => Kind::Bool(is_so),
            Value::Null => Kind::Other,
        };
        Self { line: 0, kind }
    }

    fn of_toml(text: &str, value: toml::Spanned<DeValue<'_>>) -> Self {
        let line = line(text, value.span().start);
        let kind = match value.into_inner() {
            DeValue::String(found) => Kind::Text(found.into_owned()),
            DeValue::Integer(number) => number.to_string().parse().map_or(Kind::Other, Kind::Number),
            DeValue::Array(list) => Kind::List(list.into_iter().map(|value| Self::of_toml(text, value)).collect()),
            DeValue::Table(table) => Kind::Table(Table::of_toml(text, table)),
            DeValue::Boolean(is_so) => Kind::Bool(is_so),
            DeValue::Float(_) | DeValue::Datetime(_) => Kind::Other,
        };
        Self { line, kind }
    }
}

impl Table {
    fn of_toml(text: &str, table: DeTable<'_>) -> Self {
        let members = table.into_iter();
        let members = members.map(|(key, value)| (key.into_inner().into_owned(), Node::of_toml(text, value)));
        Self(members.collect())
    }
}

/// In which line, from 1, a byte stands.
fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// What a file says, fit for the words of a problem.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
