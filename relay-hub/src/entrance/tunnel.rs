//! The tunnel's entrance: calls of enrolled devices, over HTTP/3 or HTTP/2, and their enrolment.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use relay_shared::{
    call::CallId,
    enrolment::{ENROL_PATH, EnrolError, NODE_ENROL_PATH, NODE_RENEW_PATH, RENEW_PATH},
    tasks::Tasks,
    tunnel::{
        CALL_ID, SOCKET, Transport,
        body::{BodyError, InBody, OutBody},
        server::{Bound, Peer, Tunnel},
    },
};

use super::{Arrival, admit};
use crate::{
    enrolment::Enrolment,
    exchange::{Exchange, SocketClient, body::ClientBody},
    identity::Proof,
    ledger::Link,
};

/// Serves the tunnel's port until it is drained.
pub fn serve_tunnel(bound: Bound, exchange: Arc<Exchange>, enrolment: Arc<Enrolment>, tasks: &Tasks) -> Tunnel {
    // Boxed: a stream would keep the room of the future for as long as its answer runs.
    let handle = move |request, peer| Box::pin(answer(exchange.clone(), request, peer));
    let enrol = move |request, _: SocketAddr| enrol(enrolment.clone(), request);
    bound.serve(handle, enrol, tasks)
}

async fn answer(exchange: Arc<Exchange>, request: Request<InBody>, peer: Peer) -> Response<OutBody> {
    let (head, body) = request.into_parts();
    let is_socket = head.headers.get(SOCKET).is_some_and(|value| value == "websocket");
    let call = head
        .headers
        .get(CALL_ID)
        .and_then(|id| CallId::parse(id.to_str().ok()?));
    let arrival = Arrival {
        credential: Some(Proof::Device((*peer.identity).clone())),
        host: None,
        socket: is_socket.then_some(SocketClient::Bodies),
        head,
        body: ClientBody::Tunnel(Box::new(body)),
        call: call.unwrap_or_else(CallId::random),
        address: peer.addr.ip(),
        link: match peer.transport {
            Transport::Quic => Link::Quic,
            Transport::H2 => Link::H2,
        },
        is_socket_post: is_socket,
    };
    let response = admit(&exchange, arrival).await;
    response.map(|body| body.map_err(|cut| BodyError::Source(cut.to_string())).boxed_unsync())
}

async fn enrol(enrolment: Arc<Enrolment>, request: Request<Bytes>) -> Response<Bytes> {
    let answered = match (request.method(), request.uri().path()) {
        (&Method::POST, path) => enrolled(&enrolment, path, request.body()).await,
        _ => Err(not_here()),
    };
    answered.unwrap_or_else(|error| {
        json(
            StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
            &error,
        )
    })
}

async fn enrolled(enrolment: &Enrolment, path: &str, body: &[u8]) -> Result<Response<Bytes>, EnrolError> {
    Ok(match path {
        ENROL_PATH => json(StatusCode::OK, &enrolment.enrol(read(body)?).await?),
        RENEW_PATH => json(StatusCode::OK, &enrolment.renew(read(body)?).await?),
        NODE_ENROL_PATH => json(StatusCode::OK, &enrolment.enrol_node(read(body)?).await?),
        NODE_RENEW_PATH => json(StatusCode::OK, &enrolment.renew_node(read(body)?).await?),
        _ => return Err(not_here()),
    })
}

fn not_here() -> EnrolError {
    EnrolError::new("bad_request", "Only enrolment and renewal are answered here", "")
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, EnrolError> {
    // What is wrong is not told: the body holds a secret.
    serde_json::from_slice(body).map_err(|_| {
        EnrolError::new(
            "bad_request",
            "The request is not what the hub expects",
            "update relay-agent, or relay-hub on the egress node",
        )
    })
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<Bytes> {
    let mut response = Response::new(serde_json::to_vec(body).unwrap_or_default().into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
