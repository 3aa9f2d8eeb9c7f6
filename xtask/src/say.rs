//! What the tasks tell: headings, lines and tables, on stderr. Results meant for programs go to
//! stdout through [`data`].

use std::io::{self, IsTerminal, Write};

/// A line of talk.
pub(crate) fn line(text: &str) {
    // A closed terminal is no reason to stop the work.
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// A heading that stands out in a long log.
pub(crate) fn heading(text: &str) {
    if io::stderr().is_terminal() {
        line(&format!("\n\x1b[1m== {text}\x1b[0m"));
    } else {
        line(&format!("\n== {text}"));
    }
}

/// Text without a line end, shown at once.
pub(crate) fn part(text: &str) {
    let mut out = io::stderr().lock();
    write!(out, "{text}").and_then(|()| out.flush()).ok();
}

/// A line for programs, on stdout.
pub(crate) fn data(text: &str) {
    writeln!(io::stdout().lock(), "{text}").ok();
}

/// Columns padded to their widest cell; the first row is the head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        out.push_str(&padded(row, &widths));
        out.push('\n');
        if at == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
            out.push_str(&padded(&rule, &widths));
            out.push('\n');
        }
    }
    out
}

/// The same rows as a Markdown table.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
        if at == 0 {
            out.push_str(&format!("|{}\n", "---|".repeat(row.len())));
        }
    }
    out
}

fn padded(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["step", "result"], ["fmt", "passed"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(table(&rows), "step  result\n----  ------\nfmt   passed\n");
    }
}
