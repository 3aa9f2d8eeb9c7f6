//! Measures the ledger: idle latency of reserve, its commit and a settlement; then calls a second: of streams, whose hold
//! outlives the hub before their settlement, and of small calls, which are written once. Beside it the same tables
//! written with a commit for each step of one call after the other.
//! `cargo run --release -p relay-hub --example ledger_bench [SECONDS] [DIR]`

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use relay_hub::{
    config::DataDir,
    identity::By,
    ids::{KeyId, TenantId},
    ledger::{self, Ending, Flags, Ledger, Link, Reserve, UsageRow},
    money::Nanos,
    store::{Store, millis, tenants},
};
use relay_protocol::{Tokens, Usage, UsageSource};
use relay_shared::{call::CallId, tasks::Tasks};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: usize = 64;
/// A million units each.
const CREDIT: Nanos = Nanos::new(1_000_000_000_000_000);
const IDLE_CALLS: usize = 500;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(5);
    let dir = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("ledger-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(&DataDir::new(&dir), Duration::from_secs(seconds)).await;
    std::fs::remove_dir_all(&dir)?;
    measured
}

async fn measure(data: &DataDir, time: Duration) -> anyhow::Result<()> {
    let store = Store::create(data).await?;
    let now_ms = millis(SystemTime::now());
    let mut payers = Vec::new();
    for at in 0..TENANTS {
        let tenant = tenants::add(&store, &format!("tenant-{at}"), now_ms).await?;
        ledger::credit(&store, &tenant, CREDIT, &format!("start-{at}"), "", now_ms).await?;
        payers.push((tenant, By::Key(KeyId::random())));
    }
    let tasks = Tasks::new();
    let ledger = Ledger::start(&store, &tasks).await?;
    let mut out = io::stdout();

    idle(&ledger, &payers, &mut out).await?;
    let mut best = 0_f64;
    for waiting in [1, 32, 512] {
        for is_stream in [true, false] {
            best = best.max(loaded(&ledger, &payers, waiting, is_stream, time, &mut out).await?);
        }
    }

    drop(ledger);
    tasks.shutdown(Duration::from_secs(30)).await;
    let begun = Instant::now();
    let verdict = ledger::verify(&store).await?;
    let took = begun.elapsed();
    writeln!(
        out,
        "verify: {} transfers in {took:.2?}, ok: {}",
        verdict.transfers, verdict.ok
    )?;
    let alone = one_by_one(&data.database(), payers[0].0.as_str(), time)?;
    writeln!(
        out,
        "a commit for each step: {alone:.0} calls/s; the ledger: {:.0} times that",
        best / alone
    )?;
    store.close().await;
    anyhow::ensure!(verdict.ok, "{}", verdict.problems.join("\n"));
    Ok(())
}

/// Hold and settlement of one call after the other, each a transaction as any application would write it.
fn one_by_one(database: &Path, tenant: &str, time: Duration) -> rusqlite::Result<f64> {
    let connection = rusqlite::Connection::open(database)?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    let step = |statements: &[(&str, &[&dyn rusqlite::ToSql])]| {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for (sql, values) in statements {
            connection.prepare_cached(sql)?.execute(*values)?;
        }
        connection.prepare_cached("COMMIT")?.execute([])
    };
    let last: i64 = connection.query_row("SELECT max(seq) FROM usage", [], |row| row.get(0))?;
    let begun = Instant::now();
    let mut calls = 0_i64;
    while begun.elapsed() < time {
        calls += 1;
        let number = last + calls;
        step(&[(TAKE, &[&tenant]), (OPEN, &[&number, &tenant])])?;
        step(&[
            (CLOSE, &[&number]),
            (CHARGE, &[&tenant]),
            (EARN, &[]),
            (TRANSFER, &[&number, &tenant]),
            (CALL, &[&number, &tenant]),
        ])?;
    }
    Ok(calls as f64 / begun.elapsed().as_secs_f64())
}

const TAKE: &str = "UPDATE account SET held = held + 50000 WHERE id = ? AND posted - held - 50000 >= floor";
const OPEN: &str = "INSERT INTO hold (id, call, tenant, caller, model, amount, price_version, epoch, at_ms) \
    VALUES (?, zeroblob(16), ?, 'key', 'gpt-5.2-codex', 50000, 1, 1, 1)";
const CLOSE: &str = "DELETE FROM hold WHERE id = ?";
const CHARGE: &str = "UPDATE account SET held = held - 50000, posted = posted - 1000 WHERE id = ?";
const EARN: &str = "UPDATE account SET posted = posted + 1000 WHERE id = 'revenue'";
const TRANSFER: &str = "INSERT INTO transfer (kind, hold, debit, credit, amount, at_ms, hash) \
    VALUES ('charge', ?, ?, 'revenue', 1000, 1, zeroblob(32))";
const CALL: &str = "INSERT INTO usage (seq, at_ms, call, tenant, caller, endpoint, model, upstream_model, cost, charged, \
    price_version, status, ending, started_ms, link, streamed) \
    VALUES (?, 1, zeroblob(16), ?, 'key', '/v1/responses', 'gpt-5.2-codex', 'gpt-5.2-codex', 1000, 1000, 1, 200, \
    'completed', 1, 'quic', 1)";

/// One call at a time, so that each batch holds one operation.
async fn idle(ledger: &Ledger, payers: &[(TenantId, By)], out: &mut io::Stdout) -> anyhow::Result<()> {
    let (mut granted, mut durable, mut settled) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..IDLE_CALLS {
        let wish = wish(payers, at);
        let row = row(&wish);
        let begun = Instant::now();
        let hold = ledger.reserve(wish).await?;
        granted.push(begun.elapsed());
        hold.durable().await?;
        durable.push(begun.elapsed());
        let begun = Instant::now();
        hold.settle(Nanos::new(1_000), row).await?;
        settled.push(begun.elapsed());
    }
    for (name, times) in [
        ("reserve granted", granted),
        ("hold durable", durable),
        ("settle durable", settled),
    ] {
        let (p50, p99) = percentiles(times);
        writeln!(out, "idle, {name}: p50 {p50:.0?}, p99 {p99:.0?}")?;
    }
    Ok(())
}

async fn loaded(
    ledger: &Ledger,
    payers: &[(TenantId, By)],
    waiting: usize,
    is_stream: bool,
    time: Duration,
    out: &mut io::Stdout,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..waiting {
        let (ledger, payers) = (ledger.clone(), payers.to_vec());
        callers.spawn(async move {
            let (mut held, mut times) = (Vec::new(), Vec::new());
            let mut at = caller;
            while begun.elapsed() < time {
                let wish = wish(&payers, at);
                let row = row(&wish);
                let start = Instant::now();
                let hold = ledger.reserve(wish).await?;
                if is_stream {
                    hold.durable().await?;
                }
                held.push(start.elapsed());
                hold.settle(Nanos::new(1_000), row).await?;
                times.push(start.elapsed());
                at += waiting;
            }
            anyhow::Ok((held, times))
        });
    }
    let (mut held, mut times) = (Vec::new(), Vec::new());
    while let Some(caller) = callers.join_next().await {
        let (his_held, his_times) = caller??;
        held.extend(his_held);
        times.extend(his_times);
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    let (p50, p99) = percentiles(times);
    let (held_p50, held_p99) = percentiles(held);
    writeln!(
        out,
        "{waiting} at once, {}: {rate:.0} calls/s, before the first byte p50 {held_p50:.1?}, p99 {held_p99:.1?}; \
         settled p50 {p50:.1?}, p99 {p99:.1?}",
        if is_stream { "streams" } else { "small calls" }
    )?;
    Ok(rate)
}

fn wish(payers: &[(TenantId, By)], at: usize) -> Reserve {
    let (tenant, by) = payers[at % payers.len()].clone();
    let (model, amount) = ("gpt-5.2-codex".to_owned(), Nanos::new(50_000));
    Reserve {
        call: CallId::random(),
        tenant,
        by,
        model,
        amount,
        price_version: 1,
    }
}

fn row(wish: &Reserve) -> UsageRow {
    let t = Tokens::new;
    let usage = Usage {
        input: t(12_000),
        cached: t(11_000),
        cache_write: t(0),
        output: t(400),
        reasoning: t(100),
        ..Usage::default()
    };
    UsageRow {
        call: wish.call,
        tenant: wish.tenant.clone(),
        by: wish.by.clone(),
        project: None,
        plan: None,
        account: None,
        choice: ledger::Choice::Only,
        egress: Some("direct".into()),
        local_address: None,
        endpoint: "/v1/responses",
        model: wish.model.clone(),
        upstream_model: wish.model.clone(),
        usage: Some((usage, UsageSource::Reported)),
        cost: Nanos::new(1_000),
        price_version: 1,
        status: 200,
        ending: Ending::Completed,
        started_ms: 1_700_000_000_000,
        hold_us: Some(100),
        first_byte_us: Some(400_000),
        total_us: Some(4_000_000),
        vendor_request_id: Some("req_0123456789abcdef0123456789abcdef".to_owned()),
        response_id: Some("resp_0123456789abcdef0123456789abcdef".to_owned()),
        link: Link::Quic,
        streamed: true,
        tier: None,
        flags: Flags::default(),
    }
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    (at(50), at(99))
}
