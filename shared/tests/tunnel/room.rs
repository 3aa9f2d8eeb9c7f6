//! How many calls one connection carries, and what becomes of one more.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use relay_shared::tunnel::{
    body::{InBody, OutBody, full},
    client::Connection,
    server::{Peer, TunnelLimits},
};

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
