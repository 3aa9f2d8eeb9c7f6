//! Data to stdout, talk to stderr; tables that read without colour, or JSON.

use std::io::{self, Write};

use serde::Serialize;

/// Where a command prints.
pub(super) struct Print<'a> {
    json: bool,
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
}

impl<'a> Print<'a> {
    pub(super) fn new(json: bool, stdout: &'a mut dyn Write, stderr: &'a mut dyn Write) -> Self {
        Self { json, stdout, stderr }
    }

    /// The result of a command that changed something: JSON, or a line.
    pub(super) fn done(&mut self, json: &impl Serialize, line: &str) -> io::Result<()> {
        if self.json { self.json(json) } else { self.line(line) }
    }

    /// A list: JSON, or a table.
    pub(super) fn list(&mut self, json: &impl Serialize, heads: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        if self.json {
            self.json(json)
        } else {
            self.table(heads, rows)
        }
    }

    /// For what is written as it comes.
    pub(super) fn stdout(&mut self) -> &mut dyn Write {
        self.stdout
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn json(&mut self, json: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(json).map_err(io::Error::other)?)
    }

    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        heard(writeln!(self.stdout, "{line}").and_then(|()| self.stdout.flush()))
    }

    /// Talk: what a person may want to know and no program reads. Silent with JSON.
    pub(super) fn talk(&mut self, line: &str) -> io::Result<()> {
        if self.json {
            Ok(())
        } else {
            heard(writeln!(self.stderr, "{line}"))
        }
    }

    /// Columns as wide as their widest cell, two spaces between; amounts (last character a digit in every row) to the
    /// right.
    pub(super) fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let width = |column: usize| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            cells
                .chain(heads.get(column).map(|head| head.chars().count()))
                .max()
                .unwrap_or(0)
        };
        let is_amount = |column: usize| {
            let is_number =
                |cell: &String| cell == "-" || cell.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
            !rows.is_empty() && rows.iter().filter_map(|row| row.get(column)).all(is_number)
        };
        let shape: Vec<_> = (0..heads.len())
            .map(|column| (width(column), is_amount(column)))
            .collect();
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        for row in std::iter::once(&heads).chain(rows) {
            let cells = row.iter().zip(&shape).map(|(cell, (width, is_amount))| {
                if *is_amount {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            heard(writeln!(self.stdout, "{}", line.trim_end()))?;
        }
        heard(self.stdout.flush())
    }
}

/// A reader that went away has read enough: `| head` is no error.
fn heard(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A moment in UTC, to the second.
pub(super) fn moment(ms: i64) -> String {
    jiff::Timestamp::from_second(ms.div_euclid(1000)).map_or_else(|_| "-".to_owned(), |at| at.to_string())
}

/// Whether a key or a device is still good, and if not since when.
pub(super) fn standing(revoked_ms: Option<i64>) -> String {
    revoked_ms.map_or_else(|| "active".to_owned(), |at| format!("revoked {}", moment(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_stand_to_the_right_and_names_to_the_left() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let rows = [["acme", "10.50"], ["b", "-3.00"]].map(|row| row.map(str::to_owned).to_vec());
        Print::new(false, &mut out, &mut err)
            .table(&["NAME", "BALANCE"], &rows)
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "NAME  BALANCE\nacme    10.50\nb       -3.00\n"
        );
    }
}
