//! Whose calls a rule is for, and how a scope is written.

use std::fmt;

use relay_protocol::Endpoint;

use crate::ids::{AppPlan, DeviceId, KeyId, Project, TenantId, TokenId};

/// Whose calls a rule counts together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All calls.
    Global,
    /// A tenant's.
    Tenant(TenantId),
    /// Those with an API key.
    Key(KeyId),
    /// Those of a device.
    Device(DeviceId),
    /// Those to an endpoint.
    Endpoint(Endpoint),
    /// Those for a model: the vendor's name for it, or the public one.
    Model(String),
    /// A tenant's for a model.
    TenantModel(TenantId, String),
    /// A tenant's for one of its projects.
    Project(TenantId, Project),
    /// A tenant's with app tokens of a plan.
    Plan(TenantId, AppPlan),
    /// Those with an app token, which brings its own rule: no other is set.
    Token(TokenId),
}

impl Scope {
    /// Reads what [`Scope`] shows.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((kind, rest)) = text.split_once(':') else {
            return (text == GLOBAL).then_some(Self::Global);
        };
        match (kind, rest.split_once(MODEL)) {
            ("tenant", None) => Self::of_tenant(rest),
            ("tenant", Some((tenant, model))) => {
                let tenant = TenantId::parse(tenant).ok()?;
                Some(Self::TenantModel(tenant, model.to_owned()))
            }
            ("key", _) => KeyId::parse(rest).ok().map(Self::Key),
            ("device", _) => DeviceId::parse(rest).ok().map(Self::Device),
            ("endpoint", _) => Endpoint::parse(rest).map(Self::Endpoint),
            ("model", _) => Some(Self::Model(rest.to_owned())),
            _ => None,
        }
    }

    fn of_tenant(text: &str) -> Option<Self> {
        let tenant = |id| TenantId::parse(id).ok();
        if let Some((id, project)) = text.split_once(PROJECT) {
            return Some(Self::Project(tenant(id)?, Project::parse(project)?));
        }
        if let Some((id, plan)) = text.split_once(PLAN) {
            return Some(Self::Plan(tenant(id)?, AppPlan::parse(plan)?));
        }
        tenant(text).map(Self::Tenant)
    }

    /// Whether it is a part of a tenant's calls in the tenant's own words, of which there may be any number.
    pub fn is_of_part(&self) -> bool {
        matches!(self, Self::Project(..) | Self::Plan(..))
    }

    /// Whether it names a model, so that it is not known before the request's body is.
    pub fn is_of_model(&self) -> bool {
        match self {
            Self::Model(_) | Self::TenantModel(..) => true,
            Self::Global
            | Self::Tenant(_)
            | Self::Key(_)
            | Self::Device(_)
            | Self::Endpoint(_)
            | Self::Project(..)
            | Self::Plan(..)
            | Self::Token(_) => false,
        }
    }

    /// Whether somebody calls, so that it can expire.
    pub fn is_of_caller(&self) -> bool {
        match self {
            Self::Tenant(_) | Self::Key(_) | Self::Device(_) | Self::Token(_) => true,
            Self::Global
            | Self::Endpoint(_)
            | Self::Model(_)
            | Self::TenantModel(..)
            | Self::Project(..)
            | Self::Plan(..) => false,
        }
    }

    /// As a client reads of it: without the ids of others.
    pub fn told(&self) -> &'static str {
        match self {
            Self::Global => "relay",
            Self::Tenant(_) => "tenant",
            Self::Key(_) => "API key",
            Self::Device(_) => "device",
            Self::Endpoint(_) => "endpoint",
            Self::Model(_) => "model",
            Self::TenantModel(..) => "tenant for this model",
            Self::Project(..) => "project",
            Self::Plan(..) => "plan",
            Self::Token(_) => "app token",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str(GLOBAL),
            Self::Tenant(id) => write!(f, "tenant:{id}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Device(id) => write!(f, "device:{id}"),
            Self::Endpoint(endpoint) => write!(f, "endpoint:{}", endpoint.path()),
            Self::Model(model) => write!(f, "model:{model}"),
            Self::TenantModel(id, model) => write!(f, "tenant:{id}{MODEL}{model}"),
            Self::Project(id, project) => write!(f, "tenant:{id}{PROJECT}{project}"),
            Self::Plan(id, plan) => write!(f, "tenant:{id}{PLAN}{plan}"),
            Self::Token(id) => write!(f, "token:{id}"),
        }
    }
}

const GLOBAL: &str = "global";
/// Between a tenant and a model.
const MODEL: &str = "/model:";
/// Between a tenant and a project.
const PROJECT: &str = "/project:";
/// Between a tenant and a plan of app tokens.
const PLAN: &str = "/plan:";
