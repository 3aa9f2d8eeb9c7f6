//! `relay-hub serve`: starts, says so, drains on SIGTERM.

use clap::Args;
use relay_shared::telemetry;

use super::{Desk, Failure};
use crate::{
    app,
    config::{Config, Overrides},
};

#[derive(Args)]
pub(super) struct Serve {
    /// Where agents connect, on UDP and TCP; goes before hub.toml.
    #[arg(long, value_name = "ADDR")]
    tunnel: Option<String>,
    /// The public entrance, or `off`; goes before hub.toml.
    #[arg(long, value_name = "ADDR")]
    https: Option<String>,
    /// The same without TLS on a loopback address, or `off`; goes before hub.toml.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// What is logged, like `info` or `relay_hub=debug`; goes before hub.toml.
    #[arg(long, env = "RELAY_LOG", value_name = "FILTER")]
    log: Option<String>,
}

pub(super) async fn run(desk: &mut Desk<'_>, serve: Serve) -> Result<(), Failure> {
    let Serve {
        tunnel,
        https,
        http,
        log,
    } = serve;
    let config = Config::load(&desk.data, &Overrides { tunnel, https, http })?;
    let filter = log.as_deref().unwrap_or(&config.log.filter);
    telemetry::init(filter, config.log.json).map_err(Failure::fixable)?;
    let mut end = Signals::listen()?;
    let running = app::start(config).await?;
    desk.print.line(&running.ready_line())?;
    end.next().await;
    desk.print
        .talk("draining: running calls may finish; a second signal ends them")?;
    tokio::select! {
        () = running.shutdown() => {}
        () = end.next() => desk.print.talk("ended by the second signal")?,
    }
    Ok(())
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Before the start, so that no signal finds nobody listening.
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "the same shape on every system")]
    fn listen() -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
