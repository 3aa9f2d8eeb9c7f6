//! `relay-load`: sends a fixed number of calls to one address and prints what it measured as JSON.
//! One thread, its own small HTTP/1.1 client, so that it takes little of the machine it measures.
//! Knows nothing of the relay; the processes to watch are given by their ids.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

mod client;
mod count;
mod runs;
mod samples;
mod watch;

#[derive(Parser)]
#[command(about = "Sends a fixed number of calls and prints what it measured as one line of JSON")]
struct Cli {
    #[command(subcommand)]
    load: Load,
    #[command(flatten)]
    to: To,
}

/// Where the calls go, and which processes are watched meanwhile.
#[derive(Args)]
struct To {
    /// The base URL, without a path: http://127.0.0.1:8080 or https://….
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Sent as `Authorization: Bearer`.
    #[arg(long, global = true)]
    key: Option<String>,
    /// The certificate authority of an https address, as PEM.
    #[arg(long, global = true)]
    ca: Option<PathBuf>,
    /// The name an https certificate is checked for, when it is not the host of the URL.
    #[arg(long, global = true)]
    server_name: Option<String>,
    /// Processes whose CPU time and memory are read, with all their children.
    #[arg(long, global = true, value_delimiter = ',')]
    watch: Vec<u32>,
    /// Ends the run, as a failure, after so many seconds.
    #[arg(long, global = true, default_value_t = 120)]
    within: u64,
}

#[derive(Subcommand)]
enum Load {
    /// Small calls one after the other on each connection.
    Unary {
        #[arg(long, default_value_t = 32)]
        connections: usize,
        #[arg(long, default_value_t = 10_000)]
        requests: usize,
    },
    /// Streams as fast as they come.
    Flat {
        #[arg(long, default_value_t = 8)]
        connections: usize,
        /// Streams in all.
        #[arg(long, default_value_t = 16)]
        streams: usize,
        /// Delta events in each stream.
        #[arg(long, default_value_t = 20_000)]
        events: usize,
    },
    /// Streams with an event every so often: time to first byte, and how late each event comes.
    Paced {
        #[arg(long, default_value_t = 100)]
        streams: usize,
        #[arg(long, default_value_t = 10)]
        interval_ms: u64,
        #[arg(long, default_value_t = 200)]
        events: usize,
    },
    /// Streams that begin and then say nothing: memory of the watched processes, for each count in turn.
    Idle {
        #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
        streams: Vec<usize>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.context("cannot start").and_then(|runtime| {
        let within = Duration::from_secs(cli.to.within);
        let run = async { tokio::time::timeout(within, measure(cli.load, cli.to)).await };
        runtime.block_on(run).context("the time given for the run is over")?
    });
    let (text, code) = match report {
        Ok(report) => (report.to_string(), ExitCode::SUCCESS),
        Err(error) => (
            serde_json::json!({ "error": format!("{error:#}") }).to_string(),
            ExitCode::FAILURE,
        ),
    };
    writeln!(std::io::stdout().lock(), "{text}").ok();
    code
}

async fn measure(load: Load, to: To) -> Result<serde_json::Value> {
    let watched = watch::Watched::new(to.watch.clone());
    let target = client::Target::new(&to)?;
    match load {
        Load::Unary { connections, requests } => runs::unary(&target, &watched, connections, requests).await,
        Load::Flat {
            connections,
            streams,
            events,
        } => runs::flat(&target, &watched, connections, streams, events).await,
        Load::Paced {
            streams,
            interval_ms,
            events,
        } => runs::paced(&target, &watched, streams, interval_ms, events).await,
        Load::Idle { streams } => runs::idle(&target, &watched, &streams).await,
    }
}
