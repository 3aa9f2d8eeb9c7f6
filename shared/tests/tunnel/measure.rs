//! Figures, not promises: run with `--ignored --nocapture`.

use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;

use crate::world::{BOTH, World, channel, echo, post, read};
use relay_shared::tunnel::body::full;

fn rss() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    for transport in BOTH {
        let world = World::new(|request, peer| async move {
            match request.uri().path() {
                "/idle" => {
                    let (feed, body) = channel();
                    feed.send(Ok(Bytes::from_static(b"data: x\n\n"))).await.unwrap();
                    std::mem::forget(feed);
                    Response::new(body)
                }
                _ => echo(request, peer).await,
            }
        });
        let before = rss();
        let mut held = Vec::new();
        for _ in 0..10 {
            let connection = world.dial(transport).await;
            for _ in 0..500 {
                let mut request = post(full(vec![b'x'; 2000]));
                *request.uri_mut() = "/idle".parse().unwrap();
                let mut body = connection.send(request).await.unwrap().into_body();
                body.frame().await.unwrap().unwrap();
                held.push(body);
            }
            held.push(connection.send(post(full("x"))).await.unwrap().into_body());
        }
        println!(
            "{transport}: {:.1} KB per idle stream, both ends",
            (rss() - before) as f64 / 5000.0 / 1024.0
        );
        drop(held);
        let connection = world.dial(transport).await;
        let (start, used) = (Instant::now(), cpu());
        let workers = (0..32).map(|_| {
            let connection = connection.clone();
            async move {
                for _ in 0..600 {
                    let response = connection.send(post(full(vec![b'x'; 1000]))).await.unwrap();
                    assert_eq!(read(response.into_body()).await.unwrap().len(), 1000);
                }
            }
        });
        futures_util::future::join_all(workers).await;
        let count = 32.0 * 600.0;
        println!(
            "{transport}: {:.0} requests/s, {:.2} CPU s per 10,000, both ends",
            count / start.elapsed().as_secs_f64(),
            (cpu() - used) / count * 10_000.0
        );
        let mut times: Vec<_> = Vec::new();
        for _ in 0..2000 {
            let start = Instant::now();
            let response = connection.send(post(full("x"))).await.unwrap();
            read(response.into_body()).await.unwrap();
            times.push(start.elapsed().as_micros());
        }
        times.sort_unstable();
        println!(
            "{transport}: one at a time p50 {} us, p99 {} us",
            times[1000], times[1980]
        );
        let (start, used) = (Instant::now(), cpu());
        let response = connection.send(post(full(vec![0; 256 << 20]))).await.unwrap();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        println!(
            "{transport}: 256 MB echoed at {:.0} MB/s, {:.2} CPU s per GB each way",
            256.0 / start.elapsed().as_secs_f64(),
            (cpu() - used) * 2.0
        );
    }
}
