//! A whole relay on loopback: scripted vendor, real hub, real agent (each a process of its own, so that it can be
//! killed), and a network between agent and hub that fails on command.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::books::Books;
use crate::chaos::Chaos;
use crate::client::Client;
use crate::codex::scratch_dir;
use crate::program::{self, Ended, Program};
use crate::vendor::{Entry, Vendor};

/// Where the programs under test are.
#[derive(Clone, Copy)]
pub struct Programs {
    pub hub: &'static str,
    pub agent: &'static str,
}

/// How a world is made.
pub struct Setup {
    pub programs: Programs,
    /// Where the hub's data directory is made, if not beside everything else.
    pub hub_in: Option<PathBuf>,
    /// Lines added to `hub.toml`.
    pub hub_toml: String,
    /// What the tenant is given, whole units.
    pub credit: u32,
    pub websocket: bool,
    /// Lose every UDP packet from the start.
    pub drop_udp: bool,
    /// `auto`, `quic` or `h2`.
    pub link: &'static str,
    /// The log filter of hub and agent.
    pub log: &'static str,
    /// Models with a price besides the shipped ones; each costs 1 per million tokens in, 0.1 cached, 10 out.
    pub models: Vec<String>,
}

/// The parts, running.
pub struct World {
    pub vendor: Vendor,
    pub chaos: Chaos,
    pub hub: Hub,
    pub agent: Agent,
    /// The tenant's id.
    pub tenant: String,
    /// An API key of the tenant.
    pub key: String,
    /// What the tenant was given, billionths.
    credit: i64,
    scratch: TempDir,
}

/// A hub and its data directory.
pub struct Hub {
    programs: Programs,
    pub home: PathBuf,
    program: Option<Program>,
    log: &'static str,
}

/// An agent and its data directory.
pub struct Agent {
    programs: Programs,
    pub home: PathBuf,
    program: Option<Program>,
    log: &'static str,
    link: &'static str,
    pub key: String,
}

impl Setup {
    pub fn new(programs: Programs) -> Self {
        Self {
            programs,
            hub_in: None,
            hub_toml: String::new(),
            credit: 1000,
            websocket: true,
            drop_udp: false,
            link: "auto",
            log: "info",
            models: Vec::new(),
        }
    }

    /// Starts everything; the agent is enrolled and listens, its link may not be up yet.
    pub async fn start(self) -> World {
        let scratch = scratch_dir("world");
        let vendor = Vendor::start().await;
        let chaos = Chaos::start().await;
        chaos.drop_udp(self.drop_udp);
        let place = self.hub_in.as_deref().unwrap_or(scratch.path());
        let mut hub = Hub::init(self.programs, place, self.log).await;
        hub.configure(chaos.addr(), &self.hub_toml);
        hub.add_account(&vendor, self.websocket).await;
        hub.price(&self.models).await;
        let tenant = hub.add_tenant("acme", &self.credit.to_string()).await;
        let key = hub.add_key(&tenant).await;
        hub.serve().await;
        chaos.towards(hub.tunnel());
        let token = hub.device_token(&tenant).await;
        let mut agent = Agent::new(self.programs, scratch.path(), self.log, self.link);
        agent.enroll(&token).await.succeeded();
        agent.run().await;
        let credit = i64::from(self.credit) * 1_000_000_000;
        World {
            credit,
            vendor,
            chaos,
            hub,
            agent,
            tenant,
            key,
            scratch,
        }
    }
}

impl World {
    /// Connects the vendor once more, as one of another kind: `anthropic` or `gemini`.
    pub async fn connect(&self, kind: &str) {
        let base_url = format!("http://{}", self.vendor.addr());
        let secret = self.hub.home.join("../vendor-secret").display().to_string();
        let arguments = [
            "account",
            "add",
            kind,
            "--vendor",
            kind,
            "--base-url",
            &base_url,
            "--secret-file",
            &secret,
        ];
        self.hub.command(&arguments).await.succeeded();
        self.look().await;
    }

    /// A key that nobody has makes the hub look into its store: what a command changed is known from then on.
    pub async fn look(&self) {
        let nobody = format!("rk_0000000000000000_{}", "A".repeat(43));
        let stranger = Client::new(&format!("http://{}/v1", self.hub.http()), &nobody);
        let told = stranger.get("/models").await.expect("the hub serves");
        assert_eq!(told.status, 401);
    }

    /// A client of the agent, with the local key.
    pub fn through_agent(&self) -> Client {
        Client::new(&self.agent.base_url(), &self.agent.key)
    }

    /// A client of the hub's plain public entrance, with the tenant's API key.
    pub fn through_hub(&self) -> Client {
        Client::new(&format!("http://{}/v1", self.hub.http()), &self.key)
    }

    /// A client of the vendor itself.
    pub fn directly(&self) -> Client {
        Client::new(&self.vendor.base_url(), "key-of-nobody")
    }

    pub fn books(&self) -> Books {
        Books::open(&self.hub.home)
    }

    /// The books say what the vendor's truth log says, to the unit.
    pub async fn assert_billed_truly(&self) {
        let truth = self.vendor.truth().entries();
        self.books().assert_true(&truth, &self.tenant, self.credit).await;
    }

    /// The same where the hub could not hold some calls durably: a vendor that was quick had answered them in full by then.
    /// Their clients saw nothing of it, and they cost nothing.
    pub async fn assert_billed_truly_but_for_faults(&self) {
        let (books, truth) = (self.books(), self.vendor.truth().entries());
        let rows = books.settled(truth.len()).await;
        let has_row = |entry: &Entry| {
            let id = Some(entry.response_id.as_str());
            rows.iter().any(|row| row.response_id.as_deref() == id)
        };
        let (told, lost): (Vec<_>, Vec<_>) = truth
            .into_iter()
            .filter(|entry| entry.billed().is_some())
            .partition(has_row);
        let faults = rows.iter().filter(|row| row.ending == "hub_fault").count();
        assert!(lost.len() <= faults, "{faults} faults, but: {lost:#?}");
        books.assert_true(&told, &self.tenant, self.credit).await;
    }

    /// What the tenant was given, billionths.
    pub fn credit(&self) -> i64 {
        self.credit
    }

    /// Where all files of this world are.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Nothing panicked, and the ledger adds up.
    pub async fn assert_sound(&self) {
        self.hub.assert_calm();
        self.agent.assert_calm();
        self.hub.command(&["ledger", "verify"]).await.succeeded();
    }
}

impl Hub {
    /// Makes a data directory.
    pub async fn init(programs: Programs, parent: &Path, log: &'static str) -> Self {
        let hub = Self {
            programs,
            home: parent.join("hub"),
            program: None,
            log,
        };
        hub.command(&["init"]).await.succeeded();
        hub
    }

    /// Replaces the settings: free ports, devices come through `advertised`.
    pub fn configure(&self, advertised: SocketAddr, more: &str) {
        let text = format!("[tunnel]\nlisten = \"127.0.0.1:0\"\nadvertise = \"{advertised}\"\n\n{more}\n");
        fs::write(self.home.join("hub.toml"), text).expect("the data directory is writable");
    }

    pub async fn add_account(&self, vendor: &Vendor, websocket: bool) {
        let secret = self.home.join("../vendor-secret");
        fs::write(&secret, VENDOR_SECRET).expect("the scratch directory is writable");
        let (base_url, secret) = (vendor.base_url(), secret.display().to_string());
        let mut arguments = vec!["account", "add", "main", "--vendor", "openai", "--base-url", &base_url];
        arguments.extend(["--secret-file", &secret]);
        if !websocket {
            arguments.push("--no-websocket");
        }
        self.command(&arguments).await.succeeded();
    }

    /// Adds models to the price list.
    async fn price(&self, models: &[String]) {
        let row = |model: &String| {
            format!(
                "[[model]]\nname = \"{model}\"\ninput = \"1\"\ncached = \"0.1\"\noutput = \"10\"\n\
                 context = 4000000\nmax_output = 1280000\n\n"
            )
        };
        let file = self.home.join("../prices.toml");
        let list: String = models.iter().map(row).collect();
        fs::write(&file, format!("version = \"tests\"\nsource = \"the tests\"\n\n{list}"))
            .expect("the scratch directory is writable");
        self.command(&["price", "import", "--yes", &file.display().to_string()])
            .await
            .succeeded();
    }

    /// A tenant with credit; its id.
    pub async fn add_tenant(&self, name: &str, credit: &str) -> String {
        let id = text(&self.json(&["tenant", "add", name]).await, &["tenant", "id"]);
        self.command(&["tenant", "credit", &id, credit]).await.succeeded();
        id
    }

    pub async fn add_key(&self, tenant: &str) -> String {
        text(&self.json(&["key", "add", "--tenant", tenant]).await, &["key"])
    }

    pub async fn device_token(&self, tenant: &str) -> String {
        text(&self.json(&["device", "token", "--tenant", tenant]).await, &["token"])
    }

    /// A command with `--json`.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.command(&arguments).await.json()
    }

    /// Any command on this data directory.
    pub async fn command(&self, arguments: &[&str]) -> Ended {
        let data = self.home.display().to_string();
        let mut command = program::command(Path::new(self.programs.hub), &self.home);
        program::run(command.args(arguments).args(["--data", &data])).await
    }

    /// Starts serving.
    pub async fn serve(&mut self) {
        self.try_serve().await.expect("the hub serves");
    }

    /// Starts serving, or says why not.
    ///
    /// # Errors
    /// When there is no ready line.
    pub async fn try_serve(&mut self) -> anyhow::Result<()> {
        self.serve_with(&[]).await
    }

    /// Starts serving with these variables.
    ///
    /// # Errors
    /// When there is no ready line.
    pub async fn serve_with(&mut self, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut command = program::command(Path::new(self.programs.hub), &self.home);
        command
            .args(["serve", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
            .arg(&self.home);
        command.env("RELAY_LOG", self.log).envs(variables.iter().copied());
        self.program = Some(Program::start(&mut command, &self.log_file()).await?);
        Ok(())
    }

    /// Where relay-hub is.
    pub fn program_path(&self) -> PathBuf {
        self.programs.hub.into()
    }

    pub fn log_file(&self) -> PathBuf {
        self.home.join("../hub.log")
    }

    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the hub was started")
    }

    fn address(&self, which: &str) -> SocketAddr {
        let ready = &self.program.as_ref().expect("the hub was started").ready;
        ready[which]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("the ready line names its addresses")
    }

    pub fn tunnel(&self) -> SocketAddr {
        self.address("tunnel")
    }

    pub fn https(&self) -> SocketAddr {
        self.address("https")
    }

    pub fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// Where figures are scraped, if they are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        let ready = &self.program.as_ref().expect("the hub was started").ready;
        ready["metrics"].as_str().and_then(|text| text.parse().ok())
    }

    /// PEM of what a client of the public entrance must trust.
    pub fn certificate_authority(&self) -> String {
        fs::read_to_string(self.home.join("tls/ca.crt")).expect("init made a CA")
    }

    pub fn assert_calm(&self) {
        self.program.iter().for_each(Program::assert_calm);
    }
}

impl Agent {
    pub fn new(programs: Programs, parent: &Path, log: &'static str, link: &'static str) -> Self {
        Self {
            programs,
            home: parent.join("agent"),
            program: None,
            log,
            link,
            key: String::new(),
        }
    }

    pub async fn enroll(&self, token: &str) -> Ended {
        self.command(&["enroll", token]).await
    }

    /// Any command on this data directory.
    pub async fn command(&self, arguments: &[&str]) -> Ended {
        program::run(self.prepare().args(arguments).arg("--data").arg(&self.home)).await
    }

    fn prepare(&self) -> tokio::process::Command {
        let home = self.home.parent().expect("the scratch directory");
        program::command(Path::new(self.programs.agent), home)
    }

    /// Starts listening on a free port.
    pub async fn run(&mut self) {
        let mut command = self.prepare();
        command
            .args([
                "run",
                "--listen",
                "127.0.0.1:0",
                "--link",
                self.link,
                "--log",
                self.log,
                "--data",
            ])
            .arg(&self.home);
        let log = self.home.with_file_name("agent.log");
        self.program = Some(Program::start(&mut command, &log).await.expect("the agent listens"));
        self.key = self.command(&["token"]).await.succeeded().stdout.trim().to_owned();
    }

    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the agent was started")
    }

    pub fn base_url(&self) -> String {
        let ready = &self.program.as_ref().expect("the agent was started").ready;
        text(ready, &["base_url"])
    }

    pub fn addr(&self) -> SocketAddr {
        let base = self.base_url();
        let authority = base.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        authority
            .and_then(|text| text.parse().ok())
            .expect("the base URL names an address")
    }

    pub async fn status(&self) -> Value {
        self.command(&["status", "--json"]).await.json()
    }

    pub fn assert_calm(&self) {
        self.program.iter().for_each(Program::assert_calm);
    }
}

/// The first of these fields that is text.
fn text(value: &Value, fields: &[&str]) -> String {
    let found = fields
        .iter()
        .find_map(|field| value[field].as_str().or_else(|| value[field]["id"].as_str()));
    assert!(found.is_some(), "no {fields:?} in {value}");
    found.unwrap_or_default().to_owned()
}

/// What the hub sends to the vendor as its own key.
pub const VENDOR_SECRET: &str = "sk-vendor-secret-0123456789";
