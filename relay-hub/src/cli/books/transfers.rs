//! `relay-hub ledger list`: transfers, or sums of them. One tenant's have the balance after each.

use std::collections::BTreeMap;

use clap::Args;
use relay_shared::config::Problems;
use serde::Serialize;

use super::{
    super::{
        Desk, Failure,
        print::moment,
        sheet::{Cell, Cut, Sheet},
        typed,
    },
    Form, PAGE,
    which::{self, Window},
};
use crate::{
    ids::TenantId,
    money::Nanos,
    store::{
        Store,
        transfers::{self, TransferFilter, TransferGroup, TransferRow, TransferSum},
    },
};

#[derive(Args)]
pub(super) struct Transfers {
    /// Name or id; shows the balance after each transfer. Without it, everybody's.
    #[arg(long)]
    tenant: Option<String>,
    /// Only these, such as charge, loss or credit.
    #[arg(long)]
    kind: Option<String>,
    #[command(flatten)]
    window: Window,
    /// Sums instead of transfers, by tenant, kind, day, month, with commas between them; or total.
    #[arg(long, value_name = "WHAT")]
    by: Option<String>,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(desk: &mut Desk<'_>, words: &Transfers) -> Result<(), Failure> {
    let store = desk.books().await?;
    let mut problems = Problems::new();
    let tenant = which::known_tenant(desk, &store, words.tenant.as_deref(), &mut problems).await?;
    let (since_ms, until_ms) = words.window.read(&mut problems);
    let is_word = |kind: &String| kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if let Some(kind) = words.kind.as_ref().filter(|kind| !is_word(kind)) {
        let problem = format!("`{}` is no kind", typed(kind));
        problems.push(
            "--kind",
            problem,
            "write a word of `relay-hub ledger list`, such as charge or credit",
        );
    }
    let by = words.by.as_ref();
    let by = by.map(|text| which::groups(text, &TransferGroup::ALL, TransferGroup::name, &mut problems));
    let is_table = !words.form.csv && !desk.print.is_json();
    let usual = if by.is_some() { USUAL_SUMS } else { USUAL };
    let limit = which::limit(words.form.limit, usual, is_table, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let filter = TransferFilter {
        tenant,
        kind: words.kind.clone(),
        since_ms,
        until_ms,
    };
    let out = Out {
        is_table,
        is_csv: words.form.csv,
        limit: limit.unwrap_or(u32::MAX),
    };
    match by {
        Some(by) => sums(desk, &store, &filter, &by, out).await,
        None => list(desk, &store, &filter, out).await,
    }
}

/// How it is written.
#[derive(Clone, Copy)]
struct Out {
    is_table: bool,
    is_csv: bool,
    limit: u32,
}

/// Transfers as they are read, the last one first, each with the balance that it left.
struct Walk<'a> {
    store: &'a Store,
    /// What is read; narrower than what is shown where every transfer counts for the balance.
    read: TransferFilter,
    shown: &'a TransferFilter,
    before: i64,
    balance: Option<Nanos>,
}

impl<'a> Walk<'a> {
    async fn begin(store: &'a Store, shown: &'a TransferFilter) -> Result<Self, Failure> {
        let Some(tenant) = &shown.tenant else {
            return Ok(Self {
                store,
                read: shown.clone(),
                shown,
                before: i64::MAX,
                balance: None,
            });
        };
        let standing = transfers::standing(store, tenant).await?;
        let read = TransferFilter {
            tenant: Some(tenant.clone()),
            ..TransferFilter::default()
        };
        Ok(Self {
            store,
            read,
            shown,
            before: standing.last.saturating_add(1),
            balance: Some(standing.posted),
        })
    }

    /// The next ones; none when there are no more.
    async fn page(&mut self) -> Result<Option<Vec<Entry>>, Failure> {
        let rows = transfers::page(self.store, &self.read, self.before, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        self.before = last.seq;
        let entries = rows.into_iter().filter_map(|row| self.step(row));
        Ok(Some(entries.collect()))
    }

    fn step(&mut self, transfer: TransferRow) -> Option<Entry> {
        let balance = self.balance;
        if let (Some(tenant), Some(balance)) = (&self.read.tenant, &mut self.balance) {
            *balance = balance.saturating_sub(effect(&transfer, tenant));
        }
        let TransferFilter {
            tenant: _,
            kind,
            since_ms,
            until_ms,
        } = self.shown;
        let is_shown = kind.as_ref().is_none_or(|kind| transfer.kind == *kind)
            && since_ms.is_none_or(|since| transfer.at_ms >= since)
            && until_ms.is_none_or(|until| transfer.at_ms < until);
        is_shown.then(|| Entry {
            at: moment(transfer.at_ms),
            transfer,
            balance,
        })
    }
}

/// What a transfer did to a tenant's balance.
fn effect(transfer: &TransferRow, tenant: &TenantId) -> Nanos {
    let taken = |account: &str| {
        if account == tenant.as_str() {
            transfer.amount
        } else {
            Nanos::ZERO
        }
    };
    taken(&transfer.credit).saturating_sub(taken(&transfer.debit))
}

/// A transfer as it is shown.
#[derive(Serialize)]
struct Entry {
    #[serde(flatten)]
    transfer: TransferRow,
    at: String,
    /// What the tenant had after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Nanos>,
}

impl Entry {
    fn cells(&self) -> Vec<Cell> {
        let t = &self.transfer;
        let mut cells = vec![
            Cell::Number(t.seq),
            self.at.as_str().into(),
            t.kind.as_str().into(),
            t.tenant_name.as_deref().into(),
            t.debit.as_str().into(),
            t.credit.as_str().into(),
            Cell::Money(t.amount),
        ];
        cells.extend(self.balance.map(Cell::Money));
        cells.extend([t.call.as_deref().into(), t.reference.as_deref().into()]);
        cells.push(if t.note.is_empty() {
            Cell::Empty
        } else {
            t.note.as_str().into()
        });
        cells
    }
}

fn heads(has_balance: bool) -> impl Iterator<Item = &'static str> {
    let balance = has_balance.then_some("balance");
    let first = ["seq", "at", "kind", "tenant", "debit", "credit", "amount"];
    first.into_iter().chain(balance).chain(["call", "reference", "note"])
}

async fn list(desk: &mut Desk<'_>, store: &Store, filter: &TransferFilter, out: Out) -> Result<(), Failure> {
    if !out.is_table {
        return Cut::heard(sheet(desk, store, filter, out).await);
    }
    let mut walk = Walk::begin(store, filter).await?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let limit = out.limit as usize;
    while rows.len() <= limit
        && let Some(entries) = walk.page().await?
    {
        rows.extend(
            entries
                .iter()
                .map(|entry| entry.cells().into_iter().map(Cell::shown).collect()),
        );
    }
    let are_more = rows.len() > limit;
    rows.truncate(limit);
    let heads: Vec<_> = heads(filter.tenant.is_some()).map(str::to_uppercase).collect();
    desk.print
        .table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &rows)?;
    if are_more {
        let hint = format!("the last {limit} transfers are shown: --limit shows more, --csv and --json write all");
        desk.print.talk(&hint)?;
    }
    Ok(())
}

async fn sheet(desk: &mut Desk<'_>, store: &Store, filter: &TransferFilter, out: Out) -> Result<(), Cut> {
    let mut walk = Walk::begin(store, filter).await.map_err(Cut::Failed)?;
    let mut sheet = Sheet::begin(&mut desk.print, out.is_csv, heads(filter.tenant.is_some()))?;
    let mut left = out.limit;
    while left > 0
        && let Some(entries) = walk.page().await.map_err(Cut::Failed)?
    {
        for entry in entries.iter().take(left as usize) {
            sheet.row(entry, || entry.cells())?;
        }
        // No limit is a number that no database reaches.
        left = left.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    }
    sheet.end()
}

async fn sums(
    desk: &mut Desk<'_>,
    store: &Store,
    filter: &TransferFilter,
    by: &[TransferGroup],
    out: Out,
) -> Result<(), Failure> {
    let heads: Vec<_> = by
        .iter()
        .map(|group| group.name())
        .chain(["transfers", "credited", "debited"])
        .collect();
    let mut left = out.limit;
    if out.is_table {
        let mut rows: Vec<Vec<String>> = Vec::new();
        transfers::sums(store, filter, by, |sum| {
            if left > 0 {
                rows.push(sum_cells(&sum).into_iter().map(Cell::shown).collect());
            }
            left = left.saturating_sub(1);
            Ok::<_, Failure>(())
        })
        .await?;
        let heads: Vec<_> = heads.iter().map(|head| head.to_uppercase()).collect();
        return Ok(desk
            .print
            .table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &rows)?);
    }
    let mut sheet = match Sheet::begin(&mut desk.print, out.is_csv, heads.iter().copied()) {
        Ok(sheet) => sheet,
        Err(cut) => return Cut::heard(Err(cut)),
    };
    let listed = transfers::sums(store, filter, by, |sum| {
        if left == 0 {
            return Ok(());
        }
        left = left.saturating_sub(1);
        let cells = sum_cells(&sum);
        let json: BTreeMap<_, _> = heads.iter().zip(cells.clone()).collect();
        sheet.row(&json, || cells)
    })
    .await;
    Cut::heard(match listed {
        Ok(()) => sheet.end(),
        Err(cut) => Err(cut),
    })
}

fn sum_cells(sum: &TransferSum) -> Vec<Cell> {
    let mut cells: Vec<_> = sum.group.iter().map(|value| Cell::Text(value.clone())).collect();
    cells.extend([
        Cell::Number(sum.transfers),
        Cell::Money(sum.credited),
        Cell::Money(sum.debited),
    ]);
    cells
}

const USUAL: u32 = 50;
const USUAL_SUMS: u32 = 1_000;
