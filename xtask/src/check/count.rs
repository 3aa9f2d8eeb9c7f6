//! Runs a test runner, shows its output as it comes, and reads the counts out of its closing lines.

use std::{
    fmt,
    io::{BufRead, BufReader, IsTerminal, Read, stderr},
    process::{Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
};

use crate::say;

/// How many tests ran, and how they ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, more: &Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Runs `command` and says whether it succeeded and what `read` found in its lines.
pub(crate) fn run(mut command: Command, read: fn(&str) -> Option<Counts>) -> (bool, Counts) {
    if stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            say::line(&format!("cannot start cargo: {error}"));
            return (false, Counts::default());
        }
    };
    let (lines, received) = channel();
    let readers = [
        child.stdout.take().map(|out| forward(out, lines.clone())),
        child.stderr.take().map(|out| forward(out, lines)),
    ];
    let mut counts = Counts::default();
    for line in received {
        say::line(&line);
        if let Some(seen) = read(&without_colour(&line)) {
            counts.add(&seen);
        }
    }
    for reader in readers.into_iter().flatten() {
        reader.join().ok();
    }
    (child.wait().is_ok_and(|status| status.success()), counts)
}

fn forward(out: impl Read + Send + 'static, lines: Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut out = BufReader::new(out);
        let mut line = Vec::new();
        while out.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            if lines.send(text.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
                break;
            }
            line.clear();
        }
    })
}

fn without_colour(line: &str) -> String {
    let mut plain = String::new();
    let mut parts = line.split('\x1b');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// nextest: `Summary [   1.2s] 12 tests run: 10 passed (1 slow), 2 failed, 3 skipped`.
pub(crate) fn nextest(line: &str) -> Option<Counts> {
    let (_, rest) = line.trim().strip_prefix("Summary [")?.split_once("run: ")?;
    let failed = ["failed", "timed out", "exec failed"]
        .into_iter()
        .filter_map(|word| number_before(rest, word))
        .sum();
    Some(Counts {
        passed: number_before(rest, "passed")?,
        failed,
        skipped: number_before(rest, "skipped").unwrap_or(0),
    })
}

/// libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
pub(crate) fn libtest(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    Some(Counts {
        passed: number_before(rest, "passed")?,
        failed: number_before(rest, "failed")?,
        skipped: number_before(rest, "ignored").unwrap_or(0),
    })
}

/// The number of the part that reads `N word` or `N word (…)`.
fn number_before(text: &str, word: &str) -> Option<u64> {
    text.split([',', ';']).find_map(|part| {
        let (number, rest) = part.trim().split_once(' ')?;
        let named = rest == word || rest.strip_prefix(word).is_some_and(|more| more.starts_with(" ("));
        if named { number.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_each_runner_is_understood() {
        let counts = |passed, failed, skipped| {
            Some(Counts {
                passed,
                failed,
                skipped,
            })
        };
        let cases = [
            (
                "     Summary [   0.045s] 12 tests run: 12 passed, 0 skipped",
                counts(12, 0, 0),
            ),
            (
                "     Summary [   9.1s] 5/9 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped",
                counts(3, 2, 2),
            ),
            ("        PASS [   0.045s] relay-hub money::tests::x", None),
        ];
        for (line, expected) in cases {
            assert_eq!(nextest(line), expected, "{line}");
        }
        let line = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(libtest(line), counts(3, 0, 1));
    }

    #[test]
    fn colours_do_not_hide_the_counts() {
        let line = "\x1b[32;1m     Summary\x1b[0m [   0.1s] \x1b[1m1\x1b[0m test run: \x1b[1m1\x1b[0m passed, \x1b[1m0\x1b[0m skipped";
        assert_eq!(
            nextest(&without_colour(line)),
            Some(Counts {
                passed: 1,
                failed: 0,
                skipped: 0
            })
        );
    }
}
