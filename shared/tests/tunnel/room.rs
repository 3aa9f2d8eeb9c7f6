//! How many calls one connection carries, and what becomes of one more.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use relay_shared::tunnel::{
    body::{InBody, OutBody, full},
    client::Connection,
    server::{Peer, TunnelLimits},
};

use tokio::sync::Semaphore;

use crate::world::{BOTH, World, channel, echo, post, read, soon};

/// `/idle` begins an answer and never ends it; else an echo.
async fn answer(request: Request<InBody>, peer: Peer) -> Response<OutBody> {
    if request.uri().path() != "/idle" {
        return echo(request, peer).await;
    }
    let (feed, body) = channel();
    feed.send(Ok(Bytes::from_static(b"data: x\n\n"))).await.unwrap();
    std::mem::forget(feed);
    Response::new(body)
}

fn world(calls_per_connection: u32) -> World {
    let limits = TunnelLimits {
        calls_per_connection,
        ..TunnelLimits::default()
    };
    World::with_limits(answer, limits)
}

fn idle() -> Request<OutBody> {
    let mut request = post(full("x"));
    *request.uri_mut() = "/idle".parse().unwrap();
    request
}

async fn begun(connection: &Connection) -> InBody {
    let mut body = soon(connection.send(idle())).await.unwrap().into_body();
    soon(body.frame()).await.unwrap().unwrap();
    body
}

async fn works(connection: &Connection) {
    let response = soon(connection.send(post(full("fine")))).await.unwrap();
    assert_eq!(soon(read(response.into_body())).await.unwrap(), b"fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_place_serves_one_call_after_the_other() {
    for transport in BOTH {
        let world = world(64);
        let connection = world.dial(transport).await;
        let held: Vec<_> = futures_util::future::join_all((0..63).map(|_| begun(&connection))).await;
        for _ in 0..100 {
            works(&connection).await;
        }
        assert_eq!(world.hub.counts().calls, held.len(), "{transport}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_call_waits_for_a_place_and_is_then_told_that_there_is_none() {
    for transport in BOTH {
        let world = world(3);
        let connection = world.dial(transport).await;
        let mut held = vec![
            begun(&connection).await,
            begun(&connection).await,
            begun(&connection).await,
        ];
        let refused = soon(connection.send_within(Duration::from_millis(50), idle())).await;
        let error = refused.err().unwrap();
        assert!(
            error.is_full && error.is_safe_to_retry && !error.is_connection_lost,
            "{error:?}"
        );
        assert!(error.reason.contains("3 calls"), "{error}");
        assert!(connection.is_open());
        // Hello asks the hub itself and needs no place.
        soon(connection.hello()).await.unwrap();
        let (fourth, ()) = tokio::join!(begun(&connection), async { drop(held.pop()) });
        held.push(fourth);
        let (ended, ()) = tokio::join!(soon(connection.send(idle())), async { connection.close() });
        assert!(!ended.err().unwrap().is_full, "{transport}");
        world.end().await;
    }
}

/// A body without an end; adds a permit to `taken` once so many bytes of it were asked for.
fn endless(enough: usize, taken: Arc<Semaphore>) -> OutBody {
    const PART: Bytes = Bytes::from_static(&[7; 16 * 1024]);
    let mut asked = 0;
    let parts = futures_util::stream::repeat_with(move || {
        if (asked..asked + PART.len()).contains(&enough) {
            taken.add_permits(1);
        }
        asked += PART.len();
        Ok(http_body::Frame::data(PART))
    });
    StreamBody::new(parts).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_hold_up_no_other_call() {
    /// Nearly what an agent takes in for one answer; so many of them are more than 80 MB.
    const FILLED: usize = 448 * 1024;
    const UNREAD: u32 = 192;
    for transport in BOTH {
        let taken = Arc::new(Semaphore::new(0));
        let tells = Arc::clone(&taken);
        let world = World::new(move |request, peer| {
            let tells = Arc::clone(&tells);
            async move {
                match request.uri().path() {
                    "/endless" => Response::new(endless(FILLED, tells)),
                    _ => echo(request, peer).await,
                }
            }
        });
        let connection = world.dial(transport).await;
        let unread = (0..UNREAD).map(|_| async {
            let mut request = post(full("x"));
            *request.uri_mut() = "/endless".parse().unwrap();
            soon(connection.send(request)).await.unwrap().into_body()
        });
        let unread = futures_util::future::join_all(unread).await;
        let all_full = taken.acquire_many(UNREAD);
        tokio::time::timeout(Duration::from_secs(60), all_full)
            .await
            .expect("each fills its window")
            .unwrap()
            .forget();
        works(&connection).await;
        drop(unread);
        works(&connection).await;
        world.end().await;
    }
}
