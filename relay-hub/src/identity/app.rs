//! An app token becomes a caller: by the public keys in memory, and by the clock. Knows no database.

use std::sync::Arc;

use relay_protocol::{Code, Refusal};

use super::{By, Known, Stranger};
use crate::{
    app_token::{Claims, Shown},
    directory::{Directory, TokenKey},
    ids::{AppPlan, Project, TokenId, TokenKeyId},
    limit::{Limit, Rule, Scope},
};

/// What an app token says of its caller, beside whose it is.
pub struct Granted {
    /// The key that signed it.
    pub key: TokenKeyId,
    /// Under which of its tenant's limits it calls.
    pub plan: Option<AppPlan>,
    /// The token's own rule: its models, its end.
    pub rule: Arc<Rule>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusable {
    #[error("no app token that this hub signed")]
    Malformed,
    #[error("an app token of an unknown key")]
    UnknownKey,
    #[error("an app token of a revoked key")]
    Revoked,
    #[error("an app token that has expired")]
    Expired,
    #[error("an app token of a later time")]
    Early,
    #[error("an app token of another project")]
    OtherProject,
}

impl From<Refusable> for Refusal {
    fn from(why: Refusable) -> Self {
        let (message, hint) = match why {
            Refusable::Malformed | Refusable::UnknownKey => ("The app token is not valid here", FRESH),
            Refusable::Revoked => ("The key that signed the app token was revoked", FRESH),
            Refusable::Expired => ("The app token has expired", FRESH),
            Refusable::Early => (
                "The app token is not valid yet",
                "compare the clock of the hub that issued it with this one's",
            ),
            Refusable::OtherProject => (
                "The app token is of another project than the path",
                "leave /api/PROJECT out of the path, or name the token's own project",
            ),
        };
        Self::new(Code::InvalidKey, message).hint(hint)
    }
}

/// The caller of a token, for the project that its path names.
pub(super) fn look_up<'a>(
    directory: &'a Directory,
    text: &str,
    asked: Option<&Project>,
    now_ms: i64,
) -> Result<Known<'a>, Stranger> {
    let shown = Shown::read(text).map_err(|_| Refusable::Malformed)?;
    let key = key(directory, &shown.key)?;
    let claims = shown.verified(&key.verifier).map_err(|_| Refusable::Malformed)?;
    if claims.tenant != key.tenant.as_str() {
        return Err(Refusable::Malformed.into());
    }
    if claims.iat.saturating_mul(1_000) > now_ms.saturating_add(SKEW_MS) {
        return Err(Refusable::Early.into());
    }
    let project = name(claims.project.as_deref(), Project::parse)?;
    if let (Some(own), Some(asked)) = (&project, asked)
        && own != asked
    {
        return Err(Refusable::OtherProject.into());
    }
    let id = TokenId::parse(&claims.jti).map_err(|_| Refusable::Malformed)?;
    let granted = Granted {
        key: shown.key,
        plan: name(claims.plan.as_deref(), AppPlan::parse)?,
        rule: Arc::new(rule(&id, &claims)?),
    };
    Ok(Known {
        tenant: &key.tenant,
        by: By::Token(id),
        project: project.or_else(|| asked.cloned()),
        granted: Some(Arc::new(granted)),
    })
}

/// Whose tokens a key signs, while it may.
pub(super) fn key<'a>(directory: &'a Directory, id: &TokenKeyId) -> Result<&'a TokenKey, Refusable> {
    let key = directory.token_keys.get(id).ok_or(Refusable::UnknownKey)?;
    if key.is_revoked {
        return Err(Refusable::Revoked);
    }
    Ok(key)
}

/// Whether a token is over, asked of each call.
pub(super) fn check_end(granted: &Granted, now_ms: i64) -> Result<(), Refusable> {
    if granted.rule.is_expired(now_ms) {
        return Err(Refusable::Expired);
    }
    Ok(())
}

fn name<T>(text: Option<&str>, parse: fn(&str) -> Option<T>) -> Result<Option<T>, Refusable> {
    match text.map(parse) {
        Some(None) => Err(Refusable::Malformed),
        Some(named) => Ok(named),
        None => Ok(None),
    }
}

fn rule(id: &TokenId, claims: &Claims) -> Result<Rule, Refusable> {
    let mut rule = Rule::new(Scope::Token(id.clone()));
    if let Some(models) = &claims.models {
        let put = rule.put(Limit::AllowedModels, &models.join(","));
        put.map_err(|_| Refusable::Malformed)?;
    }
    rule.expires_ms = Some(claims.exp.saturating_mul(1_000));
    Ok(rule)
}

const FRESH: &str = "get a fresh one from whoever gave you this one";
/// So far may the clocks of two hubs differ.
const SKEW_MS: i64 = 30_000;
