//! Starts a vendor's call and hands back its answer. Knows accounts and ways out; knows no wire.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use relay_protocol::{Code, Payload, Refusal};
use tokio::sync::oneshot;

use super::{
    Exchange,
    body::ReplyBody,
    meter::{self, Meter},
    request::Memory,
};
use crate::{
    directory::{Account, Tenant},
    egress::{Egress, EgressError, Exits, Ways},
    ids::AccountId,
    refusal::Refused,
    token::{Source, Tokens},
    vendor::{Asked, Credential, Target, TargetError},
    way::Region,
};

/// Where a client would like its call to leave.
const REGION: HeaderName = HeaderName::from_static("x-relay-region");

/// Where and how the calls of one account leave.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) target: Arc<Target>,
    pub(super) ways: Arc<Ways>,
    access: Access,
}

/// What authorises the calls of one account.
#[derive(Clone)]
enum Access {
    /// The target has it.
    Fixed,
    /// An access token.
    Token(Arc<Source>),
    /// A signature of each call, by the account's access key.
    Signature(Arc<Account>),
}

/// The upstreams of all accounts in use, each worked out once.
#[derive(Default)]
pub(super) struct Upstreams(Mutex<HashMap<AccountId, (Arc<Account>, Upstream)>>);

impl Upstreams {
    pub(super) fn of(&self, account: &Arc<Account>, egress: &Egress, tokens: &Tokens) -> Result<Upstream, Refused> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, upstream)) = known.get(&account.id).filter(|(known, _)| Arc::ptr_eq(known, account)) {
            return Ok(upstream.clone());
        }
        let target = Arc::new(account.target()?);
        let ways = egress.ways(Exits {
            account: account.id.as_str(),
            origin: target.origin(),
            outs: &account.ways,
            allows_private: account.allows_private,
            prefers: account.prefers,
        });
        let access = match &account.credential {
            Credential::ApiKey(_) => Access::Fixed,
            Credential::Grant(_) => Access::Token(tokens.of(&account.id)),
            Credential::AwsKey(_) => Access::Signature(account.clone()),
        };
        let upstream = Upstream { target, ways, access };
        known.insert(account.id.clone(), (account.clone(), upstream.clone()));
        Ok(upstream)
    }
}

/// A call that can be sent once more with another access token.
pub(super) struct Renewal {
    source: Arc<Source>,
    used: HeaderValue,
    request: Request<Full<Bytes>>,
}

impl Renewal {
    /// The same request with another token than the one that the vendor refused, if there is one in time.
    pub(super) async fn request(self) -> Option<Request<Full<Bytes>>> {
        let Self {
            source,
            used,
            mut request,
        } = self;
        let token = source.another(&used).await?;
        request.headers_mut().insert(header::AUTHORIZATION, token);
        Some(request)
    }
}

impl Upstream {
    /// Whether its calls take access tokens, of which the vendor may refuse one.
    pub(super) const fn may_renew(&self) -> bool {
        matches!(self.access, Access::Token(_))
    }

    /// What is kept of a request whose access token the vendor may refuse.
    pub(super) fn renewal(&self, request: &Request<Full<Bytes>>) -> Option<Box<Renewal>> {
        let Access::Token(source) = &self.access else {
            return None;
        };
        let used = request.headers().get(header::AUTHORIZATION)?.clone();
        Some(Box::new(Renewal {
            source: source.clone(),
            used,
            request: request.clone(),
        }))
    }

    /// Another access token than this one, which the vendor refused.
    pub(super) async fn another_token(&self, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.access {
            Access::Fixed | Access::Signature(_) => None,
            Access::Token(source) => source.another(refused?).await,
        }
    }

    /// The access token for a call, of an account that has one; waited for a few seconds where there is none.
    ///
    /// # Errors
    /// There is no valid one in time.
    pub(super) async fn token(&self) -> Result<Option<HeaderValue>, Refused> {
        match &self.access {
            Access::Fixed | Access::Signature(_) => Ok(None),
            Access::Token(source) => source.authorization().await.map(Some),
        }
    }

    /// The same where another account may serve the call: a token that could not be had a moment ago is not waited for.
    ///
    /// # Errors
    /// There is no valid one in time.
    pub(super) async fn token_or_another(&self) -> Result<Option<HeaderValue>, Refused> {
        match &self.access {
            Access::Fixed | Access::Signature(_) => Ok(None),
            Access::Token(source) => source.authorization_unless_failed().await.map(Some),
        }
    }

    /// The same without waiting: another account is tried only where it can be called at once.
    ///
    /// # Errors
    /// There is no valid one at this moment.
    pub(super) fn token_now(&self) -> Result<Option<HeaderValue>, Refused> {
        match &self.access {
            Access::Fixed | Access::Signature(_) => Ok(None),
            Access::Token(source) => source.authorization_now().map(Some),
        }
    }

    /// The vendor's request: the client's own bytes, an allowed head, the account's credential.
    ///
    /// # Errors
    /// The account's key cannot sign; the vendor wants edits that the body does not allow.
    pub(super) fn request(
        &self,
        token: Option<HeaderValue>,
        asked: Asked<'_>,
        mut headers: HeaderMap,
        body: Payload,
    ) -> Result<Request<Full<Bytes>>, Refused> {
        let body = self.target.body(&asked, &mut headers, body)?.into_bytes();
        let path = self.target.path(asked);
        self.authorise(token, &mut headers);
        if let Access::Signature(account) = &self.access
            && let Credential::AwsKey(signer) = &account.credential
        {
            let signed = signer.sign(&Method::POST, path.path(), &mut headers, &body, jiff::Timestamp::now());
            signed.map_err(|_| TargetError::Secret)?;
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Adds the vendor's host and what proves that the account is ours, but for a signature.
    pub(super) fn authorise(&self, token: Option<HeaderValue>, headers: &mut HeaderMap) {
        self.target.authorise(headers);
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, token);
        }
    }
}

/// Where the call is to leave: where its client says, else where its tenant does.
///
/// # Errors
/// What the client names is no region.
pub(super) fn region(headers: &HeaderMap, tenant: &Tenant) -> Result<Option<Region>, Refused> {
    let Some(named) = headers.get(REGION) else {
        return Ok(tenant.region.clone());
    };
    let region = named.to_str().ok().and_then(Region::parse);
    region.map(Some).ok_or_else(|| {
        Refusal::new(Code::InvalidRequest, "x-relay-region names no region.")
            .hint("a region has letters, digits and `-`, as in `eu-west`")
            .into()
    })
}

/// Calls the vendor. The work owns the answer and the hold, and goes on without us once the head has come or the client
/// has left: a client that leaves cannot take the charge along.
pub(super) fn call(
    exchange: &Exchange,
    meter: Box<Meter>,
    request: Request<Full<Bytes>>,
    memory: Memory,
) -> impl Future<Output = Result<Response<ReplyBody>, Refused>> + Send + use<> {
    let (reply, mut answer) = oneshot::channel();
    let work = exchange.tasks.begin("meter", meter::run(meter, request, memory, reply));
    async move {
        let answer = tokio::select! {
            biased;
            () = work => answer.await,
            answer = &mut answer => answer,
        };
        answer.unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "The relay failed at this call.").into()))
    }
}

impl From<EgressError> for Refused {
    fn from(error: EgressError) -> Self {
        let public = match &error {
            EgressError::Unreachable(_) => Self::new(Code::UpstreamUnreachable, "The upstream could not be reached."),
            EgressError::ConnectTimeout(_) => {
                Self::new(Code::UpstreamTimeout, "The upstream could not be reached in time.")
            }
            EgressError::WayDown(_) | EgressError::WayBroke(_) | EgressError::AllDown => Self::new(
                Code::EgressUnavailable,
                "No way out of the upstream account works at the moment.",
            ),
            EgressError::NoRegion(region) => Refusal::new(
                Code::InvalidRequest,
                format!("The relay has no way out in region `{region}` for this call."),
            )
            .hint("name another in x-relay-region, or ask the operator")
            .into(),
        };
        public.caused_by(error)
    }
}

impl From<TargetError> for Refused {
    fn from(error: TargetError) -> Self {
        Self::new(Code::Internal, "The upstream account of this relay is set up wrongly.").caused_by(error)
    }
}
