//! Reading settings: every problem at once, each with the key it is about and what helps. Knows no particular setting.

use std::{fmt, ops::Range};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One thing wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a key such as `tunnel.listen`, or a file with a line.
    pub key: String,
    /// What is wrong, in one sentence.
    pub problem: String,
    /// What helps; may be empty.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)?;
        if self.hint.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.hint)
        }
    }
}

/// All things wrong with the settings, one a line when shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No problem yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes one more.
    pub fn push(&mut self, key: impl Into<String>, problem: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem {
            key: key.into(),
            problem: problem.into(),
            hint: hint.into(),
        });
    }

    /// Takes over all of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// `value` when there was no problem.
    ///
    /// # Errors
    /// The problems, when there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads TOML into `T`. `path` is only used in the words of a problem. Unknown keys (when `T` denies them) and wrong
/// types are all collected: what serde complains about is taken out of the document and the rest is read again.
///
/// # Errors
/// Everything that is wrong, at least one problem.
pub fn load_toml<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, Problems> {
    let (value, problems) = read_toml(path, text);
    match value {
        Some(value) => problems.or(value),
        None => Err(problems),
    }
}

/// The same, with what could be read beside what could not, so that the rest can be checked as well.
pub fn read_toml<T: DeserializeOwned>(path: &str, text: &str) -> (Option<T>, Problems) {
    let mut problems = Problems::new();
    let (table, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        problems.push(line(path, text, error.span()), first_line(error.message()), SYNTAX);
    }
    if !problems.is_empty() {
        return (None, problems);
    }
    let mut table = table;
    for _ in 0..MOST_PROBLEMS {
        let error = match T::deserialize(toml::Deserializer::from(table.clone())) {
            Ok(value) => return (Some(value), problems),
            Err(error) => error,
        };
        let message = error.message();
        // What is missing may be missing only because its broken line was taken out before.
        if !message.contains("missing field") || problems.is_empty() {
            let key = error.span().and_then(|span| key_at(table.get_ref(), &span, ""));
            let at = line(path, text, error.span());
            let key = key.map_or_else(|| at.clone(), |key| format!("{key} ({at})"));
            problems.push(key, first_line(message), hint(message));
        }
        if !error.span().is_some_and(|span| remove_at(table.get_mut(), &span)) {
            break;
        }
    }
    (None, problems)
}

type Table<'a> = DeTable<'a>;
type Value<'a> = Spanned<DeValue<'a>>;

const fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The dotted key whose key or value lies around `span`, as deep as possible.
fn key_at(table: &Table<'_>, span: &Range<usize>, prefix: &str) -> Option<String> {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if covers(&key.span(), span) {
            return Some(name);
        }
        if let Some(deeper) = value
            .get_ref()
            .as_table()
            .and_then(|t| key_at(t, span, &format!("{name}.")))
        {
            return Some(deeper);
        }
        if covers(&value.span(), span) {
            return Some(name);
        }
    }
    None
}

/// Takes the deepest entry around `span` out of the table. False when there is none.
fn remove_at(table: &mut Table<'_>, span: &Range<usize>) -> bool {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let mut inside = covers(&key.span(), span) || covers(&value.span(), span);
        if let Some(true) = in_table(value, span) {
            return true;
        }
        inside |= value
            .get_ref()
            .as_table()
            .is_some_and(|t| key_at(t, span, "").is_some());
        if inside {
            found = Some(key.get_ref().to_string());
            break;
        }
    }
    found.is_some_and(|key| table.remove(key.as_str()).is_some())
}

fn in_table(value: &mut Value<'_>, span: &Range<usize>) -> Option<bool> {
    match value.get_mut() {
        DeValue::Table(inner) => Some(remove_at(inner, span)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => None,
    }
}

/// `path line N`, or `path` alone where there is no span.
#[must_use]
pub fn line(path: &str, text: &str, span: Option<Range<usize>>) -> String {
    span.and_then(|span| text.get(..span.start)).map_or_else(
        || path.to_owned(),
        |before| format!("{path} line {}", before.matches('\n').count() + 1),
    )
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// For an unknown key, the known one that looks most like it or all of them; for a wrong type, how the right one looks.
fn hint(message: &str) -> String {
    if message.contains("expected a string") {
        return "put it in \"quotes\"".to_owned();
    }
    if message.contains("expected a boolean") {
        return "write true or false".to_owned();
    }
    if message.contains("expected struct") || message.contains("expected a map") {
        return "it is a table: write [name] on a line of its own, and its keys below".to_owned();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    if !message.contains("unknown field") && !message.contains("unknown variant") {
        return String::new();
    }
    let Some(wrong) = names.next() else {
        return String::new();
    };
    let known: Vec<&str> = names.collect();
    match known.iter().min_by_key(|name| distance(wrong, name)) {
        Some(name) if distance(wrong, name) <= wrong.len().max(3) / 2 => format!("did you mean `{name}`?"),
        Some(_) => format!("there are: {}", known.join(", ")),
        None => String::new(),
    }
}

/// Levenshtein's distance in bytes: keys are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

const MOST_PROBLEMS: usize = 64;
const SYNTAX: &str = "a line reads key = value; text stands in \"quotes\", no key stands twice";

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::load_toml;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        name: Option<String>,
        port: Option<u16>,
        tunnel: Tunnel,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Tunnel {
        listen: Option<String>,
        calls: Option<u32>,
    }

    #[test]
    fn good_settings_are_read() {
        let file: File = load_toml("x.toml", "port = 1\n[tunnel]\ncalls = 2\n").unwrap();
        assert_eq!(file.port, Some(1));
        assert_eq!(file.tunnel.calls, Some(2));
    }

    #[test]
    fn all_problems_are_found_at_once_each_with_its_key() {
        let text = "naem = 'x'\nport = 'high'\n[tunnel]\nlisten = 5\ncallz = 1\n";
        let problems = load_toml::<File>("x.toml", text).unwrap_err();
        let lines: Vec<_> = problems.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 4, "{problems}");
        for part in [
            "naem",
            "did you mean `name`?",
            "port (x.toml line 2)",
            "tunnel.listen (x.toml line 4)",
            "tunnel.callz",
        ] {
            assert!(problems.to_string().contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn broken_syntax_names_the_line() {
        let problems = load_toml::<File>("x.toml", "port = 1\nport = = 2\n").unwrap_err();
        assert!(problems.to_string().contains("x.toml line 2"), "{problems}");
    }
}
