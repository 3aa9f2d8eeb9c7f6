//! A WebSocket of the Responses wire: one client's socket on one vendor's socket of one account.
//! The client is told that its socket is up only when the vendor's is. Where the account speaks another wire, the calls on
//! the socket go by HTTP, each as if it had come so; so do those for a model that another account serves.

mod bridge;
mod calls;
mod close;
mod ends;
mod from_client;
mod session;

use std::{net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::rand;
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use relay_protocol::{Code, Endpoint, Refusal, Wire};
use relay_shared::http::{from_vendor, to_vendor};

use self::{bridge::Bridged, calls::Calls, session::Session};
use super::{
    Exchange, Inbound, TOLD_MODEL,
    body::{ClientBody, ReplyBody},
    record::Record,
    upstream::{Upstream, region},
};
use crate::{
    egress::{EgressError, Route, Upgrade},
    refusal::Refused,
    routing::{Taken, Traces},
    vendor::{self, Asked, Trouble},
};

/// A vendor's socket that is not up by then is taken for none: Codex itself waits 15 s, seven times.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest body of a refused upgrade that is passed on.
const REFUSAL_BYTES: usize = 64 * 1024;

/// How the client's end of the socket arrives.
pub enum SocketClient {
    /// An upgrade on the public entrance, with the answer to its `Sec-WebSocket-Key`.
    Upgrade(OnUpgrade, HeaderValue),
    /// The two bodies of one request through the tunnel.
    Bodies,
}

impl Exchange {
    /// The spine of a socket; each `response.create` on it is a call of its own.
    pub(super) async fn open_socket(
        self: &Arc<Self>,
        inbound: Inbound,
        body: &mut ClientBody,
        record: &mut Option<Record>,
    ) -> Result<Response<ReplyBody>, Refused> {
        let asks = inbound.asks();
        let Inbound {
            call,
            endpoint,
            wire: _,
            credential,
            head,
            socket,
            address,
            link,
            started,
        } = inbound;
        let caller = self.identify(credential).await?;
        let row = record.insert(Record::begin(call, &caller, endpoint, link, started));
        let ticket = self.admission.open(&caller, &asks).await?;
        let traces = Traces {
            tenant: &caller.tenant,
            wire: Wire::Responses,
            model: None,
            headers: &head.headers,
            session: None,
            previous: None,
            body: &[],
        };
        let taken = self.routing.socket(&traces).await?;
        if !taken.account.speaks(Wire::Responses) {
            let bridged = Bridged {
                tenant: caller.tenant.clone(),
                calls: Calls::new(self.clone(), caller, head, (link, address)),
                ticket,
                socket: call,
                most: self.limits.body_bytes,
            };
            let (client, response) = ends::client(socket, std::mem::take(body), HeaderMap::new());
            if let Some(client) = client {
                self.tasks.spawn("bridge", bridged.run(client));
            }
            return Ok(response);
        }
        self.routing.check_socket(&taken.account)?;
        let upstream = self.upstreams.of(&taken.account, &self.egress, &self.tokens)?;
        let route = upstream.ways.route(region(&head.headers, &caller.tenant)?)?;
        row.leased(&taken, route.name());

        let (upgrade, way, local) = self.upgrade(&upstream, &route, &head, &taken).await?;
        let (mut answer, vendor) = match upgrade {
            Upgrade::Switched(answer, vendor) => (answer, vendor),
            Upgrade::Refused(answer) if vendor::has_no_websocket(answer.status()) => {
                return Err(self.routing.has_no_socket(&taken.account));
            }
            Upgrade::Refused(answer) => return Ok(pass_refusal(answer, &taken).await),
        };
        taken.answered(answer.status, &answer.headers);
        self.hide_model(&mut answer.headers);
        let (client, response) = ends::client(socket, std::mem::take(body), answer.headers);
        let Some(client) = client else { return Ok(response) };
        let aside = Calls::new(self.clone(), caller.clone(), head, (link, address));
        let session = Session::new(
            self.clone(),
            caller,
            ticket,
            aside,
            (taken, way, local),
            (call, link, address),
        );
        self.tasks.spawn("socket", session.run(client, vendor));
        Ok(response)
    }

    /// Nobody has asked for a model yet, so a name that an alias may stand for cannot be put right: it is left out.
    fn hide_model(&self, headers: &mut HeaderMap) {
        for header in TOLD_MODEL {
            let told = headers.get(&header).and_then(|name| name.to_str().ok());
            if told.is_some_and(|name| self.catalogue.has_alias(name)) {
                headers.remove(header);
            }
        }
    }

    async fn upgrade(
        &self,
        upstream: &Upstream,
        route: &Route,
        head: &http::request::Parts,
        taken: &Taken,
    ) -> Result<(Upgrade, Arc<str>, IpAddr), Refused> {
        let token = upstream.token().await;
        let token = token.inspect_err(|_| taken.met(Trouble::Failing, None))?;
        let asked = self.ask_upgrade(upstream, route, head, (taken, token.clone())).await?;
        let is_refused = matches!(&asked.0, Upgrade::Refused(answer) if answer.status() == StatusCode::UNAUTHORIZED);
        if is_refused && let Some(fresh) = upstream.another_token(token.as_ref()).await {
            return self.ask_upgrade(upstream, route, head, (taken, Some(fresh))).await;
        }
        Ok(asked)
    }

    async fn ask_upgrade(
        &self,
        upstream: &Upstream,
        route: &Route,
        head: &http::request::Parts,
        (taken, token): (&Taken, Option<HeaderValue>),
    ) -> Result<(Upgrade, Arc<str>, IpAddr), Refused> {
        let request = upgrade_request(upstream, token, head, taken)?;
        match tokio::time::timeout(UPGRADE_TIMEOUT, route.upgrade(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if matches!(error, EgressError::Unreachable(_) | EgressError::ConnectTimeout(_)) {
                    taken.met(Trouble::Unreachable, None);
                }
                Err(error.into())
            }
            Err(_) => Err(Refusal::new(
                Code::NoWebSocket,
                "The upstream's WebSocket did not open in time; use HTTP.",
            )
            .into()),
        }
    }
}

fn upgrade_request(
    upstream: &Upstream,
    token: Option<HeaderValue>,
    head: &http::request::Parts,
    taken: &Taken,
) -> Result<Request<Empty<Bytes>>, Refused> {
    let mut key = [0; 16];
    rand::fill(&mut key).map_err(|_| Refusal::new(Code::Internal, "The relay has no randomness."))?;
    let key = HeaderValue::from_str(&base64::engine::general_purpose::STANDARD.encode(key))
        .map_err(|_| Refusal::new(Code::Internal, "The relay failed at this call."))?;
    let mut headers = to_vendor(&head.headers);
    taken.clean(&mut headers);
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    upstream.authorise(token, &mut headers);
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = upstream.target.path(Asked {
        endpoint: Endpoint::Responses,
        path: head.uri.path(),
        // A socket is opened before its first call names a model.
        model: "",
        query: head.uri.query(),
        stream: true,
    });
    *request.headers_mut() = headers;
    Ok(request)
}

/// A vendor's refusal of the upgrade: its status and its words, unchanged.
async fn pass_refusal(answer: Response<Incoming>, taken: &Taken) -> Response<ReplyBody> {
    taken.answered(answer.status(), answer.headers());
    let (mut head, body) = answer.into_parts();
    head.headers = from_vendor(head.headers);
    head.headers.remove(header::CONTENT_LENGTH);
    let words = match tokio::time::timeout(UPGRADE_TIMEOUT, Limited::new(body, REFUSAL_BYTES).collect()).await {
        Ok(Ok(words)) => words.to_bytes(),
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    taken.refused(head.status, &head.headers, &words);
    vendor::add_wait(head.status, &mut head.headers, &words);
    Response::from_parts(head, ReplyBody::whole(words))
}

/// The head that tells the client of its socket.
fn switched(status: StatusCode, mut headers: HeaderMap, body: ReplyBody) -> Response<ReplyBody> {
    headers = from_vendor(headers);
    for name in [
        header::SEC_WEBSOCKET_ACCEPT,
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::CONTENT_LENGTH,
    ] {
        headers.remove(name);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
