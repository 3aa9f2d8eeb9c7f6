//! The scripted vendor as a program, for the demo and for measurements.
//!
//! Prints one JSON line, `{"ready":true,"addr":…,"base_url":…}`, and serves until it is stopped.
//! `GET /_truth` tells what it would bill: sums over all calls, and every call that was no benchmark.
//!
//! The model's name chooses the answer of benchmark calls (`POST /v1/responses`); of these only sums are kept:
//!
//! | model | answer |
//! | --- | --- |
//! | `bench-unary` | one small JSON body (also on `/v1/chat/completions`) |
//! | `bench-sse-10ms` | a stream of 200 deltas, one every 10 ms; any number of milliseconds; each delta's text is `t=<unix time in nanoseconds>` as 20 digits |
//! | `bench-sse-flat` | a stream of 20,000 deltas as fast as they are taken, in writes of at most 16 KiB |
//! | `bench-idle` | headers and two events, then silence until the client leaves |
//!
//! `-x<N>` after a streaming model's name sets the number of deltas: `bench-sse-flat-x1000`.
//! Each benchmark call reports 100 input and 20 output tokens.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use relay_tests::proxy::TlsFront;
use relay_tests::vendor::{Script, Upgrade, Vendor};
use serde_json::json;

/// A vendor that speaks what OpenAI speaks, as scripted.
#[derive(Parser)]
struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Answer each call with a call of Codex's shell tool first, and with a message once its output is there.
    #[arg(long)]
    tool_round: bool,
    /// The shell command of the tool round.
    #[arg(long, default_value = "echo relayed")]
    command: String,
    /// The final message.
    #[arg(long, default_value = "The scripted vendor has nothing to add.")]
    message: String,
    /// Milliseconds between the events of a stream.
    #[arg(long, default_value_t = 0)]
    interval: u64,
    /// Answer upgrades to WebSocket with 426.
    #[arg(long)]
    no_websocket: bool,
    /// Speak TLS, with the certificate of this PEM file.
    #[arg(long, requires = "tls_key")]
    tls_chain: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "tls_chain")]
    tls_key: Option<PathBuf>,
    /// Write the truth log to this file whenever it changes.
    #[arg(long)]
    truth_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let tls = options.tls_chain.as_ref().zip(options.tls_key.as_ref());
    let behind = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = if tls.is_some() { behind } else { options.listen };
    let vendor = Vendor::listen(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let front = match tls {
        Some((chain, key)) => Some(TlsFront::listen(options.listen, chain, key, vendor.addr()).await),
        None => None,
    };
    let script = match options.tool_round {
        true => Script::tool_round(&options.command, &options.message),
        false => Script::message(&options.message),
    };
    vendor.otherwise(script.interval(Duration::from_millis(options.interval)));
    if options.no_websocket {
        let refusal = Script::error(426, "invalid_request_error", None, "This vendor has no WebSocket.");
        vendor.upgrades(Upgrade::Refuse(Box::new(refusal)));
    }
    let (addr, base_url) = match &front {
        Some(front) => (front.addr(), format!("https://{}/v1", front.addr())),
        None => (vendor.addr(), vendor.base_url()),
    };
    let ready = json!({"ready": true, "addr": addr, "base_url": base_url});
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")?;
    out.flush()?;
    drop(out);
    let mut written = String::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => return stopped.context("cannot listen for the interrupt signal"),
            _ = ticks.tick() => if let Some(file) = &options.truth_file {
                let truth = json!({"totals": vendor.truth().totals(), "entries": vendor.truth().entries()}).to_string();
                if truth != written {
                    std::fs::write(file, &truth).with_context(|| format!("cannot write {}", file.display()))?;
                    written = truth;
                }
            },
        }
    }
}
