//! A network that loses every UDP packet costs a moment, not the call.

use std::time::{Duration, Instant};

use relay_tests::vendor::{Gate, Script};
use relay_tests::world::World;

use crate::{ask, setup};

/// One call; how long it took until it worked, trying again as clients do.
async fn until_it_works(world: &World, limit: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let sending = async { anyhow::Ok(world.through_agent().post("/responses", ask(true)).await?.rest().await) };
        if let Ok(Ok(answer)) = tokio::time::timeout(limit, sending).await
            && answer.status == 200
            && answer.cut.is_none()
        {
            return began.elapsed();
        }
        assert!(began.elapsed() < limit, "no call worked within {limit:?}");
    }
}

async fn transport(world: &World) -> String {
    let status = world.agent.status().await;
    let found = ["transport", "link"].iter().find_map(|field| {
        status[field]
            .as_str()
            .or_else(|| status[field]["transport"].as_str())
            .map(str::to_owned)
    });
    found.unwrap_or_else(|| status.to_string())
}

async fn until_transport(world: &World, wanted: &str, limit: Duration) {
    let began = Instant::now();
    loop {
        let found = transport(world).await;
        if found.contains(wanted) {
            return;
        }
        assert!(
            began.elapsed() < limit,
            "the link is {found}, not {wanted}, after {limit:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_udp_the_first_call_goes_over_http2() {
    let world = crate::Setup {
        drop_udp: true,
        ..setup()
    }
    .start()
    .await;
    let took = until_it_works(&world, Duration::from_secs(2)).await;
    eprintln!("first call without UDP: {took:?}");
    assert_eq!(world.chaos.udp_packets(), 0);
    until_transport(&world, "h2", Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_calls_work_soon_after_udp_dies() {
    let world = setup().start().await;
    until_it_works(&world, Duration::from_secs(5)).await;
    until_transport(&world, "quic", Duration::from_secs(5)).await;
    world.chaos.drop_udp(true);
    let took = until_it_works(&world, Duration::from_secs(5)).await;
    eprintln!("new call after UDP died: {took:?}");
    until_transport(&world, "h2", Duration::from_secs(5)).await;
    until_it_works(&world, Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_under_way_when_udp_dies_ends_with_an_error_or_its_end() {
    let world = setup().start().await;
    until_it_works(&world, Duration::from_secs(5)).await;
    until_transport(&world, "quic", Duration::from_secs(5)).await;
    world
        .vendor
        .next(Script::deltas(300, 20).interval(Duration::from_millis(10)));
    let mut answer = world.through_agent().post("/responses", ask(true)).await.unwrap();
    answer.until("output_text.delta").await.unwrap();
    world.chaos.drop_udp(true);
    let rest = tokio::time::timeout(Duration::from_secs(25), answer.rest())
        .await
        .expect("no stream hangs");
    let last = crate::events(&rest.body).pop().unwrap();
    assert_eq!(rest.cut, None, "{rest:?}");
    assert!(
        last["type"] == "response.failed" || last["type"] == "response.completed",
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn once_udp_passes_again_new_calls_go_over_quic_and_running_ones_end_where_they_are() {
    let world = crate::Setup {
        drop_udp: true,
        ..setup()
    }
    .start()
    .await;
    let gate = Gate::new(4);
    world.vendor.next(Script::deltas(20, 20).gate(&gate));
    let mut running = world.through_agent().post("/responses", ask(true)).await.unwrap();
    running.until("response.created").await.unwrap();
    until_transport(&world, "h2", Duration::from_secs(5)).await;
    // The first try has been given up: what comes now is a return.
    let called = Instant::now();
    while world.agent.status().await["link"]["last_error"].is_null() {
        assert!(called.elapsed() < Duration::from_secs(15), "the try over QUIC goes on");
    }
    world.chaos.drop_udp(false);
    // The agent asks again by itself, half a minute after the first try failed.
    until_transport(&world, "quic", Duration::from_secs(45)).await;
    let before = (world.chaos.udp_packets(), world.chaos.tcp_connections());
    until_it_works(&world, Duration::from_secs(2)).await;
    assert!(world.chaos.udp_packets() > before.0, "the call went over QUIC");
    assert_eq!(world.chaos.tcp_connections(), before.1);
    gate.release(1_000);
    let rest = running.rest().await;
    assert_eq!(rest.cut, None, "{rest:?}");
    assert_eq!(crate::events(&rest.body).last().unwrap()["type"], "response.completed");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}
