//! `relay-hub token …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use relay_shared::config::Problems;
use serde_json::json;

use super::{
    Desk, Failure, now_ms,
    print::{moment, standing},
    typed,
};
use crate::{
    app_token::{Claims, LONGEST, Signer},
    config::parse_duration,
    ids::{AppPlan, Project, TenantId, TokenId, TokenKeyId},
    limit::{Limit, Rule, Scope},
    seal::{Bound, Sealer},
    store::{
        Store,
        token_keys::{self, SECRET_FIELD, TokenKeyRow},
    },
};

#[derive(Subcommand)]
pub(super) enum Token {
    /// Issue a signed app token, which is accepted wherever an API key is. It is shown now and never again.
    Issue(Issue),
    /// Show the keys that sign tokens, without their secrets.
    Keys {
        /// Name or id; without it, everybody's.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Sign with a new key from now on. Tokens of the one before stay good until they end or it is revoked.
    Rotate {
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
    /// Refuse every token of a key from now on.
    Revoke {
        /// The key's id (`tk_…`).
        key: String,
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
}

#[derive(Args)]
pub(super) struct Issue {
    /// Name or id.
    #[arg(long)]
    tenant: String,
    /// The part of the tenant's calls that it is for; it stands on their rows.
    #[arg(long)]
    project: Option<String>,
    /// Under which limits of the tenant's: those of `limit set --tenant T --plan NAME`.
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// The only models, with commas between them; `gpt-5*` stands for all that begin so.
    #[arg(long, value_name = "MODELS")]
    models: Option<String>,
    /// How long it is good, such as 15m or 1h; at most 720h.
    #[arg(
        long = "for",
        value_name = "DURATION",
        default_value = "1h",
        allow_hyphen_values = true
    )]
    lasts: String,
}

/// The words of [`Issue`], read.
struct Wanted {
    project: Option<Project>,
    plan: Option<AppPlan>,
    models: Option<Vec<String>>,
    lasts: Duration,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Token) -> Result<(), Failure> {
    match command {
        Token::Issue(words) => issue(desk, &words).await,
        Token::Keys { tenant } => list(desk, tenant.as_deref()).await,
        Token::Rotate { tenant } => rotate(desk, &tenant).await,
        Token::Revoke { key, tenant } => revoke(desk, &tenant, &key).await,
    }
}

async fn issue(desk: &mut Desk<'_>, words: &Issue) -> Result<(), Failure> {
    let wanted = words.read()?;
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, &words.tenant).await?;
    let sealer = Sealer::open(&desk.data)?;
    let (key, signer) = match token_keys::signing(&store, &tenant.id).await? {
        Some(key) => {
            let secret = sealer.open_secret(bound(&key.id, &tenant.id), &key.secret)?;
            let signer = Signer::read(secret.expose()).ok_or_else(|| {
                Failure::fixable(format!("the secret of {} is no signing key", key.id))
                    .hint("`relay-hub token rotate` makes another one")
            })?;
            (key.id, signer)
        }
        None => fresh(&store, &sealer, &tenant.id).await?,
    };
    let id = TokenId::random();
    let issued = now_ms().div_euclid(1_000);
    let ends = issued.saturating_add(i64::try_from(wanted.lasts.as_secs()).unwrap_or(i64::MAX));
    let claims = Claims {
        jti: id.to_string(),
        tenant: tenant.id.to_string(),
        project: wanted.project.map(|project| project.to_string()),
        plan: wanted.plan.map(|plan| plan.to_string()),
        models: wanted.models,
        iat: issued,
        exp: ends,
    };
    let token = signer.sign(&key, &claims);
    if token.len() > LONGEST {
        return Err(Failure::fixable("the token would be too long").hint("name fewer models, or beginnings with *"));
    }
    let ends = moment(ends.saturating_mul(1_000));
    desk.print.done(
        &json!({"token": token, "id": id, "key": key, "tenant": tenant.id, "expires": ends, "claims": claims}),
        &token,
    )?;
    let told = format!(
        "this is token {id} of {} until {ends}: it is not shown again",
        tenant.name
    );
    Ok(desk.print.talk(&told)?)
}

impl Issue {
    fn read(&self) -> Result<Wanted, Failure> {
        let mut problems = Problems::new();
        let project = self.project.as_deref().map(|name| (name, Project::parse(name)));
        if let Some((name, None)) = &project {
            problems.push("--project", format!("`{}` is no project", typed(name)), Project::NAMES);
        }
        let plan = self.plan.as_deref().map(|name| (name, AppPlan::parse(name)));
        if let Some((name, None)) = &plan {
            problems.push("--plan", format!("`{}` is no plan", typed(name)), AppPlan::NAMES);
        }
        let mut rule = Rule::new(Scope::Global);
        if let Some(Err(fault)) = self.models.as_deref().map(|text| rule.put(Limit::AllowedModels, text)) {
            problems.push("--models", fault.problem, fault.hint);
        }
        let lasts = parse_duration(&self.lasts).filter(|lasts| (SHORTEST..=LONGEST_LIFE).contains(lasts));
        if lasts.is_none() {
            let problem = format!("`{}` cannot be used", typed(&self.lasts));
            problems.push("--for", problem, "write something between 1s and 720h, such as 15m");
        }
        if !problems.is_empty() {
            return Err(problems.into());
        }
        Ok(Wanted {
            project: project.and_then(|(_, project)| project),
            plan: plan.and_then(|(_, plan)| plan),
            models: rule
                .text(Limit::AllowedModels)
                .map(|text| text.split(',').map(str::to_owned).collect()),
            lasts: lasts.unwrap_or(SHORTEST),
        })
    }
}

/// What the secret of a tenant's key is bound to.
fn bound<'a>(id: &'a TokenKeyId, tenant: &'a TenantId) -> Bound<'a> {
    Bound {
        owner: id.as_str(),
        field: SECRET_FIELD,
        holder: tenant.as_str(),
    }
}

/// A new key that signs the tenant's tokens.
async fn fresh(store: &Store, sealer: &Sealer, tenant: &TenantId) -> Result<(TokenKeyId, Signer), Failure> {
    let (id, signer) = (TokenKeyId::random(), Signer::fresh());
    let key = TokenKeyRow {
        id: id.clone(),
        tenant: tenant.clone(),
        public: signer.public(),
        secret: sealer.seal(bound(&id, tenant), &signer.secret())?,
        created_ms: now_ms(),
        revoked_ms: None,
    };
    token_keys::add(store, &key).await?;
    Ok((id, signer))
}

async fn list(desk: &mut Desk<'_>, tenant: Option<&str>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant_id(&store, tenant).await?;
    let all = token_keys::list(&store, tenant.as_ref()).await?;
    let names = desk.tenant_names(&store).await?;
    let row = |key: &TokenKeyRow| {
        vec![
            key.id.to_string(),
            names.get(&key.tenant).cloned().unwrap_or_default(),
            moment(key.created_ms),
            standing(key.revoked_ms),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    Ok(desk.print.list(&all, &["ID", "TENANT", "ADDED", "STATE"], &rows)?)
}

async fn rotate(desk: &mut Desk<'_>, tenant: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    let (id, _) = fresh(&store, &Sealer::open(&desk.data)?, &tenant.id).await?;
    let told = format!("{id} signs the tokens of {} from now on", tenant.name);
    Ok(desk.print.done(&json!({"id": id, "tenant": tenant.id}), &told)?)
}

async fn revoke(desk: &mut Desk<'_>, tenant: &str, key: &str) -> Result<(), Failure> {
    // What was typed may be a token: it is not repeated.
    let id = TokenKeyId::parse(key)
        .map_err(|_| Failure::fixable("this is no key's id").hint("`relay-hub token keys` shows ids"))?;
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    if token_keys::revoke(&store, &tenant.id, &id, now_ms()).await? {
        let json = json!({"id": id, "revoked": true});
        return Ok(desk
            .print
            .done(&json, &format!("revoked {id}: its tokens are refused"))?);
    }
    Err(Failure::fixable(format!("{} has no active key {id}", tenant.name)).hint("`relay-hub token keys` shows them"))
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST_LIFE: Duration = Duration::from_secs(720 * 3_600);
