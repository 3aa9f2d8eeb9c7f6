//! A call whose vendor speaks another wire than its client: the request written anew before it leaves, the answer on its
//! way back. Knows no money: the tap reads the vendor's own bytes before they come here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header, response::Parts};
use relay_protocol::{
    Code, Compact, Endpoint, Envelope, Framing, Lane, Payload, Refusal, Reply, Target, Translated, Translator, Usage,
    VendorWire, Wire, failure, translate,
};
use relay_shared::{call::CallId, tunnel::DROPPED};

use super::{body::ReplyBody, refusal};
use crate::{
    catalogue::Model,
    directory::Account,
    refusal::Refused,
    vendor::{Asked, VendorKind},
};

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// A call between two wires.
pub(super) struct Crossing {
    client: Wire,
    vendor: VendorWire,
    framing: Framing,
    call: CallId,
    dropped: Option<HeaderValue>,
    translator: Translator,
    /// The answer is to be what is left of a conversation.
    compact: Option<Compact>,
}

/// A request that has crossed.
pub(super) struct Crossed {
    pub(super) crossing: Box<Crossing>,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    /// The vendor's endpoint, and a path of it that may have a model in it.
    pub(super) endpoint: Endpoint,
    pub(super) query: Option<&'static str>,
    stream: bool,
}

impl Crossed {
    /// Writes the request for the account's vendor; `None` where the client's own bytes go there. The envelope learns which
    /// tier of price the vendor was asked for.
    ///
    /// # Errors
    /// The request means what the vendor's wire cannot say, or is to an endpoint that other wires lack.
    pub(super) fn of(
        account: &Account,
        envelope: &mut Envelope,
        body: &Payload,
        model: &Model,
        call: CallId,
        framing: Framing,
    ) -> Result<Option<Self>, Refused> {
        let client = envelope.endpoint.wire();
        let Some(Lane::Translate(vendor)) = account.lane(client, &model.upstream) else {
            return Ok(None);
        };
        if !generates(envelope.endpoint) {
            return Err(no_such(envelope.endpoint, vendor));
        }
        let (compact, body) = match envelope.endpoint {
            Endpoint::Compact => {
                // Its answer is one document, whatever else is asked for.
                envelope.stream = false;
                let (compact, body) = Compact::read(body.as_slice())?;
                (Some(compact), Payload::new(body))
            }
            _ => (None, body.clone()),
        };
        let target = Target {
            model: &model.upstream,
            is_openai: matches!(account.vendor, VendorKind::OpenAi | VendorKind::Azure),
            is_streamed: envelope.stream,
            max_output: model.max_output,
        };
        // A vendor that has paths of its own goes by the model.
        let endpoint = vendor.endpoint(envelope.stream).unwrap_or(Endpoint::Messages);
        let Translated {
            body,
            dropped,
            flat,
            service_tier,
        } = translate(client, vendor, body.as_slice(), &target)?;
        envelope.service_tier = service_tier;
        // No other wire has a call go on from an answer.
        envelope.stores = false;
        let reply = Reply {
            id: String::from_utf8_lossy(&call.digits()).into_owned(),
            model: model.name.clone(),
            created: super::unix_seconds(),
            wants_usage: envelope.wants_usage,
        };
        let translator = Translator::new(client, vendor, framing, reply, flat);
        let translator = translator.ok_or_else(|| relay_protocol::no_lane(client, vendor))?;
        let translator = translator.allowing(envelope.max_output.unwrap_or(model.max_output));
        Ok(Some(Self {
            crossing: Box::new(Crossing {
                client,
                vendor,
                framing,
                call,
                dropped: dropped.and_then(|dropped| HeaderValue::from_str(&dropped).ok()),
                translator,
                compact,
            }),
            headers: head(vendor, envelope.stream),
            payload: Payload::new(body),
            query: (endpoint == Endpoint::StreamGenerate).then_some("alt=sse"),
            endpoint,
            stream: envelope.stream,
        }))
    }

    /// Where it goes.
    pub(super) const fn asked<'a>(&self, model: &'a str) -> Asked<'a> {
        Asked {
            endpoint: self.endpoint,
            path: self.endpoint.path(),
            model,
            query: self.query,
            stream: self.stream,
        }
    }
}

/// The endpoints whose calls make an answer of a model.
const fn generates(endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::Responses
        | Endpoint::Compact
        | Endpoint::ChatCompletions
        | Endpoint::Messages
        | Endpoint::Generate
        | Endpoint::StreamGenerate => true,
        Endpoint::Embeddings
        | Endpoint::Models
        | Endpoint::CountTokens
        | Endpoint::CountGeminiTokens
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents
        | Endpoint::GeminiModels => false,
    }
}

fn no_such(endpoint: Endpoint, vendor: VendorWire) -> Refused {
    let message = format!(
        "This model is served by {}, which has no {}.",
        vendor.name(),
        endpoint.path()
    );
    Refusal::new(Code::NotFound, message).into()
}

/// The vendor's head: nothing of the client's, which is about another wire.
fn head(vendor: VendorWire, is_streamed: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if is_streamed { EVENTS } else { "application/json" };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    if vendor == VendorWire::Messages {
        headers.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
    }
    headers
}

const EVENTS: &str = "text/event-stream";

impl Crossing {
    /// The vendor's wire.
    pub(super) const fn vendor(&self) -> VendorWire {
        self.vendor
    }

    /// The client's wire.
    pub(super) const fn client(&self) -> Wire {
        self.client
    }

    /// The head of an answer.
    pub(super) fn head(&self, is_streamed: bool) -> Parts {
        let (mut head, ()) = Response::new(()).into_parts();
        let is_events = is_streamed && self.framing == Framing::Events;
        let kind = if is_events { EVENTS } else { "application/json" };
        head.headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if is_streamed {
            head.headers
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        if let Some(dropped) = &self.dropped {
            head.headers.insert(DROPPED, dropped.clone());
        }
        head
    }

    /// What the client gets of a whole answer: a stream of it, where it asked for one.
    pub(super) fn whole(self, body: Bytes, usage: Option<Usage>, is_streamed: bool) -> Response<ReplyBody> {
        let (head, client, call) = (self.head(is_streamed), self.client, self.call);
        let told = match is_streamed {
            true => self.translator.at_once(body, usage),
            false => self.translator.whole(&body, usage),
        };
        let told = told.and_then(|body| match &self.compact {
            None => Ok(body),
            Some(compact) => compact
                .whole(&body)
                .ok_or_else(|| Refusal::new(Code::UpstreamBroke, "The upstream's answer is none.")),
        });
        match told {
            Ok(body) => Response::from_parts(head, ReplyBody::whole(Bytes::from(body))),
            Err(refused) => refusal(&refused.into(), client, call),
        }
    }

    /// What the client gets of a vendor's refusal: the same in its own words.
    pub(super) fn refusal(&self, head: &Parts, body: &[u8]) -> Response<ReplyBody> {
        // What Bedrock says of a credential is not passed on: its reader has told the refusal as Anthropic would.
        let spoken = match self.vendor {
            VendorWire::Converse => VendorWire::Messages,
            spoken => spoken,
        };
        let failed = failure(spoken, head.status.as_u16(), body);
        let wait = head.headers.get(header::RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
        let refused = failed.refusal(wait.map(Duration::from_secs));
        refusal(&refused.into(), self.client, self.call)
    }

    /// Takes a piece of a stream.
    pub(super) fn push(&mut self, piece: Bytes, usage: Option<Usage>) {
        self.translator.push(piece, usage);
    }

    /// The vendor's body has ended.
    pub(super) fn end(&mut self, usage: Option<Usage>) {
        self.translator.end(usage);
    }

    /// The answer broke off: the client is told so, unless it was told the end before.
    pub(super) fn break_off(&mut self, why: &Refusal) {
        self.translator.break_off(why);
    }

    /// Some of what the client is to get of it; `None` once it got all.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.translator.take().map(Bytes::from)
    }

    /// It failed for being longer than what is held of a stream.
    pub(super) const fn is_too_long(&self) -> bool {
        self.translator.is_too_long()
    }

    /// The client was told an end.
    pub(super) const fn has_ended(&self) -> bool {
        self.translator.has_ended()
    }
}

/// How the client's stream is framed: Gemini's is one array unless its address says otherwise.
pub(super) fn framing(endpoint: Endpoint, query: Option<&str>) -> Framing {
    let is_array = endpoint == Endpoint::StreamGenerate
        && !query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    if is_array { Framing::Array } else { Framing::Events }
}
