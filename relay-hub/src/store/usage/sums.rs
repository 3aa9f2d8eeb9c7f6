//! Sums over calls, by what they have in common.

use futures_util::TryStreamExt as _;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::Filter;
use crate::{
    money::Nanos,
    store::{Store, StoreError},
};

/// What calls are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Who pays, by name.
    Tenant,
    /// The API key's id.
    Key,
    /// The device's id.
    Device,
    /// The app token's id.
    Token,
    /// The tenant's project.
    Project,
    /// The plan that an app token names.
    Plan,
    /// The model asked for.
    Model,
    /// The model at the vendor.
    UpstreamModel,
    /// The vendor account, by name.
    Account,
    /// Canonical path.
    Endpoint,
    /// How it ended.
    Ending,
    /// The day it was booked, UTC.
    Day,
    /// The month it was booked, UTC.
    Month,
}

impl Group {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::Tenant,
        Self::Key,
        Self::Device,
        Self::Token,
        Self::Project,
        Self::Plan,
        Self::Model,
        Self::UpstreamModel,
        Self::Account,
        Self::Endpoint,
        Self::Ending,
        Self::Day,
        Self::Month,
    ];

    /// As a command line and a column's head name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Device => "device",
            Self::Token => "token",
            Self::Project => "project",
            Self::Plan => "plan",
            Self::Model => "model",
            Self::UpstreamModel => "upstream_model",
            Self::Account => "account",
            Self::Endpoint => "endpoint",
            Self::Ending => "ending",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Tenant => "coalesce((SELECT name FROM tenant WHERE id = u.tenant), u.tenant)",
            Self::Key => "CASE WHEN substr(u.caller, 1, 4) = 'key_' THEN u.caller END",
            Self::Device => "CASE WHEN substr(u.caller, 1, 4) = 'dev_' THEN u.caller END",
            Self::Token => "CASE WHEN substr(u.caller, 1, 4) = 'tok_' THEN u.caller END",
            Self::Project => "json_extract(u.detail, '$.project')",
            Self::Plan => "json_extract(u.detail, '$.plan')",
            Self::Model => "u.model",
            Self::UpstreamModel => "u.upstream_model",
            Self::Account => "coalesce((SELECT name FROM vendor_account WHERE id = u.account), u.account)",
            Self::Endpoint => "u.endpoint",
            Self::Ending => "u.ending",
            Self::Day => "date(u.at_ms / 1000, 'unixepoch')",
            Self::Month => "strftime('%Y-%m', u.at_ms / 1000, 'unixepoch')",
        }
    }

    /// What is looked up by name is grouped by id, so that the name is looked up once a group.
    const fn key(self) -> &'static str {
        match self {
            Self::Tenant => "u.tenant",
            Self::Account => "u.account",
            _ => self.sql(),
        }
    }
}

/// What calls of one group have in common: a value for each [`Group`] asked for, none where the calls have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums(Vec<(Group, Option<String>)>);

impl Sums {
    /// The values, in the order asked for.
    pub fn values(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().map(|(_, value)| value.as_deref())
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (group, value) in &self.0 {
            map.serialize_entry(group.name(), value)?;
        }
        map.end()
    }
}

/// The sums of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SumRow {
    /// What its calls have in common.
    #[serde(flatten)]
    pub group: Sums,
    /// What they sum up to.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Declares the figures once: their names, their sums in SQL.
macro_rules! figures {
    ($($(#[doc = $doc:literal])+ $name:ident = $sql:literal,)+) => {
        /// What calls sum up to.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Figures {
            $($(#[doc = $doc])+ pub $name: i64,)+
            /// By the price list.
            pub cost: Nanos,
            /// What tenants paid.
            pub charged: Nanos,
        }

        impl Figures {
            /// The names of the counts, in the order of [`Figures::counts`].
            pub const COUNTS: &'static [&'static str] = &[$(stringify!($name)),+];
            const SQL: &'static [&'static str] = &[$($sql),+];

            /// Every count.
            pub fn counts(&self) -> impl Iterator<Item = i64> {
                [$(self.$name),+].into_iter()
            }

            fn read(row: &SqliteRow, first: usize) -> Result<Self, sqlx::Error> {
                let mut column = first;
                $(let $name = row.try_get(column)?; column = column.saturating_add(1);)+
                let cost = Nanos::new(row.try_get(column)?);
                let charged = Nanos::new(row.try_get(column.saturating_add(1))?);
                Ok(Self { $($name,)+ cost, charged })
            }

            /// Adds another group's.
            pub fn add(&mut self, more: &Self) {
                $(self.$name = self.$name.saturating_add(more.$name);)+
                self.cost = self.cost.saturating_add(more.cost);
                self.charged = self.charged.saturating_add(more.charged);
            }
        }
    };
}

figures! {
    /// Calls.
    calls = "count(*)",
    /// The vendor completed them.
    completed = "count(*) FILTER (WHERE u.ending IN ('completed', 'warmup'))",
    /// The vendor stopped at a limit.
    incomplete = "count(*) FILTER (WHERE u.ending = 'incomplete')",
    /// The vendor reported a failure inside the answer.
    failed = "count(*) FILTER (WHERE u.ending = 'failed')",
    /// The relay refused them.
    refused = "count(*) FILTER (WHERE substr(u.ending, 1, 7) = 'refused')",
    /// The vendor answered with an error, broke off or was silent.
    vendor_fault = "count(*) FILTER (WHERE substr(u.ending, 1, 7) = 'vendor_')",
    /// The client left.
    client_gone = "count(*) FILTER (WHERE substr(u.ending, 1, 11) = 'client_gone')",
    /// Their tokens were counted by the relay.
    estimated = "count(*) FILTER (WHERE u.source = 'estimated')",
    /// Bills that an operator should look at.
    flagged = "count(*) FILTER (WHERE json_extract(u.detail, '$.flags') <> '[\"by_bytes\"]')",
    /// Input tokens, all kinds together.
    input = "coalesce(sum(u.input), 0)",
    /// Of these, read from the vendor's cache.
    cached = "coalesce(sum(u.cached), 0)",
    /// Of these, written to it.
    cache_write = "coalesce(sum(u.cache_write), 0)",
    /// Of these, for longer than usual.
    cache_write_long = "coalesce(sum(json_extract(u.detail, '$.cache_write_long')), 0)",
    /// Of the input, sound.
    input_audio = "coalesce(sum(json_extract(u.detail, '$.input_audio')), 0)",
    /// Of the input, pictures.
    input_image = "coalesce(sum(json_extract(u.detail, '$.input_image')), 0)",
    /// Output tokens, all kinds together.
    output = "coalesce(sum(u.output), 0)",
    /// Of these, reasoning.
    reasoning = "coalesce(sum(u.reasoning), 0)",
    /// Of these, sound.
    output_audio = "coalesce(sum(json_extract(u.detail, '$.output_audio')), 0)",
    /// Of these, pictures.
    output_image = "coalesce(sum(json_extract(u.detail, '$.output_image')), 0)",
    /// Calls of the vendor's own tools.
    tool_calls = "coalesce(sum(coalesce(json_extract(u.detail, '$.web_search'), 0) + \
        coalesce(json_extract(u.detail, '$.file_search'), 0) + \
        coalesce(json_extract(u.detail, '$.code_interpreter'), 0) + \
        coalesce(json_extract(u.detail, '$.image_generation'), 0) + coalesce(json_extract(u.detail, '$.other'), 0)), 0)",
}

/// Gives `each` the sums of the calls that match, group by group in order; without a group, once. Ends with the first
/// error. The database keeps one row a group, on disk where they are many, and none is kept here.
pub async fn sums<E: From<StoreError>>(
    store: &Store,
    filter: &Filter,
    by: &[Group],
    mut each: impl FnMut(SumRow) -> Result<(), E>,
) -> Result<(), E> {
    let mut sql = statement(filter, by);
    let mut rows = sql.build().fetch(store.readers());
    while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
        each(read(&row, by).map_err(StoreError::from)?)?;
    }
    Ok(())
}

fn statement(filter: &Filter, by: &[Group]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT ");
    for column in by.iter().map(|group| group.sql()).chain(Figures::SQL.iter().copied()) {
        sql.push(column).push(", ");
    }
    sql.push("coalesce(sum(u.cost), 0), coalesce(sum(u.charged), 0) FROM usage u WHERE true");
    filter.push(&mut sql);
    for (at, group) in by.iter().enumerate() {
        sql.push(if at == 0 { " GROUP BY " } else { ", " }).push(group.key());
    }
    for at in 1..=by.len() {
        sql.push(if at == 1 { " ORDER BY " } else { ", " }).push(at);
    }
    sql
}

fn read(row: &SqliteRow, by: &[Group]) -> Result<SumRow, sqlx::Error> {
    let values = by
        .iter()
        .enumerate()
        .map(|(column, group)| Ok((*group, row.try_get(column)?)));
    Ok(SumRow {
        group: Sums(values.collect::<Result<_, sqlx::Error>>()?),
        figures: Figures::read(row, by.len())?,
    })
}
