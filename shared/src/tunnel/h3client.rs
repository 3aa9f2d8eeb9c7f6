//! Requests over HTTP/3, the agent's side. Knows one connection.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use h3::{ConnectionState as _, error::Code};
use http::{Request, Response};
use http_body::Body as _;

use super::{
    body::{BodyError, InBody, OutBody, Source, announced, h3_error},
    calls::Call,
    client::SendError,
    h3quic::{Connection, Opener, SendStream},
    pump::{Outlet, beside, pump},
    server::HEAD_BYTES,
};
use crate::tasks::Tasks;

/// Sends requests on one connection.
#[derive(Clone)]
pub(super) struct Sender(h3::client::SendRequest<Opener, Bytes>);

/// Reads what is not about one request; must be polled as long as the connection is used.
pub(super) struct Driver(h3::client::Connection<Connection, Bytes>);

pub(super) async fn start(quic: quinn::Connection) -> Result<(Driver, Sender), String> {
    let mut builder = h3::client::builder();
    let building = builder.max_field_section_size(HEAD_BYTES.into()).send_grease(false);
    let (driver, sender) = building.build(Connection::new(quic)).await.map_err(|e| e.to_string())?;
    Ok((Driver(driver), Sender(sender)))
}

impl Driver {
    /// Ends with the connection; calls `on_goaway` once when the hub says that it goes away.
    pub(super) async fn run(mut self, on_goaway: impl Fn()) {
        let mut is_told = false;
        poll_fn(|cx| {
            let ended = self.0.poll_close(cx).map(drop);
            if !is_told && self.0.is_closing() {
                is_told = true;
                on_goaway();
            }
            ended
        })
        .await;
    }
}

impl Sender {
    pub(super) async fn send(
        &self,
        request: Request<OutBody>,
        call: Call,
        tasks: &Tasks,
    ) -> Result<Response<InBody>, SendError> {
        let (head, body) = request.into_parts();
        let length = announced(&head.headers);
        let opened = self.0.clone().send_request(Request::from_parts(head, ())).await;
        // The head did not leave in full, so the hub's handler cannot have run.
        let stream = opened.map_err(|error| SendError::safe(error.to_string()))?;
        let (mut send, mut recv) = stream.split();
        let head = async { recv.recv_response().await.map_err(|error| h3_error(&error)) };
        let answered = if body.is_end_stream() && length.unwrap_or(0) == 0 {
            // An error here shows again at the head.
            let _finished = send.finish().await;
            head.await.map(|head| (head, None))
        } else {
            beside(Box::pin(pump(Out(send), body, length)), head, tasks).await
        };
        let (head, upload) = answered.map_err(refused)?;
        let length = announced(head.headers());
        Ok(head.map(|()| InBody::tunnel(Source::H3Client(recv), length, (Some(call), upload))))
    }
}

fn refused(error: BodyError) -> SendError {
    let is_refused = error == BodyError::Reset(Code::H3_REQUEST_REJECTED.value());
    if is_refused {
        SendError::safe(error.to_string())
    } else {
        SendError::sent(&error)
    }
}

struct Out(h3::client::RequestStream<SendStream, Bytes>);

impl Outlet for Out {
    async fn send(&mut self, data: Bytes, is_last: bool) -> Result<(), BodyError> {
        self.0.send_data(data).await.map_err(|error| h3_error(&error))?;
        if is_last { self.finish().await } else { Ok(()) }
    }

    async fn finish(&mut self) -> Result<(), BodyError> {
        self.0.finish().await.map_err(|error| h3_error(&error))
    }

    fn poll_stopped(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        // The end of the answer ends the upload, and a write to a stopped stream fails.
        Poll::Pending
    }
}
