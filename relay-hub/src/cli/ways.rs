//! `relay-hub way …`: by which addresses and proxies accounts leave.

use std::time::Duration;

use clap::{Args, Subcommand};
use relay_shared::{
    config::{Problem, Problems},
    secret::Secret,
    tasks::Tasks,
};
use serde_json::{Value, json};

use super::{Desk, Failure, accounts, nodes, now_ms, print::moment, secret, sharing::users, there_are, typed};
use crate::{
    app,
    config::{Config, Overrides},
    directory::{self, PASSWORD_FIELD},
    egress::{self, EgressError, Exits},
    ids::WayId,
    seal::{Bound, Sealer},
    store::{
        Store,
        accounts::AccountRow,
        millis, way_health,
        ways::{self, AddWayError, WayRow, is_way_name},
    },
    way::{Family, Health, NodeAt, Region, Through, ThroughError},
};

#[derive(Subcommand)]
pub(super) enum WayCommand {
    /// Give an account a way out. It belongs to that account alone; nothing else is taken by it.
    Add(Add),
    /// Show ways out without their passwords.
    List {
        /// Of one account.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Take a way out from its account.
    Remove {
        /// Name or id.
        name: String,
    },
    /// Connect to the account's vendor by a way out, and tell what came of it. Sends nothing.
    Test {
        /// Name or id.
        name: String,
    },
}

#[derive(Args)]
pub(super) struct Add {
    /// What you call it; it stands on each call's row.
    name: String,
    /// Whose it is.
    #[arg(long, value_name = "NAME")]
    account: String,
    #[command(flatten)]
    through: By,
    #[command(flatten)]
    password: PasswordFrom,
    /// Where its address is, such as eu-west: clients choose by x-relay-region.
    #[arg(long)]
    region: Option<String>,
    /// The lowest of an account's ways that works is taken.
    #[arg(long, default_value_t = 100)]
    priority: i64,
    /// Try the vendor's addresses of this family first.
    #[arg(long, value_name = "4|6")]
    prefer: Option<i64>,
    /// It may lead to addresses that are not public.
    #[arg(long)]
    allow_private: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct By {
    /// Leave by this address of this machine.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// Leave through this proxy: http://, https:// or socks5://[USER@]HOST[:PORT].
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Leave through this egress node of yours (`relay-hub node list`).
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

#[derive(Args)]
#[group(multiple = false)]
struct PasswordFrom {
    /// The environment variable that holds the proxy's password.
    #[arg(long, value_name = "VAR")]
    password_env: Option<String>,
    /// The file that holds the proxy's password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<std::path::PathBuf>,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: WayCommand) -> Result<(), Failure> {
    match command {
        WayCommand::Add(words) => add(desk, words).await,
        WayCommand::List { account } => list(desk, account.as_deref()).await,
        WayCommand::Remove { name } => remove(desk, &name).await,
        WayCommand::Test { name } => test(desk, &name).await,
    }
}

async fn add(desk: &mut Desk<'_>, words: Add) -> Result<(), Failure> {
    let store = desk.store().await?;
    let Checked {
        account,
        through,
        node,
        region,
        prefers,
        password,
    } = check(&store, &words).await?;
    let id = WayId::random();
    let row = WayRow {
        id: id.clone(),
        account: account.id.clone(),
        name: words.name,
        through,
        node,
        password: None,
        region,
        priority: words.priority,
        prefers,
        allows_private: words.allow_private,
        created_ms: now_ms(),
    };
    let sealer = Sealer::open(&desk.data)?;
    let seal = |holder: &str| -> Result<_, Failure> {
        let bound = Bound {
            owner: id.as_str(),
            field: PASSWORD_FIELD,
            holder,
        };
        let sealed = password.as_ref().map(|word| sealer.seal(bound, word.expose()));
        Ok(sealed.transpose()?)
    };
    let row = ways::add(&store, &row, seal).await?;
    Ok(desk.print.done(
        &shown(&row, &account.name),
        &format!(
            "added way {} ({}) to account {}: {}",
            row.name, row.id, account.name, row.through
        ),
    )?)
}

/// What the words of a way come to, its password not yet sealed.
struct Checked {
    account: AccountRow,
    through: Through,
    node: Option<NodeAt>,
    region: Option<Region>,
    prefers: Option<Family>,
    password: Option<Secret<String>>,
}

/// Checks the words and tells all that is wrong with them.
async fn check(store: &Store, words: &Add) -> Result<Checked, Failure> {
    let mut problems = Problems::new();
    let mut kept = |word, failure: Failure| failure.note(word, &mut problems);
    let account = match accounts::find(store, &words.account).await {
        Ok(account) => Some(account),
        Err(failure) => kept("--account", failure).map(|()| None)?,
    };
    let through = match words.through.read(store).await {
        Ok(through) => Some(through),
        Err(failure) => kept(words.through.word(), failure).map(|()| None)?,
    };
    let region = match words.region.as_deref().map(read_region).transpose() {
        Ok(region) => region,
        Err(failure) => kept("--region", failure).map(|()| None)?,
    };
    let prefers = match words.prefer.map(read_family).transpose() {
        Ok(prefers) => prefers,
        Err(failure) => kept("--prefer", failure).map(|()| None)?,
    };
    let PasswordFrom {
        password_env: env,
        password_file: file,
    } = &words.password;
    let (password, is_named) = match secret::read(env.as_deref(), file.as_deref(), "the proxy's password") {
        Ok(password) => (password, env.is_some() || file.is_some()),
        Err(failure) => (kept("--password-…", failure).map(|()| None)?, true),
    };
    if !is_way_name(&words.name) {
        problems.push("name", AddWayError::BadName.to_string(), "such as frankfurt");
    }
    let (Some(account), Some((through, node))) = (account, through) else {
        return Err(told_at_once(problems));
    };
    let allows_private = words.allow_private || account.allows_private;
    note_misfits(&through, is_named, allows_private, &mut problems);
    let checked = Checked {
        account,
        through,
        node,
        region,
        prefers,
        password,
    };
    problems.or(checked).map_err(told_at_once)
}

/// One is told as any other failure is, several as a list.
fn told_at_once(problems: Problems) -> Failure {
    match problems.iter().collect::<Vec<_>>()[..] {
        [Problem { key: _, problem, hint }] => Failure::fixable(problem.clone()).hint(hint.clone()),
        _ => problems.into(),
    }
}

/// What does not go together.
fn note_misfits(through: &Through, has_password: bool, allows_private: bool, problems: &mut Problems) {
    match (through.user(), has_password) {
        (None, true) => problems.push(
            "--password-…",
            "a password goes with a user of a proxy, and none is named",
            "write the user into the URL: --proxy socks5://USER@HOST",
        ),
        (Some(_), false) => problems.push(
            "--proxy",
            "the proxy's user has no password",
            "name it by --password-env or --password-file",
        ),
        (Some(_), true) | (None, false) => {}
    }
    let Through::Proxy(proxy) = through else { return };
    if !egress::may_be_written(&proxy.host, allows_private) {
        problems.push(
            "--proxy",
            "leads to an address that is not public",
            "add --allow-private if the proxy is inside your network",
        );
    }
}

impl By {
    /// The word that names it.
    const fn word(&self) -> &'static str {
        match self {
            Self { source: Some(_), .. } => "--source",
            Self { node: Some(_), .. } => "--node",
            Self { .. } => "--proxy",
        }
    }

    /// What is named, and where the node is if that is one.
    async fn read(&self, store: &Store) -> Result<(Through, Option<NodeAt>), Failure> {
        let (read, text) = match (&self.source, &self.proxy, &self.node) {
            (Some(text), _, _) => (Through::source(text), text),
            (None, Some(text), _) => (Through::proxy(text), text),
            (None, None, Some(name)) => {
                let node = nodes::find(store, name).await?;
                return Ok((Through::Node(node.id), Some(node.at)));
            }
            (None, None, None) => {
                return Err(Failure::usage("no way out is named").hint("use --source, --proxy or --node"));
            }
        };
        let through = read.map_err(|error| {
            // A URL that may hold a password is not repeated.
            let named = if text.contains('@') { "the URL" } else { &typed(text) };
            Failure::fixable(format!("{named} {error}")).hint(match error {
                ThroughError::Address | ThroughError::NoSource => "name an address that `ip address` lists",
                ThroughError::Password => "give it by --password-env or --password-file",
                ThroughError::Node => "`relay-hub node list` shows them",
                ThroughError::Url
                | ThroughError::Scheme
                | ThroughError::Path
                | ThroughError::Spelling
                | ThroughError::User => "write it like socks5://user@proxy.example:1080",
            })
        })?;
        Ok((through, None))
    }
}

pub(super) fn read_region(text: &str) -> Result<Region, Failure> {
    Region::parse(text).ok_or_else(|| {
        Failure::fixable(format!("`{}` is no region", typed(text))).hint("use up to 32 letters, digits and `-`")
    })
}

fn read_family(number: i64) -> Result<Family, Failure> {
    Family::parse(number).ok_or_else(|| Failure::fixable(format!("there is no IP version {number}")).hint("4 or 6"))
}

fn shown(row: &WayRow, account: &str) -> Value {
    let WayRow {
        id,
        account: _,
        name,
        through,
        node,
        password,
        region,
        priority,
        prefers,
        allows_private,
        created_ms,
    } = row;
    json!({
        "id": id, "name": name, "account": account, "through": through.to_string(), "password": password.is_some(),
        "node_address": node.as_ref().map(NodeAt::to_string),
        "region": region.as_ref().map(Region::as_str), "priority": priority,
        "prefers": prefers.map(Family::number), "allows_private": allows_private, "created_ms": created_ms,
    })
}

/// Every way with its account, those of one account if it is named.
async fn known(store: &Store, account: Option<&str>) -> Result<Vec<(WayRow, AccountRow)>, Failure> {
    let only = match account {
        Some(name) => Some(accounts::find(store, name).await?.id),
        None => None,
    };
    let accounts = crate::store::accounts::list(store).await?;
    let all = ways::list(store).await?.into_iter();
    let wanted = all.filter(|way| only.as_ref().is_none_or(|only| way.account == *only));
    let with_account = wanted.filter_map(|way| {
        let account = accounts.iter().find(|account| account.id == way.account)?.clone();
        Some((way, account))
    });
    Ok(with_account.collect())
}

async fn find(store: &Store, name: &str) -> Result<(WayRow, AccountRow), Failure> {
    let mut all = known(store, None).await?;
    match all
        .iter()
        .position(|(way, _)| way.name == name || way.id.as_str() == name)
    {
        Some(at) => Ok(all.swap_remove(at)),
        None => {
            let names: Vec<_> = all.iter().map(|(way, _)| way.name.as_str()).collect();
            Err(Failure::fixable(format!("there is no way out `{}`", typed(name)))
                .hint(there_are(&names, "relay-hub way add NAME")))
        }
    }
}

async fn list(desk: &mut Desk<'_>, account: Option<&str>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let (all, health) = (known(&store, account).await?, way_health::all(&store).await?);
    let with_health = |(way, account): &(WayRow, AccountRow)| {
        let mut shown = shown(way, &account.name);
        shown["health"] = health.get(&way.id).map_or(Value::Null, told);
        shown
    };
    let json: Vec<_> = all.iter().map(with_health).collect();
    let rows: Vec<_> = all
        .iter()
        .map(|(way, account)| {
            vec![
                way.name.clone(),
                account.name.clone(),
                way.through.to_string(),
                way.region.as_ref().map_or_else(|| "-".to_owned(), Region::to_string),
                way.priority.to_string(),
                health.get(&way.id).map_or_else(|| "not used yet".to_owned(), state),
            ]
        })
        .collect();
    let heads = ["NAME", "ACCOUNT", "LEAVES BY", "REGION", "PRIORITY", "STATE"];
    Ok(desk.print.list(&json, &heads, &rows)?)
}

/// How a way did when a hub used it last.
fn told(health: &Health) -> Value {
    let Health {
        is_down,
        failed,
        connected,
    } = health;
    json!({
        "state": if *is_down { "down" } else { "up" },
        "failed_ms": failed.as_ref().map(|(at, _)| millis(*at)), "failure": failed.as_ref().map(|(_, reason)| reason),
        "connected_ms": connected.map(|last| millis(last.at)),
        "connect_us": connected.map(|last| micros(last.connect)),
        "tls_us": connected.and_then(|last| last.tls).map(micros),
    })
}

fn state(health: &Health) -> String {
    let took = health.connected.map(|last| {
        let tls = last
            .tls
            .map_or_else(String::new, |tls| format!(", TLS {} ms", tls.as_millis()));
        format!("connects in {} ms{tls}", last.connect.as_millis())
    });
    let failed = health
        .failed
        .as_ref()
        .map(|(at, reason)| format!("failed {}: {reason}", moment(millis(*at))));
    let state = if health.is_down { "down" } else { "up" };
    let parts = [Some(state.to_owned()), took, failed];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

async fn remove(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let (way, account) = find(&store, name).await?;
    let removed = ways::remove(&store, &way.id).await?;
    let is_last = known(&store, Some(account.id.as_str())).await?.is_empty();
    let line = format!("removed way {} of account {}", way.name, account.name);
    let line = if is_last {
        format!("{line}; it has none left and leaves by the system's own address")
    } else {
        line
    };
    let json = json!({"id": way.id, "name": way.name, "account": account.name, "removed": removed, "last": is_last});
    Ok(desk.print.done(&json, &line)?)
}

async fn test(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let config = Config::load(&desk.data, &Overrides::default())?;
    let (row, account) = find(&desk.store().await?, name).await?;
    let (name, through) = (row.name.clone(), row.through.to_string());
    let users = users(&desk.store().await?, &account.id).await?;
    let account = directory::open_account(account, vec![row], &users, &Sealer::open(&desk.data)?).ok_or_else(|| {
        Failure::fixable("the account or its way out cannot be used").hint("remove it and add it again")
    })?;
    let target = account.target();
    let target = target.map_err(|error| Failure::from_error(&error).hint("remove the account and add it again"))?;
    // A server's own part of the process does this at its start.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let tasks = Tasks::new();
    let ways = app::egress(&config, &tasks)?.ways(Exits {
        account: account.id.as_str(),
        origin: target.origin(),
        outs: &account.ways,
        allows_private: account.allows_private,
        prefers: account.prefers,
    });
    let found = ways.probe().await.map_err(|error| {
        let hint = match &error {
            EgressError::WayDown(_) => "this way is at fault: see that its address, its proxy or its node is up",
            _ => "the way works, the vendor behind it does not answer",
        };
        Failure::from_error(&error).hint(hint)
    })?;
    tasks.shutdown(Duration::from_secs(1)).await;
    let ms = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (vendor, local) = (target.origin().to_string(), found.local);
    let (connect_ms, tls_ms) = (ms(found.connect), found.tls.map(ms));
    let json = json!({
        "name": name, "through": through, "vendor": vendor, "local_address": local, "connect_ms": connect_ms,
        "tls_ms": tls_ms, "took_ms": connect_ms.saturating_add(tls_ms.unwrap_or(0)),
    });
    let tls = tls_ms.map_or_else(String::new, |ms| format!(" and {ms} ms for TLS"));
    let line = format!("{name} works: {vendor} by {through}, from {local}, within {connect_ms} ms{tls}");
    Ok(desk.print.done(&json, &line)?)
}
