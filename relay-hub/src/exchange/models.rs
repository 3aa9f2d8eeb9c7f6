//! The list of models, or one of them, in the shape that the client reads. Knows no vendor: the list is the hub's own.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use relay_protocol::{
    Wire, asked_model,
    catalog::{self, ModelCard, anthropic_list, codex_catalog, etag, gemini_list, openai_list},
};

use super::{Exchange, Inbound, body::ReplyBody};
use crate::{
    admission::Admission,
    catalogue::{self, Model},
    refusal::Refused,
};

impl Exchange {
    /// `GET /v1/models`: the list of Anthropic's for its clients, of Google's for theirs, of OpenAI's for others, or Codex's
    /// catalogue when the query names a `client_version`. `GET /v1beta/models`: Google's. With a name behind it: that model.
    pub(super) async fn models(&self, inbound: Inbound) -> Result<Response<ReplyBody>, Refused> {
        let (asks, wire) = (inbound.asks(), inbound.wire);
        let caller = self.identify(inbound.credential).await?;
        let rules = self.admission.check(&caller, &asks)?;
        let models = self.catalogue.models(&caller).into_iter();
        let models: Vec<_> = models
            .filter(|model| Admission::allows(&rules, model))
            .filter(|model| self.routing.serves(caller.tenant_id(), wire, &model.upstream))
            .map(card)
            .collect();
        if let Some(name) = asked_model(inbound.head.uri.path()) {
            let found = models.iter().find(|model| model.id == *name);
            let found = found.ok_or_else(|| catalogue::unknown(&name))?;
            return Ok(answer(&inbound.head.headers, catalog::one(wire, found)));
        }
        let is_codex = inbound.head.uri.query().is_some_and(asks_for_codex);
        let list = match wire {
            Wire::Messages => anthropic_list(&models),
            Wire::Gemini => gemini_list(&models),
            Wire::Responses | Wire::Chat if is_codex => codex_catalog(&models),
            Wire::Responses | Wire::Chat => openai_list(&models),
        };
        Ok(answer(&inbound.head.headers, list))
    }
}

/// What was asked for, or that its client has it already.
fn answer(headers: &HeaderMap, body: Bytes) -> Response<ReplyBody> {
    let tag = etag(&body);
    let seen = headers.get(header::IF_NONE_MATCH);
    if seen.is_some_and(|seen| seen.as_bytes() == tag.as_bytes()) {
        return with_tag(StatusCode::NOT_MODIFIED, Bytes::new(), &tag);
    }
    with_tag(StatusCode::OK, body, &tag)
}

fn card(model: Model) -> ModelCard {
    ModelCard {
        context: model.context_told(),
        max_output: model.max_output,
        id: model.name,
        created: 0,
        owned_by: "relay".to_owned(),
    }
}

fn asks_for_codex(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair.split('=').next() == Some("client_version"))
}

fn with_tag(status: StatusCode, body: Bytes, tag: &str) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
