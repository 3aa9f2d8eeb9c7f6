//! A disk that is full, slow, or loses its power; a database that somebody locks; a clock that jumps. Streams go on,
//! new calls wait briefly and are refused clearly, nothing is lost, and all is well again without a restart.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use relay_tests::{
    client::{Client, Whole},
    codex::scratch_dir,
    disk::Disk,
    skip::{Need, skip},
    vendor::{Ended, Gate, Script, Vendor},
    within::within,
    world::World,
};
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    ask, events,
    kill::{Dice, call_until_it_is_gone, oracle::Oracle, told},
    setup,
};

/// Calls that run at once.
const CALLS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a disk of our own; none where the system does not let us, which is told.
fn mounted() -> Option<(TempDir, Disk)> {
    let folder = scratch_dir("disk");
    match Disk::mount(folder.path()) {
        Ok(disk) => Some((folder, disk)),
        Err(why) => {
            skip(Need::Mount, &format!("a disk of our own cannot be mounted here: {why}"));
            None
        }
    }
}

/// A world whose hub has its data on that disk, or beside everything else.
async fn world_on(disk: Option<&Disk>) -> World {
    let setup = crate::Setup {
        hub_in: disk.map(|disk| disk.path().to_owned()),
        credit: 100_000,
        log: "warn",
        ..setup()
    };
    let mut world = setup.start().await;
    world.agent.program().kill().await;
    world
}

/// A stream runs when trouble begins and goes on to its end; new calls are refused clearly until trouble ends; then
/// all is well, without a restart.
async fn survives(world: &mut World, begin: impl AsyncFnOnce(), end: impl AsyncFnOnce()) {
    let client = world.through_hub();
    let gate = Gate::new(4);
    world.vendor.next(Script::deltas(30, 20).gate(&gate));
    let mut running = client.post("/responses", ask(true)).await.unwrap();
    running.until("response.created").await.unwrap();
    begin().await;
    gate.release(1_000);
    running.until("response.content_part.done").await.unwrap();

    let mut calls = JoinSet::new();
    let refused = refused_at_last(&client, &mut calls).await;
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{refused:?}");
    assert!(!refused.error_code().is_empty(), "{refused:?}");

    end().await;
    let ended = Instant::now();
    let rest = running.rest().await;
    assert_eq!(
        events(&rest.body).last().unwrap()["type"],
        "response.completed",
        "{rest:?}"
    );
    for call in calls.join_all().await {
        assert!(matches!(call.status.as_u16(), 200 | 503), "{call:?}");
    }
    while client.post("/responses", ask(true)).await.unwrap().rest().await.status != 200 {
        assert!(ended.elapsed() < Duration::from_secs(10), "it is not well again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.hub.program().is_running());
    world.assert_billed_truly_but_for_faults().await;
    world.assert_sound().await;
}

/// Calls, one after the other, until one is told to come again later. What was granted before waits on.
async fn refused_at_last(client: &Client, calls: &mut JoinSet<Whole>) -> Whole {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody is refused");
        let client = client.clone();
        calls.spawn(async move { client.post("/responses", ask(true)).await.unwrap().rest().await });
        let soon = tokio::time::timeout(Duration::from_millis(100), calls.join_next()).await;
        if let Ok(Some(Ok(ended))) = soon
            && ended.status == 503
        {
            return ended;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_the_end_of_streams_and_refuses_new_calls() {
    let Some((_folder, disk)) = mounted() else { return };
    let mut world = world_on(Some(&disk)).await;
    for _ in 0..2 {
        survives(&mut world, async || disk.full(true), async || disk.full(false)).await;
    }
    world.hub.program().kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_delays_the_end_of_streams_and_refuses_new_calls() {
    let mut world = world_on(None).await;
    let url = format!("sqlite://{}", world.hub.home.join("hub.sqlite").display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    let other = tokio::sync::Mutex::new(&mut other);
    let run = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&mut **other.lock().await).await.unwrap();
    };
    let locked_for = Duration::from_secs(told("RELAY_LOCKED_SECONDS", 5) as u64);
    survives(
        &mut world,
        async || run("BEGIN IMMEDIATE").await,
        async || {
            tokio::time::sleep(locked_for).await;
            run("ROLLBACK").await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_delays_no_first_byte_and_calls_share_its_pace() {
    let Some((_folder, disk)) = mounted() else { return };
    let mut world = world_on(Some(&disk)).await;
    let client = world.through_hub();
    // The first call opens connections.
    client.post("/responses", ask(true)).await.unwrap().rest().await;
    // Nothing that is written for somebody gets to the disk: every answer begins, and none ends.
    disk.hold_syncs(true);
    let begun = join_all((0..CALLS).map(|_| async {
        let mut answer = client.post("/responses", ask(true)).await.unwrap();
        answer.until("response.created").await.unwrap();
        answer
    }));
    let ending = begun.await.into_iter().map(|answer| {
        let disk = &disk;
        async move { (answer.rest().await, disk.syncs_ended()) }
    });
    let before = disk.syncs_ended();
    let freeing = async {
        let all_sent = |vendor: &Vendor| vendor.truth().entries().iter().all(|call| call.ended == Ended::Sent);
        world.vendor.until("all that it has to say", PATIENCE, all_sent).await;
        disk.sync_takes(Duration::from_millis(200));
        disk.hold_syncs(false);
    };
    let (ended, ()) = tokio::join!(join_all(ending), freeing);
    for (answer, syncs) in ended {
        assert_eq!(events(&answer.body).last().unwrap()["type"], "response.completed");
        assert!(syncs > before, "an end was seen that is on no disk");
    }
    let syncs = disk.syncs_ended() - before;
    eprintln!("{CALLS} ends shared {syncs} syncs of 200 ms");
    assert!(syncs < CALLS / 2, "{syncs} syncs for {CALLS} ends");
    let mut first_bytes = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        let mut answer = client.post("/responses", ask(true)).await.unwrap();
        answer.until("response.created").await.unwrap();
        first_bytes.push(began.elapsed());
        answer.rest().await;
    }
    first_bytes.sort_unstable();
    eprintln!(
        "a first byte came after {:?} (p50), {:?} (longest)",
        first_bytes[7], first_bytes[14]
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
    world.hub.program().kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_disturbs_no_call() {
    let mut world = world_on(None).await;
    world.hub.program().kill().await;
    let clock = world.scratch().join("clock");
    fs::write(&clock, "0").unwrap();
    let path = clock.display().to_string();
    world.hub.serve_with(&[("RELAY_CLOCK", &path)]).await.unwrap();
    let client = world.through_hub();
    for jump in ["3600", "0", "-3600", "0", "-3600", "3600"] {
        let gate = Gate::new(4);
        world.vendor.next(Script::deltas(30, 20).gate(&gate));
        let mut running = client.post("/responses", ask(true)).await.unwrap();
        running.until("response.created").await.unwrap();
        fs::write(&clock, jump).unwrap();
        for _ in 0..5 {
            let began = Instant::now();
            let answer = client.post("/responses", ask(false)).await.unwrap().rest().await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(
                began.elapsed() < within(Duration::from_secs(2)),
                "{:?}",
                began.elapsed()
            );
        }
        gate.release(1_000);
        let rest = running.rest().await;
        assert_eq!(
            events(&rest.body).last().unwrap()["type"],
            "response.completed",
            "{rest:?}"
        );
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

/// Hubs that lose their power at any moment, over and over on one disk; what clients saw of them.
async fn lose_power(cuts: usize, variables: &[(&str, &str)]) -> Option<(World, Oracle, (TempDir, Disk))> {
    let (folder, mut disk) = mounted()?;
    let mut world = world_on(Some(&disk)).await;
    world.hub.program().kill().await;
    world.vendor.otherwise(Script::deltas(6, 20));
    // What was made long before is on the disk.
    disk.settle();
    let (mut dice, mut oracle) = (Dice::new(), Oracle::default());
    oracle.loses_power = true;
    for cut in 1..=cuts {
        world.hub.serve_with(variables).await.unwrap();
        let client = world.through_hub();
        let calls = join_all((0..16).map(|caller| call_until_it_is_gone(&client, caller)));
        let after = Duration::from_millis(20 + dice.up_to(500));
        let cutting = async {
            tokio::time::sleep(after).await;
            let image = disk.cut(|| dice.up_to(2) == 0);
            world.hub.program().kill().await;
            image
        };
        let (seen, image) = tokio::join!(calls, cutting);
        drop(disk);
        disk = Disk::mount_image(folder.path(), image).unwrap();
        oracle.add("a loss of power", 16, seen.concat());
        eprintln!("{cut} of {cuts}: lost its power after {after:?}");
    }
    Some((world, oracle, (folder, disk)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_of_power_loses_nothing_that_a_client_saw_the_end_of() {
    let cuts = told("RELAY_POWER_CUTS", 8);
    let Some((mut world, oracle, _disk)) = lose_power(cuts, &[]).await else {
        return;
    };
    oracle.ask(&mut world).await;
    oracle.conclude(&mut world).await;
}

/// The rig is seen to find what it looks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_did_not_wait_for_the_disk_would_lose_settlements() {
    let Some((mut world, oracle, _disk)) = lose_power(4, &[("RELAY_FAULT", "unsynced")]).await else {
        return;
    };
    let lost = oracle.lost(&mut world).await;
    eprintln!("{lost} settlements lost without syncing");
    assert!(lost > 0);
    world.hub.program().kill().await;
}
