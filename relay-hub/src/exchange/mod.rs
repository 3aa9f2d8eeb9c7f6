//! One call from a client's request to its settled answer. Reading `Exchange::relay` is reading the hub.

mod again;
mod bill;
pub mod body;
mod count;
mod crossing;
mod dispatch;
mod drain;
mod flow;
mod meter;
mod models;
mod record;
mod redeem;
mod request;
mod socket;
mod upstream;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Body;
use relay_protocol::{Code, Endpoint, Envelope, EnvelopeError, Refusal, Wire};
use relay_shared::{call::CallId, fault, tasks::Tasks};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{
    body::{ClientBody, ReplyBody},
    dispatch::Dispatch,
    record::Record,
    upstream::Upstreams,
};
use crate::{
    admission::{Admission, Head, Permit},
    catalogue::{Catalogue, Model},
    config::Limits,
    credit::Credit,
    egress::Egress,
    idempotency::Idempotency,
    identity::{Caller, Credential, Identity},
    ledger::{Ledger, Link},
    refusal::Refused,
    routing::{Lease, Routing, Taken, Traces, Unleased},
    token::Tokens,
    vendor::Trouble,
};

pub use self::{redeem::REDEEM, socket::SocketClient};

/// The name under which a client and an operator find a call again.
const CALL_ID: HeaderName = HeaderName::from_static("relay-call-id");
/// Where a vendor tells which model answered.
const TOLD_MODEL: [HeaderName; 2] = [
    HeaderName::from_static("openai-model"),
    HeaderName::from_static("x-openai-model"),
];
/// So many accounts without an access token are passed over, and for no longer: nothing has left, so they are no attempts.
const WITHOUT_TOKEN: u32 = 64;
const UNTIL_TOKEN: Duration = Duration::from_secs(5);
/// A refused client has this long to finish its body.
const DISCARD: Duration = Duration::from_secs(10);
/// And no more than this to write.
const DISCARD_BYTES: usize = 64 << 20;
/// Silence after which a client of the public entrance is told that the answer goes on.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Everything that a call passes on its way.
pub struct Exchange {
    pub identity: Identity,
    pub admission: Admission,
    pub catalogue: Catalogue,
    pub routing: Routing,
    pub egress: Arc<Egress>,
    pub tokens: Tokens,
    pub ledger: Ledger,
    pub idempotency: Idempotency,
    pub credit: Credit,
    pub limits: Arc<Limits>,
    pub tasks: Tasks,
    /// Cancelled when running answers can be waited for no longer.
    pub stop: CancellationToken,
    upstreams: Upstreams,
    bodies: Arc<Semaphore>,
}

/// An agent fills silence for its own clients.
const fn keepalive(link: Link) -> Option<Duration> {
    match link {
        Link::Http | Link::Https => Some(KEEPALIVE),
        Link::Quic | Link::H2 => None,
    }
}

/// A call as every entrance hands it over.
pub struct Inbound {
    pub call: CallId,
    pub endpoint: Endpoint,
    /// The dialect in which to answer: a list of models is asked for by the same path in three.
    pub wire: Wire,
    pub credential: Option<Credential>,
    pub head: http::request::Parts,
    /// The client asks for a WebSocket.
    pub socket: Option<SocketClient>,
    /// Where the client is, or its agent.
    pub address: IpAddr,
    pub link: Link,
    pub started: Instant,
}

impl Inbound {
    /// What admission decides by before the body.
    fn asks(&self) -> Head {
        Head {
            endpoint: self.endpoint,
            address: self.address,
            length: request::announced(&self.head.headers),
        }
    }
}

impl Exchange {
    /// Puts the parts together.
    #[allow(clippy::too_many_arguments, reason = "the composition root names each part once")]
    pub fn new(
        identity: Identity,
        admission: Admission,
        catalogue: Catalogue,
        routing: Routing,
        egress: Arc<Egress>,
        tokens: Tokens,
        ledger: Ledger,
        idempotency: Idempotency,
        credit: Credit,
        limits: Limits,
        tasks: Tasks,
        stop: CancellationToken,
    ) -> Self {
        let bodies = Arc::new(Semaphore::new(limits.body_memory / 1024));
        Self {
            identity,
            admission,
            catalogue,
            routing,
            egress,
            tokens,
            ledger,
            idempotency,
            credit,
            limits: Arc::new(limits),
            tasks,
            stop,
            upstreams: Upstreams::default(),
            bodies,
        }
    }

    /// Serves one call. A refusal is an answer too: in the client's dialect, with the call's id.
    pub async fn serve(self: &Arc<Self>, inbound: Box<Inbound>, mut body: ClientBody) -> Response<ReplyBody> {
        fault::point("accepted");
        let (call, wire) = (inbound.call, inbound.wire);
        let mut record = None;
        let outcome = match (inbound.endpoint, &inbound.socket) {
            // Boxed: few come here, and every call would keep room for them.
            (endpoint, _) if endpoint.lists_models() => Box::pin(self.models(*inbound)).await,
            (_, Some(_)) => Box::pin(self.open_socket(*inbound, &mut body, &mut record)).await,
            (_, None) => self.relay(inbound, &mut body, &mut record).await,
        };
        let mut response = outcome.unwrap_or_else(|refused| {
            if let Some(record) = record {
                record.note(&self.ledger, &refused);
            }
            self.discard(body);
            refusal(&refused, wire, call)
        });
        name_call(&mut response, wire, call);
        response
    }

    /// Lets a refused client finish its body, so that it reads the refusal; through the tunnel its stream tells it.
    pub fn discard(&self, body: ClientBody) {
        if matches!(body, ClientBody::Public(_)) && !body.is_end_stream() {
            self.tasks.spawn("discard", body.discard(DISCARD_BYTES, DISCARD));
        }
    }

    async fn identify(&self, credential: Option<Credential>) -> Result<Caller, Refused> {
        match credential {
            Some(credential) => {
                let caller = self.identity.authenticate(&credential).await?;
                fault::point("authenticated");
                Ok(caller)
            }
            None => Err(Refusal::new(Code::InvalidKey, "No API key was given.")
                .hint("send it as `Authorization: Bearer rk_…`")
                .into()),
        }
    }

    /// The spine: each step takes the proof of the one before.
    async fn relay(
        self: &Arc<Self>,
        inbound: Box<Inbound>,
        body: &mut ClientBody,
        record: &mut Option<Record>,
    ) -> Result<Response<ReplyBody>, Refused> {
        let asks = inbound.asks();
        let Inbound {
            call,
            endpoint,
            credential,
            head,
            link,
            started,
            ..
        } = *inbound;
        let caller = self.identify(credential).await?;
        let row = record.insert(Record::begin(call, &caller, endpoint, link, started));
        let entry = self.admission.enter(&caller, &asks).await?;
        // A client that leaves while it stands in line is noticed by its body.
        let read = request::read(&head.headers, body, entry.body_bytes, &self.limits, &self.bodies);
        let (ticket, body) = tokio::try_join!(entry.ticket(), read)?;
        let envelope = Envelope::read_at(endpoint, head.uri.path(), body.plain.as_slice())?;
        row.asked(&envelope);
        let mut model = self.catalogue.model(&caller, &envelope.model).await?;
        row.priced(&model);
        let plain = body.plain.as_slice();
        let claim = self
            .idempotency
            .claim(&caller, &head.headers, asked_path(endpoint, &head), plain, call)
            .await?;
        let held = self
            .admission
            .hold(ticket, call, &caller, &model, &envelope, &self.catalogue);
        let mut permit = held.await?;
        if let Some(instead) = permit.instead.take() {
            model = *instead;
            row.priced(&model);
        }
        row.held();
        let traces = traces(&caller, &head.headers, &envelope, (&model, body.plain.as_slice()));
        let lease = self.lease(permit, &traces).await;
        let lease = lease.map_err(|unleased| {
            let Unleased { permit, refused } = *unleased;
            dispatch::refuse(permit, (&model, &envelope), record, refused)
        })?;
        let dispatch = Box::new(Dispatch {
            call,
            link,
            head,
            caller,
            body,
            envelope,
            model,
            claim,
        });
        dispatch.send(lease, self, record).await
    }

    /// An account for the call that has what authorises it. One that has no access token counts as one that fails: it is
    /// used again as soon as it has one, which no call of its own has to find out.
    async fn lease(&self, mut permit: Permit, traces: &Traces<'_>) -> Result<Lease, Box<Unleased>> {
        let (mut left, until) = (WITHOUT_TOKEN, Instant::now() + UNTIL_TOKEN);
        loop {
            let lease = self.routing.lease(permit, traces).await?;
            if lease.taken.account.credential.grant().is_none() {
                return Ok(lease);
            }
            left = left.saturating_sub(1);
            let may_move = left > 0 && Instant::now() < until && lease.taken.may_move();
            let Err(refused) = Box::pin(self.await_token(&lease.taken, may_move)).await else {
                return Ok(lease);
            };
            if !may_move {
                let permit = lease.permit;
                return Err(Box::new(Unleased { permit, refused }));
            }
            permit = lease.permit;
        }
    }

    /// Waits for the account's access token, if it has none, and tells routing where that is no use.
    async fn await_token(&self, taken: &Taken, may_move: bool) -> Result<(), Refused> {
        let upstream = self.upstreams.of(&taken.account, &self.egress, &self.tokens)?;
        let token = match may_move {
            true => upstream.token_or_another().await,
            false => upstream.token().await,
        };
        token.map(drop).inspect_err(|_| taken.met(Trouble::Failing, None))
    }
}

/// What routing goes by.
fn traces<'a>(
    caller: &'a Caller,
    headers: &'a HeaderMap,
    envelope: &'a Envelope,
    (model, body): (&'a Model, &'a [u8]),
) -> Traces<'a> {
    Traces {
        tenant: &caller.tenant,
        wire: envelope.endpoint.wire(),
        model: Some(&model.upstream),
        headers,
        session: envelope.session.as_deref(),
        previous: envelope.previous_response.as_deref(),
        body,
    }
}

impl From<EnvelopeError> for Refused {
    fn from(error: EnvelopeError) -> Self {
        Refusal::from(error).into()
    }
}

/// What tells one request from another beside its body: the path, in one spelling where it has no model in it.
fn asked_path(endpoint: Endpoint, head: &http::request::Parts) -> &str {
    match endpoint.wire() {
        Wire::Gemini => head.uri.path(),
        Wire::Responses | Wire::Chat | Wire::Messages => endpoint.path(),
    }
}

/// A refusal as an answer.
pub fn refusal(refused: &Refused, wire: Wire, call: CallId) -> Response<ReplyBody> {
    let rendered = refused.public.render(wire, &call.to_string());
    let mut response = Response::new(ReplyBody::whole(rendered.body));
    *response.status_mut() =
        http::StatusCode::from_u16(rendered.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in rendered.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    name_call(&mut response, wire, call);
    response
}

/// Every answer says which call it is of; also where its client's library looks, unless the vendor's own id stands there.
fn name_call(response: &mut Response<ReplyBody>, wire: Wire, call: CallId) {
    if let Ok(id) = HeaderValue::from_bytes(&call.digits()) {
        let headers = response.headers_mut();
        headers
            .entry(HeaderName::from_static(wire.request_id()))
            .or_insert_with(|| id.clone());
        headers.insert(CALL_ID, id);
    }
}

/// Since 1970.
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn internal() -> Refused {
    Refusal::new(Code::Internal, "The relay failed at this call.").into()
}
