//! A vendor's export: CSV whose columns are found by their heads. All that is wrong with it is told at once, by line.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use relay_shared::config::Problems;

use super::super::typed;
use crate::store::vendor_bill::Listed;

/// What a column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Column {
    Id,
    Time,
    Model,
    Requests,
    Input,
    Cached,
    Output,
    Cost,
}

impl Column {
    pub(super) const ALL: [Self; 8] = [
        Self::Id,
        Self::Time,
        Self::Model,
        Self::Requests,
        Self::Input,
        Self::Cached,
        Self::Output,
        Self::Cost,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Time => "time",
            Self::Model => "model",
            Self::Requests => "requests",
            Self::Input => "input",
            Self::Cached => "cached",
            Self::Output => "output",
            Self::Cost => "cost",
        }
    }

    /// Heads that exports are known to have, in lower case with `_` for whatever is no letter or digit.
    const fn heads(self) -> &'static [&'static str] {
        match self {
            Self::Id => &[
                "vendor_request_id",
                "x_request_id",
                "request_id",
                "response_id",
                "completion_id",
                "id",
            ],
            Self::Time => &[
                "time",
                "date",
                "day",
                "start_time_iso",
                "start_time",
                "starttime",
                "timestamp",
                "created_at",
                "created",
                "bucket_start",
            ],
            Self::Model => &["model", "model_name", "model_id", "snapshot_id", "upstream_model"],
            Self::Requests => &["num_model_requests", "n_requests", "num_requests", "requests", "calls"],
            Self::Input => &[
                "input_tokens",
                "prompt_tokens",
                "n_context_tokens_total",
                "context_tokens",
                "tokens_prompt",
                "input",
            ],
            Self::Cached => &[
                "input_cached_tokens",
                "cached_tokens",
                "n_cached_context_tokens_total",
                "cached_input_tokens",
                "cache_read_tokens",
                "cached",
            ],
            Self::Output => &[
                "output_tokens",
                "completion_tokens",
                "n_generated_tokens_total",
                "generated_tokens",
                "tokens_completion",
                "output",
            ],
            Self::Cost => &[
                "cost",
                "amount_value",
                "spend",
                "cost_usd",
                "total_cost",
                "usage_cost",
                "amount",
            ],
        }
    }
}

/// A line of an export; what it does not say is none.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) figures: Listed,
    pub(super) at_ms: Option<i64>,
    pub(super) model: String,
    pub(super) requests: Option<i64>,
}

/// An export that is being read.
pub(super) struct Export {
    reader: csv::Reader<OneLineEnd>,
    columns: HashMap<Column, usize>,
    /// More are counted than kept.
    problems: Problems,
    wrong: u64,
}

impl Export {
    /// Reads the heads. `named` are columns that the operator names himself; `needed` must be there.
    pub(super) fn open(path: &Path, named: &[(Column, String)], needed: &[Column]) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let place = path.display().to_string();
        let reader = File::open(path).map(|file| {
            csv::ReaderBuilder::new()
                .trim(csv::Trim::All)
                .from_reader(OneLineEnd(BufReader::new(file)))
        });
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(error) => {
                problems.push(place, error.to_string(), "name a CSV file that this user may read");
                return Err(problems);
            }
        };
        let heads: Vec<String> = match reader.headers() {
            Ok(heads) => heads.iter().map(plain).collect(),
            Err(error) => {
                problems.push(place, error.to_string(), "the first line must name the columns");
                return Err(problems);
            }
        };
        let mut columns = HashMap::new();
        for column in Column::ALL {
            let own = named.iter().find(|(of, _)| *of == column);
            let wanted: Vec<String> = match own {
                Some((_, head)) => vec![plain(head)],
                None => column.heads().iter().map(|head| (*head).to_owned()).collect(),
            };
            let found = wanted.iter().find_map(|head| heads.iter().position(|has| has == head));
            if let Some(at) = found {
                columns.insert(column, at);
            } else if own.is_some() || needed.contains(&column) {
                let problem = format!("no column says the {}", column.name());
                let hint = format!(
                    "name it with --column {}=HEAD; there are: {}",
                    column.name(),
                    typed(&heads.join(", "))
                );
                problems.push(format!("{place}:1"), problem, hint);
            }
        }
        problems.or(Self {
            reader,
            columns,
            problems: Problems::new(),
            wrong: 0,
        })
    }

    pub(super) fn has(&self, column: Column) -> bool {
        self.columns.contains_key(&column)
    }

    /// The next line that can be read; none at the end.
    pub(super) fn next(&mut self) -> Option<Line> {
        let mut record = csv::StringRecord::new();
        loop {
            let line = self.reader.position().line();
            match self.reader.read_record(&mut record) {
                Ok(false) => return None,
                Ok(true) => {}
                Err(error) => {
                    let is_end = error.is_io_error();
                    self.wrong(line, error.to_string(), "");
                    if is_end {
                        return None;
                    }
                    continue;
                }
            }
            let line = record.position().map_or(line, csv::Position::line);
            if let Some(read) = self.line(&record, line) {
                return Some(read);
            }
        }
    }

    fn line(&mut self, record: &csv::StringRecord, line: u64) -> Option<Line> {
        let before = self.wrong;
        let mut read = Line::default();
        for (column, at) in self.columns.clone() {
            let text = record.get(at).unwrap_or_default();
            match column {
                Column::Id => text.clone_into(&mut read.figures.id),
                Column::Model => text.clone_into(&mut read.model),
                Column::Time => read.at_ms = self.value(line, column, text, moment),
                Column::Requests => read.requests = self.value(line, column, text, count),
                Column::Input => read.figures.input = self.value(line, column, text, count),
                Column::Cached => read.figures.cached = self.value(line, column, text, count),
                Column::Output => read.figures.output = self.value(line, column, text, count),
                Column::Cost => read.figures.cost = self.value(line, column, text, nanos),
            }
        }
        read.figures.line = line;
        (self.wrong == before).then_some(read)
    }

    /// A field; none where it is empty.
    fn value(&mut self, line: u64, column: Column, text: &str, read: fn(&str) -> Option<i64>) -> Option<i64> {
        if text.is_empty() {
            return None;
        }
        let value = read(text);
        if value.is_none() {
            let problem = format!("`{}` is no {}", typed(text), column.name());
            self.wrong(line, problem, "correct the line, or name another column with --column");
        }
        value
    }

    pub(super) fn wrong(&mut self, line: u64, problem: String, hint: &str) {
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong <= MOST_TOLD {
            self.problems.push(format!("line {line}"), problem, hint);
        }
    }

    /// What was wrong with its lines.
    pub(super) fn end(mut self) -> Problems {
        if let Some(more) = self.wrong.checked_sub(MOST_TOLD).filter(|more| *more > 0) {
            self.problems
                .push("the file", format!("{more} more lines cannot be read"), "");
        }
        self.problems
    }
}

/// A file whose lines end with a line feed alone: where they end with two characters, the reader counts lines one late.
struct OneLineEnd(BufReader<File>);

impl Read for OneLineEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(buffer)?;
            let mut kept = 0;
            for at in 0..read {
                if buffer[at] != b'\r' {
                    buffer[kept] = buffer[at];
                    kept += 1;
                }
            }
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

/// A head without what differs between exports.
fn plain(head: &str) -> String {
    let head = head.trim_start_matches('\u{feff}').trim();
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    head.chars().map(letter).collect()
}

/// A whole number; some exports write `12.0` or `1,200`.
fn count(text: &str) -> Option<i64> {
    let digits = text.replace(',', "");
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
    let is_whole = part.bytes().all(|digit| digit == b'0');
    whole.parse().ok().filter(|count: &i64| *count >= 0 && is_whole)
}

/// A decimal, perhaps with a currency sign or an exponent, to the billionth; what is finer is rounded.
pub(super) fn nanos(text: &str) -> Option<i64> {
    let text = text.trim_start_matches('$').replace(',', "");
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((text, exponent)) => (text, exponent.parse::<i32>().ok()?),
        None => (text.as_str(), 0),
    };
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{part}");
    if all.is_empty() || all.len() > MOST_DIGITS || !all.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: i128 = all.parse().ok()?;
    let shift = exponent.checked_add(9)?.checked_sub(i32::try_from(part.len()).ok()?)?;
    let ten = 10_i128.checked_pow(shift.unsigned_abs())?;
    let scaled = if shift >= 0 {
        number.checked_mul(ten)?
    } else {
        number.checked_add(ten / 2)?.checked_div(ten)?
    };
    i64::try_from(scaled.checked_mul(sign)?).ok()
}

/// A day, a moment, or seconds since 1970, in milliseconds; without a zone it is UTC.
fn moment(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(if seconds > MOST_SECONDS { 1 } else { 1_000 });
    }
    let at: Option<Timestamp> = text.parse().ok();
    let local = || {
        let at: jiff::civil::DateTime = text.trim_end_matches(" UTC").parse().ok()?;
        Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let day = || {
        let day: Date = text.parse().ok()?;
        Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    at.or_else(day).or_else(local).map(Timestamp::as_millisecond)
}

const MOST_TOLD: u64 = 20;
const MOST_DIGITS: usize = 30;
/// The year 5138; more are milliseconds.
const MOST_SECONDS: i64 = 100_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_exports_write_them() {
        assert_eq!(
            [count("12"), count("1,200"), count("3.0")],
            [Some(12), Some(1_200), Some(3)]
        );
        assert_eq!([count("-1"), count("1.5"), count("x")], [None; 3]);
        let amounts = [
            "0.5",
            "$1,000.25",
            "1e-9",
            "-2",
            "1.5E-7",
            "0.00000000051",
            "0.00000000049",
        ];
        let read = [500_000_000, 1_000_250_000_000, 1, -2_000_000_000, 150, 1, 0].map(Some);
        assert_eq!(amounts.map(nanos), read);
        assert_eq!(["", ".", "1.2.3", "1e99", "NaN", "0x1"].map(nanos), [None; 6]);
    }

    #[test]
    fn moments_are_read_as_exports_write_them() {
        let same = [
            "2026-11-21",
            "1795219200",
            "1795219200000",
            "2026-11-21T00:00:00Z",
            "2026-11-21 00:00:00 UTC",
        ];
        assert_eq!(same.map(moment), [Some(1_795_219_200_000); 5]);
        assert_eq!(["yesterday", "21/11/2026"].map(moment), [None; 2]);
    }

    #[test]
    fn heads_are_the_same_however_they_are_written() {
        assert_eq!(plain("\u{feff}Input Tokens"), "input_tokens");
        assert_eq!(plain("amount.value"), "amount_value");
    }
}
