//! Vendors' secrets at rest: a copy of the database opens nothing, and the master key changes under running calls.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use relay_tests::{
    client::Client,
    vendor::Script,
    world::{Hub, World},
};
use tokio::task::JoinSet;

use crate::{PROGRAMS, ask, kill::told, setup, vendors::sql};

/// Accounts like the first one, up to so many.
async fn add_accounts(world: &World, count: usize) {
    let url = world.vendor.base_url();
    let secret = world.scratch().join("vendor-secret").display().to_string();
    let account = |number| format!("account-{number},openai,{url},{secret}\n");
    let lines: String = (1..count).map(account).collect();
    let file = world.scratch().join("accounts.csv");
    fs::write(&file, format!("name,vendor,base_url,secret_file\n{lines}")).unwrap();
    let began = Instant::now();
    let words = ["account", "import", &file.display().to_string()];
    world.hub.command(&words).await.succeeded();
    eprintln!("{count} secrets, imported in {:?}", began.elapsed());
}

/// Calls that run one after the other, several at once.
struct Calls {
    is_over: Arc<AtomicBool>,
    running: JoinSet<i32>,
}

impl Calls {
    fn begin(world: &World) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for _ in 0..8 {
            let (client, is_over) = (world.through_hub(), is_over.clone());
            running.spawn(async move {
                let mut served = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.post("/responses", ask(true)).await.unwrap().rest().await;
                    assert!(answer.status == 200 && answer.cut.is_none(), "{}", answer.text());
                    served += 1;
                }
                served
            });
        }
        Self { is_over, running }
    }

    /// None has failed.
    async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let served = self.running.join_all().await;
        eprintln!("{} calls meanwhile, none failed", served.iter().sum::<i32>());
        assert!(served.into_iter().all(|served| served > 0));
    }
}

async fn is_served(world: &World) -> bool {
    let answer = world
        .through_hub()
        .post("/responses", ask(true))
        .await
        .unwrap()
        .rest()
        .await;
    answer.status == 200 && answer.cut.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_changes_under_running_calls_and_none_fails() {
    let mut world = setup().start().await;
    world.vendor.otherwise(Script::message("still here "));
    // `cargo xtask prove rotation` has many.
    let count = told("RELAY_SECRETS", 5);
    let limit = u128::try_from(told("RELAY_ROTATED_WITHIN_MS", usize::MAX)).unwrap();
    add_accounts(&world, count).await;
    world.look().await;
    let calls = Calls::begin(&world);
    let mut keys = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let rotated = world.hub.json(&["seal", "rotate"]).await;
        let took = began.elapsed();
        eprintln!("{count} secrets under a new master key in {took:?}");
        assert!(took.as_millis() <= limit, "{took:?}");
        assert_eq!(rotated["sealed"], count, "each account has a secret: {rotated}");
        assert!(!keys.contains(&rotated["key"]), "{rotated}");
        keys.push(rotated["key"].clone());
        world.look().await;
    }
    calls.end().await;
    let shown = world.hub.json(&["seal", "show"]).await;
    assert_eq!(
        (&shown[0]["key"], &shown[0]["secrets"]),
        (&keys[2], &count.into()),
        "{shown}"
    );
    assert_eq!(
        (&shown[1]["key"], &shown[1]["secrets"]),
        (&keys[1], &0.into()),
        "{shown}"
    );
    world.hub.program().kill().await;
    world.hub.serve().await;
    assert!(is_served(&world).await, "a fresh start opens it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_opens_no_secret() {
    let mut world = setup().start().await;
    world.hub.program().kill().await;
    let place = tempfile::tempdir().unwrap();
    let stolen = Hub::init(PROGRAMS, place.path(), "warn").await;
    for name in ["hub.sqlite", "hub.sqlite-wal"] {
        let from = world.scratch().join("hub").join(name);
        if from.exists() {
            fs::copy(from, place.path().join("hub").join(name)).unwrap();
        }
    }
    let shown = stolen.json(&["seal", "show"]).await;
    assert_eq!(
        (&shown[0]["secrets"], &shown[1]["secrets"]),
        (&0.into(), &1.into()),
        "{shown}"
    );
    assert_eq!(shown[1]["state"], "missing from the key file", "{shown}");
    let refused = stolen.command(&["seal", "rotate"]).await;
    assert_eq!(refused.exit_code, Some(1), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_may_lie_elsewhere() {
    let mut world = setup().start().await;
    world.vendor.otherwise(Script::message("here "));
    world.hub.program().kill().await;
    let elsewhere = world.scratch().join("master.key").display().to_string();
    fs::rename(world.scratch().join("hub/seal.key"), &elsewhere).unwrap();
    let lost = world.hub.try_serve().await;
    assert!(lost.is_err(), "without its key it does not start");
    let variables = [("RELAY_HUB_SEAL_KEY", elsewhere.as_str())];
    world.hub.serve_with(&variables).await.unwrap();
    assert!(is_served(&world).await);
    let rotated = ["seal", "rotate", "--seal-key", &elsewhere];
    world.hub.command(&rotated).await.succeeded();
    world.look().await;
    assert!(is_served(&world).await, "it read the file again, where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_use_an_account_changes_under_running_calls_and_none_fails() {
    let mut world = setup().start().await;
    world.vendor.otherwise(Script::message("still here "));
    let calls = Calls::begin(&world);
    for between in [
        &["--exclusive", "acme"][..],
        &["--with", "acme"],
        &["--exclusive", "acme"],
        &["--all"],
    ] {
        let words = [&["account", "share", "main"], between].concat();
        world.hub.command(&words).await.succeeded();
        world.look().await;
    }
    calls.end().await;
    world.hub.program().kill().await;
    world.hub.serve().await;
    assert!(is_served(&world).await);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_given_to_another_tenant_in_the_database_serves_nobody() {
    let world = setup().start().await;
    world.vendor.otherwise(Script::message("mine "));
    let other = world.hub.add_tenant("other", "10").await;
    let client = Client::new(
        &format!("http://{}/v1", world.hub.http()),
        &world.hub.add_key(&other).await,
    );
    let words = ["account", "share", "main", "--exclusive", "acme"];
    world.hub.command(&words).await.succeeded();
    world.look().await;
    assert!(is_served(&world).await);
    let of_nobody = "DELETE FROM account_tenants; ";
    let exclusive_to = |tenant: &str| {
        format!(
            "{of_nobody} UPDATE account_share SET sharing = 'exclusive'; \
                 INSERT INTO account_tenants (account, tenant) SELECT account, '{tenant}' FROM account_share"
        )
    };
    let of_everybody = format!("{of_nobody} UPDATE account_share SET sharing = 'all'");
    for moved in [exclusive_to(&other), of_everybody] {
        sql(&world, &moved).await;
        world.look().await;
        let refused = client.post("/responses", ask(true)).await.unwrap().rest().await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(!is_served(&world).await);
        let told = world.hub.command(&["account", "test", "main"]).await.failed();
        assert!(told.stderr.contains("cannot be used"), "{}", told.stderr);
    }
    sql(&world, &exclusive_to(&world.tenant)).await;
    world.look().await;
    assert!(is_served(&world).await, "as it was");
    assert_eq!(world.vendor.posts().len(), 2, "nothing went by it meanwhile");
}
