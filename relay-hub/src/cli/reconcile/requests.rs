//! Request by request, by the vendor's id.

use relay_shared::config::Problems;

use super::{
    super::Failure, COST, Costs, Difference, Findings, MISSING_HERE, MISSING_THERE, TOKENS, TWICE_THERE, file::Export,
};
use crate::{
    money::Nanos,
    store::{
        Store, StoreError,
        vendor_bill::{Listed, Match, Own, VendorBill},
    },
};

/// Compares; what is wrong with the file's lines instead, where anything is.
pub(super) async fn compare(
    store: &Store,
    mut export: Export,
    window: (Option<i64>, Option<i64>),
    costs: Costs,
    findings: &mut Findings,
) -> Result<Problems, Failure> {
    let mut bill = VendorBill::new(store).await?;
    let mut page = Vec::new();
    while let Some(line) = export.next() {
        if line.figures.id.is_empty() {
            export.wrong(
                line.figures.line,
                "the id is empty".to_owned(),
                "a line without an id cannot be compared",
            );
            continue;
        }
        let is_within = line
            .at_ms
            .is_none_or(|at| window.0.is_none_or(|since| at >= since) && window.1.is_none_or(|until| at < until));
        if is_within {
            page.push(line.figures);
        }
        if page.len() == PAGE {
            bill.add(&page).await?;
            page.clear();
        }
    }
    bill.add(&page).await?;
    let problems = export.end();
    if problems.is_empty() {
        bill.compare(window, |found| {
            note(found, costs, findings);
            Ok::<_, StoreError>(())
        })
        .await?;
    }
    Ok(problems)
}

fn note(found: Match, costs: Costs, findings: &mut Findings) {
    match found {
        Match::Both(own, listed) => {
            findings.matched = findings.matched.saturating_add(1);
            both(&own, &listed, costs, findings);
        }
        Match::There(listed) => findings.note(Difference {
            there: tokens(&listed, &listed),
            ..difference(MISSING_HERE, None, &listed)
        }),
        Match::Twice(listed) => findings.note(difference(TWICE_THERE, None, &listed)),
        Match::Here(own) => findings.note(Difference {
            here: shown(&own, &own.figures),
            line: None,
            ..difference(MISSING_THERE, Some(&own), &own.figures)
        }),
    }
}

fn both(own: &Own, listed: &Listed, costs: Costs, findings: &mut Findings) {
    let here = &own.figures;
    let differs = |here: Option<i64>, there: Option<i64>| there.is_some_and(|there| here != Some(there));
    if differs(here.input, listed.input) || differs(here.cached, listed.cached) || differs(here.output, listed.output) {
        findings.note(Difference {
            here: shown(own, listed),
            there: tokens(listed, listed),
            ..difference(TOKENS, Some(own), listed)
        });
    }
    if let (Some(cost), Some(there)) = (here.cost, listed.cost)
        && costs.differ(cost, there, 1)
    {
        findings.note(Difference {
            here: Nanos::new(cost).to_string(),
            there: Nanos::new(there).to_string(),
            ..difference(COST, Some(own), listed)
        });
    }
}

fn difference(kind: &'static str, own: Option<&Own>, listed: &Listed) -> Difference {
    Difference {
        kind,
        what: listed.id.clone(),
        model: None,
        line: Some(listed.line),
        call: own.map(|own| own.call.clone()),
        here: "-".to_owned(),
        there: "-".to_owned(),
    }
}

/// What the books say, of the columns that the other side has.
fn shown(own: &Own, columns: &Listed) -> String {
    let told = tokens(&own.figures, columns);
    match own.source.as_deref() {
        Some("estimated") => format!("{told} (estimated)"),
        _ => told,
    }
}

fn tokens(figures: &Listed, columns: &Listed) -> String {
    let parts = [
        ("in", figures.input, columns.input),
        ("cached", figures.cached, columns.cached),
        ("out", figures.output, columns.output),
    ];
    let told = parts
        .iter()
        .filter(|(_, _, column)| column.is_some())
        .map(|(name, count, _)| {
            format!(
                "{name} {}",
                count.map_or_else(|| "-".to_owned(), |count| count.to_string())
            )
        });
    told.collect::<Vec<_>>().join(" ")
}

const PAGE: usize = 1_000;
