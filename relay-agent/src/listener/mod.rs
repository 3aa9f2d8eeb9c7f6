//! Loopback HTTP/1.1: who may call, and which part of the agent answers. Knows nothing of the hub.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_shared::tasks::Tasks;
use relay_shared::waits::{Answering, Pace, Waits};
use relay_shared::written::{InTurn, Telling};
use tokio::net::{TcpListener, TcpStream};

mod bind;
mod guard;
mod local_key;
mod route;

pub(crate) use bind::bind;
pub(crate) use guard::OwnNames;
pub(crate) use local_key::ExpectedKey;
pub(crate) use route::{Control, Router};

use crate::forward::uplink::Uplink;

/// Serves what comes in on `listeners` until the tasks are told to end.
pub(crate) fn serve<U: Uplink, C: Control>(
    listeners: Vec<TcpListener>,
    router: &Arc<Router<U, C>>,
    waits: Waits,
    tasks: &Tasks,
) {
    for listener in listeners {
        let (router, connections) = (Arc::clone(router), tasks.clone());
        tasks.spawn(
            "listener",
            async move { accept(listener, router, waits, connections).await },
        );
    }
}

async fn accept<U: Uplink, C: Control>(listener: TcpListener, router: Arc<Router<U, C>>, waits: Waits, tasks: Tasks) {
    let stop = tasks.token();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let work = connection(stream, peer, Arc::clone(&router), waits, tasks.clone());
                tasks.spawn("connection", work);
            }
            Err(error) => {
                // Out of descriptors, most likely: existing calls will free some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<U: Uplink, C: Control>(
    stream: TcpStream,
    peer: SocketAddr,
    router: Arc<Router<U, C>>,
    waits: Waits,
    tasks: Tasks,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY refused");
    }
    let pace = Pace::new(waits);
    let (stream, written) = Telling::new(pace.watch(stream));
    let calls = pace.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (router, written, busy) = (Arc::clone(&router), written.clone(), calls.busy());
        async move {
            let version = request.version();
            let answer = router.answer(request).await;
            Ok::<_, Infallible>(answer.map(|body| Answering::new(InTurn::new(body, version, written), busy)))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let overdue = pace.overdue();
    tokio::pin!(serving, overdue);
    let stop = tasks.token();
    let mut is_stopping = false;
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = serving.as_mut() => break outcome,
            () = overdue.as_mut() => return tracing::debug!(%peer, "a local connection said nothing for too long"),
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a local connection ended early");
    }
}

const HEAD_BYTES: usize = 64 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
