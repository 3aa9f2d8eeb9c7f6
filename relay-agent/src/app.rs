//! Puts the parts together and runs them until told to stop. The one place that knows all of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relay_shared::clock::{Clock, SystemClock};
use relay_shared::secret::Secret;
use relay_shared::tasks::Tasks;
use relay_shared::waits::Waits;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::config::dir::DataDir;
use crate::control::{Itself, RunFile};
use crate::enroll::{self, Device, DeviceError, Renewals};
use crate::failure::Failure;
use crate::forward::{Forward, Patience};
use crate::keystore;
use crate::listener::{self, ExpectedKey, OwnNames, Router};
use crate::tunnel::{Link, LinkConfig};

/// A running agent. Dropping it leaves its tasks running; [`Running::shutdown`] ends them.
pub struct Running {
    /// What a client's base URL is, for example `http://127.0.0.1:8787/v1`.
    pub base_url: String,
    /// The addresses listened on.
    pub addrs: Vec<SocketAddr>,
    local_key: Secret<String>,
    link: Link,
    local_tasks: Tasks,
    link_tasks: Tasks,
    drain: Duration,
    dir: DataDir,
    run_file: RunFile,
}

impl Running {
    /// The key local calls must carry (`Authorization: Bearer`).
    #[must_use]
    pub fn local_key(&self) -> &str {
        self.local_key.expose()
    }

    /// The link to the hub.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// How many of the agent's tasks panicked: zero, or there is a bug.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.local_tasks.panics() + self.link_tasks.panics()
    }

    /// Stops listening, lets running calls end within the drain time, closes the tunnel.
    pub async fn shutdown(self) {
        // Running calls need the link, so it goes last.
        let cut = self.local_tasks.shutdown(self.drain).await + self.link_tasks.shutdown(LINK_GOODBYE).await;
        if cut > 0 {
            tracing::info!(cut, "stopped before everything had ended");
        }
        if let Err(error) = self.run_file.remove(&self.dir) {
            tracing::warn!(%error, "cannot remove the run file");
        }
    }
}

/// Starts an agent; returns when it listens, whether or not the tunnel is up yet.
///
/// # Errors
/// When the data directory, the enrolment or the address cannot be used; the text says what helps.
pub async fn start(config: Config) -> Result<Running, Failure> {
    let dir = DataDir::open(&config.data)?;
    let enrolled = Enrolled::load(dir.clone()).await?;
    // The port comes before the tunnel: an agent that cannot listen must not take the place of one that can.
    let listeners = listener::bind(config.listen).await?;
    let addrs = addrs_of(&listeners)?;
    let (tasks, link_tasks) = (Tasks::new(), Tasks::new());
    let link = Link::start(enrolled.link_config(&config)?, &link_tasks)
        .map_err(|error| Failure::from(DeviceError::Damaged(error.to_string())))?;
    let base_url = format!("http://{}/v1", addrs[0]);
    let run_file = RunFile {
        pid: std::process::id(),
        base_url: base_url.clone(),
    };
    run_file.write(&dir)?;

    let renewals = Renewals::new(enrolled.life);
    let forward = Forward::new(link.clone(), patience(&config), tasks.clone());
    let control = Itself {
        base_url: base_url.clone(),
        since: SystemClock.now(),
        link: link.clone(),
        device: enrolled.device.clone(),
        renewals: renewals.clone(),
        calls: forward.calls().clone(),
    };
    let router = Router {
        names: OwnNames::new(&addrs),
        key: ExpectedKey::new(enrolled.local_key.expose()),
        key_rule: config.local_key,
        forward,
        control,
    };
    let local_key = enrolled.local_key.duplicate();
    renew(enrolled, renewals, &link, &tasks);
    let waits = Waits {
        head: config.head_timeout,
        idle: config.idle_timeout,
    };
    listener::serve(listeners, &Arc::new(router), waits, &tasks);
    Ok(Running {
        base_url,
        addrs,
        local_key,
        link,
        local_tasks: tasks,
        link_tasks,
        drain: config.drain,
        dir,
        run_file,
    })
}

/// What `enroll` left in the data directory.
struct Enrolled {
    dir: DataDir,
    device: Device,
    device_key: Secret<String>,
    local_key: Secret<String>,
    life: enroll::Life,
}

impl Enrolled {
    /// Reads it on a thread of its own: a keyring may take seconds.
    async fn load(dir: DataDir) -> Result<Self, Failure> {
        let loading = tokio::task::spawn_blocking(move || {
            let device = Device::load(&dir)?;
            let device_key = device.key(&dir)?;
            let local_key = keystore::local_key(&dir)?;
            let life = enroll::life(&dir)?;
            Ok(Self {
                dir,
                device,
                device_key,
                local_key,
                life,
            })
        });
        loading.await.map_err(|error| Failure::program(error.to_string()))?
    }

    fn link_config(&self, config: &Config) -> Result<LinkConfig, Failure> {
        Ok(LinkConfig {
            hub: self.device.hub.clone(),
            mode: config.link,
            ca: enroll::ca(&self.dir)?,
            identity: enroll::identity(&self.dir, &self.device_key)?,
            wait: config.wait_for_link,
        })
    }
}

fn renew(enrolled: Enrolled, renewals: Renewals, link: &Link, tasks: &Tasks) {
    let (link, stop) = (link.clone(), tasks.token());
    let renewed = move |identity| {
        if let Err(error) = link.replace_identity(identity) {
            tracing::warn!(%error, "the new certificate cannot be used");
        }
    };
    let Enrolled {
        dir,
        device,
        device_key,
        ..
    } = enrolled;
    tasks.spawn(
        "renewal",
        enroll::keep_fresh(dir, device, device_key, renewals, renewed, stop),
    );
}

fn addrs_of(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, Failure> {
    let addrs: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    addrs.map_err(|error| Failure::program(format!("the listener has no address: {error}")))
}

fn patience(config: &Config) -> Patience {
    Patience {
        socket_link: config.socket_wait_for_link,
        socket_answer: config.socket_answer,
        keepalive: config.keepalive,
    }
}

const LINK_GOODBYE: Duration = Duration::from_secs(1);
