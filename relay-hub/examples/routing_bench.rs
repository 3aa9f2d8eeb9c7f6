//! Measures the choice of an account: what one decision takes with 1 and with 10,000 accounts, of calls that name no
//! conversation, of new conversations, and of known ones.
//! `cargo run --release -p relay-hub --example routing_bench [ACCOUNTS] [DECISIONS]`

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use relay_hub::{
    admission::Bounds,
    config::DataDir,
    directory::{Directory, DirectoryHandle, Tenant},
    ids::{AccountId, TenantId},
    routing::{Routing, Settings, Traces},
    seal::Sealer,
    store::{
        Store,
        accounts::{self, AccountRow},
        tenants,
    },
};
use relay_shared::{clock::SystemClock, tasks::Tasks};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: usize = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    let accounts = words.next().unwrap_or(10_000);
    let decisions = words.next().unwrap_or(200_000);
    for accounts in [1, accounts] {
        let dir = std::env::temp_dir().join(format!("routing-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let measured = measure(&DataDir::new(&dir), accounts, decisions).await;
        std::fs::remove_dir_all(&dir)?;
        measured?;
    }
    Ok(())
}

async fn measure(data: &DataDir, accounts: usize, decisions: usize) -> anyhow::Result<()> {
    std::fs::write(data.seal_key(), [7; 32])?;
    let (store, sealer) = (Store::create(data).await?, Arc::new(Sealer::open(data)?));
    for at in 0..accounts {
        add_account(&store, &sealer, at).await?;
    }
    let mut ids = Vec::new();
    for at in 0..TENANTS {
        ids.push(tenants::add(&store, &format!("tenant-{at}"), 1).await?);
    }
    let tasks = Tasks::new();
    let directory = Directory::watch(&store, sealer, &tasks).await?;
    let settings = Settings {
        pin_lifetime: Duration::from_secs(3_600),
        pins: 262_144,
        line: Bounds {
            calls: 1_024,
            calls_per_tenant: 128,
            wait: Duration::from_secs(10),
        },
    };
    let routing = Routing::start(directory.clone(), &store, settings, Arc::new(SystemClock), &tasks).await?;
    let tenants = known(&directory, &ids);
    writeln!(
        io::stdout(),
        "{accounts} accounts, {TENANTS} tenants, {decisions} decisions"
    )?;
    let none = |_| HeaderMap::new();
    run(&routing, &tenants, decisions, "no conversation", none).await?;
    run(&routing, &tenants, decisions, "new conversations", thread).await?;
    run(&routing, &tenants, decisions, "known conversations", |at| {
        thread(at % 1_000)
    })
    .await?;
    tasks.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

async fn add_account(store: &Store, sealer: &Sealer, at: usize) -> anyhow::Result<()> {
    let id = AccountId::random();
    let row = AccountRow {
        secret: sealer.seal(id.as_str(), "secret", "sk-of-nobody")?,
        id,
        name: format!("account-{at}"),
        vendor: "openai".into(),
        base_url: "https://api.example/v1".into(),
        websocket: true,
        allows_private: false,
        created_ms: 1,
        disabled_ms: None,
        credential: "api-key".into(),
        more_secret: None,
        settings: "{}".into(),
    };
    Ok(accounts::add(store, &row).await?)
}

fn known(directory: &DirectoryHandle, ids: &[TenantId]) -> Vec<Arc<Tenant>> {
    let directory = directory.load();
    let tenants = ids.iter().filter_map(|id| directory.tenants.get(id).cloned());
    tenants.collect()
}

fn thread(at: usize) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("0199b2f0-thread-{at}")).ok();
    value
        .into_iter()
        .map(|value| (http::HeaderName::from_static("thread-id"), value))
        .collect()
}

async fn run(
    routing: &Routing,
    tenants: &[Arc<Tenant>],
    decisions: usize,
    what: &str,
    headers: impl Fn(usize) -> HeaderMap,
) -> anyhow::Result<()> {
    let mut took = Vec::with_capacity(decisions);
    for (at, tenant) in (0..decisions).zip(tenants.iter().cycle()) {
        let headers = headers(at);
        let asked = Traces {
            tenant,
            wire: relay_protocol::Wire::Responses,
            headers: &headers,
            session: None,
            previous: None,
        };
        let began = Instant::now();
        let taken = routing.socket(&asked).await;
        took.push(began.elapsed());
        drop(taken);
    }
    took.sort_unstable();
    let at = |hundredths: usize| {
        let place = took.len().saturating_sub(1) * hundredths / 10_000;
        took.get(place).copied().unwrap_or_default()
    };
    Ok(writeln!(
        io::stdout(),
        "  {what:20} p50 {:>9.2?}   p99 {:>9.2?}   p99.9 {:>9.2?}",
        at(5_000),
        at(9_900),
        at(9_990)
    )?)
}
