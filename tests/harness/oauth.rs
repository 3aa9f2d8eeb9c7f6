//! A token endpoint as Microsoft Entra's or another vendor's: verifies who asks, issues tokens that end, rotates refresh
//! tokens and takes none twice. Knows nothing of the relay.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A running endpoint. Dropping it closes the listener.
pub struct TokenEndpoint {
    addr: SocketAddr,
    books: Arc<Mutex<Books>>,
    _accept: JoinSet<()>,
}

/// What it knows.
struct Books {
    /// What a request must say beside its grant.
    wants: HashMap<&'static str, String>,
    /// The refresh token that is good for one use; without one, clients ask for themselves.
    refresh: Option<String>,
    life: Duration,
    issued: Vec<(String, Instant)>,
    refusals: usize,
}

impl TokenEndpoint {
    /// Issues tokens of this life to whoever says all of `wants`, and, if there is one, the refresh token.
    pub async fn start(life: Duration, refresh: Option<&str>, wants: &[(&'static str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let addr = listener.local_addr().expect("it listens");
        let books = Arc::new(Mutex::new(Books {
            wants: wants.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            refresh: refresh.map(str::to_owned),
            life,
            issued: Vec::new(),
            refusals: 0,
        }));
        let mut accept = JoinSet::new();
        accept.spawn(serve(listener, Arc::clone(&books)));
        Self {
            addr,
            books,
            _accept: accept,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/tenant/oauth2/v2.0/token", self.addr)
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().expect("no holder panics")
    }

    /// How many tokens were issued so far.
    pub fn issued(&self) -> usize {
        self.books().issued.len()
    }

    /// How many requests were refused so far.
    pub fn refusals(&self) -> usize {
        self.books().refusals
    }

    /// The refresh token that is good now.
    pub fn refresh_token(&self) -> Option<String> {
        self.books().refresh.clone()
    }

    /// Takes back every token issued so far.
    pub fn revoke(&self) {
        let now = Instant::now();
        self.books().issued.iter_mut().for_each(|(_, until)| *until = now);
    }

    /// What a vendor asks of a call's head: a token of ours that has not ended, and no other credential.
    pub fn verifier(&self) -> impl Fn(&HeaderMap) -> bool + Send + Sync + 'static {
        let books = Arc::clone(&self.books);
        move |headers| {
            let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = bearer.and_then(|bearer| bearer.strip_prefix("Bearer "));
            let books = books.lock().expect("no holder panics");
            let good = |token: &str| {
                books
                    .issued
                    .iter()
                    .any(|(known, until)| known == token && Instant::now() < *until)
            };
            token.is_some_and(good) && !headers.contains_key("api-key")
        }
    }
}

async fn serve(listener: TcpListener, books: Arc<Mutex<Books>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let books = Arc::clone(&books);
        let service = service_fn(move |request| answer(Arc::clone(&books), request));
        let http = hyper::server::conn::http1::Builder::new();
        connections.spawn(async move {
            let _ended = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(books: Arc<Mutex<Books>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let form = form(&String::from_utf8_lossy(&body));
    let (status, body) = books.lock().expect("no holder panics").issue(&path, &form);
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    Ok(response)
}

impl Books {
    fn issue(&mut self, path: &str, form: &HashMap<String, String>) -> (u16, Value) {
        let said = |name: &str| form.get(name).map(String::as_str);
        let grant = if self.refresh.is_some() {
            "refresh_token"
        } else {
            "client_credentials"
        };
        let is_client = self.wants.iter().all(|(name, value)| said(name) == Some(value));
        if path != "/tenant/oauth2/v2.0/token" || !is_client || said("grant_type") != Some(grant) {
            self.refusals += 1;
            return (
                401,
                json!({"error": "invalid_client", "error_description": "a sentence with a secret"}),
            );
        }
        if said("refresh_token") != self.refresh.as_deref() {
            self.refusals += 1;
            return (
                400,
                json!({"error": "invalid_grant", "error_description": "a sentence with a secret"}),
            );
        }
        let number = self.issued.len();
        let token = format!("access-{number}");
        self.issued.push((token.clone(), Instant::now() + self.life));
        self.refresh = self.refresh.as_ref().map(|_| format!("refresh-{number}"));
        let life = self.life.as_secs();
        let more = self.refresh.clone();
        (
            200,
            json!({"token_type": "Bearer", "expires_in": life, "access_token": token, "refresh_token": more}),
        )
    }
}

/// Reads a form as a server does.
fn form(text: &str) -> HashMap<String, String> {
    let plain = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let digits = std::str::from_utf8(after.get(..2).unwrap_or_default()).unwrap_or_default();
                    bytes.push(u8::from_str_radix(digits, 16).unwrap_or_default());
                    rest = after.get(2..).unwrap_or_default();
                }
                byte => bytes.push(*byte),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (plain(name), plain(value))).collect()
}
