//! `relay-hub egress`: serves as an egress node until SIGTERM.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::Args;
use relay_shared::{config::Problems, telemetry};
use tracing::info;

use super::{Desk, Failure, serve::Signals, typed};
use crate::{
    config::parse_duration,
    node::{self, AllowList, NodeHome, Pattern, PatternError, Settings},
};

#[derive(Args)]
pub(super) struct Egress {
    /// Where the hub dials this node, on UDP and TCP.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// A vendor that may be reached: HOST or HOST:PORT, `*.` for any one label. Everything else is refused.
    #[arg(long, value_name = "HOST[:PORT]", required = true)]
    allow: Vec<String>,
    /// Names of vendors may lead to addresses that are not public.
    #[arg(long)]
    allow_private: bool,
    /// The address of this machine to leave by.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// Connections to vendors at once.
    #[arg(long, value_name = "COUNT", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65536))]
    streams: u32,
    /// A connection to a vendor on which nothing moved for so long is closed.
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = time)]
    idle: Duration,
    /// How long running connections may go on after SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    drain: Duration,
    /// What is logged, like `info` or `relay_hub=debug`.
    #[arg(long, env = "RELAY_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

fn time(text: &str) -> Result<Duration, &'static str> {
    let read = parse_duration(text).filter(|time| !time.is_zero());
    read.ok_or("write a duration such as 500ms, 5s, 10m or 1h")
}

pub(super) async fn run(desk: &mut Desk<'_>, words: Egress) -> Result<(), Failure> {
    let allow = read_list(&words.allow)?;
    telemetry::init(&words.log, false)
        .map_err(|problem| Failure::fixable(problem).hint("write a level such as info, or info,relay_hub=debug"))?;
    let mut end = Signals::listen()?;
    let running = node::start(Settings {
        home: NodeHome::in_data(desk.data.path()),
        listen: words.listen,
        allow,
        allows_private: words.allow_private,
        source: words.source,
        streams: words.streams,
        idle: words.idle,
        patience: words.drain,
    })?;
    desk.print.line(&running.ready_line())?;
    let signal = end.next().await;
    info!(
        signal,
        "draining: running connections may finish, no other is taken; a second signal ends them"
    );
    tokio::select! {
        cut = running.shutdown() => {
            info!(cut, "ended");
            Ok(())
        }
        signal = end.next() => Err(Failure::fixable(format!("ended at once by a second {signal}: running connections were cut"))
            .hint("one signal lets them finish, for as long as --drain says")),
    }
}

/// Every vendor that may be reached, or all that is wrong with the list.
fn read_list(words: &[String]) -> Result<AllowList, Failure> {
    let mut problems = Problems::new();
    let mut patterns = Vec::new();
    for text in words {
        match Pattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => problems.push(format!("--allow {}", typed(text)), error.to_string(), hint(error)),
        }
    }
    if problems.is_empty() {
        Ok(patterns.into_iter().collect())
    } else {
        Err(Failure::from(problems).into_usage())
    }
}

const fn hint(error: PatternError) -> &'static str {
    match error {
        PatternError::Host => "write api.openai.com or api.openai.com:443",
        PatternError::Wild => "`*.` stands for one label, as in *.openai.azure.com",
        PatternError::Wide => "name at least two labels after `*.`",
    }
}
