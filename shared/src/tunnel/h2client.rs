//! Requests over HTTP/2, the agent's side. Knows one connection.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::Poll,
};

use bytes::Bytes;
use h2::{Reason, client};
use http::{Request, Response, Version};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    body::{BodyError, InBody, OutBody, Source, announced, h2_error},
    calls::Call,
    client::SendError,
    h2stream::{Out, RESETS, SEND_BUFFER},
    params::{AGENT_CONNECTION_WINDOW, AGENT_STREAM_WINDOW},
    pump::{beside, pump},
    server::HEAD_BYTES,
};
use crate::tasks::Tasks;

/// Sends requests on one connection.
#[derive(Clone)]
pub(super) struct Sender(client::SendRequest<Bytes>);

pub(super) async fn start<T>(io: T) -> Result<(client::Connection<T, Bytes>, Sender), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(AGENT_STREAM_WINDOW)
        .initial_connection_window_size(AGENT_CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES)
        .max_local_error_reset_streams(Some(RESETS))
        .max_concurrent_reset_streams(1024)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false);
    let (sender, connection) = builder.handshake(io).await?;
    Ok((connection, Sender(sender)))
}

/// Runs the connection; calls `on_goaway` once when the hub says that it goes away, which h2 shows only in that it
/// takes no more requests.
pub(super) async fn drive<T>(
    mut connection: client::Connection<T, Bytes>,
    sender: &Sender,
    on_goaway: impl Fn(),
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut sender = sender.0.clone();
    let mut is_told = false;
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        if !is_told && matches!(sender.poll_ready(cx), Poll::Ready(Err(_))) {
            is_told = true;
            on_goaway();
        }
        ended
    })
    .await
}

impl Sender {
    pub(super) async fn send(
        &self,
        mut request: Request<OutBody>,
        call: Call,
        tasks: &Tasks,
    ) -> Result<Response<InBody>, SendError> {
        *request.version_mut() = Version::HTTP_2;
        let (head, body) = request.into_parts();
        let length = announced(&head.headers);
        let is_empty = body.is_end_stream() && length.unwrap_or(0) == 0;
        let mut sender = self
            .0
            .clone()
            .ready()
            .await
            .map_err(|error| SendError::safe(error.to_string()))?;
        let sent = sender.send_request(Request::from_parts(head, ()), is_empty);
        let (head, send) = sent.map_err(|error| SendError::safe(error.to_string()))?;
        let head = async { head.await.map_err(|error| h2_error(&error)) };
        let answered = if is_empty {
            head.await.map(|response| (response, None))
        } else {
            beside(Box::pin(pump(Out::new(send), body, length)), head, tasks).await
        };
        let (response, upload) = answered.map_err(refused)?;
        let length = announced(response.headers());
        Ok(response.map(|recv| InBody::tunnel(Source::H2(recv), length, (Some(call), upload))))
    }
}

fn refused(error: BodyError) -> SendError {
    let is_refused = error == BodyError::Reset(u32::from(Reason::REFUSED_STREAM).into());
    if is_refused {
        SendError::safe(error.to_string())
    } else {
        SendError::sent(&error)
    }
}
