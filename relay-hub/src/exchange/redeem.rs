//! The hub's own path for callers: a code becomes credit. Knows no vendor.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use relay_protocol::{Code, Refusal, Wire};
use relay_shared::call::CallId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Exchange,
    body::{ClientBody, ReplyBody},
    refusal, request,
};
use crate::{identity::Credential, refusal::Refused};

/// No vendor's API begins so.
pub const REDEEM: &str = "/relay/redeem";
const LONGEST: usize = 4096;

#[derive(Deserialize)]
struct Asked {
    code: String,
}

impl Exchange {
    /// `POST /relay/redeem` with `{"code": "…"}`.
    pub async fn redeem(
        self: &Arc<Self>,
        credential: Option<Credential>,
        headers: &HeaderMap,
        mut body: ClientBody,
        call: CallId,
    ) -> Response<ReplyBody> {
        match self.redeemed(credential, headers, &mut body).await {
            Ok(done) => {
                let mut response = Response::new(ReplyBody::whole(Bytes::from(done.to_string())));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(refused) => {
                self.discard(body);
                refusal(&refused, Wire::Responses, call)
            }
        }
    }

    async fn redeemed(
        &self,
        credential: Option<Credential>,
        headers: &HeaderMap,
        body: &mut ClientBody,
    ) -> Result<Value, Refused> {
        let caller = self.identify(credential).await?;
        let body = request::read(headers, body, LONGEST, &self.limits, &self.bodies).await?;
        let asked: Asked = serde_json::from_slice(body.plain.as_slice()).map_err(|_| {
            Refusal::new(Code::InvalidRequest, "The body is not what this path takes")
                .hint(r#"send {"code": "…"} as JSON"#)
                .param("code")
        })?;
        let done = self.credit.redeem(&caller, &asked.code).await?;
        let expires_at = done
            .expires_ms
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .map(|at| at.to_string());
        Ok(json!({
            "credited": done.amount, "balance": done.credited.balance, "expires_at": expires_at,
            "source": done.source(), "booked": done.credited.is_first,
        }))
    }
}
