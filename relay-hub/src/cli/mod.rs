//! The command line: reads words, calls the library, prints. Decides nothing that the library should.

mod accounts;
mod books;
mod check;
mod codes;
mod devices;
mod egress;
mod failure;
mod init;
mod keys;
mod limits;
mod nodes;
mod plans;
mod prices;
mod print;
mod reconcile;
mod seal;
mod secret;
mod serve;
mod sharing;
mod sheet;
mod tenant;
mod terms;
mod tokens;
mod ways;

use std::{
    collections::HashMap,
    ffi::OsString,
    io::Write,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Parser, Subcommand};

use crate::{
    config::DataDir,
    ids::TenantId,
    ledger,
    store::{
        Store, StoreError,
        tenants::{self, TenantError, TenantRow},
    },
};
use failure::Failure;
use print::Print;

/// The provider's side of codex-relay: tenants, money, vendor accounts and the way out to vendors.
#[derive(Parser)]
#[command(
    name = "relay-hub",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = false
)]
struct Args {
    /// The hub's data directory. Without it, the user's own data directory for relay-hub.
    #[arg(long, global = true, env = "RELAY_HUB_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The file of the master keys that seal vendors' secrets, where it is not the data directory's seal.key.
    #[arg(long, global = true, env = "RELAY_HUB_SEAL_KEY", value_name = "FILE")]
    seal_key: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a hub: settings, database, certificates, keys. Never overwrites.
    Init,
    /// Serve until SIGTERM. Prints one line of JSON when ready.
    Serve(serve::Serve),
    /// Serve as an egress node of a hub until SIGTERM. Prints one line of JSON when ready.
    Egress(egress::Egress),
    /// Tell every problem of hub.toml.
    CheckConfig,
    /// Who pays.
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Codes that tenants redeem for credit.
    #[command(subcommand)]
    Code(codes::Code),
    /// What tenants are given each month and day.
    #[command(subcommand)]
    Plan(plans::PlanCommand),
    /// API keys of the public entrance.
    #[command(subcommand)]
    Key(keys::Key),
    /// App tokens: short-lived, signed, accepted wherever an API key is.
    #[command(subcommand)]
    Token(tokens::Token),
    /// Devices that come through the tunnel.
    #[command(subcommand)]
    Device(devices::Device),
    /// The operator's accounts at vendors.
    #[command(subcommand)]
    Account(accounts::Account),
    /// By which addresses, proxies and egress nodes accounts leave.
    #[command(subcommand)]
    Way(ways::WayCommand),
    /// The master key that seals vendors' secrets.
    #[command(subcommand)]
    Seal(seal::Seal),
    /// Egress nodes: small proxies of your own in other regions.
    #[command(subcommand)]
    Node(nodes::Node),
    /// What callers may use: rates, calls at once, spending, models, addresses, sizes.
    #[command(subcommand)]
    Limit(limits::LimitCommand),
    /// What models cost.
    #[command(subcommand)]
    Price(prices::PriceCommand),
    /// What was used: call by call, or in sums by tenant, key, device, model, account, day.
    Usage(books::Usage),
    /// Compare a vendor's usage export with the books.
    Reconcile(reconcile::Reconcile),
    /// The books.
    Ledger(books::Ledger),
}

/// What every command works with.
struct Desk<'a> {
    data: DataDir,
    print: Print<'a>,
}

impl Desk<'_> {
    async fn store(&self) -> Result<Store, StoreError> {
        Store::open(&self.data).await
    }

    /// The store, with all in its tables that is durable.
    async fn books(&self) -> Result<Store, StoreError> {
        let store = self.store().await?;
        ledger::post(&store).await?;
        Ok(store)
    }

    async fn tenant(&self, store: &Store, name_or_id: &str) -> Result<TenantRow, Failure> {
        let error = match tenants::find(store, name_or_id).await {
            Ok(found) => return Ok(found),
            Err(error @ TenantError::Unknown(_)) => error,
            Err(error) => return Err(error.into()),
        };
        let known = tenants::list(store).await?;
        let names: Vec<_> = known.iter().map(|tenant| tenant.name.as_str()).collect();
        Err(Failure::fixable(error.to_string()).hint(there_are(&names, "relay-hub tenant add NAME")))
    }

    /// The id of the tenant that was named, if one was.
    async fn tenant_id(&self, store: &Store, name_or_id: Option<&str>) -> Result<Option<TenantId>, Failure> {
        match name_or_id {
            Some(tenant) => Ok(Some(self.tenant(store, tenant).await?.id)),
            None => Ok(None),
        }
    }

    /// Every tenant's name, for tables that would otherwise show ids alone.
    async fn tenant_names(&self, store: &Store) -> Result<HashMap<TenantId, String>, Failure> {
        let known = tenants::list(store).await?;
        Ok(known.into_iter().map(|tenant| (tenant.id, tenant.name)).collect())
    }
}

/// Runs one command. The result is the process's exit code: 0 done, 1 you can fix it, 2 wrong usage, 3 we failed.
pub async fn run(words: impl IntoIterator<Item = OsString>, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let words: Vec<OsString> = words.into_iter().collect();
    let wants_json = words.iter().any(|word| word == "--json");
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => return usage(&error, wants_json, stdout, stderr),
    };
    let done = match data_dir(args.data) {
        Ok(data) => {
            let seal_key = args.seal_key.map(|path| std::path::absolute(&path).unwrap_or(path));
            let data = data.with_seal_key(seal_key);
            let print = Print::new(args.json, stdout, stderr);
            perform(args.command, &mut Desk { data, print }).await
        }
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => 0,
        Err(failure) => failure.tell(wants_json, stderr),
    }
}

async fn perform(command: Command, desk: &mut Desk<'_>) -> Result<(), Failure> {
    match command {
        Command::Init => init::run(desk).await,
        Command::Serve(serve) => Box::pin(serve::run(desk, serve)).await,
        Command::Egress(words) => Box::pin(egress::run(desk, words)).await,
        Command::CheckConfig => check::run(desk),
        Command::Tenant(tenant) => tenant::run(desk, tenant).await,
        Command::Code(code) => codes::run(desk, code).await,
        Command::Plan(plan) => plans::run(desk, plan).await,
        Command::Key(key) => keys::run(desk, key).await,
        Command::Token(token) => tokens::run(desk, token).await,
        Command::Device(device) => devices::run(desk, device).await,
        Command::Account(account) => accounts::run(desk, account).await,
        Command::Way(way) => ways::run(desk, way).await,
        Command::Seal(seal) => seal::run(desk, &seal).await,
        Command::Node(node) => nodes::run(desk, node).await,
        Command::Limit(limit) => limits::run(desk, limit).await,
        Command::Price(price) => prices::run(desk, price).await,
        Command::Usage(usage) => books::usage(desk, usage).await,
        Command::Reconcile(words) => reconcile::run(desk, &words).await,
        Command::Ledger(ledger) => books::ledger(desk, ledger).await,
    }
}

/// Help and version go to stdout and are no error.
fn usage(error: &clap::Error, json: bool, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let text = error.render().to_string();
    // Where nobody reads any more there is nobody to tell.
    if !error.use_stderr() {
        write!(stdout, "{text}").ok();
        return 0;
    }
    if json {
        let message = text.trim_start_matches("error: ").trim_end();
        let error = serde_json::json!({"message": message, "hint": null, "exit_code": 2});
        writeln!(stderr, "{}", serde_json::json!({ "error": error })).ok();
    } else {
        write!(stderr, "{text}").ok();
    }
    2
}

fn data_dir(given: Option<PathBuf>) -> Result<DataDir, Failure> {
    if let Some(path) = given {
        // A service may change its directory; tokens and messages name the whole path.
        return Ok(DataDir::new(std::path::absolute(&path).unwrap_or(path)));
    }
    directories::ProjectDirs::from("", "", "relay-hub")
        .map(|dirs| DataDir::new(dirs.data_dir()))
        .ok_or_else(|| Failure::fixable("no data directory is known for this user").hint("name one with --data DIR"))
}

/// What helps whoever named something that is not there.
fn there_are(names: &[&str], add: &str) -> String {
    match names {
        [] => format!("there is none yet: `{add}` adds one"),
        names if names.len() > MOST_NAMED => format!("there are: {}, …", names[..MOST_NAMED].join(", ")),
        names => format!("there are: {}", names.join(", ")),
    }
}

/// What somebody typed, as an error may repeat it: short, and without what moves a terminal's cursor.
fn typed(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TYPED).collect()
}

const MOST_NAMED: usize = 10;
const LONGEST_TYPED: usize = 80;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
