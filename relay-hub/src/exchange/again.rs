//! Another account for a call whose own one failed at it, before anything of an answer was seen. Knows attempts; knows no
//! money and no wire.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use relay_protocol::{Endpoint, Lane, Payload, Wire};
use relay_shared::call::CallId;

use super::{Exchange, meter::Unanswered, upstream::Renewal};
use crate::{
    directory::Account,
    egress::{Answer, Route},
    routing::{Routing, Taken},
    store::routes::AttemptRow,
    vendor::{self, Trouble, VendorKind, request_id},
    way::Region,
};

/// A refusal's body that says for how long an account is to rest.
const REFUSAL_BYTES: usize = 64 * 1024;
const REFUSAL_WAIT: Duration = Duration::from_secs(1);

/// What one more attempt is made of.
pub(super) struct Again {
    exchange: Arc<Exchange>,
    call: CallId,
    client: Wire,
    written: Written,
    endpoint: Endpoint,
    path: Box<str>,
    model: Box<str>,
    query: Option<Box<str>>,
    stream: bool,
    headers: HeaderMap,
    body: Payload,
    region: Option<Region>,
    /// No attempt begins after that.
    until: Instant,
    left: u32,
    rows: Vec<AttemptRow>,
}

/// By what an attempt leaves, what is sent, and what is kept of it.
pub(super) type Leaving = (Route, Request<Full<Bytes>>, Option<Box<Renewal>>);

/// For whom a request was written: an account that would need another writing is not tried.
#[derive(PartialEq, Eq)]
struct Written {
    lane: Option<Lane>,
    /// Of a translated call; the client's own bytes are fit for whoever speaks its wire.
    vendor: Option<VendorKind>,
}

impl Written {
    fn of(account: &Account, client: Wire, model: &str) -> Self {
        let lane = account.lane(client, model);
        let is_translated = matches!(lane, Some(Lane::Translate(_)));
        Self {
            lane,
            vendor: is_translated.then_some(account.vendor),
        }
    }
}

/// An attempt as it ended.
pub(super) type Asked = Result<Response<Answer>, Unanswered>;

impl Again {
    /// Keeps what another attempt needs, where there may be one: at another account, or with another access token.
    pub(super) fn keep(
        exchange: &Arc<Exchange>,
        (taken, call): (&Taken, CallId),
        (asked, region): (vendor::Asked<'_>, Option<Region>),
        (client, headers, body): (Wire, &HeaderMap, &Payload),
        may_renew: bool,
    ) -> Option<Box<Self>> {
        let limits = &exchange.limits;
        let left = limits.attempts.saturating_sub(1);
        (may_renew || (left > 0 && taken.may_move())).then(|| {
            Box::new(Self {
                exchange: exchange.clone(),
                call,
                client,
                written: Written::of(&taken.account, client, asked.model),
                endpoint: asked.endpoint,
                path: asked.path.into(),
                model: asked.model.into(),
                query: asked.query.map(Into::into),
                stream: asked.stream,
                headers: headers.clone(),
                body: body.clone(),
                region,
                until: Instant::now() + limits.retry_timeout,
                left,
                rows: Vec::new(),
            })
        })
    }

    /// Whether what happened is a reason to try another account. A call whose request may have arrived is sent again only
    /// where it has no `Idempotency-Key`, or its vendor refused it.
    pub(super) fn allows(&self, asked: &Asked, is_claimed: bool) -> bool {
        let may_move = match asked {
            Ok(answer) => Trouble::of(answer.status(), answer.headers()).is_some_and(Trouble::may_move),
            Err(unanswered) => unanswered.may_move && (unanswered.is_unsent || !is_claimed),
        };
        may_move && self.left > 0 && Instant::now() < self.until
    }

    /// The same request for another account, and what is kept of it.
    pub(super) fn leave(&mut self, taken: &Taken) -> Option<Leaving> {
        if Written::of(&taken.account, self.client, &self.model) != self.written {
            return None;
        }
        let to = self
            .exchange
            .upstreams
            .of(&taken.account, &self.exchange.egress, &self.exchange.tokens)
            .ok()?;
        let route = to.ways.route(self.region.clone()).ok()?;
        let (headers, body) = (self.headers.clone(), self.body.clone());
        let asked = vendor::Asked {
            endpoint: self.endpoint,
            path: &self.path,
            model: &self.model,
            query: self.query.as_deref(),
            stream: self.stream,
        };
        let request = to.request(to.token_now().ok()?, asked, headers, body).ok()?;
        let renewal = to.renewal(&request);
        self.left = self.left.saturating_sub(1);
        Some((route, request, renewal))
    }

    /// Notes an attempt that ended; not one that is the only one, for its call's own row tells all of it.
    pub(super) fn note(&mut self, taken: &Taken, route: &Route, asked: &Asked, began: Instant) {
        let is_answer = matches!(asked, Ok(answer) if Trouble::of(answer.status(), answer.headers()).is_none());
        if is_answer && self.rows.is_empty() {
            return;
        }
        let took = began.elapsed();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (status, verdict, egress, vendor_request_id) = match asked {
            Ok(answer) => (
                Some(answer.status().as_u16()),
                Trouble::of(answer.status(), answer.headers()).map_or("answered", Trouble::as_str),
                answer.body().left_by().0,
                request_id(answer.headers()),
            ),
            Err(unanswered) => (None, unanswered.verdict(), route.name(), None),
        };
        self.rows.push(AttemptRow {
            n: u32::try_from(self.rows.len()).unwrap_or(u32::MAX).saturating_add(1),
            at_ms: millis(since.saturating_sub(took)),
            account: taken.account.id.to_string(),
            egress: egress.to_string(),
            choice: taken.choice.as_str().to_owned(),
            status,
            verdict: verdict.to_owned(),
            ms: millis(took),
            vendor_request_id,
        });
    }

    /// Writes the attempts down, if there were several. What was kept for another is let go.
    pub(super) fn end(self: Box<Self>, routing: &Routing) {
        if self.rows.len() > 1 {
            routing.attempted(self.call, self.rows);
        }
    }
}

/// A refusal that is not passed on: its body may say for how long its account is to rest, and its connection is used
/// again.
pub(super) async fn read_refusal(failed: &Taken, refusal: Response<Answer>) {
    let (head, body) = refusal.into_parts();
    let read = Limited::new(body, REFUSAL_BYTES).collect();
    if let Ok(Ok(body)) = tokio::time::timeout(REFUSAL_WAIT, read).await {
        failed.refused(head.status, &head.headers, &body.to_bytes());
    }
}
