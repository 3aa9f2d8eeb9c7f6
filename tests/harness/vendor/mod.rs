//! A vendor that speaks what OpenAI, Anthropic and Google speak, on loopback, as scripted: Responses (unary, SSE,
//! WebSocket), compact, chat completions and models; Messages, also as Bedrock offers it; Gemini as events and as one array. Keeps the bytes it got and sent, and a truth log of what it would bill.
//! Knows nothing of the relay.

mod answer;
mod asked;
pub mod bedrock;
mod bench;
mod memory;
mod render;
mod reply;
mod script;
mod serve;
mod shell;
pub mod soak;
mod socket;
mod truth;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use render::signature;
pub use script::{Answer, Break, Ending, Extra, Gate, Output, PLAIN, Script, SocketFault, Upgrade, Usage};
pub use truth::{Ended, Entry, Totals, Truth};

/// A running vendor. Dropping it closes the listener and every connection.
pub struct Vendor {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accept: JoinSet<()>,
}

/// One call as it arrived, and what was sent in answer.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// The body as it came; over WebSocket the text of one message.
    pub body: Bytes,
    pub socket: bool,
    /// Which entry of the truth log it is.
    pub entry: usize,
    /// The bytes of the answer's body; over WebSocket the bytes of its frames.
    pub sent: Sent,
}

/// Bytes that may still grow.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<Mutex<BytesMut>>);

impl Sent {
    pub(crate) fn add(&self, bytes: &[u8]) {
        self.0.lock().expect("no holder panics").extend_from_slice(bytes);
    }

    /// How many bytes have been sent so far.
    pub fn count(&self) -> usize {
        self.0.lock().expect("no holder panics").len()
    }

    /// What has been sent so far.
    pub fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.lock().expect("no holder panics"))
    }
}

/// One WebSocket: its handshake and the raw bytes the client sent after it.
#[derive(Clone, Debug)]
pub struct SocketLog {
    pub headers: HeaderMap,
    pub query: Option<String>,
    pub received: Sent,
    pub closed: Arc<Mutex<Option<u64>>>,
}

/// Whether a request's authorisation is what the vendor wants: its method, path with query, head and body.
type Guard = Arc<dyn Fn(&Method, &str, &HeaderMap, &[u8]) -> bool + Send + Sync>;

struct Shared {
    guard: Mutex<Option<Guard>>,
    queue: Mutex<VecDeque<Script>>,
    by_model: Mutex<HashMap<String, Script>>,
    default: Mutex<Script>,
    upgrades: Mutex<VecDeque<Upgrade>>,
    upgrade_default: Mutex<Upgrade>,
    models: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    sockets: Mutex<Vec<SocketLog>>,
    truth: Truth,
    serial: AtomicU64,
    open_connections: AtomicU64,
    accepted: AtomicU64,
    peers: Mutex<BTreeSet<IpAddr>>,
    /// How many calls came with this credential from this address.
    sources: Mutex<BTreeMap<(String, IpAddr), u64>>,
    memory: memory::Memory,
    changed: watch::Sender<u64>,
    pumps: tokio_util::task::TaskTracker,
}

impl Vendor {
    /// Starts on a free loopback port.
    pub async fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::listen(any).await.expect("a free loopback port")
    }

    /// Starts on this address.
    pub async fn listen(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new());
        let mut accept = JoinSet::new();
        accept.spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, accept })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL an account is given.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// Calls whose authorisation this does not accept get a 401, whatever else is scripted.
    pub fn guard(&self, accepts: impl Fn(&Method, &str, &HeaderMap, &[u8]) -> bool + Send + Sync + 'static) {
        *self.shared.guard.lock().expect("no holder panics") = Some(Arc::new(accepts));
    }

    /// The next call that nothing else claims gets this script; scripts are used in order.
    pub fn next(&self, script: Script) {
        self.shared.queue.lock().expect("no holder panics").push_back(script);
    }

    /// Every call of this model gets this script, unless one is queued.
    pub fn on_model(&self, model: &str, script: Script) {
        self.shared
            .by_model
            .lock()
            .expect("no holder panics")
            .insert(model.to_owned(), script);
    }

    /// What is done when nothing else is said.
    pub fn otherwise(&self, script: Script) {
        *self.shared.default.lock().expect("no holder panics") = script;
    }

    /// What the next upgrade gets.
    pub fn next_upgrade(&self, upgrade: Upgrade) {
        self.shared
            .upgrades
            .lock()
            .expect("no holder panics")
            .push_back(upgrade);
    }

    /// What every upgrade gets when none is queued.
    pub fn upgrades(&self, upgrade: Upgrade) {
        *self.shared.upgrade_default.lock().expect("no holder panics") = upgrade;
    }

    /// From now on `input` and `cached` of a turn are what its prompt comes to: what the same credential sent before is in
    /// the cache. Encrypted reasoning is accepted from the credential alone that it was given to.
    pub fn remembers(&self) {
        self.shared.memory.begin();
    }

    /// Every cache goes cold.
    pub fn cools(&self) {
        self.shared.memory.cool();
    }

    /// What `GET /v1/models` gets.
    pub fn models(&self, script: Script) {
        *self.shared.models.lock().expect("no holder panics") = script;
    }

    /// Every call but those of benchmark models, in the order they arrived.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().expect("no holder panics").clone()
    }

    /// Calls that asked a model for something: the POSTs, and the creates over WebSocket.
    pub fn posts(&self) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.socket || call.method == Method::POST)
            .collect()
    }

    pub fn sockets(&self) -> Vec<SocketLog> {
        self.shared.sockets.lock().expect("no holder panics").clone()
    }

    pub fn truth(&self) -> &Truth {
        &self.shared.truth
    }

    /// TCP connections open at this moment.
    pub fn open_connections(&self) -> u64 {
        self.shared.open_connections.load(Ordering::SeqCst)
    }

    /// The addresses from which connections came.
    pub fn peers(&self) -> BTreeSet<IpAddr> {
        self.shared.peers.lock().expect("no holder panics").clone()
    }

    /// How many calls came with each credential from each address.
    pub fn sources(&self) -> BTreeMap<(String, IpAddr), u64> {
        self.shared.sources.lock().expect("no holder panics").clone()
    }

    /// TCP connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How much happened so far: events sent, and calls that came or ended.
    pub fn happened(&self) -> u64 {
        *self.shared.changed.borrow()
    }

    /// Waits until `holds` is true of the vendor; looks again whenever something happened.
    /// Panics with `what` after `limit`.
    pub async fn until(&self, what: &str, limit: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let looking = async {
            while !holds(self) {
                // The tick is for conditions that nothing announces, such as time passed.
                let _either = tokio::time::timeout(Duration::from_millis(20), changed.changed()).await;
            }
        };
        let in_time = tokio::time::timeout(limit, looking).await.is_ok();
        assert!(
            in_time,
            "the vendor did not see within {limit:?}: {what}; truth: {:#?}",
            self.truth().entries()
        );
    }

    /// Stops listening and closes every connection.
    pub async fn stop(mut self) {
        self.accept.shutdown().await;
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            guard: Mutex::default(),
            queue: Mutex::default(),
            by_model: Mutex::default(),
            default: Mutex::new(Script::message("Hello from the scripted vendor. ")),
            upgrades: Mutex::default(),
            upgrade_default: Mutex::new(Upgrade::Accept),
            models: Mutex::new(serve::model_list()),
            calls: Mutex::default(),
            sockets: Mutex::default(),
            truth: Truth::new(),
            serial: AtomicU64::new(0),
            open_connections: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            peers: Mutex::default(),
            sources: Mutex::default(),
            memory: memory::Memory::default(),
            changed: watch::Sender::new(0),
            pumps: tokio_util::task::TaskTracker::new(),
        }
    }

    fn note_source(&self, headers: &HeaderMap, peer: IpAddr) {
        let credential = headers.get("authorization").and_then(|value| value.to_str().ok());
        let source = (credential.unwrap_or_default().to_owned(), peer);
        *self
            .sources
            .lock()
            .expect("no holder panics")
            .entry(source)
            .or_default() += 1;
    }

    fn script_for(&self, model: &str) -> Script {
        if let Some(script) = self.queue.lock().expect("no holder panics").pop_front() {
            return script;
        }
        if let Some(script) = self.by_model.lock().expect("no holder panics").get(model) {
            return script.clone();
        }
        self.default.lock().expect("no holder panics").clone()
    }

    fn upgrade(&self) -> Upgrade {
        let queued = self.upgrades.lock().expect("no holder panics").pop_front();
        queued.unwrap_or_else(|| self.upgrade_default.lock().expect("no holder panics").clone())
    }

    fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn keep(&self, call: Call) {
        self.calls.lock().expect("no holder panics").push(call);
        self.announce();
    }
}

#[cfg(test)]
mod tests;
