//! `relay-hub account test`: one small call, made as a client's call would be, and what failed.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use relay_protocol::Payload;
use relay_shared::tasks::Tasks;
use serde_json::json;

use super::find;
use crate::{
    app,
    cli::{Desk, Failure, sharing::users},
    config::{Config, Overrides},
    directory::{self, Account},
    egress::{Answer, EgressError, Exits, Reads},
    seal::Sealer,
    store::ways,
    token::{FetchError, Fetcher},
    vendor::{Asked, Credential, Target, VendorKind, oauth::TokenError, probe},
};

/// The whole test ends within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// No list of models is longer.
const MOST: usize = 4 << 20;

/// What a call that worked tells.
struct Works {
    asked: String,
    models: usize,
    way: String,
    local: std::net::IpAddr,
}

pub(super) async fn run(desk: &mut Desk<'_>, name: &str, model: Option<&str>) -> Result<(), Failure> {
    let config = Config::load(&desk.data, &Overrides::default())?;
    let store = desk.store().await?;
    let row = find(&store, name).await?;
    let (name, id) = (row.name.clone(), row.id.clone());
    let ways = ways::list(&store).await?.into_iter().filter(|way| way.account == id);
    let sealer = Sealer::open(&desk.data)?;
    let users = users(&store, &id).await?;
    let account = directory::open_account(row, ways.collect(), &users, &sealer).ok_or_else(|| {
        Failure::fixable("the account or one of its ways out cannot be used").hint("remove it and add it again")
    })?;
    let model = match (account.vendor, model) {
        (VendorKind::Bedrock, None) => {
            return Err(Failure::usage("Bedrock has no list of models that this key may read")
                .hint("name a model with --model: it is asked for one token"));
        }
        (VendorKind::Bedrock, Some(model)) => model,
        (_, None) => "",
        (_, Some(_)) => {
            return Err(Failure::usage("this vendor is asked for its list of models").hint("leave --model out"));
        }
    };
    // A server's own part of the process does this at its start.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let tasks = Tasks::new();
    let fetcher = Fetcher {
        egress: Arc::new(app::egress(&config, &tasks)?),
        store,
        sealer: Arc::new(sealer),
    };
    let began = Instant::now();
    let made = tokio::time::timeout(PATIENCE, call(&account, &fetcher, model)).await;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tasks.shutdown(Duration::from_secs(1)).await;
    let made = made.unwrap_or_else(|_| {
        Err(
            Failure::fixable(format!("the vendor did not answer within {PATIENCE:?}"))
                .kind("timeout")
                .hint("see the base URL, and the vendor's status page"),
        )
    });
    let Works {
        asked,
        models,
        way,
        local,
    } = made?;
    let json = json!({
        "id": id, "name": name, "works": true, "asked": asked, "models": models, "way": way, "local_address": local,
        "took_ms": took_ms,
    });
    let line = format!("{name} works: {asked} by {way}, from {local}, {models} models, within {took_ms} ms");
    Ok(desk.print.done(&json, &line)?)
}

async fn call(account: &Account, fetcher: &Fetcher, model: &str) -> Result<Works, Failure> {
    let target = account.target();
    let target = target.map_err(|error| Failure::from_error(&error).hint("remove the account and add it again"))?;
    let ways = fetcher.egress.ways(Exits {
        account: account.id.as_str(),
        origin: target.origin(),
        outs: &account.ways,
        allows_private: account.allows_private,
        prefers: account.prefers,
    });
    let mut headers = HeaderMap::new();
    headers.extend(probe::headers(account.vendor));
    target.authorise(&mut headers);
    if account.credential.grant().is_some() {
        let issued = fetcher.fetch(account).await.map_err(|error| no_token(&error))?;
        headers.insert(header::AUTHORIZATION, issued.authorization);
    }
    let request = request(account, &target, headers, model)?;
    let asked = format!("{} {}", request.method(), request.uri());
    let route = ways.route(None).map_err(|error| unreached(&error))?;
    let answer = route
        .call(request, Reads::Small)
        .await
        .map_err(|error| unreached(&error))?;
    let (way, local) = answer.body().left_by();
    let (way, local) = (way.to_string(), local);
    let models = judge(account, answer, &asked).await?;
    Ok(Works {
        asked,
        models,
        way,
        local,
    })
}

/// A question for the list of models, or for one token of this one.
fn request(
    account: &Account,
    target: &Target,
    mut headers: HeaderMap,
    model: &str,
) -> Result<Request<Full<Bytes>>, Failure> {
    let set_up_wrongly =
        |error: &dyn Error| Failure::fixable(error.to_string()).hint("remove the account and add it again");
    let asked = Asked {
        endpoint: probe::endpoint(account.vendor),
        path: probe::endpoint(account.vendor).path(),
        model,
        query: None,
        stream: false,
    };
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = target.path(asked);
    if let Credential::AwsKey(signer) = &account.credential {
        let body = Payload::new(Bytes::from_static(probe::one_token(model).as_bytes()));
        let body = target.body(&asked, &mut headers, body);
        let body = body.map_err(|error| set_up_wrongly(&error))?.into_bytes();
        let path = request.uri().path();
        let signed = signer.sign(&Method::POST, path, &mut headers, &body, jiff::Timestamp::now());
        signed.map_err(|error| set_up_wrongly(&error))?;
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::new(body);
    }
    *request.headers_mut() = headers;
    Ok(request)
}

async fn judge(account: &Account, answer: Response<Answer>, asked: &str) -> Result<usize, Failure> {
    let (head, body) = answer.into_parts();
    // What is too long, or breaks off, is no list.
    let body = Limited::new(body, MOST).collect().await;
    let body = body.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
    probe::models(head.status, &head.headers, &body).map_err(|fault| {
        let status = head.status.as_u16();
        let code = probe::name(&head.headers, &body).filter(|code| !account.credential.holds(code));
        let code = code.map(|code| format!(" `{code}`"));
        let (meaning, code) = (fault.meaning(), code.unwrap_or_default());
        let told = format!("{asked}: the vendor answered {status}{code}: {meaning}");
        let failure = Failure::fixable(told).kind(fault.name());
        failure.hint(fault.hint())
    })
}

/// The vendor was not even asked.
fn no_token(error: &FetchError) -> Failure {
    let (kind, hint) = match error {
        FetchError::Token(TokenError::Refused(_)) => (
            "token_refused",
            "the credential is wrong, revoked or used up: add the account again with a fresh one",
        ),
        FetchError::Busy => (
            "token_busy",
            "a hub or another command renews it: try again in a minute",
        ),
        FetchError::Egress(error) => return unreached(error).kind("token_unreachable"),
        FetchError::NotNeeded
        | FetchError::Late(_)
        | FetchError::Answer
        | FetchError::Token(_)
        | FetchError::Store(_)
        | FetchError::Seal(_) => (
            "token_failed",
            "see the token URL, and the status page of whoever answers there",
        ),
    };
    Failure::from_error(error).kind(kind).hint(hint)
}

/// What lies between us and an answer.
fn unreached(error: &EgressError) -> Failure {
    let (kind, hint) = match error {
        EgressError::WayDown(_) | EgressError::WayBroke(_) | EgressError::AllDown => (
            "way_down",
            "its way out is at fault: `relay-hub way test` looks at one way",
        ),
        EgressError::NoRegion(_) => ("no_region", "give the account a way out there"),
        EgressError::ConnectTimeout(_) => (
            "timeout",
            "nothing answers at this address: a firewall, or a wrong base URL",
        ),
        EgressError::Unreachable(cause) => between(cause.as_ref()),
    };
    Failure::from_error(error).kind(kind).hint(hint)
}

/// Whether a name led to addresses, none of which may be reached.
fn is_not_allowed(error: &(dyn Error + 'static)) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// A connection fails in one of a few ways, and the causes below the error tell in which.
fn between(cause: &(dyn Error + 'static)) -> (&'static str, &'static str) {
    let mut next = Some(cause);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return (
                "tls",
                "its certificate is not one we trust, or it speaks no TLS: see egress.extra_ca in hub.toml",
            );
        }
        let Some(io) = error.downcast_ref::<io::Error>() else {
            if error.to_string().contains("dns error") && !is_not_allowed(error) {
                return (
                    "name",
                    "the base URL's host has no address: is it spelled right, and does DNS work here?",
                );
            }
            next = error.source();
            continue;
        };
        match io.kind() {
            io::ErrorKind::ConnectionRefused => {
                return (
                    "connection_refused",
                    "nobody listens at this address and port: see the base URL",
                );
            }
            io::ErrorKind::PermissionDenied => {
                return (
                    "not_allowed",
                    "the base URL leads to an address that is not public: add the account with --allow-private if that is meant",
                );
            }
            _ => {}
        }
        next = match io.get_ref() {
            Some(inner) => Some(inner),
            None => io.source(),
        };
    }
    (
        "unreachable",
        "the connection broke before an answer: see the base URL and the way out",
    )
}
