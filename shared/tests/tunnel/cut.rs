//! Nothing cut ever looks complete, and what is cut hurts nobody else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use relay_shared::{
    tasks::Tasks,
    tunnel::{
        Transport,
        body::{BodyError, full},
        server::TunnelLimits,
    },
    written::PATIENCE,
};
use tokio::sync::{Mutex, mpsc};

use crate::world::{BOTH, World, channel, echo, post, read, soon, start_hub};

type Feed = mpsc::Sender<Result<Bytes, BodyError>>;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_source_fails_or_vanishes_is_an_error_at_the_agent() {
    for transport in BOTH {
        for length in [None, Some(1000)] {
            for is_dropped in [false, true] {
                let world = World::new(move |_, _| async move {
                    let (feed, body) = channel();
                    feed.send(Ok("part".into())).await.unwrap();
                    if !is_dropped {
                        feed.send(Err(BodyError::Source("vendor broke off".into())))
                            .await
                            .unwrap();
                    }
                    let mut response = Response::new(body);
                    if let Some(length) = length {
                        response
                            .headers_mut()
                            .insert("content-length", http::HeaderValue::from(length));
                    } else if is_dropped {
                        // Without a length a dropped feed is this body's honest end; so the whole body is dropped.
                        *response.body_mut() = panicking();
                    }
                    response
                });
                let connection = world.dial(transport).await;
                // Only a task that dies takes along what it had sent.
                let is_dead = is_dropped && length.is_none();
                match soon(connection.send(post(full("x")))).await {
                    Ok(response) => {
                        let came = soon(read(response.into_body())).await.unwrap_err().0;
                        assert!(
                            is_dead || came == 4,
                            "{transport} {length:?} dropped: {is_dropped}: {came} bytes"
                        );
                    }
                    Err(error) => assert!(is_dead && !error.is_safe_to_retry, "{transport}: {error}"),
                }
                assert!(connection.is_open(), "{transport}: only the stream is cut");
                connection.close();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_cut_arrives_in_full_and_the_cut_at_once() {
    const SIZES: [usize; 6] = [0, 1, 5_000, 100_000, 900_000, 2_000_000];
    for transport in BOTH {
        let world = World::new(|request, _| async move {
            let size: usize = request.uri().path()[1..].parse().unwrap();
            let chunks = std::iter::repeat_n(9_973, size / 9_973).chain(Some(size % 9_973));
            let data = chunks.map(|length| Ok(http_body::Frame::data(Bytes::from(vec![7; length]))));
            let cut = Err(BodyError::Source("vendor broke off".into()));
            let parts = futures_util::stream::iter(data.collect::<Vec<_>>().into_iter().chain(Some(cut)));
            Response::new(http_body_util::StreamBody::new(parts).boxed_unsync())
        });
        let connection = &world.dial(transport).await;
        for _ in 0..4 {
            let calls = SIZES.iter().cycle().take(24).map(|size| async move {
                let mut request = post(full("x"));
                *request.uri_mut() = format!("/{size}").parse().unwrap();
                let response = soon(connection.send(request)).await.unwrap();
                // A reader that comes late: all of it, or a window full, is here before.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let (came, error) = soon(read(response.into_body())).await.unwrap_err();
                assert_eq!(came, *size, "{transport}: {error}");
            });
            let began = Instant::now();
            futures_util::future::join_all(calls).await;
            assert!(began.elapsed() < PATIENCE, "{transport}: {:?}", began.elapsed());
        }
        // The hub heard that it was heard.
        let ended = Instant::now();
        while world.hub.counts().calls > 0 {
            assert!(ended.elapsed() < Duration::from_secs(2), "{transport}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(connection.is_open(), "{transport}");
        world.end().await;
    }
}

/// A body whose task dies after the first part.
fn panicking() -> relay_shared::tunnel::body::OutBody {
    let mut turn = 0;
    let stream = futures_util::stream::poll_fn(move |_| {
        turn += 1;
        assert!(turn < 2, "on purpose");
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"part")))))
    });
    http_body_util::StreamBody::new(stream).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_resets_the_stream_and_nothing_else() {
    for transport in BOTH {
        let world = World::new(|request, peer| async move {
            assert!(request.uri().path() != "/panic", "on purpose");
            echo(request, peer).await
        });
        let connection = world.dial(transport).await;
        let mut request = post(full("x"));
        *request.uri_mut() = "/panic".parse().unwrap();
        assert!(
            !soon(connection.send(request)).await.err().unwrap().is_safe_to_retry,
            "{transport}"
        );
        let response = soon(connection.send(post(full("still here")))).await.unwrap();
        assert_eq!(soon(read(response.into_body())).await.unwrap(), b"still here");
        connection.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_source_fails_or_falls_short_is_an_error_at_the_hub() {
    for transport in BOTH {
        for (is_failing, length) in [(true, None), (true, Some(1000)), (false, Some(1000))] {
            let (seen, mut outcomes) = mpsc::channel(4);
            let (begun, mut begins) = mpsc::channel(1);
            let world = World::new(move |request, _| {
                let (told, begun) = (OnDrop(seen.clone()), begun.clone());
                async move {
                    let mut body = request.into_body();
                    body.frame().await.unwrap().unwrap();
                    begun.send(()).await.unwrap();
                    let outcome = read(body).await;
                    told.0.try_send(outcome.map_err(|_| ())).unwrap();
                    Response::new(full(""))
                }
            });
            let connection = world.dial(transport).await;
            let (feed, body) = channel();
            let mut request = post(body);
            if let Some(length) = length {
                request
                    .headers_mut()
                    .insert("content-length", http::HeaderValue::from(length));
            }
            feed.send(Ok("part".into())).await.unwrap();
            let failing = async {
                soon(begins.recv()).await.unwrap();
                if is_failing {
                    feed.send(Err(BodyError::Source("client left".into()))).await.unwrap();
                }
                drop(feed);
            };
            let (sent, ()) = tokio::join!(soon(connection.send(request)), failing);
            assert!(sent.is_err(), "{transport}");
            let outcome = soon(outcomes.recv()).await.unwrap();
            assert!(
                outcome.is_err(),
                "{transport} failing: {is_failing} {length:?}: {outcome:?}"
            );
            world.end().await;
        }
    }
}

/// A handler may also be dropped when its agent gives up: then it has seen no end either.
struct OnDrop(mpsc::Sender<Result<Vec<u8>, ()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.try_send(Err(())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_drops_the_answer_stops_the_handler_at_once() {
    for transport in BOTH {
        let (gone, mut left) = mpsc::channel::<()>(1);
        let watchers = Tasks::new();
        let feeds = Arc::new(Mutex::new(Vec::<Feed>::new()));
        let kept = Arc::clone(&feeds);
        let world = World::new(move |_, _| {
            let (gone, kept, watchers) = (gone.clone(), Arc::clone(&kept), watchers.clone());
            async move {
                let (feed, body) = channel();
                feed.send(Ok("part".into())).await.unwrap();
                kept.lock().await.push(feed.clone());
                watchers.spawn("watcher", async move {
                    feed.closed().await;
                    gone.send(()).await.unwrap();
                });
                Response::new(body)
            }
        });
        let connection = world.dial(transport).await;
        let mut answer = soon(connection.send(post(full("x")))).await.unwrap().into_body();
        soon(answer.frame()).await.unwrap().unwrap();
        let dropped = Instant::now();
        drop(answer);
        soon(left.recv()).await.unwrap();
        assert!(
            dropped.elapsed() < Duration::from_secs(1),
            "{transport}: {:?}",
            dropped.elapsed()
        );
        assert_eq!(connection.calls(), 0);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_gives_up_before_the_head_stops_the_handler() {
    struct Told(mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.try_send(()).unwrap();
        }
    }
    for transport in BOTH {
        let (told, mut news) = mpsc::channel(4);
        let world = World::new(move |request, _| {
            let told = told.clone();
            async move {
                told.send(()).await.unwrap();
                let _told = Told(told);
                let _request = request;
                std::future::pending().await
            }
        });
        let connection = world.dial(transport).await;
        {
            let send = connection.send(post(full("x")));
            let mut send = std::pin::pin!(send);
            tokio::select! {
                _ = &mut send => unreachable!("there is no answer"),
                _ = soon(news.recv()) => {}
            }
        }
        soon(news.recv()).await.unwrap();
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_that_leave_together_hurt_no_other_call() {
    for transport in BOTH {
        let floods = Tasks::new();
        let world = World::new(move |request, peer| {
            let flood = floods.clone();
            async move {
                if request.uri().path() == "/endless" {
                    let (feed, body) = channel();
                    flood.spawn("endless", async move {
                        while feed.send(Ok(Bytes::from_static(&[7; 512]))).await.is_ok() {}
                    });
                    return Response::new(body);
                }
                echo(request, peer).await
            }
        });
        let connection = world.dial(transport).await;
        let (feed, body) = channel();
        let mut other = soon(connection.send(post(body))).await.unwrap().into_body();
        for round in 0..10 {
            let endless = (0..64).map(|_| async {
                let mut request = post(full("x"));
                *request.uri_mut() = "/endless".parse().unwrap();
                let mut answer = soon(connection.send(request)).await.unwrap().into_body();
                soon(answer.frame()).await.unwrap().unwrap();
                answer
            });
            let answers = futures_util::future::join_all(endless).await;
            drop(answers);
            feed.send(Ok(Bytes::from(format!("{round}")))).await.unwrap();
            let word = soon(other.frame()).await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(word, format!("{round}"), "{transport}");
        }
        drop(feed);
        assert!(soon(other.frame()).await.is_none());
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_dies_without_a_word_is_noticed_within_three_seconds() {
    for transport in BOTH {
        let world = World::new(echo);
        let connection = world.dial(transport).await;
        let (feed, body) = channel();
        let mut answer = soon(connection.send(post(body))).await.unwrap().into_body();
        feed.send(Ok("alive".into())).await.unwrap();
        soon(answer.frame()).await.unwrap().unwrap();
        let killed = Instant::now();
        world.hub.abort();
        assert!(soon(answer.frame()).await.unwrap().is_err(), "{transport}");
        // Whoever reads the answer may know a moment before the connection does.
        soon(connection.ended()).await;
        assert!(
            killed.elapsed() < Duration::from_secs(3),
            "{transport}: {:?}",
            killed.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_lost_a_call_before_its_head_is_given_to_no_other() {
    for _ in 0..100 {
        let (came, mut comes) = mpsc::channel(1);
        let world = World::new(move |_, _| {
            let came = came.clone();
            async move {
                came.send(()).await.unwrap();
                std::future::pending().await
            }
        });
        let connection = world.dial(Transport::H2).await;
        let dying = async {
            soon(comes.recv()).await.unwrap();
            world.hub.abort();
        };
        let (sent, ()) = tokio::join!(soon(connection.send(post(full("x")))), dying);
        assert!(sent.err().unwrap().is_connection_lost && !connection.is_open());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_hub_is_noticed_at_once() {
    let world = World::new(echo);
    let connection = world.dial(Transport::Quic).await;
    let (feed, body) = channel();
    let mut answer = soon(connection.send(post(body))).await.unwrap().into_body();
    feed.send(Ok("alive".into())).await.unwrap();
    soon(answer.frame()).await.unwrap().unwrap();
    let addr = world.hub.local_addr();
    world.hub.abort();
    // The old listeners go with their tasks, one after the other.
    let tasks = Tasks::new();
    while std::net::TcpListener::bind(addr).is_err() || std::net::UdpSocket::bind(addr).is_err() {
        tokio::task::yield_now().await;
    }
    let _restarted = start_hub(&world.ca, addr, TunnelLimits::default(), echo, &tasks);
    let restarted = Instant::now();
    feed.send(Ok("anybody there?".into())).await.unwrap();
    assert!(soon(answer.frame()).await.unwrap().is_err());
    assert!(
        restarted.elapsed() < Duration::from_millis(1500),
        "{:?}",
        restarted.elapsed()
    );
    assert!(soon(connection.ended()).await.reason.contains("reset"));
    world.dial(Transport::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_cut_off_at_once() {
    for transport in BOTH {
        let world = World::new(echo);
        let connection = world.dial(transport).await;
        let (_feed, body) = channel();
        let mut answer = soon(connection.send(post(body))).await.unwrap().into_body();
        assert_eq!(world.hub.close_device("dev_2"), 0);
        assert_eq!(world.hub.close_device("dev_1"), 1);
        assert!(soon(answer.frame()).await.unwrap().is_err(), "{transport}");
        soon(connection.ended()).await;
        world.end().await;
    }
}
