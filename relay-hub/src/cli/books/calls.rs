//! `relay-hub usage`: calls, or sums of them.

use clap::Args;
use relay_shared::config::Problems;
use serde::Serialize;

use super::{
    super::{
        Desk, Failure,
        print::moment,
        sheet::{Cell, Cut, Sheet},
    },
    Form, PAGE,
    which::{self, Which},
};
use crate::store::{
    Store,
    usage::{self, CallRow, Figures, Filter, Group, SumRow},
};

#[derive(Args)]
pub(super) struct Calls {
    #[command(flatten)]
    which: Which,
    /// Sums instead of calls, by what they have in common: tenant, key, device, token, project, plan, model,
    /// upstream_model, account, endpoint, ending, day, month, with commas between them; or total.
    #[arg(long, value_name = "WHAT")]
    by: Option<String>,
    /// Sums by tenant and model.
    #[arg(long, conflicts_with = "by")]
    totals: bool,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(desk: &mut Desk<'_>, words: &Calls) -> Result<(), Failure> {
    let store = desk.books().await?;
    let mut problems = Problems::new();
    let filter = words.which.read(desk, &store, &mut problems).await?;
    let by = match &words.by {
        Some(text) => Some(which::groups(text, &Group::ALL, Group::name, &mut problems)),
        None => words.totals.then(|| USUAL.to_vec()),
    };
    let is_table = !words.form.csv && !desk.print.is_json();
    let usual = if by.is_some() { USUAL_SUMS } else { USUAL_CALLS };
    let limit = which::limit(words.form.limit, usual, is_table, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    match (by, is_table) {
        (Some(by), true) => sum_table(desk, &store, &filter, &by, limit).await,
        (Some(by), false) => Cut::heard(sum_sheet(desk, &store, &filter, &by, words.form.csv, limit).await),
        (None, true) => call_table(desk, &store, &filter, limit.unwrap_or(USUAL_CALLS)).await,
        (None, false) => Cut::heard(call_sheet(desk, &store, &filter, words.form.csv, limit).await),
    }
}

async fn call_table(desk: &mut Desk<'_>, store: &Store, filter: &Filter, limit: u32) -> Result<(), Failure> {
    // One more tells whether there are more.
    let mut calls = usage::page(store, filter, None, limit.saturating_add(1)).await?;
    let are_more = calls.len() > limit as usize;
    calls.truncate(limit as usize);
    desk.print.table(&HEADS, &calls.iter().map(shown).collect::<Vec<_>>())?;
    desk.print.line("")?;
    sum_table(desk, store, filter, &USUAL, None).await?;
    if are_more {
        let hint = format!("the last {limit} calls are shown: --limit shows more, --csv and --json write all");
        desk.print.talk(&hint)?;
    }
    Ok(())
}

async fn call_sheet(
    desk: &mut Desk<'_>,
    store: &Store,
    filter: &Filter,
    is_csv: bool,
    limit: Option<u32>,
) -> Result<(), Cut> {
    let mut sheet = Sheet::begin(&mut desk.print, is_csv, COLUMNS.iter().map(|(head, _)| *head))?;
    let (mut left, mut after) = (limit.unwrap_or(u32::MAX), None);
    loop {
        let count = left.min(PAGE);
        let calls = usage::page(store, filter, after, count).await?;
        for call in &calls {
            sheet.row(&Told::of(call), || COLUMNS.iter().map(|(_, cell)| cell(call)).collect())?;
        }
        after = calls.last().map(CallRow::place);
        if limit.is_some() {
            left = left.saturating_sub(count);
        }
        if calls.len() < PAGE as usize || left == 0 {
            return sheet.end();
        }
    }
}

async fn sum_table(
    desk: &mut Desk<'_>,
    store: &Store,
    filter: &Filter,
    by: &[Group],
    limit: Option<u32>,
) -> Result<(), Failure> {
    let heads: Vec<String> = by.iter().map(|group| group.name().to_uppercase()).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).chain(FIGURES).collect();
    let limit = limit.unwrap_or(USUAL_SUMS) as usize;
    let (mut rows, mut groups, mut total) = (Vec::new(), 0_usize, Figures::default());
    usage::sums(store, filter, by, |sum| {
        total.add(&sum.figures);
        groups = groups.saturating_add(1);
        if rows.len() < limit {
            let values = sum.group.values().map(|value| Cell::from(value).shown());
            rows.push(values.chain(figures(&sum.figures)).collect());
        }
        Ok::<_, Failure>(())
    })
    .await?;
    if groups > 1 {
        let total = (0..by.len())
            .map(|at| if at == 0 { "total" } else { "" }.to_owned())
            .chain(figures(&total));
        rows.push(total.collect());
    }
    desk.print.table(&heads, &rows)?;
    if groups > limit {
        let hint = format!("{limit} of {groups} groups are shown: --limit shows more, --csv and --json write all");
        desk.print.talk(&hint)?;
    }
    Ok(())
}

async fn sum_sheet(
    desk: &mut Desk<'_>,
    store: &Store,
    filter: &Filter,
    by: &[Group],
    is_csv: bool,
    limit: Option<u32>,
) -> Result<(), Cut> {
    let names = by.iter().map(|group| group.name());
    let heads = names.chain(Figures::COUNTS.iter().copied()).chain(["cost", "charged"]);
    let mut sheet = Sheet::begin(&mut desk.print, is_csv, heads)?;
    let mut left = limit.unwrap_or(u32::MAX);
    usage::sums(store, filter, by, |sum| {
        if left == 0 {
            return Ok(());
        }
        left = left.saturating_sub(u32::from(limit.is_some()));
        sheet.row(&sum, || cells(&sum))
    })
    .await?;
    sheet.end()
}

fn cells(sum: &SumRow) -> Vec<Cell> {
    let values = sum.group.values().map(Cell::from);
    let money = [sum.figures.cost, sum.figures.charged].map(Cell::Money);
    values
        .chain(sum.figures.counts().map(Cell::Number))
        .chain(money)
        .collect()
}

/// What a table has room for.
fn figures(figures: &Figures) -> impl Iterator<Item = String> + use<> {
    let f = figures;
    let others = f.calls - f.completed - f.incomplete - f.failed - f.refused - f.vendor_fault - f.client_gone;
    let counts = [
        f.calls,
        f.completed,
        f.incomplete,
        f.failed,
        f.refused,
        f.vendor_fault,
        f.client_gone,
        others,
        f.input,
        f.cached,
        f.output,
        f.reasoning,
    ];
    let money = [f.cost.to_string(), f.charged.to_string(), f.flagged.to_string()];
    counts.map(|count| count.to_string()).into_iter().chain(money)
}

const FIGURES: [&str; 15] = [
    "CALLS",
    "DONE",
    "INCOMPLETE",
    "FAILED",
    "REFUSED",
    "VENDOR",
    "LEFT",
    "OTHER",
    "INPUT",
    "CACHED",
    "OUTPUT",
    "REASONING",
    "COST",
    "CHARGED",
    "FLAGGED",
];

/// A call with its time as a person reads it.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    #[serde(flatten)]
    call: &'a CallRow,
    started: String,
}

impl<'a> Told<'a> {
    pub(super) fn of(call: &'a CallRow) -> Self {
        Self {
            call,
            started: moment(call.started_ms),
        }
    }
}

const HEADS: [&str; 15] = [
    "CALL", "STARTED", "TENANT", "BY", "MODEL", "INPUT", "CACHED", "OUTPUT", "USAGE", "COST", "CHARGED", "STATUS",
    "ENDING", "LINK", "MS",
];

fn shown(call: &CallRow) -> Vec<String> {
    let count = |value: Option<i64>| Cell::from(value).shown();
    vec![
        call.call.clone(),
        moment(call.started_ms),
        call.tenant_name.as_ref().unwrap_or(&call.tenant).clone(),
        call.by.clone(),
        call.model.clone(),
        count(call.input),
        count(call.cached),
        count(call.output),
        call.usage_source.clone().unwrap_or_else(|| "-".to_owned()),
        call.cost.to_string(),
        call.charged.to_string(),
        call.status.to_string(),
        call.ending.clone(),
        call.link.clone(),
        count(call.total_us.map(|us| us / 1000)),
    ]
}

type Column = (&'static str, fn(&CallRow) -> Cell);

/// The columns of CSV. Programs name them: they are added at the end and never renamed.
const COLUMNS: [Column; 33] = [
    ("call", |c| c.call.as_str().into()),
    ("started", |c| Cell::Text(moment(c.started_ms))),
    ("started_ms", |c| Cell::Number(c.started_ms)),
    ("at_ms", |c| Cell::Number(c.at_ms)),
    ("tenant", |c| c.tenant.as_str().into()),
    ("tenant_name", |c| c.tenant_name.as_deref().into()),
    ("by", |c| c.by.as_str().into()),
    ("account", |c| c.account.as_deref().into()),
    ("account_name", |c| c.account_name.as_deref().into()),
    ("egress", |c| c.egress.as_deref().into()),
    ("endpoint", |c| c.endpoint.as_str().into()),
    ("model", |c| c.model.as_str().into()),
    ("upstream_model", |c| c.upstream_model.as_str().into()),
    ("status", |c| Cell::Number(c.status)),
    ("ending", |c| c.ending.as_str().into()),
    ("usage_source", |c| c.usage_source.as_deref().into()),
    ("input", |c| c.input.into()),
    ("cached", |c| c.cached.into()),
    ("cache_write", |c| c.cache_write.into()),
    ("output", |c| c.output.into()),
    ("reasoning", |c| c.reasoning.into()),
    ("held", |c| c.held.map_or(Cell::Empty, Cell::Money)),
    ("cost", |c| Cell::Money(c.cost)),
    ("charged", |c| Cell::Money(c.charged)),
    ("price_version", |c| Cell::Number(c.price_version)),
    ("first_byte_us", |c| c.first_byte_us.into()),
    ("total_us", |c| c.total_us.into()),
    ("vendor_request_id", |c| c.vendor_request_id.as_deref().into()),
    ("response_id", |c| c.response_id.as_deref().into()),
    ("link", |c| c.link.as_str().into()),
    ("detail", |c| {
        c.detail
            .as_ref()
            .map_or(Cell::Empty, |detail| Cell::Text(detail.to_string()))
    }),
    ("local_address", |c| c.local_address.as_deref().into()),
    ("project", |c| c.project.as_deref().into()),
];

const USUAL: [Group; 2] = [Group::Tenant, Group::Model];
const USUAL_CALLS: u32 = 50;
const USUAL_SUMS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay_protocol::{Tokens, Usage, UsageSource};
    use relay_shared::{call::CallId, tasks::Tasks};

    use super::*;
    use crate::{
        identity::By,
        ids::{KeyId, TenantId},
        ledger::{self, Choice, Ending, Flags, Ledger, Link, Reserve, UsageRow},
        money::Nanos,
        store::{tenants, testing::TestHub},
    };

    fn of(tenant: &TenantId) -> Filter {
        Filter {
            tenant: Some(tenant.clone()),
            ..Filter::default()
        }
    }

    fn row(call: CallId, tenant: &TenantId, by: By) -> UsageRow {
        let tokens = Tokens::new;
        let used = Usage {
            input: tokens(100),
            cached: tokens(40),
            cache_write: tokens(3),
            output: tokens(20),
            reasoning: tokens(7),
            ..Usage::default()
        };
        UsageRow {
            call,
            tenant: tenant.clone(),
            by,
            project: None,
            plan: None,
            account: None,
            choice: Choice::Only,
            egress: Some("direct".into()),
            local_address: None,
            endpoint: "/v1/responses",
            model: "m".into(),
            upstream_model: "m-1".into(),
            usage: Some((used, UsageSource::Reported)),
            cost: Nanos::new(1_500),
            price_version: 1,
            status: 200,
            ending: Ending::Completed,
            started_ms: 1_795_244_400_000,
            hold_us: Some(80),
            first_byte_us: Some(12_345),
            total_us: Some(99_999),
            vendor_request_id: Some("req_1".into()),
            response_id: Some("resp_1".into()),
            link: Link::Quic,
            streamed: true,
            tier: None,
            flags: Flags::default(),
        }
    }

    #[tokio::test]
    async fn a_settled_call_is_shown_with_all_that_is_known_of_it() {
        let hub = TestHub::bare().await;
        let acme = tenants::add(&hub.store, "acme", 1).await.unwrap();
        let other = tenants::add(&hub.store, "other", 1).await.unwrap();
        ledger::credit(&hub.store, &acme, Nanos::new(1_000_000), "r", "", 1)
            .await
            .unwrap();
        let (call, by, tasks) = (CallId::random(), By::Key(KeyId::random()), Tasks::new());
        let books = Ledger::start(&hub.store, &tasks).await.unwrap();
        let reserve = Reserve {
            call,
            tenant: acme.clone(),
            by: by.clone(),
            model: "m".into(),
            amount: Nanos::new(5_000),
            price_version: 1,
        };
        let hold = books.reserve(reserve).await.unwrap();
        hold.settle(Nanos::new(1_500), row(call, &acme, by)).await.unwrap();
        drop(books);
        tasks.shutdown(Duration::from_secs(5)).await;
        let calls = usage::page(&hub.store, &of(&acme), None, 10).await.unwrap();
        let told = serde_json::to_value(Told::of(&calls[0])).unwrap();
        assert_eq!(told["call"], call.to_string());
        assert_eq!(
            (&told["cost"], &told["cost_nanos"]),
            (&"0.0000015".into(), &1_500.into())
        );
        assert_eq!((&told["input"], &told["reasoning"]), (&100.into(), &7.into()));
        assert_eq!(
            (&told["usage_source"], &told["ending"]),
            (&"reported".into(), &"completed".into())
        );
        assert_eq!(
            (&told["link"], &told["started"]),
            (&"quic".into(), &"2026-11-21T07:00:00Z".into())
        );
        assert_eq!(
            (&told["tenant"], &told["tenant_name"]),
            (&acme.as_str().into(), &"acme".into())
        );
        let cells = shown(&calls[0]);
        assert_eq!(cells.len(), HEADS.len());
        assert_eq!((cells[2].as_str(), cells[14].as_str()), ("acme", "99"));
        assert_eq!(usage::count(&hub.store).await.unwrap(), 1);
        assert_eq!(usage::find(&hub.store, "req_1").await.unwrap().len(), 1);
        assert_eq!(usage::find(&hub.store, &call.to_string()).await.unwrap().len(), 1);
        assert!(usage::find(&hub.store, "req_2").await.unwrap().is_empty());
        assert!(usage::page(&hub.store, &of(&other), None, 10).await.unwrap().is_empty());
    }
}
