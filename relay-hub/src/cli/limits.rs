//! `relay-hub limit …`.

use clap::{Args, Subcommand};
use relay_protocol::Endpoint;
use relay_shared::config::Problems;
use serde_json::{Map, Value, json};

use super::{Desk, Failure, now_ms, typed};
use crate::{
    ids::{AppPlan, DeviceId, KeyId, Project},
    limit::{Limit, Rule, Scope, is_model},
    store::{Store, devices, keys, limits},
};

#[derive(Subcommand)]
pub(super) enum LimitCommand {
    /// Show what is limited, scope by scope.
    List {
        /// Name or id: only this tenant's limits, those of its keys and devices among them.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Set limits of one scope; what is not named stays as it is. `off` takes a limit away.
    Set {
        #[command(flatten)]
        scope: ScopeWords,
        #[command(flatten)]
        values: Box<Values>,
    },
    /// Take limits of one scope away.
    Clear {
        #[command(flatten)]
        scope: ScopeWords,
        /// Such as requests-per-minute; without any, all of them.
        limits: Vec<String>,
    },
}

/// Whose calls are counted together: one of these, or a tenant and a model, a project or a plan.
#[derive(Args)]
pub(super) struct ScopeWords {
    /// All calls.
    #[arg(long)]
    global: bool,
    /// Name or id.
    #[arg(long)]
    tenant: Option<String>,
    /// The key's id (`key_…`).
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// The device's id (`dev_…`).
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// A path such as /v1/responses.
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,
    /// The vendor's or the public name; with --tenant, only that tenant's calls for it.
    #[arg(long)]
    model: Option<String>,
    /// With --tenant, the calls for one of its projects.
    #[arg(long, requires = "tenant", conflicts_with_all = ["global", "key", "device", "endpoint", "model", "plan"])]
    project: Option<String>,
    /// With --tenant, the calls with its app tokens of a plan.
    #[arg(long, requires = "tenant", conflicts_with_all = ["global", "key", "device", "endpoint", "model", "project"], value_name = "NAME")]
    plan: Option<String>,
}

#[derive(Args)]
pub(super) struct Values {
    /// Calls a minute.
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    requests_per_minute: Option<String>,
    /// Tokens a minute, input and output together.
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true)]
    tokens_per_minute: Option<String>,
    /// Calls that run at once; more wait in line for a moment.
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    concurrent_calls: Option<String>,
    /// What may be charged on one day, UTC.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    daily_spend: Option<String>,
    /// What may be charged in one month, UTC.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    monthly_spend: Option<String>,
    /// The most output that one call may ask for.
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true)]
    max_output: Option<String>,
    /// The largest request body, such as 1MiB.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    body_bytes: Option<String>,
    /// The only models, with commas between them; `gpt-5*` stands for all that begin so.
    #[arg(long, value_name = "MODELS")]
    allowed_models: Option<String>,
    /// Models that may not be used.
    #[arg(long, value_name = "MODELS")]
    blocked_models: Option<String>,
    /// The only addresses of clients, such as 10.0.0.0/8,2001:db8::7.
    #[arg(long, value_name = "NETWORKS")]
    allowed_addresses: Option<String>,
    /// The only countries of clients, such as DE,FR; needs countries.database in hub.toml.
    #[arg(long, value_name = "COUNTRIES")]
    allowed_countries: Option<String>,
    /// Countries that clients may not call from.
    #[arg(long, value_name = "COUNTRIES")]
    blocked_countries: Option<String>,
    /// When it all ends, such as 2030-12-31.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    expires: Option<String>,
}

impl Values {
    fn given(self) -> Vec<(Limit, String)> {
        let Self {
            requests_per_minute,
            tokens_per_minute,
            concurrent_calls,
            daily_spend,
            monthly_spend,
            max_output,
            body_bytes,
            allowed_models,
            blocked_models,
            allowed_addresses,
            allowed_countries,
            blocked_countries,
            expires,
        } = self;
        let all = [
            (Limit::RequestsPerMinute, requests_per_minute),
            (Limit::TokensPerMinute, tokens_per_minute),
            (Limit::ConcurrentCalls, concurrent_calls),
            (Limit::DailySpend, daily_spend),
            (Limit::MonthlySpend, monthly_spend),
            (Limit::MaxOutput, max_output),
            (Limit::BodyBytes, body_bytes),
            (Limit::AllowedModels, allowed_models),
            (Limit::BlockedModels, blocked_models),
            (Limit::AllowedAddresses, allowed_addresses),
            (Limit::AllowedCountries, allowed_countries),
            (Limit::BlockedCountries, blocked_countries),
            (Limit::Expires, expires),
        ];
        all.into_iter()
            .filter_map(|(limit, text)| Some((limit, text?)))
            .collect()
    }
}

pub(super) async fn run(desk: &mut Desk<'_>, command: LimitCommand) -> Result<(), Failure> {
    match command {
        LimitCommand::List { tenant } => list(desk, tenant.as_deref()).await,
        LimitCommand::Set { scope, values } => set(desk, scope, values.given()).await,
        LimitCommand::Clear { scope, limits } => clear(desk, scope, &limits).await,
    }
}

async fn list(desk: &mut Desk<'_>, tenant: Option<&str>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let mut rules = limits::list(&store).await?;
    if let Some(tenant) = tenant {
        let tenant = desk.tenant(&store, tenant).await?.id;
        let keys = keys::list(&store, Some(&tenant)).await?;
        let devices = devices::list(&store, Some(&tenant)).await?;
        rules.retain(|rule| match &rule.scope {
            Scope::Tenant(id) | Scope::TenantModel(id, _) | Scope::Project(id, _) | Scope::Plan(id, _) => *id == tenant,
            Scope::Key(id) => keys.iter().any(|key| key.id == *id),
            Scope::Device(id) => devices.iter().any(|device| device.id == *id),
            Scope::Global | Scope::Endpoint(_) | Scope::Model(_) | Scope::Token(_) => false,
        });
    }
    let names = desk.tenant_names(&store).await?;
    let named = |scope: &Scope| match scope {
        Scope::Tenant(id) | Scope::TenantModel(id, _) | Scope::Project(id, _) | Scope::Plan(id, _) => {
            names.get(id).cloned().unwrap_or_default()
        }
        _ => "-".to_owned(),
    };
    let rows: Vec<_> = rules
        .iter()
        .flat_map(|rule| {
            Limit::ALL
                .into_iter()
                .filter_map(move |limit| Some((rule, limit, rule.text(limit)?)))
        })
        .map(|(rule, limit, text)| {
            vec![
                rule.scope.to_string(),
                named(&rule.scope),
                limit.name().to_owned(),
                text,
            ]
        })
        .collect();
    let json: Vec<_> = rules.iter().map(shown).collect();
    Ok(desk.print.list(&json, &["SCOPE", "TENANT", "LIMIT", "VALUE"], &rows)?)
}

/// The limits that are set; a list as a list, all else as its text, so that no reader turns money into a float.
fn shown(rule: &Rule) -> Value {
    let value = |limit: Limit, text: String| match limit {
        Limit::AllowedModels
        | Limit::BlockedModels
        | Limit::AllowedAddresses
        | Limit::AllowedCountries
        | Limit::BlockedCountries => {
            json!(text.split(',').collect::<Vec<_>>())
        }
        Limit::DailySpend | Limit::MonthlySpend | Limit::Expires => json!(text),
        Limit::RequestsPerMinute
        | Limit::TokensPerMinute
        | Limit::ConcurrentCalls
        | Limit::MaxOutput
        | Limit::BodyBytes => text.parse::<u64>().map_or(Value::Null, Value::from),
    };
    let set = Limit::ALL
        .into_iter()
        .filter_map(|limit| Some((limit, rule.text(limit)?)));
    let limits: Map<_, _> = set
        .map(|(limit, text)| (limit.name().to_owned(), value(limit, text)))
        .collect();
    json!({"scope": rule.scope.to_string(), "limits": limits})
}

async fn set(desk: &mut Desk<'_>, scope: ScopeWords, values: Vec<(Limit, String)>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let scope = scope.read(desk, &store).await?;
    if values.is_empty() {
        return Err(Failure::usage("no limit is named").hint("such as --requests-per-minute 60"));
    }
    let (take, set): (Vec<_>, Vec<_>) = values.into_iter().partition(|(_, text)| text == OFF);
    let mut rule = Rule::new(scope);
    let mut problems = Problems::new();
    for (limit, text) in &set {
        if let Err(fault) = rule.put(*limit, text) {
            problems.push(flag(*limit), fault.problem, fault.hint);
        }
    }
    let now = now_ms();
    if rule.is_expired(now) {
        let hint = "name a later moment; revoke a key or a device, or suspend a tenant, to refuse it now";
        problems.push(flag(Limit::Expires), "is not in the future", hint);
    }
    if !problems.is_empty() {
        return Err(Failure::from(problems).hint("no limit was changed"));
    }
    // What was read, not what was typed.
    let set: Vec<_> = set
        .iter()
        .filter_map(|(limit, _)| Some((*limit, rule.text(*limit)?)))
        .collect();
    let take: Vec<_> = take.into_iter().map(|(limit, _)| limit).collect();
    let rule = limits::change(&store, &rule.scope, &set, &take, now).await?;
    told(desk, &rule)
}

async fn clear(desk: &mut Desk<'_>, scope: ScopeWords, names: &[String]) -> Result<(), Failure> {
    let store = desk.store().await?;
    let scope = scope.read(desk, &store).await?;
    let mut problems = Problems::new();
    let mut take = Vec::new();
    for name in names {
        match Limit::parse(name) {
            Some(limit) => take.push(limit),
            None => problems.push(typed(name), "is no limit", "`relay-hub limit set --help` names them"),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::from(problems).hint("no limit was changed"));
    }
    let take = if take.is_empty() { &Limit::ALL[..] } else { &take };
    let rule = limits::change(&store, &scope, &[], take, now_ms()).await?;
    told(desk, &rule)
}

fn told(desk: &mut Desk<'_>, rule: &Rule) -> Result<(), Failure> {
    let set = Limit::ALL
        .into_iter()
        .filter_map(|limit| Some(format!("{} {}", limit.name(), rule.text(limit)?)));
    let set: Vec<_> = set.collect();
    let limits = if set.is_empty() {
        "nothing is limited".to_owned()
    } else {
        set.join(", ")
    };
    Ok(desk.print.done(&shown(rule), &format!("{}: {limits}", rule.scope))?)
}

impl ScopeWords {
    async fn read(self, desk: &Desk<'_>, store: &Store) -> Result<Scope, Failure> {
        let Self {
            global,
            tenant,
            key,
            device,
            endpoint,
            model,
            project,
            plan,
        } = self;
        let model = model.map(known_model).transpose()?;
        if let (Some(tenant), Some(name)) = (&tenant, &project) {
            let project = Project::parse(name).ok_or_else(|| no_part("project", name))?;
            return Ok(Scope::Project(desk.tenant(store, tenant).await?.id, project));
        }
        if let (Some(tenant), Some(name)) = (&tenant, &plan) {
            let plan = AppPlan::parse(name).ok_or_else(|| no_part("plan", name))?;
            return Ok(Scope::Plan(desk.tenant(store, tenant).await?.id, plan));
        }
        match (global, tenant, key, device, endpoint, model) {
            (true, None, None, None, None, None) => Ok(Scope::Global),
            (false, Some(tenant), None, None, None, None) => Ok(Scope::Tenant(desk.tenant(store, &tenant).await?.id)),
            (false, Some(tenant), None, None, None, Some(model)) => {
                Ok(Scope::TenantModel(desk.tenant(store, &tenant).await?.id, model))
            }
            (false, None, Some(key), None, None, None) => known_key(store, &key).await,
            (false, None, None, Some(device), None, None) => known_device(store, &device).await,
            (false, None, None, None, Some(path), None) => endpoint_of(&path),
            (false, None, None, None, None, Some(model)) => Ok(Scope::Model(model)),
            _ => Err(Failure::usage("the scope is missing, or there are two").hint(SCOPES)),
        }
    }
}

fn no_part(what: &str, name: &str) -> Failure {
    Failure::fixable(format!("`{}` is no {what}", typed(name))).hint(Project::NAMES)
}

fn known_model(name: String) -> Result<String, Failure> {
    if is_model(&name, 1) {
        return Ok(name);
    }
    Err(Failure::fixable(format!("`{}` cannot be a model's name", typed(&name)))
        .hint("`relay-hub price list` shows models; a scope names one, without *"))
}

async fn known_key(store: &Store, id: &str) -> Result<Scope, Failure> {
    // What was typed may be a secret: it is not repeated.
    let unknown = || Failure::fixable("there is no such key").hint("`relay-hub key list` shows ids");
    let id = KeyId::parse(id).map_err(|_| unknown())?;
    let is_known = keys::list(store, None).await?.iter().any(|key| key.id == id);
    if is_known { Ok(Scope::Key(id)) } else { Err(unknown()) }
}

async fn known_device(store: &Store, id: &str) -> Result<Scope, Failure> {
    let unknown = || Failure::fixable("there is no such device").hint("`relay-hub device list` shows ids");
    let id = DeviceId::parse(id).map_err(|_| unknown())?;
    let is_known = devices::list(store, None).await?.iter().any(|device| device.id == id);
    if is_known {
        Ok(Scope::Device(id))
    } else {
        Err(unknown())
    }
}

fn endpoint_of(path: &str) -> Result<Scope, Failure> {
    match Endpoint::parse(path) {
        Some(endpoint) if !endpoint.lists_models() => Ok(Scope::Endpoint(endpoint)),
        Some(_) | None => {
            let calls = Endpoint::ALL.iter().filter(|endpoint| !endpoint.lists_models());
            let paths: Vec<_> = calls.map(|endpoint| endpoint.path()).collect();
            Err(Failure::fixable(format!("`{}` is no endpoint that calls", typed(path)))
                .hint(format!("there are {}", paths.join(", "))))
        }
    }
}

fn flag(limit: Limit) -> String {
    format!("--{}", limit.name().replace('_', "-"))
}

/// In place of a value: no limit.
const OFF: &str = "off";
const SCOPES: &str = "name one of --global, --tenant, --key, --device, --endpoint, --model, or --tenant and one of --model, --project, --plan";
