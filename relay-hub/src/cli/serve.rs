//! `relay-hub serve`: starts, says so, drains on SIGTERM.

use std::net::SocketAddr;

use clap::Args;
use relay_shared::telemetry;
use tracing::info;

use super::{Desk, Failure};
use crate::{
    app,
    config::{Config, Door, Overrides},
    store::StoreError,
};

#[derive(Args)]
pub(super) struct Serve {
    /// Where agents connect, on UDP and TCP; goes before hub.toml.
    #[arg(long, value_name = "ADDR")]
    tunnel: Option<SocketAddr>,
    /// The public entrance, or `off`; goes before hub.toml.
    #[arg(long, value_name = "ADDR", value_parser = door)]
    https: Option<Door>,
    /// The same without TLS on a loopback address, or `off`; goes before hub.toml.
    #[arg(long, value_name = "ADDR", value_parser = door)]
    http: Option<Door>,
    /// What is logged, like `info` or `relay_hub=debug`; goes before hub.toml.
    #[arg(long, env = "RELAY_LOG", value_name = "FILTER")]
    log: Option<String>,
}

fn door(text: &str) -> Result<Door, &'static str> {
    Door::parse(text).ok_or("write an IP address and a port such as 127.0.0.1:8080, or `off`")
}

pub(super) async fn run(desk: &mut Desk<'_>, serve: Serve) -> Result<(), Failure> {
    let Serve {
        tunnel,
        https,
        http,
        log,
    } = serve;
    let data = &desk.data;
    if !data.hub_toml().exists() && !data.database().exists() {
        return Err(StoreError::Missing(data.path().display().to_string()).into());
    }
    let overrides = Overrides {
        tunnel,
        https,
        http,
        log,
    };
    let config = Config::load(data, &overrides)?;
    telemetry::init(&config.log.filter, config.log.json)
        .map_err(|problem| Failure::fixable(problem).hint("write a level such as info, or info,relay_hub=debug"))?;
    let mut end = Signals::listen()?;
    let running = app::start(config).await?;
    desk.print.line(&running.ready_line())?;
    let signal = end.next().await;
    info!(
        signal,
        "draining: running calls may finish, no other is taken; a second signal ends them"
    );
    tokio::select! {
        () = running.shutdown() => {
            info!("ended");
            Ok(())
        }
        // As after a crash: what was not settled is voided at the next start.
        signal = end.next() => Err(Failure::fixable(format!("ended at once by a second {signal}: running calls were cut"))
            .hint("one signal lets them finish, for as long as limits.drain_timeout says")),
    }
}

#[cfg(unix)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Before the start, so that no signal finds nobody listening.
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "the same shape on every system")]
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self)
    }

    pub(super) async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
