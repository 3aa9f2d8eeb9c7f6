//! What a command answers on stdout: text, tables, JSON. Readable without colour; a reader that went away is no error.

use std::io::{self, Write as _};

use serde::Serialize;

use super::failure::Failure;

/// Writes text as it is, and ends its line.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::ours("cannot write to stdout", &error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Writes one JSON value on one line.
pub(super) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::ours("cannot write JSON", &error))?;
    say(&text)
}

/// Writes rows under their headers. A column of numbers is aligned to the right, any other to the left.
pub(super) fn table(headers: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    say(&aligned(headers, rows))
}

fn aligned(headers: &[&str], rows: &[Vec<String>]) -> String {
    let columns: Vec<_> = headers
        .iter()
        .enumerate()
        .map(|(at, header)| Column::over(header, rows.iter().filter_map(|row| row.get(at))))
        .collect();
    let head: Vec<_> = headers.iter().map(|&header| header.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<_> = columns.iter().zip(row).map(|(column, cell)| column.pad(cell)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

struct Column {
    width: usize,
    is_numeric: bool,
}

impl Column {
    fn over<'a>(header: &str, cells: impl Iterator<Item = &'a String> + Clone) -> Self {
        let widths = cells.clone().map(|cell| cell.chars().count());
        Self {
            width: widths.fold(header.chars().count(), usize::max),
            is_numeric: cells.clone().next().is_some() && cells.into_iter().all(|cell| is_number(cell)),
        }
    }

    fn pad(&self, cell: &str) -> String {
        let width = self.width;
        if self.is_numeric {
            format!("{cell:>width$}")
        } else {
            format!("{cell:<width$}")
        }
    }
}

/// Amounts and counts; `-` stands for nothing to tell.
fn is_number(cell: &str) -> bool {
    cell == "-"
        || (cell.contains(|c: char| c.is_ascii_digit())
            && cell.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-')))
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let row = |name: &str, amount: &str| vec![name.to_owned(), amount.to_owned()];
        let text = aligned(&["TENANT", "CREDIT"], &[row("acme", "10.50"), row("größer-ag", "-3")]);
        assert_eq!(text, "TENANT     CREDIT\nacme        10.50\ngrößer-ag      -3\n");
    }

    #[test]
    fn a_table_without_rows_is_its_headers() {
        assert_eq!(aligned(&["A", "B"], &[]), "A  B\n");
    }
}
