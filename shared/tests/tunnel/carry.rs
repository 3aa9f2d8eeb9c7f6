//! What the tunnel carries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use relay_shared::{
    call::CallId,
    tunnel::{
        CALL_ID, DUPLICATE,
        body::{empty, full},
        client::{HubTrust, enrol},
    },
};

use crate::world::{BOTH, World, channel, echo, post, read, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_answer_arrive_whole_and_name_the_device() {
    for transport in BOTH {
        let world = World::new(|request, peer| async move {
            assert_eq!(request.uri().path_and_query().unwrap().as_str(), "/v1/responses?a=b");
            assert_eq!(request.headers()["x-one"], "1");
            assert_eq!(
                (peer.identity.tenant.as_str(), peer.identity.device.as_str()),
                ("ten_1", "dev_1")
            );
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::builder()
                .status(201)
                .header("x-two", "2")
                .body(full(body))
                .unwrap()
        });
        let connection = world.dial(transport).await;
        let request = Request::post("/v1/responses?a=b")
            .header("x-one", "1")
            .header("connection", "close");
        let response = soon(connection.send(request.body(full("hello")).unwrap()))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()["x-two"], "2");
        assert_eq!(read(response.into_body()).await.unwrap(), b"hello", "{transport}");
        assert_eq!(connection.transport(), transport);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_run_at_once() {
    for transport in BOTH {
        let world = World::new(echo);
        let connection = world.dial(transport).await;
        let (feed, body) = channel();
        let mut answer = soon(connection.send(post(body))).await.unwrap().into_body();
        for turn in 0..200 {
            let word = Bytes::from(format!("word {turn}"));
            feed.send(Ok(word.clone())).await.unwrap();
            let mut got = Vec::new();
            while got.len() < word.len() {
                got.extend_from_slice(&soon(answer.frame()).await.unwrap().unwrap().into_data().unwrap());
            }
            assert_eq!(got, word, "{transport}");
        }
        drop(feed);
        assert!(soon(answer.frame()).await.is_none(), "{transport}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_megabytes_pass_a_slow_reader_unchanged() {
    const SIZE: usize = 64 << 20;
    for transport in BOTH {
        let world = World::new(echo);
        let connection = world.dial(transport).await;
        let sent: Bytes = (0..SIZE).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>().into();
        let response = soon(connection.send(post(full(sent.clone())))).await.unwrap();
        let got = tokio::time::timeout(Duration::from_secs(120), read(response.into_body()))
            .await
            .unwrap()
            .unwrap();
        assert!(got == sent, "{transport}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_small_requests_all_get_their_own_answer() {
    for transport in BOTH {
        let world = World::new(echo);
        let connection = world.dial(transport).await;
        let next = Arc::new(AtomicUsize::new(0));
        let workers = (0..64).map(|_| {
            let (connection, next) = (connection.clone(), Arc::clone(&next));
            async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 5000 {
                        return;
                    }
                    let word = format!("request {number}");
                    let response = soon(connection.send(post(full(word.clone())))).await.unwrap();
                    assert_eq!(soon(read(response.into_body())).await.unwrap(), word.as_bytes());
                }
            }
        });
        futures_util::future::join_all(workers).await;
        assert_eq!(connection.calls(), 0);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_complete_answer_arrives_though_the_upload_is_not_through() {
    for transport in BOTH {
        let world = World::new(|request, _| async move {
            drop(request);
            Response::builder().status(413).body(full(vec![b'x'; 100_000])).unwrap()
        });
        let connection = world.dial(transport).await;
        for _ in 0..20 {
            let upload = full(vec![0; 30 << 20]);
            let response = soon(connection.send(post(upload))).await.unwrap();
            assert_eq!(response.status(), 413, "{transport}");
            assert_eq!(
                soon(read(response.into_body())).await.unwrap().len(),
                100_000,
                "{transport}"
            );
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_comes_twice_is_run_once() {
    for transport in BOTH {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let world = World::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Response::new(empty()) }
        });
        let connection = world.dial(transport).await;
        let request = |id: CallId| {
            Request::post("/")
                .header(CALL_ID, id.to_string())
                .body(empty())
                .unwrap()
        };
        let id = CallId::random();
        assert_eq!(soon(connection.send(request(id))).await.unwrap().status(), 200);
        let second = soon(connection.send(request(id))).await.unwrap();
        assert_eq!(second.status(), StatusCode::CONFLICT);
        assert!(second.headers().contains_key(DUPLICATE));
        assert_eq!(
            soon(connection.send(request(CallId::random()))).await.unwrap().status(),
            200
        );
        assert_eq!(runs.load(Ordering::Relaxed), 2, "{transport}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_hub_finishes_what_runs_and_takes_nothing_else() {
    for transport in BOTH {
        let world = World::new(echo);
        let connection = world.dial(transport).await;
        let (feed, body) = channel();
        let answer = soon(connection.send(post(body))).await.unwrap().into_body();
        let hub = world.hub.clone();
        let (drained, is_drained) = tokio::sync::oneshot::channel();
        world.tasks.spawn("drain", async move {
            drained.send(hub.drain(Duration::from_secs(10)).await).unwrap();
        });
        soon(connection.ended()).await;
        assert!(
            connection
                .send(post(full("late")))
                .await
                .err()
                .unwrap()
                .is_safe_to_retry,
            "{transport}"
        );
        feed.send(Ok("the rest".into())).await.unwrap();
        drop(feed);
        assert_eq!(soon(read(answer)).await.unwrap(), b"the rest", "{transport}");
        assert_eq!(soon(is_drained).await.unwrap(), 0, "{transport}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolment_is_spoken_without_a_client_certificate() {
    let world = World::new(echo);
    let hub = world.hub.local_addr().to_string();
    let pinned = HubTrust::Fingerprint(relay_shared::tls::fingerprint(&world.ca.der()));
    let (status, body) = soon(enrol(&hub, pinned, "/relay/enrol", "{}".into())).await.unwrap();
    assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"{}"[..]));
    let trusted = HubTrust::Ca(world.ca.der());
    assert!(soon(enrol(&hub, trusted, "/relay/renew", "{}".into())).await.is_ok());
    let wrong = soon(enrol(&hub, HubTrust::Fingerprint([0; 32]), "/relay/enrol", "{}".into()))
        .await
        .unwrap_err();
    assert!(wrong.contains("not the hub"), "{wrong}");
    world.end().await;
}
