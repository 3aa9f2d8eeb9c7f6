//! Puts the hub together and takes it apart again. The only module that sees all others.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use relay_shared::{
    clock::{Clock as _, SystemClock},
    cores::Cores,
    tasks::Tasks,
    tls::{Clients, DeviceIdentity},
    tunnel::{
        client::Dialer,
        server::{BindError, Bound, Tunnel, TunnelConfig, TunnelLimits},
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admission::{Admission, Bounds, Defaults},
    ca::{Authority, CaError, ServerIdentity, load_quic_key},
    catalogue::Catalogue,
    config::{Config, Limits, PublicRules, on_this_machine},
    country::{Countries, CountryError},
    credit::{self, Credit},
    directory::{Directory, DirectoryHandle},
    egress::{DialNode, Egress},
    enrolment::Enrolment,
    entrance::{Figures, Public, bind, serve_metrics, serve_public, serve_tunnel},
    exchange::Exchange,
    idempotency::Idempotency,
    identity::Identity,
    ids::{DeviceId, NodeId, WayId},
    ledger::Ledger,
    metrics::{Format, Page},
    rotation::{self, RotationError},
    routing::{self, Routing},
    seal::{SealError, Sealer},
    store::{Store, StoreError, tenants, way_health},
    token::{Fetcher, Tokens},
    way::Health,
};

/// After running answers were told that the hub ends, they have this long to be settled.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How often it is looked at how ways out do, and how often it is told what connecting took.
const HEALTH_EVERY: Duration = Duration::from_millis(500);
const MEASURED_EVERY: Duration = Duration::from_secs(10);

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Rotation(#[from] RotationError),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Tunnel(#[from] BindError),
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot use {path}: {problem}")]
    File { path: PathBuf, problem: String },
    #[error(transparent)]
    Countries(#[from] CountryError),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A hub that serves.
pub struct Running {
    /// UDP and TCP.
    pub tunnel: SocketAddr,
    pub https: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
    /// Where figures are scraped.
    pub metrics: Option<SocketAddr>,
    exchange: Arc<Exchange>,
    port: Tunnel,
    cores: Cores,
    rules: Arc<PublicRules>,
    drain: CancellationToken,
    patience: Duration,
    /// Connections and calls: ended first.
    front: Tasks,
    /// The ledger and what watches the store: ended last.
    back: Tasks,
    run_json: PathBuf,
}

/// Starts a hub on what `relay-hub init` made.
///
/// # Errors
/// Whatever is missing, taken or broken, named.
pub async fn start(config: Config) -> Result<Running, StartError> {
    // Another hub of this process may have set it already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (front, back) = (Tasks::new(), Tasks::new());
    let store = Store::open(&config.data).await?;
    let ledger = Ledger::start(&store, &back).await?;
    let sealer = Arc::new(Sealer::open(&config.data)?);
    rotation::bind(&store, &sealer).await?;
    let directory = Directory::watch(&store, sealer.clone(), &back).await?;
    let admission = Admission::start(ledger.clone(), directory.clone(), &store, defaults(&config.limits)).await?;
    let admission = admission.knowing(countries(&config, &back).await?);
    let idempotency = Idempotency::start(store.clone(), &ledger, &back);
    credit::follow(store.clone(), ledger.clone(), &back).await;
    let money = (ledger, idempotency, Credit::new(store.clone()));
    let routing = Routing::start(
        directory.clone(),
        &store,
        settings(&config.limits),
        Arc::new(SystemClock),
        &back,
    )
    .await?;
    let fetcher = Fetcher {
        egress: Arc::new(egress(&config, &front)?),
        store: store.clone(),
        sealer,
    };
    let exchange = exchange(&config, &directory, (admission, routing), fetcher, money, &front);
    let exchange = Arc::new(exchange);

    let bound = Bound::open(tunnel_config(&config)?)?;
    let tunnel = bound.local_addr();
    let authority = Authority::open(&config.data)?;
    let hub = reachable(&config, tunnel);
    let enrolment = Arc::new(Enrolment::new(store.clone(), authority, hub, Arc::new(SystemClock)));
    let port = serve_tunnel(bound, exchange.clone(), enrolment, &front);
    let drain = CancellationToken::new();
    let mut running = Running {
        tunnel,
        https: None,
        http: None,
        metrics: None,
        exchange,
        port,
        cores: Cores::start().map_err(StoreError::Thread)?,
        rules: Arc::new(config.public.clone()),
        drain,
        patience: config.limits.drain_timeout,
        front,
        back,
        run_json: config.data.run_json(),
    };
    running.open_public(&config)?;
    running.open_metrics(&config, &store)?;
    running.follow(directory);
    running.tell_health(store);
    running.announce()?;
    Ok(running)
}

fn exchange(
    config: &Config,
    directory: &DirectoryHandle,
    (admission, routing): (Admission, Routing),
    fetcher: Fetcher,
    (ledger, idempotency, credit): (Ledger, Idempotency, Credit),
    tasks: &Tasks,
) -> Exchange {
    let limits = &config.limits;
    let egress = fetcher.egress.clone();
    let tokens = Tokens::new(directory.clone(), fetcher, tasks.clone());
    tokens.follow();
    Exchange::new(
        Identity::new(directory.clone()),
        admission,
        Catalogue::new(directory.clone(), config.aliases.clone()),
        routing,
        egress,
        tokens,
        ledger,
        idempotency,
        credit,
        limits.clone(),
        tasks.clone(),
        directory.stop().clone(),
    )
}

/// The ways out, as the settings have them.
pub(crate) fn egress(config: &Config, tasks: &Tasks) -> Result<Egress, StartError> {
    let roots = match &config.egress.extra_ca {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let timeout = config.limits.vendor_connect_timeout;
    Ok(Egress::new(&roots, timeout, dial_nodes(config, tasks)?, tasks.clone())?)
}

/// Egress nodes are dialled as their hub, which the hub's own authority says.
fn dial_nodes(config: &Config, tasks: &Tasks) -> Result<DialNode, StartError> {
    let (authority, tasks) = (Authority::open(&config.data)?, tasks.clone());
    Ok(Arc::new(move |node: &NodeId| {
        let hub = authority.hub_client(SystemClock.wall())?;
        Ok(Dialer::to_node(
            &node.server_name(),
            authority.certificate(),
            &hub,
            &tasks,
        )?)
    }))
}

async fn countries(config: &Config, tasks: &Tasks) -> Result<Countries, StartError> {
    match &config.countries {
        Some(file) => Ok(Countries::open(file, tasks).await?),
        None => Ok(Countries::default()),
    }
}

fn settings(limits: &Limits) -> routing::Settings {
    routing::Settings {
        pin_lifetime: limits.pin_lifetime,
        pins: limits.pins,
        line: line(limits),
    }
}

fn line(limits: &Limits) -> Bounds {
    Bounds {
        calls: limits.queue_calls,
        calls_per_tenant: limits.queue_calls_per_tenant,
        wait: limits.queue_wait,
    }
}

fn defaults(limits: &Limits) -> Defaults {
    Defaults {
        calls_per_tenant: limits.calls_per_tenant,
        body_bytes: limits.body_bytes,
        output: limits.default_hold_output,
        line: line(limits),
    }
}

fn tunnel_config(config: &Config) -> Result<TunnelConfig, StartError> {
    let ServerIdentity { ca, chain, key } = ServerIdentity::load(&config.data, config.tunnel.advertise.as_deref())?;
    Ok(TunnelConfig {
        listen: config.tunnel.listen,
        ca,
        clients: Clients::Devices,
        chain,
        key,
        quic_key: load_quic_key(&config.data)?,
        limits: TunnelLimits {
            head_bytes: u32::try_from(config.limits.head_bytes).unwrap_or(u32::MAX),
            calls_per_connection: config.limits.calls_per_connection,
            ..TunnelLimits::default()
        },
    })
}

/// Where devices reach this hub.
fn reachable(config: &Config, bound: SocketAddr) -> String {
    let advertised = config.tunnel.advertise.clone();
    advertised.unwrap_or_else(|| on_this_machine(bound).to_string())
}

impl Running {
    fn open_public(&mut self, config: &Config) -> Result<(), StartError> {
        if let Some(https) = &config.https {
            let tls = server_tls(&https.certificate, &https.key)?;
            self.https = Some(self.open(https.listen, Some(Arc::new(tls)))?);
        }
        if let Some(address) = config.http {
            self.http = Some(self.open(address, None)?);
        }
        Ok(())
    }

    /// Where figures are scraped: a listener of its own, never the public one.
    fn open_metrics(&mut self, config: &Config, store: &Store) -> Result<(), StartError> {
        let Some(address) = config.metrics else { return Ok(()) };
        let failed = |source| StartError::Bind { address, source };
        let listener = bind(address).map_err(failed)?;
        self.metrics = Some(listener.local_addr().map_err(failed)?);
        let scrape = Arc::new(Scrape {
            ledger: self.exchange.ledger.clone(),
            routing: self.exchange.routing.clone(),
            port: self.port.clone(),
            store: store.clone(),
        });
        let serving = serve_metrics(listener, scrape, self.drain.clone(), self.front.clone());
        self.front.spawn("metrics-listener", serving);
        Ok(())
    }

    fn open(&self, address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Result<SocketAddr, StartError> {
        let failed = |source| StartError::Bind { address, source };
        let listener = bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let public = Public {
            listener,
            tls,
            rules: self.rules.clone(),
            drain: self.drain.clone(),
            cores: self.cores.clone(),
            tasks: self.front.clone(),
        };
        self.front
            .spawn("public-listener", serve_public(public, self.exchange.clone()));
        Ok(bound)
    }

    /// Acts on what the operator changes while the hub runs: a revoked device loses its connections.
    fn follow(&self, directory: DirectoryHandle) {
        let (port, exchange, done) = (self.port.clone(), self.exchange.clone(), self.back.token());
        let mut changes = directory.subscribe();
        self.back.spawn("follow-directory", async move {
            while let Some(Ok(())) = done.run_until_cancelled(changes.changed()).await {
                let now = directory.load();
                for device in port.devices() {
                    if !is_admitted(&now, &device) {
                        let closed = port.close_device(&device.device);
                        info!(device = %device.device, closed, "a revoked device's connections were closed");
                    }
                }
                exchange.tokens.follow();
                let known: HashSet<_> = now.accounts.iter().map(|known| known.id.as_str()).collect();
                exchange.egress.retain(|account| known.contains(account));
                exchange.egress.revoke(&revoked_ways(&now));
            }
        });
    }

    /// Tells the commands beside this hub how its ways out do: at once where one fails or works again, else now and then.
    fn tell_health(&self, store: Store) {
        let (exchange, done) = (self.exchange.clone(), self.back.token());
        self.back.spawn("way-health", async move {
            let mut told = HashMap::<WayId, (Health, Instant)>::new();
            while done
                .run_until_cancelled(tokio::time::sleep(HEALTH_EVERY))
                .await
                .is_some()
            {
                let mut news = exchange.egress.health();
                news.retain(|(way, health)| told.get(way).is_none_or(|told| is_news(health, told)));
                if news.is_empty() {
                    continue;
                }
                match way_health::note(&store, &news).await {
                    Ok(()) => told.extend(news.into_iter().map(|(way, health)| (way, (health, Instant::now())))),
                    Err(error) => warn!(error = &error as &dyn std::error::Error, "cannot note how ways out do"),
                }
            }
        });
    }

    /// Writes where this hub listens, for the commands beside it.
    fn announce(&self) -> Result<(), StartError> {
        let text = serde_json::json!({
            "pid": std::process::id(), "tunnel": self.tunnel, "https": self.https, "http": self.http,
            "metrics": self.metrics,
        });
        std::fs::write(&self.run_json, text.to_string()).map_err(|error| StartError::File {
            path: self.run_json.clone(),
            problem: error.to_string(),
        })
    }

    /// What a script waits for: one JSON object.
    pub fn ready_line(&self) -> String {
        serde_json::json!({
            "ready": true, "tunnel": self.tunnel, "https": self.https, "http": self.http, "metrics": self.metrics,
        })
        .to_string()
    }

    /// Takes no new call, lets the running ones finish within the drain timeout, settles what is left, and ends.
    pub async fn shutdown(self) {
        self.exchange.admission.drain();
        self.exchange.routing.drain();
        self.drain.cancel();
        let cut = self.port.drain(self.patience);
        let (stop, patience) = (self.exchange.stop.clone(), self.patience);
        let deadline = async move {
            tokio::time::sleep(patience).await;
            stop.cancel();
            std::future::pending::<()>().await;
        };
        let finished = async {
            cut.await;
            self.front.shutdown(patience.saturating_add(LAST_WORDS)).await
        };
        tokio::select! {
            _ = finished => {}
            () = deadline => {}
        }
        self.back.shutdown(LAST_WORDS).await;
        // The file says that a hub runs; a later start writes it anew.
        drop(std::fs::remove_file(&self.run_json));
    }
}

/// What a scrape reads.
struct Scrape {
    ledger: Ledger,
    routing: Routing,
    port: Tunnel,
    store: Store,
}

impl Figures for Scrape {
    async fn read(&self, accept: &str) -> (&'static str, String) {
        let format = Format::accepted(accept);
        let mut page = Page::new(format);
        self.ledger.tell(&mut page);
        self.routing.tell(&mut page);
        page.gauge(
            "relay_tunnel_connections",
            "Devices that are connected.",
            self.port.devices().len(),
        );
        // A database that cannot be read now is told by the ledger's failures.
        if let Ok(held) = tenants::held(&self.store).await {
            page.gauge(
                "relay_held_nanos",
                "Held for running calls by the tables, in billionths.",
                held.get(),
            );
        }
        (format.media_type(), page.end())
    }
}

/// Whether anybody wants to know: what a connection took may wait.
fn is_news(now: &Health, (told, at): &(Health, Instant)) -> bool {
    (now.is_down, &now.failed) != (told.is_down, &told.failed)
        || now.connected != told.connected && (told.connected.is_none() || at.elapsed() >= MEASURED_EVERY)
}

/// The ways out whose egress nodes were revoked.
fn revoked_ways(directory: &Directory) -> Vec<WayId> {
    let ways = directory.accounts.iter().flat_map(|account| &account.ways);
    let revoked = ways.filter(|way| way.node.as_ref().is_some_and(|node| node.is_revoked));
    revoked.map(|way| way.id.clone()).collect()
}

fn is_admitted(directory: &Directory, device: &DeviceIdentity) -> bool {
    let known = DeviceId::parse(&device.device)
        .ok()
        .and_then(|id| directory.devices.get(&id).cloned());
    known.is_some_and(|known| !known.is_revoked && directory.tenants.contains_key(&known.tenant))
}

fn server_tls(chain: &Path, key: &Path) -> Result<rustls::ServerConfig, StartError> {
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates(chain)?, private_key(key)?)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn file_error(path: &Path, problem: impl ToString) -> StartError {
    StartError::File {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file_error(path, error))?;
    if found.is_empty() {
        Err(file_error(path, "no certificate in it"))
    } else {
        Ok(found)
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, StartError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file_error(path, error))
}
