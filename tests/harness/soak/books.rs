//! Compares the hub's books, row by row as `usage --csv` writes them, with the vendor's bill. Keeps sums and one bit a
//! call.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use anyhow::{Context, Result};
use relay_tests::vendor::Usage;
use relay_tests::vendor::soak::{Kind, Soaked, number};

use crate::oracle;

/// What the books say, and where they differ.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) rows: u64,
    /// Calls and charges by ending.
    pub(crate) endings: BTreeMap<String, (u64, i128)>,
    /// Charged for usage that the vendor reported, by tenant.
    pub(crate) exact: HashMap<u16, i128>,
    /// Charged for what the relay counted, by tenant.
    pub(crate) counted: HashMap<u16, i128>,
    /// The first differences.
    pub(crate) wrong: Vec<String>,
    pub(crate) wrongs: u64,
}

impl Findings {
    pub(crate) fn wrong(&mut self, what: String) {
        self.wrongs += 1;
        if self.wrong.len() < 20 {
            self.wrong.push(what);
        }
    }
}

/// A row of `usage --csv`.
#[derive(serde::Deserialize)]
struct Row {
    tenant: String,
    ending: String,
    usage_source: String,
    input: Option<u64>,
    cached: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    held: String,
    cost: String,
    charged: String,
    response_id: String,
}

impl Row {
    fn usage(&self) -> Option<Usage> {
        Some(Usage {
            input: self.input?,
            cached: self.cached?,
            output: self.output?,
            reasoning: self.reasoning?,
        })
    }
}

/// Reads every row; `tenants` are ids by number.
pub(crate) fn compare(csv: impl Read, bill: &[Soaked], tenants: &HashMap<String, u16>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut seen = vec![false; bill.len()];
    for row in csv::Reader::from_reader(csv).deserialize() {
        let row: Row = row.context("a row of `usage --csv`")?;
        findings.rows += 1;
        let charged = oracle::nanos(&row.charged).context("an amount")?;
        let ending = findings.endings.entry(row.ending.clone()).or_default();
        ending.0 += 1;
        ending.1 += i128::from(charged);
        let Some(tenant) = tenants.get(&row.tenant).copied() else {
            findings.wrong(format!("a call of tenant {}, which is none", row.tenant));
            continue;
        };
        match number(&row.response_id) {
            Some(number) if bill.get(number).is_some() && !seen[number] => {
                seen[number] = true;
                call(&mut findings, &row, tenant, charged, &bill[number]);
            }
            Some(number) => findings.wrong(format!("answer {number} is there twice, or was never given")),
            None if charged != 0 => findings.wrong(format!("{} is charged for no answer: {}", row.tenant, row.ending)),
            None => {}
        }
    }
    for (number, call) in bill.iter().enumerate().filter(|(number, _)| !seen[*number]) {
        if call.billed.is_some() {
            findings.wrong(format!(
                "answer {number} is on the vendor's bill and not in the books: {call:?}"
            ));
        }
    }
    Ok(findings)
}

/// One row against one line of the bill.
fn call(findings: &mut Findings, row: &Row, tenant: u16, charged: i64, call: &Soaked) {
    let mut wrong = |what: &str| {
        let told = format!(
            "{what}: {call:?}: {} {} {:?} cost {} charged {}",
            row.ending,
            row.usage_source,
            row.usage(),
            row.cost,
            row.charged
        );
        findings.wrong(told);
    };
    if call.order.tenant != tenant {
        wrong("another tenant has the call");
    }
    if let Some(usage) = call.billed {
        let cost = oracle::cost(tenant, call.model, usage);
        if row.usage() != Some(usage) || row.usage_source != "reported" {
            wrong("the usage is another");
        }
        if charged != cost || oracle::nanos(&row.cost) != Some(cost) {
            wrong("the charge is another");
        }
        *findings.exact.entry(tenant).or_default() += i128::from(charged);
        return;
    }
    // Nothing was reported: counted where the answer ended well or the client left it, else free.
    let is_counted = matches!(call.order.kind, Kind::Silent | Kind::Left);
    if !is_counted && charged != 0 {
        wrong("what the vendor broke off is charged");
    }
    if let Some(usage) = row.usage().filter(|_| is_counted) {
        let held = oracle::nanos(&row.held).unwrap_or_default();
        if charged != oracle::cost(tenant, call.model, usage).min(held) || row.usage_source != "estimated" {
            wrong("the count is charged otherwise than by the price list, up to the hold");
        }
    } else if is_counted {
        wrong("nothing was counted");
    }
    *findings.counted.entry(tenant).or_default() += i128::from(charged);
}
