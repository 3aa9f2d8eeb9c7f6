//! `relay-hub`: see `relay-hub help`.

use std::{io, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return ExitCode::from(3);
    };
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    let code = runtime.block_on(relay_hub::cli::run(std::env::args_os(), &mut stdout, &mut stderr));
    // What still blocks a thread has nothing to say any more.
    runtime.shutdown_background();
    ExitCode::from(code)
}
