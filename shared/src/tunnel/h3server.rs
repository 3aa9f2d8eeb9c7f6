//! Requests over HTTP/3, the hub's side. Knows one connection.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use h3::{frame::FrameStream, server::RequestResolver, stream::BufRecvStream};
use http::Response;

use super::{
    body::{BodyError, InBody, Source, announced, h3_error},
    calls::{Call, Calls},
    h3quic::{Connection, Knob, SendStream},
    pump::{Outlet, pump},
    server::{HEAD_TIMEOUT, LINGER, Peer, Served, priority},
};

type Stopped = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;
type Resolver = RequestResolver<Connection, Bytes>;

/// Serves one connection until it ends.
pub(super) async fn serve(quic: quinn::Connection, peer: Peer, served: Arc<Served>) {
    let mut builder = h3::server::builder();
    let building = builder
        .max_field_section_size(served.limits.head_bytes.into())
        .send_grease(false);
    let Ok(mut connection) = building.build::<_, Bytes>(Connection::new(quic.clone())).await else {
        return;
    };
    let calls = Arc::new(Calls::default());
    let mut is_draining = false;
    loop {
        let next = tokio::select! {
            next = poll_fn(|cx| connection.poll_accept_request_stream(cx)) => next,
            () = served.draining.cancelled(), if !is_draining => {
                is_draining = true;
                if connection.shutdown(0).await.is_err() { return }
                continue;
            }
            () = calls.idle(), if is_draining => break,
        };
        let Ok(Some(stream)) = next else { return };
        let (stopped, knob): (Stopped, _) = (Box::pin(stream.stopped()), stream.knob());
        let resolver = connection.create_resolver(FrameStream::new(BufRecvStream::new(stream)));
        let (peer, served) = (peer.clone(), Arc::clone(&served));
        let running = (calls.begin(), served.calls.begin());
        let tasks = served.tasks.clone();
        tasks.spawn("h3 call", async move {
            answer(resolver, stopped, knob, peer, &served, running).await
        });
    }
    // The last bytes are on their way yet: the agent closes when it has them.
    if tokio::time::timeout(LINGER, quic.closed()).await.is_err() {
        tracing::debug!("a drained agent did not close its connection");
    }
}

async fn answer(
    resolver: Resolver,
    stopped: Stopped,
    knob: Arc<Knob>,
    peer: Peer,
    served: &Served,
    _running: (Call, Call),
) {
    let Ok(Ok((request, stream))) = tokio::time::timeout(HEAD_TIMEOUT, resolver.resolve_request()).await else {
        return;
    };
    let (mut send, recv) = stream.split();
    let length = announced(request.headers());
    let request = request.map(|()| InBody::tunnel(Source::H3Server(recv), length, (None, None)));
    let (response, stopped) = match select(pin!(served.respond(request, peer)), stopped).await {
        Either::Left(answered) => answered,
        Either::Right(_) => return,
    };
    let (head, body) = response.into_parts();
    let length = announced(&head.headers);
    knob.set_priority(priority(&head.headers));
    if send.send_response(Response::from_parts(head, ())).await.is_ok() {
        // How it ended, the agent knows by the stream, and the handler by its body.
        let _ended = pump(Out { send, stopped, knob }, body, length).await;
    }
}

struct Out {
    send: h3::server::RequestStream<SendStream, Bytes>,
    stopped: Stopped,
    knob: Arc<Knob>,
}

impl Outlet for Out {
    async fn send(&mut self, data: Bytes, is_last: bool) -> Result<(), BodyError> {
        self.send.send_data(data).await.map_err(|error| h3_error(&error))?;
        if is_last { self.finish().await } else { Ok(()) }
    }

    async fn finish(&mut self) -> Result<(), BodyError> {
        self.send.finish().await.map_err(|error| h3_error(&error))
    }

    /// Told in the stream, behind the last bytes; an agent that has read so far stops the stream.
    async fn cut(&mut self) {
        self.knob.cut();
        if self.finish().await.is_ok() {
            self.stopped.as_mut().await;
        }
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stopped.as_mut().poll(cx)
    }
}
