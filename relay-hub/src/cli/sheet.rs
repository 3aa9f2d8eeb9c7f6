//! Long lists, written row by row as they come: CSV (RFC 4180) or one JSON array. Keeps no row.

use std::io::{self, BufWriter, Write};

use serde::{Serialize, Serializer};

use super::{Failure, print::Print};
use crate::{money::Nanos, store::StoreError};

/// One field of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    Number(i64),
    Money(Nanos),
    Empty,
}

impl Cell {
    /// As a person reads it in a table.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Money(money) => money.to_string(),
            Self::Empty => "-".to_owned(),
        }
    }

    fn field(self) -> String {
        match self {
            Self::Text(text) => harmless(text),
            Self::Number(number) => number.to_string(),
            Self::Money(money) => money.to_string(),
            Self::Empty => String::new(),
        }
    }
}

/// Numbers as numbers, money as its text, so that no reader makes a float of it.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Money(money) => money.serialize(serializer),
            Self::Empty => serializer.serialize_none(),
        }
    }
}

impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Empty, Self::Number)
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Empty, Self::from)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A spreadsheet takes a text that begins so for a formula; a model's name or a note may come from anybody.
fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text
    }
}

/// Why a list ends before its end.
pub(super) enum Cut {
    /// Nobody reads any more, which is no fault.
    Unread,
    Failed(Failure),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<csv::Error> for Cut {
    fn from(error: csv::Error) -> Self {
        match error.into_kind() {
            csv::ErrorKind::Io(error) => error.into(),
            other => io::Error::other(format!("{other:?}")).into(),
        }
    }
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Cut {
    /// A list that was cut because nobody reads any more is done.
    pub(super) fn heard(list: Result<(), Self>) -> Result<(), Failure> {
        match list {
            Ok(()) | Err(Self::Unread) => Ok(()),
            Err(Self::Failed(failure)) => Err(failure),
        }
    }
}

/// A list on its way to stdout.
pub(super) enum Sheet<'p> {
    Csv(Box<csv::Writer<&'p mut dyn Write>>),
    Json {
        out: BufWriter<&'p mut dyn Write>,
        is_begun: bool,
    },
}

impl<'p> Sheet<'p> {
    /// CSV with these heads, or JSON without.
    pub(super) fn begin<'h>(
        print: &'p mut Print<'_>,
        is_csv: bool,
        heads: impl IntoIterator<Item = &'h str>,
    ) -> Result<Self, Cut> {
        if is_csv {
            let mut csv = csv::WriterBuilder::new()
                .terminator(csv::Terminator::CRLF)
                .from_writer(print.stdout());
            csv.write_record(heads)?;
            return Ok(Self::Csv(Box::new(csv)));
        }
        let mut out = BufWriter::new(print.stdout());
        out.write_all(b"[")?;
        Ok(Self::Json { out, is_begun: false })
    }

    /// Writes a row.
    pub(super) fn row(&mut self, json: &impl Serialize, cells: impl FnOnce() -> Vec<Cell>) -> Result<(), Cut> {
        match self {
            Self::Csv(csv) => csv.write_record(cells().into_iter().map(Cell::field))?,
            Self::Json { out, is_begun } => {
                if std::mem::replace(is_begun, true) {
                    out.write_all(b",\n")?;
                }
                serde_json::to_writer(out, json).map_err(io::Error::from)?;
            }
        }
        Ok(())
    }

    /// Ends the list.
    pub(super) fn end(self) -> Result<(), Cut> {
        match self {
            Self::Csv(mut csv) => csv.flush()?,
            Self::Json { mut out, .. } => {
                out.write_all(b"]\n")?;
                out.flush()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(is_csv: bool, rows: &[(&str, i64)]) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut print = Print::new(false, &mut out, &mut err);
        let Ok(mut sheet) = Sheet::begin(&mut print, is_csv, ["name", "count"]) else {
            panic!("a vector takes all")
        };
        for (name, count) in rows {
            let done = sheet.row(&serde_json::json!({"name": name}), || {
                vec![Cell::from(*name), Cell::Number(*count)]
            });
            assert!(done.is_ok());
        }
        assert!(sheet.end().is_ok());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_is_quoted_where_it_must_and_ends_lines_as_the_standard_says() {
        let csv = written(true, &[("a,\"b\"\n", -1), ("plain", 2)]);
        assert_eq!(csv, "name,count\r\n\"a,\"\"b\"\"\n\",-1\r\nplain,2\r\n");
    }

    #[test]
    fn no_text_is_a_formula_and_numbers_stay_numbers() {
        let csv = written(true, &[("=1+1", -5), ("@x", 0), ("-2", 0), ("+3", 0), ("a=b", 0)]);
        assert_eq!(csv, "name,count\r\n'=1+1,-5\r\n'@x,0\r\n'-2,0\r\n'+3,0\r\na=b,0\r\n");
    }

    #[test]
    fn json_is_one_array_however_many_rows() {
        for count in [0, 1, 3] {
            let json = written(false, &vec![("x", 1); count]);
            let read: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
            assert_eq!(read.len(), count);
        }
    }
}
