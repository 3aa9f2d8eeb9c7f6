//! The soak: a real hub, its scripted vendor, tenants with prices of their own, and calls by the hundred thousand that
//! end in every way. At the end each call's charge is what the vendor's bill and the price list make of it, to the
//! billionth; every balance is what is left; and the ledger proves itself.
//!
//! Ends with 0 when all of it is so, else with 1 and the first differences.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program tells how far it is")]

mod books;
mod calls;
mod oracle;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use relay_tests::codex::scratch_dir;
use relay_tests::vendor::Vendor;
use relay_tests::vendor::soak::Soaked;
use relay_tests::world::{Hub, Programs};
use serde_json::Value;
use tokio::task::JoinSet;

use books::Findings;
use calls::{Call, Caller};

/// Runs calls through a hub and compares its books with the vendor's bill.
#[derive(Parser)]
struct Options {
    /// How many.
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// Of how many tenants; each makes one call at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=500))]
    tenants: u16,
    /// The hub; without it the one that was built beside this program.
    #[arg(long)]
    hub: Option<PathBuf>,
}

struct Tenant {
    id: String,
    key: String,
}

const CREDIT: i64 = 10_000_000_000_000_000;
const CREDIT_WORD: &str = "10000000";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("hub-under-test"));
    let program = options.hub.clone().map_or_else(beside, Ok)?;
    ensure!(program.is_file(), "there is no hub at {}", program.display());
    let scratch = scratch_dir("soak");
    let vendor = Vendor::start().await;
    let (mut hub, tenants) = set_up(&program, scratch.path(), &vendor, options.tenants).await;
    hub.serve().await;
    let began = Instant::now();
    run(hub.http(), &tenants, options.calls).await?;
    let took = began.elapsed();
    settled(&program, &hub.home, options.calls).await?;
    let bill = vendor.truth().take_soaked();
    let ids = tenants
        .iter()
        .zip(0..)
        .map(|(tenant, at)| (tenant.id.clone(), at))
        .collect();
    let mut findings = compare(&program, &hub.home, &bill, &ids)?;
    balances(&program, &hub.home, &tenants, &mut findings)?;
    let verdict = json(&program, &hub.home, &["ledger", "verify"])?;
    hub.program().terminate().await;
    hub.assert_calm();
    Ok(tell(&options, &bill, &mut findings, &verdict, took))
}

/// A hub with a price list, and tenants whose factors and prices differ.
async fn set_up(program: &Path, scratch: &Path, vendor: &Vendor, count: u16) -> (Hub, Vec<Tenant>) {
    let path: &'static str = Box::leak(program.display().to_string().into_boxed_str());
    let programs = Programs { hub: path, agent: path };
    let hub = Hub::init(programs, scratch, "error").await;
    hub.configure(SocketAddr::from(([127, 0, 0, 1], 1)), "");
    hub.add_account(vendor, false).await;
    let list = scratch.join("prices.toml");
    std::fs::write(&list, oracle::price_list()).expect("the scratch directory is writable");
    let list = list.display().to_string();
    hub.command(&["price", "import", "--yes", &list]).await.succeeded();
    let mut tenants = Vec::new();
    for number in 0..count {
        let id = hub.add_tenant(&format!("t{number}"), CREDIT_WORD).await;
        let key = hub.add_key(&id).await;
        if let Some(millionths) = oracle::times(number) {
            let factor = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
            hub.command(&["price", "times", &factor, "--tenant", &id])
                .await
                .succeeded();
        }
        if let Some([input, cached, output]) = oracle::own(number) {
            let set = ["price", "set", "soak-a", "--tenant", &id, "--input", &input];
            let more = ["--cached", &cached, "--output", &output];
            hub.command(&[&set[..], &more[..]].concat()).await.succeeded();
        }
        tenants.push(Tenant { id, key });
    }
    (hub, tenants)
}

/// Every tenant makes its share, one call after the other, all tenants at once.
async fn run(hub: SocketAddr, tenants: &[Tenant], calls: u64) -> Result<()> {
    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut running = JoinSet::<Result<()>>::new();
    for (tenant, number) in tenants.iter().zip(0..) {
        let (next, done, mut caller) = (Arc::clone(&next), Arc::clone(&done), Caller::new(hub, &tenant.key));
        running.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= calls {
                    return Ok(());
                }
                let call = Call::of(number, at);
                caller
                    .make(&call)
                    .await
                    .with_context(|| format!("call {at}: {:?}", call.order))?;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let bar = bar(done, calls);
    let calling = async {
        while let Some(ended) = running.join_next().await {
            ended.context("a client panicked")??;
        }
        Ok(())
    };
    tokio::select! {
        ended = calling => ended,
        () = bar => Ok(()),
    }
}

/// Tells how far it is: in place on a terminal, else in tenths. Never ends.
async fn bar(done: Arc<AtomicU64>, all: u64) {
    let (began, is_terminal, mut told) = (Instant::now(), std::io::stderr().is_terminal(), 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let done = done.load(Ordering::Relaxed);
        let seconds = began.elapsed().as_secs().max(1);
        let (tenths, rate) = (done * 10 / all.max(1), done / seconds);
        let left = all.saturating_sub(done) / rate.max(1);
        let line = format!("{done} of {all} calls, {rate}/s, {left} s left");
        if is_terminal {
            let full = usize::try_from(done * 40 / all.max(1)).unwrap_or(40);
            eprint!(
                "\r[{}{}] {line}   ",
                "#".repeat(full),
                ".".repeat(40_usize.saturating_sub(full))
            );
        } else if tenths > told {
            told = tenths;
            eprintln!("{line}");
        }
    }
}

/// Waits until the tables have every call and no hold is open.
async fn settled(program: &Path, home: &Path, calls: u64) -> Result<()> {
    for _ in 0..120 {
        let sums = json(program, home, &["usage", "--by", "total"])?;
        let held = json(program, home, &["tenant", "list"])?;
        let is_free = held
            .as_array()
            .is_some_and(|all| all.iter().all(|tenant| tenant["held"] == "0.00"));
        if sums[0]["calls"].as_u64() == Some(calls) && is_free {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let sums = json(program, home, &["usage", "--by", "ending"])?;
    anyhow::bail!("the books do not come to {calls} calls without a hold: {sums}")
}

fn command(program: &Path, home: &Path, words: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.args(words).arg("--data").arg(home).stdin(Stdio::null());
    command
}

fn compare(program: &Path, home: &Path, bill: &[Soaked], ids: &HashMap<String, u16>) -> Result<Findings> {
    let mut listing = command(program, home, &["usage", "--csv"])
        .stdout(Stdio::piped())
        .spawn()?;
    let rows = listing.stdout.take().context("stdout is piped")?;
    // Nothing else runs any more that this thread would keep waiting.
    let findings = tokio::task::block_in_place(|| books::compare(rows, bill, ids))?;
    ensure!(listing.wait()?.success(), "`usage --csv` failed");
    Ok(findings)
}

/// Every tenant has what is left.
fn balances(program: &Path, home: &Path, tenants: &[Tenant], findings: &mut Findings) -> Result<()> {
    let listed = json(program, home, &["tenant", "list"])?;
    let all = listed.as_array().context("a list of tenants")?;
    for (tenant, number) in tenants.iter().zip(0_u16..) {
        let row = all
            .iter()
            .find(|row| row["id"] == tenant.id.as_str())
            .context("a tenant is missing")?;
        let balance = row["balance"].as_str().and_then(oracle::nanos).context("a balance")?;
        let sum = |by: &HashMap<u16, i128>| by.get(&number).copied().unwrap_or_default();
        let left = i128::from(CREDIT) - sum(&findings.exact) - sum(&findings.counted);
        if i128::from(balance) != left {
            findings.wrong(format!("tenant {number} has {balance}, its calls leave {left}"));
        }
    }
    Ok(())
}

/// What a command says. Over a million rows it may take its time.
fn json(program: &Path, home: &Path, words: &[&str]) -> Result<Value> {
    let mut asking = command(program, home, words);
    let said = tokio::task::block_in_place(|| asking.arg("--json").stderr(Stdio::inherit()).output())?;
    serde_json::from_slice(&said.stdout).with_context(|| format!("{words:?} told no JSON"))
}

fn tell(options: &Options, bill: &[Soaked], findings: &mut Findings, verdict: &Value, took: Duration) -> ExitCode {
    let truth: i128 = bill
        .iter()
        .filter_map(|call| Some(i128::from(oracle::cost(call.order.tenant, call.model, call.billed?))))
        .sum();
    let sum = |by: &HashMap<u16, i128>| by.values().sum::<i128>();
    let (exact, counted) = (sum(&findings.exact), sum(&findings.counted));
    if findings.rows != options.calls {
        findings.wrong(format!("{} calls have {} rows", options.calls, findings.rows));
    }
    if exact != truth {
        findings.wrong(format!(
            "charged {exact} for what the vendor bills, the truth is {truth}"
        ));
    }
    if verdict["ok"] != true {
        findings.wrong(format!("the ledger does not verify: {}", verdict["problems"]));
    }
    eprintln!();
    for (ending, (calls, charged)) in &findings.endings {
        println!("{ending:<34} {calls:>9} calls  {charged:>22} charged");
    }
    println!(
        "{} calls of {} tenants in {} s: {exact} billionths charged for what the vendor bills, {truth} is the truth; \
         {counted} charged for what was counted; {} transfers in a chain that ends in {}",
        findings.rows,
        options.tenants,
        took.as_secs(),
        verdict["transfers"],
        verdict["head"].as_str().unwrap_or_default(),
    );
    for wrong in &findings.wrong {
        println!("WRONG: {wrong}");
    }
    match findings.wrongs {
        0 => ExitCode::SUCCESS,
        wrongs => {
            println!("{wrongs} differences");
            ExitCode::FAILURE
        }
    }
}
