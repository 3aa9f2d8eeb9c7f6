//! The four loads. Each opens its connections and makes a call on every one of them before the clock
//! starts, then makes a fixed number of calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    client::{Connection, Target},
    count::Counter,
    samples::Samples,
    watch::Watched,
};

/// Small calls: how many a second, how long each takes, what they cost the watched processes.
pub(crate) async fn unary(target: &Target, watched: &Watched, connections: usize, requests: usize) -> Result<Value> {
    let request =
        Arc::new(target.request(r#"{"model":"bench-unary","input":"hello","max_output_tokens":64,"store":false}"#));
    let start = Arc::new(Barrier::new(connections + 1));
    let left = Arc::new(AtomicUsize::new(requests));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (target, request, start, left) = (target.clone(), request.clone(), start.clone(), left.clone());
        tasks.spawn(async move {
            let mut connection = target.connect().await?;
            whole(&mut connection, &request).await?;
            start.wait().await;
            let mut samples = Samples::default();
            while take(&left) {
                let began = Instant::now();
                whole(&mut connection, &request).await?;
                samples.add(began.elapsed());
            }
            anyhow::Ok(samples)
        });
    }
    let clock = Clock::start(&start, &mut tasks, watched).await?;
    let mut samples = Samples::default();
    while let Some(done) = tasks.join_next().await {
        samples.extend(done??);
    }
    let mut report = clock.stop(watched, requests);
    report["latency"] = samples.summary();
    Ok(report)
}

async fn whole(connection: &mut Connection, request: &[u8]) -> Result<()> {
    let head = connection.call(request).await?;
    connection.body(&head, |_| true).await
}

/// Streams as fast as they come: events a second.
pub(crate) async fn flat(
    target: &Target,
    watched: &Watched,
    connections: usize,
    streams: usize,
    events: usize,
) -> Result<Value> {
    let request = |count: usize| target.request(&stream_of(&format!("bench-sse-flat-x{count}")));
    let (warm, request) = (Arc::new(request(1)), Arc::new(request(events)));
    let start = Arc::new(Barrier::new(connections + 1));
    let left = Arc::new(AtomicUsize::new(streams));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (target, warm, request) = (target.clone(), warm.clone(), request.clone());
        let (start, left) = (start.clone(), left.clone());
        tasks.spawn(async move {
            let mut connection = target.connect().await?;
            whole(&mut connection, &warm).await?;
            start.wait().await;
            while take(&left) {
                let seen = deltas(&mut connection, &request).await?;
                ensure!(seen == events, "{seen} of {events} events arrived");
            }
            anyhow::Ok(())
        });
    }
    let clock = Clock::start(&start, &mut tasks, watched).await?;
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(clock.stop(watched, streams * events))
}

/// Counts the delta events of one stream.
async fn deltas(connection: &mut Connection, request: &[u8]) -> Result<usize> {
    let head = connection.call(request).await?;
    let mut counter = Counter::new(STAMP);
    connection
        .body(&head, |bytes| {
            counter.add(bytes);
            true
        })
        .await?;
    Ok(counter.seen())
}

/// Paced streams: time to the first byte, and how late each event arrives.
pub(crate) async fn paced(
    target: &Target,
    watched: &Watched,
    streams: usize,
    interval_ms: u64,
    events: usize,
) -> Result<Value> {
    let request = Arc::new(target.request(&stream_of(&format!("bench-sse-{interval_ms}ms-x{events}"))));
    let warm = Arc::new(target.request(&stream_of("bench-sse-flat-x1")));
    let start = Arc::new(Barrier::new(streams + 1));
    let mut tasks = JoinSet::new();
    for at in 0..streams {
        let (target, warm, request, start) = (target.clone(), warm.clone(), request.clone(), start.clone());
        // One after the other, so that the time to the first byte is not that of a queue at the door; and out of step,
        // as conversations are: in step, each event would wait behind those of all others.
        let interval = Duration::from_millis(interval_ms);
        let apart = (interval + interval / u32::try_from(streams)?) * u32::try_from(at)?;
        tasks.spawn(async move {
            let mut connection = target.connect().await?;
            whole(&mut connection, &warm).await?;
            start.wait().await;
            tokio::time::sleep(apart).await;
            delays(&mut connection, &request).await
        });
    }
    let clock = Clock::start(&start, &mut tasks, watched).await?;
    let (mut first, mut late) = (Samples::default(), Samples::default());
    while let Some(done) = tasks.join_next().await {
        let (to_first, delays) = done??;
        first.add(to_first);
        late.extend(delays);
    }
    let mut report = clock.stop(watched, streams * events);
    report["first_byte"] = first.summary();
    report["event_delay"] = late.summary();
    Ok(report)
}

/// Each delta carries the moment at which the vendor made it: `t=` and 20 digits.
async fn delays(connection: &mut Connection, request: &[u8]) -> Result<(Duration, Samples)> {
    let began = Instant::now();
    let head = connection.call(request).await?;
    let mut first = None;
    let mut late = Samples::default();
    let mut text: Vec<u8> = Vec::new();
    connection
        .body(&head, |bytes| {
            first.get_or_insert_with(|| began.elapsed());
            text.extend_from_slice(bytes);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut used = 0;
            while let Some(at) = memmem::find(&text[used..], STAMP).map(|at| used + at + STAMP.len()) {
                let Some(digits) = text.get(at..at + 20) else { break };
                let sent = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse::<u64>().ok());
                late.add(now.saturating_sub(Duration::from_nanos(sent.unwrap_or_default())));
                used = at + 20;
            }
            text.drain(..used);
            true
        })
        .await?;
    Ok((first.context("a stream without a byte")?, late))
}

/// Idle streams: what each costs in memory, at every count of `steps`.
pub(crate) async fn idle(target: &Target, watched: &Watched, steps: &[usize]) -> Result<Value> {
    let request = Arc::new(target.request(&stream_of("bench-idle")));
    let warm = Arc::new(target.request(r#"{"model":"bench-unary","input":"hello"}"#));
    let mut connection = target.connect().await?;
    for _ in 0..WARM_CALLS {
        whole(&mut connection, &warm).await?;
    }
    drop(connection);
    let before = watched.resident();
    let mut open = JoinSet::new();
    let mut report = Vec::new();
    for &step in steps {
        while open.len() < step {
            let more = OPENED_AT_ONCE.min(step - open.len());
            let begun = Arc::new(Barrier::new(more + 1));
            for _ in 0..more {
                let (target, request, begun) = (target.clone(), request.clone(), begun.clone());
                open.spawn(async move {
                    let mut connection = target.connect().await?;
                    let head = connection.call(&request).await?;
                    connection.body(&head, |_| false).await?;
                    begun.wait().await;
                    connection.stay().await;
                    anyhow::Ok(())
                });
            }
            tokio::select! {
                _ = begun.wait() => {}
                ended = open.join_next() => {
                    ended.context("no stream was opened")???;
                    anyhow::bail!("an idle stream ended by itself");
                }
            }
        }
        // Not a wait for an event: what was allocated for the opening is given a moment to be returned.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let grown = watched.resident().saturating_sub(before);
        report.push(json!({ "streams": step, "bytes_each": grown / step as u64 }));
    }
    Ok(json!({ "resident_before": before, "idle": report }))
}

/// The time of a run, and the CPU time its processes took.
struct Clock {
    began: Instant,
    cpu: f64,
}

impl Clock {
    /// Starts when every connection is warm; a connection that failed ends the run.
    async fn start<T: 'static>(start: &Barrier, tasks: &mut JoinSet<Result<T>>, watched: &Watched) -> Result<Self> {
        tokio::select! {
            biased;
            _ = start.wait() => {}
            failed = tasks.join_next() => {
                failed.context("nothing to do")???;
            }
        }
        Ok(Self {
            began: Instant::now(),
            cpu: watched.cpu_seconds(),
        })
    }

    fn stop(self, watched: &Watched, count: usize) -> Value {
        let seconds = self.began.elapsed().as_secs_f64();
        let cpu = watched.cpu_seconds() - self.cpu;
        json!({
            "count": count,
            "seconds": seconds,
            "per_second": count as f64 / seconds,
            "cpu_seconds": cpu,
            "cpu_seconds_per_10000": cpu * 10_000.0 / count as f64,
        })
    }
}

fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
}

fn stream_of(model: &str) -> String {
    format!(r#"{{"model":"{model}","input":"hello","stream":true,"max_output_tokens":64}}"#)
}

/// In each delta the vendor makes for a measurement.
const STAMP: &[u8] = b"\"delta\":\"t=";
const WARM_CALLS: usize = 200;
const OPENED_AT_ONCE: usize = 50;
