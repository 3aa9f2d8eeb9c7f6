//! `relay-agent run`: the daemon.

use std::process::ExitCode;

use serde_json::json;

use super::{args, data_or_default, print_json, talk};
use crate::app;
use crate::config::{Config, LocalKey};
use crate::failure::Failure;

pub(super) fn run(args: args::Run) -> Result<ExitCode, Failure> {
    let mut config = Config::load(data_or_default(args.data.data)?)?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(link) = args.link {
        config.link = link.into();
    }
    if args.no_local_key {
        config.local_key = LocalKey::Off;
    }
    if let Some(log) = args.log {
        config.log = log;
    }
    relay_shared::telemetry::init(&config.log, config.log_json).map_err(|error| {
        Failure::user(
            format!("log: {error}"),
            "a filter looks like `info` or `info,relay_agent=debug`",
        )
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::program(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(until_told_to_stop(config));
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn until_told_to_stop(config: Config) -> Result<(), Failure> {
    // Before the ready line: who waits for it may send the signal right after.
    let stop = Stop::listen()?;
    let running = app::start(config).await?;
    print_json(&json!({ "ready": true, "base_url": running.base_url, "listen": running.addrs }))?;
    stop.wait().await;
    talk("stopping: running calls have a moment to end");
    running.shutdown().await;
    Ok(())
}

#[cfg(unix)]
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Stop {
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind| signal(kind).map_err(|error| Failure::program(format!("cannot listen for signals: {error}")));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Stop;

#[cfg(not(unix))]
impl Stop {
    fn listen() -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn wait(self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
