//! `relay-hub code …`.

use clap::{Args, Subcommand};
use relay_shared::config::Problems;
use serde_json::json;

use super::{Desk, Failure, now_ms, print::moment, terms};
use crate::{
    credit,
    ids::CodeId,
    store::codes::{self, CodeRow},
};

#[derive(Subcommand)]
pub(super) enum Code {
    /// Make codes that stand for credit. They are shown now and never again.
    Create(Create),
    /// Show codes without their texts.
    List,
    /// Take a code back that nobody redeemed.
    Revoke {
        /// The code's id (`code_…`), or the code itself.
        code: String,
    },
    /// Book what a code is worth, once.
    Redeem {
        /// The code itself.
        code: String,
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
}

#[derive(Args)]
pub(super) struct Create {
    /// What each is worth, a decimal such as 10 or 10.50.
    #[arg(long, allow_hyphen_values = true)]
    amount: String,
    /// How many.
    #[arg(long, default_value = "1", allow_hyphen_values = true)]
    count: String,
    /// When they can be redeemed no longer, such as 2030-12-31.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    expires: Option<String>,
    /// How many days their credit lasts, from when they are redeemed.
    #[arg(long, value_name = "DAYS", allow_hyphen_values = true)]
    lasts: Option<String>,
    /// Kept with them, and with the entries of the books.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    note: String,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Code) -> Result<(), Failure> {
    match command {
        Code::Create(words) => create(desk, words).await,
        Code::List => list(desk).await,
        Code::Revoke { code } => revoke(desk, &code).await,
        Code::Redeem { code, tenant } => redeem(desk, &code, &tenant).await,
    }
}

async fn create(desk: &mut Desk<'_>, words: Create) -> Result<(), Failure> {
    let mut problems = Problems::new();
    let amount = terms::amount(&mut problems, "--amount", &words.amount);
    let count = terms::count(&mut problems, "--count", &words.count, MOST_CODES);
    let expires_ms = words
        .expires
        .and_then(|text| terms::moment(&mut problems, "--expires", &text, now_ms()));
    let days = words
        .lasts
        .and_then(|text| terms::count(&mut problems, "--lasts", &text, MOST_DAYS));
    let note = terms::note(&mut problems, "--note", words.note);
    let (Some(amount), Some(count), true) = (amount, count, problems.is_empty()) else {
        return Err(problems.into());
    };
    let new = credit::Terms {
        amount,
        expires_ms,
        days,
        note,
    };
    let count = usize::try_from(count).unwrap_or_default();
    let made = credit::make(&desk.store().await?, &new, count, now_ms()).await?;
    if desk.print.is_json() {
        let made: Vec<_> = made
            .iter()
            .map(|(id, text)| {
                json!({"id": id, "code": text.expose(), "amount": amount, "expires_ms": expires_ms, "days": days})
            })
            .collect();
        return Ok(desk.print.json(&made)?);
    }
    for (_, text) in &made {
        desk.print.line(text.expose())?;
    }
    let (each, are) = if count == 1 {
        ("", "it is")
    } else {
        (" each", "they are")
    };
    Ok(desk
        .print
        .talk(&format!("worth {amount}{each}: {are} not shown again"))?)
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let all = codes::list(&store).await?;
    let names = desk.tenant_names(&store).await?;
    let now_ms = now_ms();
    let rows: Vec<_> = all
        .iter()
        .map(|code| {
            let by = code.tenant.as_ref().and_then(|id| names.get(id).cloned());
            vec![
                code.id.to_string(),
                code.amount.to_string(),
                code.expires_ms.map_or_else(|| "-".to_owned(), moment),
                code.days.map_or_else(|| "-".to_owned(), |days| days.to_string()),
                state(code, by.as_deref(), now_ms),
                if code.note.is_empty() {
                    "-".to_owned()
                } else {
                    code.note.clone()
                },
            ]
        })
        .collect();
    let heads = ["ID", "AMOUNT", "EXPIRES", "DAYS", "STATE", "NOTE"];
    Ok(desk.print.list(&all, &heads, &rows)?)
}

fn state(code: &CodeRow, by: Option<&str>, now_ms: i64) -> String {
    let at = |ms: Option<i64>| ms.map(moment).unwrap_or_default();
    if code.tenant.is_some() {
        format!("redeemed by {} {}", by.unwrap_or("-"), at(code.redeemed_ms))
    } else if code.revoked_ms.is_some() {
        format!("revoked {}", at(code.revoked_ms))
    } else if code.expires_ms.is_some_and(|ms| ms <= now_ms) {
        "expired".to_owned()
    } else {
        "open".to_owned()
    }
}

async fn revoke(desk: &mut Desk<'_>, code: &str) -> Result<(), Failure> {
    let (id, hash) = (CodeId::parse(code).ok(), credit::hash(code));
    if id.is_none() && hash.is_none() {
        // What was typed may be a code: it is not repeated.
        return Err(Failure::fixable("this is neither a code's id nor a code").hint(LIST));
    }
    match codes::revoke(&desk.store().await?, id.as_ref(), hash, now_ms()).await? {
        Some(id) => Ok(desk
            .print
            .done(&json!({"id": id, "revoked": true}), &format!("revoked {id}"))?),
        None => Err(Failure::fixable("there is no such code, or it was redeemed or revoked before").hint(LIST)),
    }
}

async fn redeem(desk: &mut Desk<'_>, code: &str, tenant: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    let done = credit::redeem(&store, code, &tenant.id, now_ms()).await?;
    let (amount, balance) = (done.amount, done.credited.balance);
    let line = if done.credited.is_first {
        format!("credited {amount} to {}: the balance is {balance}", tenant.name)
    } else {
        format!("{} redeemed this code before: the balance is {balance}", tenant.name)
    };
    let json = json!({
        "tenant": tenant.id, "amount": amount, "balance": balance, "reference": done.source(),
        "expires_ms": done.expires_ms, "booked": done.credited.is_first,
    });
    Ok(desk.print.done(&json, &line)?)
}

const LIST: &str = "`relay-hub code list` shows ids";
const MOST_CODES: i64 = 10_000;
const MOST_DAYS: i64 = 36_500;
