//! Measures what routing and egress add to a call: the choice of an account with a place at it, and then of its way out.
//! With 3, 100 and 10,000 accounts, each with an address of its own to leave by and a bound on its calls; of calls that name
//! no conversation, of new conversations, and of known ones.
//! `cargo run --release -p relay-hub --example routing_bench [DECISIONS] [ACCOUNTS]…`

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use relay_hub::{
    admission::Bounds,
    config::DataDir,
    directory::{Account, Directory, DirectoryHandle, Tenant},
    egress::{DialNode, Egress, Exits, Route},
    ids::{AccountId, TenantId, WayId},
    rotation,
    routing::{Routing, Settings, Traces},
    seal::{Bound, Sealer},
    store::{
        Store,
        accounts::{self, AccountRow},
        sharing, tenants,
        ways::{self, WayRow},
    },
    way::Through,
};
use relay_shared::{clock::SystemClock, tasks::Tasks};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: usize = 16;
/// What both together may take, half of the time.
const GOAL: Duration = Duration::from_micros(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    let decisions = words.next().unwrap_or(100_000);
    let mut counts: Vec<usize> = words.collect();
    if counts.is_empty() {
        counts = vec![3, 100, 10_000];
    }
    for accounts in counts {
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
    let bench = Bench {
        egress: Egress::new(&[], Duration::from_secs(5), no_nodes(), tasks.clone())?,
        routing,
        tenants,
    };
    // The ways out of an account are made at its first call.
    for account in &directory.load().accounts {
        bench.way(account)?;
    }
    let none = |_| HeaderMap::new();
    bench.run(decisions, "no conversation", none).await?;
    bench.run(decisions, "new conversations", thread).await?;
    bench
        .run(decisions, "known conversations", |at| thread(at % 1_000))
        .await?;
    tasks.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

fn no_nodes() -> DialNode {
    Arc::new(|_| Err("there is no egress node here".into()))
}

async fn add_account(store: &Store, sealer: &Sealer, at: usize) -> anyhow::Result<()> {
    let id = AccountId::random();
    let bound = Bound {
        owner: id.as_str(),
        field: "secret",
        holder: "shared",
    };
    let row = AccountRow {
        secret: sealer.seal(bound, "sk-of-nobody")?,
        id: id.clone(),
        name: format!("account-{at}"),
        vendor: "openai".into(),
        base_url: "https://api.example/v1".into(),
        websocket: true,
        allows_private: false,
        created_ms: 1,
        disabled_ms: None,
        disabled_until_ms: None,
        credential: "api-key".into(),
        more_secret: None,
        settings: "{}".into(),
    };
    accounts::add(store, &row).await?;
    let bounded = sharing::Change {
        concurrency: Some(Some(1_000)),
        ..sharing::Change::default()
    };
    rotation::share(store, sealer, &row.id, &bounded).await?;
    let [_, a, b, c] = u32::try_from(at + 1)?.to_be_bytes();
    let way = WayRow {
        id: WayId::random(),
        account: row.id,
        name: format!("way-{at}"),
        through: Through::Source(IpAddr::V4(Ipv4Addr::new(127, a + 1, b, c))),
        node: None,
        password: None,
        region: None,
        priority: 100,
        prefers: None,
        allows_private: false,
        created_ms: 1,
    };
    ways::add(store, &way, |_| Ok::<_, anyhow::Error>(None)).await?;
    Ok(())
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

struct Bench {
    egress: Egress,
    routing: Routing,
    tenants: Vec<Arc<Tenant>>,
}

impl Bench {
    async fn run(&self, decisions: usize, what: &str, headers: impl Fn(usize) -> HeaderMap) -> anyhow::Result<()> {
        let (mut choices, mut sums) = (Vec::with_capacity(decisions), Vec::with_capacity(decisions));
        for (at, tenant) in (0..decisions).zip(self.tenants.iter().cycle()) {
            let headers = headers(at);
            let asked = Traces {
                tenant,
                wire: relay_protocol::Wire::Responses,
                model: Some("gpt-6-sol"),
                headers: &headers,
                session: None,
                previous: None,
                body: &[],
            };
            let began = Instant::now();
            let taken = self
                .routing
                .socket(&asked)
                .await
                .map_err(|_| anyhow::anyhow!("a call was refused"))?;
            let place = taken
                .attend(tenant, None, &[])
                .await
                .map_err(|_| anyhow::anyhow!("a call was refused"))?;
            let chosen = began.elapsed();
            let route = self.way(&taken.account)?;
            sums.push(began.elapsed());
            choices.push(chosen);
            drop((route, place, taken));
        }
        choices.sort_unstable();
        sums.sort_unstable();
        let verdict = if at(&sums, 5_000) <= GOAL { "reached" } else { "missed" };
        Ok(writeln!(
            io::stdout(),
            "  {what:20} account p50 {:>8.2?} p99 {:>8.2?}   with way out p50 {:>8.2?} p99 {:>8.2?} p99.9 {:>8.2?} (p50 ≤ {GOAL:?}: {verdict})",
            at(&choices, 5_000),
            at(&choices, 9_900),
            at(&sums, 5_000),
            at(&sums, 9_900),
            at(&sums, 9_990)
        )?)
    }

    fn way(&self, account: &Account) -> anyhow::Result<Route> {
        let ways = self.egress.ways(Exits {
            account: account.id.as_str(),
            origin: &account.base_url,
            outs: &account.ways,
            allows_private: account.allows_private,
            prefers: None,
        });
        Ok(ways.route(None)?)
    }
}

/// Of sorted times, in hundredths of a percent.
fn at(sorted: &[Duration], hundredths: usize) -> Duration {
    let place = sorted.len().saturating_sub(1) * hundredths / 10_000;
    sorted.get(place).copied().unwrap_or_default()
}
