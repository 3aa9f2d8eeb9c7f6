//! `cargo xtask demo`: the whole relay on this machine, one turn through it, what each hop adds, and
//! what the books say of it.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    check::tools,
    say,
    stand::{
        Plan, Profile, Programs, Stand, TENANT,
        child::{end_with_us, wait_for_interrupt},
    },
};

mod http;
mod turn;

use http::Client;
use turn::Turn;

/// What `cargo xtask demo` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave everything running and say how to point Codex at it; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// Who answers.
    #[arg(long, value_enum, default_value_t = Vendor::Scripted)]
    vendor: Vendor,
    /// The model of the turn.
    #[arg(long, default_value = "gpt-5.2-codex")]
    model: String,
    /// Use the small built-in client even where the real Codex can be had.
    #[arg(long)]
    no_codex: bool,
    /// Build and run with optimisation.
    #[arg(long)]
    release: bool,
    /// Print what happened as one line of JSON on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Vendor {
    /// A program of this work tree that speaks as OpenAI does. Costs nothing.
    Scripted,
    /// api.openai.com, with the key in OPENAI_API_KEY.
    Openai,
}

/// Shows the relay at work.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let plan = options.plan()?;
    end_with_us()?;
    say::heading("build");
    let programs = Programs::build(if options.release {
        Profile::Release
    } else {
        Profile::Debug
    })?;
    say::heading("start: vendor, hub, agent");
    let stand = Stand::start(programs, &plan)?;
    let turn = options.turn(&stand)?;
    say::heading(&format!("the bill: relay-hub usage --tenant {TENANT}"));
    say::line(stand.hub_tool(&["usage", "--tenant", TENANT])?.trim_end());
    let usage = stand.hub_tool(&["usage", "--tenant", TENANT, "--json"])?;
    let hops = match options.vendor {
        Vendor::Scripted => Some(Hops::measure(&stand, options.release)?),
        Vendor::Openai => None,
    };
    say::heading("the books: relay-hub ledger verify");
    say::line(stand.hub_tool(&["ledger", "verify"])?.trim());
    if options.json {
        let usage: Value = serde_json::from_str(&usage)?;
        let turn = json!({ "client": turn.client, "message": turn.message, "seconds": turn.seconds });
        let hops = hops.map(|hops| json!({ "vendor_ms": hops.vendor, "hub_ms": hops.hub, "agent_ms": hops.agent }));
        say::data(&json!({ "turn": turn, "hops": hops, "usage": usage, "ledger": "verified" }).to_string());
    }
    if options.keep {
        tell_how_to_use(&stand, &options.model)?;
        wait_for_interrupt();
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn plan(&self) -> Result<Plan> {
        let (vendor, base_url, credential) = match self.vendor {
            Vendor::Scripted => {
                let message = "The command printed relayed, and this sentence came through agent and hub.";
                let args = [
                    "--tool-round",
                    "--command",
                    "echo relayed",
                    "--message",
                    message,
                    "--interval",
                    "40",
                ];
                (
                    Some(args.map(String::from).to_vec()),
                    None,
                    "scripted-credential".to_owned(),
                )
            }
            Vendor::Openai => {
                let key = std::env::var("OPENAI_API_KEY")
                    .ok()
                    .filter(|key| !key.trim().is_empty());
                let key = key.context("--vendor openai needs a key: set OPENAI_API_KEY")?;
                (None, Some("https://api.openai.com".to_owned()), key)
            }
        };
        let models = vec!["bench-unary".to_owned()];
        Ok(Plan {
            vendor,
            base_url,
            credential,
            hub_toml: String::new(),
            models,
            files: 4096,
        })
    }

    fn turn(&self, stand: &Stand) -> Result<Turn> {
        let codex = if self.no_codex {
            Err("not asked for".to_owned())
        } else {
            tools::codex(true)
        };
        let streamed = "one turn with a tool round, by the built-in client, shown as it streams";
        match codex {
            Ok(codex) => {
                say::heading("one turn with a tool round, by the real Codex");
                let turn = turn::by_codex(stand, &codex, &self.model)?;
                say::line(&format!("\n{}: {:.1} s", turn.client, turn.seconds));
                say::heading(streamed);
                turn::by_ourselves(stand, &self.model)?;
                Ok(turn)
            }
            Err(why) => {
                say::line(&format!("The real Codex is left out: {why}."));
                say::heading(streamed);
                turn::by_ourselves(stand, &self.model)
            }
        }
    }
}

/// Milliseconds of the same small call on its three ways, medians.
struct Hops {
    vendor: f64,
    hub: f64,
    agent: f64,
}

impl Hops {
    fn measure(stand: &Stand, is_release: bool) -> Result<Self> {
        let build = if is_release {
            ""
        } else {
            " (debug build: --release is faster)"
        };
        say::heading(&format!(
            "what each hop adds: a small call, {CALLS} times each, medians{build}"
        ));
        let vendor_url = stand.vendor_url.as_deref().context("there is a scripted vendor")?;
        let mut ways = [
            Client::connect(vendor_url, None)?,
            Client::connect(&stand.hub_url, Some(&stand.hub_key))?,
            Client::connect(&stand.agent_url, Some(&stand.agent_key))?,
        ];
        let call = json!({ "model": "bench-unary", "input": "hello" });
        let mut times = [const { Vec::new() }; 3];
        for round in 0..=CALLS {
            for (way, times) in ways.iter_mut().zip(&mut times) {
                let began = Instant::now();
                way.call(&call, &mut |_| {})?;
                // The first of each opens what later ones find open.
                if round > 0 {
                    times.push(began.elapsed().as_secs_f64() * 1000.0);
                }
            }
        }
        let [vendor, hub, agent] = times.map(median);
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let ms = |value: f64| format!("{value:.2} ms");
        let rows = vec![
            row(["way", "in all", "added by the hop"]),
            row(["vendor directly", &ms(vendor), ""]),
            row(["hub → vendor", &ms(hub), &format!("hub   {}", ms(hub - vendor))]),
            row([
                "agent → tunnel → hub → vendor",
                &ms(agent),
                &format!("agent {}", ms(agent - hub)),
            ]),
        ];
        say::line(say::table(&rows).trim_end());
        Ok(Self { vendor, hub, agent })
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn tell_how_to_use(stand: &Stand, model: &str) -> Result<()> {
    say::heading("how to use it");
    let home = turn::codex_home(stand, model)?;
    let agent = stand.programs().path("relay-agent");
    let data = stand.agent_data();
    say::line(&format!(
        "\nCodex, with a home of its own:\n\n  CODEX_HOME={} codex\n",
        home.display()
    ));
    say::line(&format!(
        "Codex with your own settings (the same command with --undo takes it back):\n\n  {} setup codex --data {}\n",
        agent.display(),
        data.display()
    ));
    say::line(&format!(
        "Any other client:\n\n  through the agent  OPENAI_BASE_URL={}/v1 OPENAI_API_KEY={}\n  \
         at the hub         OPENAI_BASE_URL={}/v1 OPENAI_API_KEY={}\n",
        stand.agent_url, stand.agent_key, stand.hub_url, stand.hub_key
    ));
    say::line(&format!("The hub's data: {}", stand.hub_data().display()));
    say::heading("everything keeps running; Ctrl-C ends it");
    Ok(())
}

const CALLS: usize = 30;
