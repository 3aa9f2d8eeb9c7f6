//! The program: everything is in the library, so that tests run the same code in process.

use std::process::ExitCode;

fn main() -> ExitCode {
    relay_agent::cli::main()
}
