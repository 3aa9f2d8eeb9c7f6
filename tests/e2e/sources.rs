//! Twenty accounts on twenty addresses that come and go while calls run: what each vendor's credential came from is the
//! address of its account, and no other. In a network namespace of its own, where addresses can be taken away.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use relay_tests::{
    client::Client,
    namespace::{self, ip},
    within::within,
    world::World,
};
use serde_json::Value;

use crate::{ask, setup};

const ACCOUNTS: usize = 20;
const TENANTS: usize = 120;
const WORKERS: usize = 16;
const NAME: &str = "sources::no_call_leaves_by_another_address_than_its_account_s";

fn address(account: usize) -> String {
    format!("127.0.1.{}", account + 1)
}

fn calls() -> u64 {
    let told = std::env::var_os("RELAY_WAY_CALLS");
    told.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(2_000)
}

/// A command of relay-hub in this process: hundreds of them, and each would take its time to start.
async fn command(world: &World, arguments: &[&str]) -> Value {
    let data = world.hub.home.display().to_string();
    let words = [&["relay-hub"][..], arguments, &["--json", "--data", &data]].concat();
    let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = relay_hub::cli::run(words, &mut out, &mut err).await;
    assert_eq!(code, 0, "{arguments:?}: {}", String::from_utf8_lossy(&err));
    serde_json::from_slice(&out).unwrap_or_default()
}

async fn add_accounts(world: &World) {
    let base_url = world.vendor.base_url();
    for account in 0..ACCOUNTS {
        let (name, file) = (format!("account-{account}"), world.scratch().join("secret"));
        fs::write(&file, format!("sk-of-{account}")).unwrap();
        let (file, source) = (file.display().to_string(), address(account));
        let add = [
            "account",
            "add",
            &name,
            "--vendor",
            "openai",
            "--base-url",
            &base_url,
            "--secret-file",
            &file,
        ];
        command(world, &add).await;
        command(world, &["way", "add", &name, "--account", &name, "--source", &source]).await;
    }
    command(world, &["account", "remove", "main"]).await;
}

async fn add_clients(world: &World) -> Vec<Client> {
    let mut clients = Vec::new();
    for tenant in 0..TENANTS {
        let name = format!("tenant-{tenant}");
        command(world, &["tenant", "add", &name]).await;
        command(world, &["tenant", "credit", &name, "1000"]).await;
        let key = command(world, &["key", "add", "--tenant", &name]).await;
        clients.push(Client::new(
            &format!("http://{}/v1", world.hub.http()),
            key["key"].as_str().unwrap(),
        ));
    }
    clients
}

/// Takes one address after the other away for as long as `share` calls take, and gives it back.
async fn take_addresses_away(done: Arc<AtomicU64>, is_over: Arc<AtomicBool>, share: u64) {
    for account in (0..ACCOUNTS).cycle() {
        let address = format!("{}/32", address(account));
        ip(&["address", "del", &address, "dev", "lo"]);
        let until = done.load(Ordering::SeqCst) + share;
        while done.load(Ordering::SeqCst) < until && !is_over.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ip(&["address", "add", &address, "dev", "lo"]);
        if is_over.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// While no address is there nothing leaves.
async fn assert_refused_without_addresses(world: &World, client: &Client) {
    let each = |action: &str| {
        (0..ACCOUNTS).for_each(|account| ip(&["address", action, &format!("{}/32", address(account)), "dev", "lo"]));
    };
    each("del");
    let refused = client.post("/responses", ask(true)).await.unwrap().rest().await;
    let (status, code) = (refused.status.as_u16(), refused.error_code());
    assert_eq!(
        (status, code.as_str()),
        (503, "egress_unavailable"),
        "{}",
        refused.text()
    );
    assert!(world.vendor.sources().is_empty(), "{:?}", world.vendor.sources());
    each("add");
}

/// A connection that lies idle left by an address that is gone: it would take the call and say nothing for ten seconds.
async fn assert_refused_at_once_with_warm_connections(client: &Client) {
    let warm = async { while client.post("/responses", ask(false)).await.unwrap().rest().await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(60), warm).await.unwrap();
    let each = |action: &str| {
        (0..ACCOUNTS).for_each(|account| ip(&["address", action, &format!("{}/32", address(account)), "dev", "lo"]));
    };
    each("del");
    let refused = client.post("/responses", ask(false)).await.unwrap();
    let took = refused.head_after;
    assert_eq!(refused.rest().await.error_code(), "egress_unavailable");
    assert!(took < within(Duration::from_secs(2)), "{took:?}");
    each("add");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_leaves_by_another_address_than_its_account_s() {
    if namespace::runs_elsewhere(NAME).await {
        return;
    }
    // All of 127.0.0.0/8 is here otherwise, and none of it can be taken away.
    ip(&["address", "del", "127.0.0.1/8", "dev", "lo"]);
    ip(&["address", "add", "127.0.0.1/32", "dev", "lo"]);
    (0..ACCOUNTS).for_each(|account| ip(&["address", "add", &format!("{}/32", address(account)), "dev", "lo"]));

    let world = setup().start().await;
    add_accounts(&world).await;
    let clients = Arc::new(add_clients(&world).await);
    assert_refused_without_addresses(&world, &clients[0]).await;
    let (all, next, done) = (calls(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (clients, next, done) = (clients.clone(), next.clone(), done.clone());
        workers.spawn(async move {
            let mut told = BTreeMap::<u16, u64>::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= all {
                    return told;
                }
                let client = &clients[usize::try_from(number).unwrap() % TENANTS];
                let answer = client
                    .post("/responses", ask(number % 2 == 0))
                    .await
                    .unwrap()
                    .rest()
                    .await;
                let status = answer.status.as_u16();
                // An address that is back before the hub looks for it leaves the vendor with the blame: 502.
                let known = [(200, ""), (503, "egress_unavailable"), (502, "upstream_unreachable")];
                let is_fit = known.contains(&(status, answer.error_code().as_str()));
                assert!(is_fit, "{status}: {}", answer.text());
                *told.entry(status).or_default() += 1;
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let mut addresses = tokio::task::JoinSet::new();
    addresses.spawn(take_addresses_away(done.clone(), is_over.clone(), all / 200));
    let mut told = BTreeMap::<u16, u64>::new();
    while let Some(ended) = workers.join_next().await {
        for (status, count) in ended.unwrap() {
            *told.entry(status).or_default() += count;
        }
    }
    is_over.store(true, Ordering::SeqCst);
    addresses.join_all().await;

    let seen = world.vendor.sources();
    let wrong: Vec<_> = seen
        .iter()
        .filter(|((credential, source), _)| {
            let account = credential
                .strip_prefix("Bearer sk-of-")
                .and_then(|number| number.parse().ok());
            account.map(address) != Some(source.to_string())
        })
        .collect();
    assert!(wrong.is_empty(), "calls that left by another address: {wrong:?}");
    let carried: u64 = seen.values().sum();
    eprintln!(
        "{all} calls: {told:?}; {carried} came to the vendor, from {} addresses, 0 from a wrong one",
        seen.len()
    );
    assert!(seen.len() >= ACCOUNTS - 2, "few accounts were used: {seen:?}");
    let blamed = told.get(&502).copied().unwrap_or_default();
    assert!(
        blamed * 200 <= all,
        "the vendor was blamed for addresses that were gone: {told:?}"
    );
    // The first was refused while no address was there.
    let rows = world.books().settled(usize::try_from(all).unwrap() + 1).await;
    for row in rows.iter().filter(|row| row.status == 200) {
        let (_, way, local) = &row.left_by;
        let account = way.strip_prefix("account-").and_then(|number| number.parse().ok());
        assert_eq!(account.map(address).as_ref(), Some(local), "{row:?}");
    }
    assert_refused_at_once_with_warm_connections(&clients[0]).await;
    world.assert_sound().await;
}
