//! The targets and the loads: what `relay-load` is asked, and where it is pointed.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Size, nginx::Nginx};
use crate::stand::{FILES, Programs, Stand, with_files};

/// The name of the target that is the vendor itself.
pub(crate) const DIRECT: &str = "direct";
/// The plain reverse proxy.
pub(crate) const NGINX: &str = "nginx";
/// The hub's public entrance, plain HTTP on loopback.
pub(crate) const HUB: &str = "hub";
/// The hub's public entrance, HTTPS.
pub(crate) const HUB_HTTPS: &str = "hub-https";
/// The agent's entrance, the tunnel, and the hub.
pub(crate) const AGENT: &str = "agent+hub";

/// The models that `relay-load` names; each makes the scripted vendor answer as a measurement needs it.
pub(crate) fn models(size: &Size) -> Vec<String> {
    let paced = format!("bench-sse-10ms-x{}", size.paced_events);
    let fixed = [
        "bench-unary",
        "bench-idle",
        "bench-sse-flat-x1",
        "bench-sse-flat-x20000",
    ];
    fixed.map(String::from).into_iter().chain([paced]).collect()
}

/// Somewhere to send a load.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    url: String,
    /// More arguments: the key, the certificate authority.
    args: Vec<String>,
    /// The processes under test.
    watch: Vec<u32>,
}

impl Target {
    pub(crate) fn all(stand: &Stand, nginx: Option<&Nginx>) -> Vec<Self> {
        let key = |key: &str| vec!["--key".to_owned(), key.to_owned()];
        let mut all = Vec::new();
        if let Some(url) = &stand.vendor_url {
            all.push(Self {
                name: DIRECT,
                url: url.clone(),
                args: Vec::new(),
                watch: Vec::new(),
            });
        }
        if let Some(nginx) = nginx {
            all.push(Self {
                name: NGINX,
                url: nginx.url.clone(),
                args: Vec::new(),
                watch: vec![nginx.id()],
            });
        }
        let hub = stand.hub.id();
        all.push(Self {
            name: HUB,
            url: stand.hub_url.clone(),
            args: key(&stand.hub_key),
            watch: vec![hub],
        });
        if let Some(url) = &stand.hub_https {
            let mut args = key(&stand.hub_key);
            args.extend(["--ca".to_owned(), stand.hub_ca().display().to_string()]);
            all.push(Self {
                name: HUB_HTTPS,
                url: url.clone(),
                args,
                watch: vec![hub],
            });
        }
        let watch = vec![hub, stand.agent.id()];
        all.push(Self {
            name: AGENT,
            url: stand.agent_url.clone(),
            args: key(&stand.agent_key),
            watch,
        });
        all
    }
}

/// Calls or events a second.
pub(crate) fn rate(report: &Value) -> f64 {
    report.get("per_second").and_then(Value::as_f64).unwrap_or_default()
}

/// One kind of load.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// Small calls, on so many connections, so many in all.
    Unary(usize, usize),
    /// Streams flat out, so many.
    Flat(usize),
    /// A hundred streams with an event each 10 ms, of so many events.
    Paced(usize),
    /// Streams that say nothing, at these counts.
    Idle(&'static [usize]),
}

impl Load {
    /// What a round is made of.
    pub(crate) fn of(size: &Size) -> [Self; 5] {
        [
            Self::Unary(1, size.alone),
            Self::Unary(32, size.requests),
            Self::Unary(128, size.requests),
            Self::Flat(size.streams),
            Self::Paced(size.paced_events),
        ]
    }

    /// Small calls on many connections.
    pub(crate) fn is_crowd(&self) -> bool {
        matches!(self, Self::Unary(connections, _) if *connections > 1)
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Unary(1, _) => "unary, 1 connection".to_owned(),
            Self::Unary(connections, _) => format!("unary, {connections} connections"),
            Self::Flat(_) => "streams flat out".to_owned(),
            Self::Paced(_) => "100 streams, 10 ms".to_owned(),
            Self::Idle(_) => "idle streams".to_owned(),
        }
    }

    /// The short word under which its figures are kept.
    pub(crate) fn key(self) -> String {
        match self {
            Self::Unary(connections, _) => format!("unary{connections}"),
            Self::Flat(_) => "flat".to_owned(),
            Self::Paced(_) => "paced".to_owned(),
            Self::Idle(_) => "idle".to_owned(),
        }
    }

    fn args(self) -> Vec<String> {
        let args: Vec<String> = match self {
            Self::Unary(connections, requests) => {
                vec![
                    "unary".into(),
                    format!("--connections={connections}"),
                    format!("--requests={requests}"),
                ]
            }
            Self::Flat(streams) => vec!["flat".into(), format!("--streams={streams}")],
            Self::Paced(events) => vec!["paced".into(), format!("--events={events}")],
            Self::Idle(steps) => {
                let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
                vec!["idle".into(), format!("--streams={}", steps.join(","))]
            }
        };
        args
    }

    /// Runs `relay-load` once and returns its report.
    pub(crate) fn run(self, programs: &Programs, target: &Target) -> Result<Value> {
        let mut command = with_files(&programs.path("relay-load"), FILES);
        command
            .args(self.args())
            .args(["--url", &target.url])
            .args(&target.args);
        if !target.watch.is_empty() {
            let ids: Vec<String> = target.watch.iter().map(ToString::to_string).collect();
            command.args(["--watch", &ids.join(",")]);
        }
        let said = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start relay-load")?;
        let report: Value = serde_json::from_slice(&said.stdout).context("relay-load printed no report")?;
        match report.get("error") {
            Some(error) => bail!("{} on {}: {error}", self.name(), target.name),
            None => Ok(report),
        }
    }

    /// The figure that is worth showing while the rounds run.
    pub(crate) fn headline(self, report: &Value) -> String {
        let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or_default();
        match self {
            Self::Unary(..) => format!(
                "{:>9.0}/s  p50 {:.3} ms",
                number("/per_second"),
                number("/latency/p50_ms")
            ),
            Self::Flat(_) => format!("{:>9.0} events/s", number("/per_second")),
            Self::Paced(_) => format!(
                "first byte p50 {:.3} ms  event delay p50 {:.3} ms",
                number("/first_byte/p50_ms"),
                number("/event_delay/p50_ms")
            ),
            Self::Idle(_) => report.get("idle").map(ToString::to_string).unwrap_or_default(),
        }
    }
}
