//! The command line: reads arguments, calls the library, writes to stdout and stderr. Decides nothing else.

use std::process::ExitCode;

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
