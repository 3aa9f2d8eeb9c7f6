//! The list of models, in the shape that the client reads. Knows no vendor: the list is the hub's own.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use relay_protocol::{
    Wire,
    catalog::{ModelCard, anthropic_list, codex_catalog, etag, gemini_list, openai_list},
};

use super::{Exchange, Inbound, body::ReplyBody};
use crate::{admission::Admission, catalogue::Model, refusal::Refused};

impl Exchange {
    /// `GET /v1/models`: the list of Anthropic's for its clients, of Google's for theirs, of OpenAI's for others, or Codex's
    /// catalogue when the query names a `client_version`. `GET /v1beta/models`: Google's.
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
        let is_codex = inbound.head.uri.query().is_some_and(asks_for_codex);
        let list = match wire {
            Wire::Messages => anthropic_list(&models),
            Wire::Gemini => gemini_list(&models),
            Wire::Responses | Wire::Chat if is_codex => codex_catalog(&models),
            Wire::Responses | Wire::Chat => openai_list(&models),
        };
        let tag = etag(&list);
        if inbound
            .head
            .headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|seen| seen.as_bytes() == tag.as_bytes())
        {
            return Ok(with_tag(StatusCode::NOT_MODIFIED, Bytes::new(), &tag));
        }
        Ok(with_tag(StatusCode::OK, list, &tag))
    }
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
