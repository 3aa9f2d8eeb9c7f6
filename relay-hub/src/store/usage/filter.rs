//! Which calls a question is about.

use sqlx::{QueryBuilder, Sqlite};

use crate::ids::{AccountId, Project, TenantId};

/// What is not named does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Who pays.
    pub tenant: Option<TenantId>,
    /// The id of a key or a device.
    pub caller: Option<String>,
    /// For which of its projects.
    pub project: Option<Project>,
    /// The name asked for or the vendor's.
    pub model: Option<String>,
    /// The vendor account.
    pub account: Option<AccountId>,
    /// Booked then or later, milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Booked before then.
    pub until_ms: Option<i64>,
    /// Only calls whose tokens were counted, and no warm-up: what a vendor bills.
    pub has_usage: bool,
}

impl Filter {
    /// Adds itself to a statement that names the table `u` and ends in a condition.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Sqlite>) {
        let Self {
            tenant,
            caller,
            project,
            model,
            account,
            since_ms,
            until_ms,
            has_usage,
        } = self;
        let same = [
            (" AND u.tenant = ", tenant.as_ref().map(TenantId::as_str)),
            (" AND u.caller = ", caller.as_deref()),
            (
                " AND json_extract(u.detail, '$.project') = ",
                project.as_ref().map(Project::as_str),
            ),
            (" AND u.account = ", account.as_ref().map(AccountId::as_str)),
        ];
        for (condition, value) in same {
            if let Some(value) = value {
                sql.push(condition).push_bind(value.to_owned());
            }
        }
        if let Some(model) = model {
            sql.push(" AND (u.model = ").push_bind(model.clone());
            sql.push(" OR u.upstream_model = ").push_bind(model.clone()).push(")");
        }
        if *has_usage {
            sql.push(" AND u.input IS NOT NULL AND u.ending <> 'warmup'");
        }
        for (condition, at_ms) in [(" AND u.at_ms >= ", since_ms), (" AND u.at_ms < ", until_ms)] {
            if let Some(at_ms) = at_ms {
                sql.push(condition).push_bind(*at_ms);
            }
        }
    }
}
