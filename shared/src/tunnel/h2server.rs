//! Requests over HTTP/2, the hub's side. Knows one connection.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::future::{Either, select};
use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use http::{Request, Response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    body::{InBody, Source, announced},
    calls::Call,
    h2stream::{CONNECTION_WINDOW, Out, RESETS, SEND_BUFFER, STREAM_WINDOW},
    params,
    pump::pump,
    server::{HEAD_TIMEOUT, Peer, Served},
};
use crate::written::{Telling, Written};

/// Serves one connection until it ends or `closed` says so.
pub(super) async fn serve<T>(io: T, peer: Peer, served: Arc<Served>, closed: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(params::streams(served.limits.calls_per_connection))
        .max_header_list_size(served.limits.head_bytes)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(RESETS))
        .max_concurrent_reset_streams(1024)
        .max_send_buffer_size(SEND_BUFFER);
    let (io, written) = Telling::new(io);
    let Ok(Ok(mut connection)) = tokio::time::timeout(HEAD_TIMEOUT, builder.handshake::<_, Bytes>(io)).await else {
        return;
    };
    let mut is_draining = false;
    loop {
        let next = tokio::select! {
            next = connection.accept() => next,
            () = served.draining.cancelled(), if !is_draining => {
                is_draining = true;
                connection.graceful_shutdown();
                continue;
            }
            () = closed.cancelled() => return,
        };
        let Some(Ok((request, respond))) = next else { return };
        let (peer, served, written) = (peer.clone(), Arc::clone(&served), written.clone());
        let running = served.calls.begin();
        let tasks = served.tasks.clone();
        tasks.spawn("h2 call", async move {
            answer(request, respond, peer, &served, written, running).await
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    peer: Peer,
    served: &Served,
    written: Written,
    _running: Call,
) {
    let length = announced(request.headers());
    let request = request.map(|recv| InBody::tunnel(Source::H2(recv), length, (None, None)));
    let response = {
        let gone = pin!(poll_fn(|cx| respond.poll_reset(cx)));
        match select(pin!(served.respond(request, peer)), gone).await {
            Either::Left((response, _)) => response,
            Either::Right(_) => return,
        }
    };
    let (head, body) = response.into_parts();
    let length = announced(&head.headers);
    let is_empty = body.is_end_stream() && length.unwrap_or(0) == 0;
    let followed = written.follow(respond.stream_id().as_u32());
    if let Ok(stream) = respond.send_response(Response::from_parts(head, ()), is_empty)
        && !is_empty
    {
        // How it ended, the agent knows by the stream, and the handler by its body.
        let _ended = pump(Out::of_answer(stream, followed), body, length).await;
    }
}
