//! What single tenants pay: `price list --tenant`, `price set --tenant`, `price unset`, `price times`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    HEADS, cells,
    diff::{Change, tell, told},
    shown,
};
use crate::{
    cli::{Desk, Failure, now_ms},
    money::{Offer, Price, Times},
    price_list,
    store::{
        Store,
        prices::{self, PriceRow, tenant},
    },
};

pub(super) async fn list(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let payer = desk.tenant(&store, name).await?;
    let terms = tenant::find(&store, &payer.id).await?;
    let rows = prices::list(&store).await?.into_iter();
    let offers: Vec<_> = rows
        .map(|mut row| {
            let Offer { price, times, version } = terms.offer(&row.model, &Arc::new(row.price));
            let is_own = terms.own.get(&row.model).is_some_and(|(_, price)| price.is_some());
            row.price = Price {
                version,
                ..Price::clone(&price)
            };
            (row, times, is_own)
        })
        .collect();
    let json: Vec<_> = offers
        .iter()
        .map(|(row, times, is_own)| {
            let mut value = shown(row);
            value["times"] = json!(times.to_string());
            value["own"] = json!(is_own);
            value
        })
        .collect();
    let rows: Vec<_> = offers
        .iter()
        .map(|(row, times, is_own)| {
            let pays = if *is_own {
                "own".to_owned()
            } else {
                format!("x {times}")
            };
            cells(row).into_iter().chain([pays]).collect()
        })
        .collect();
    let heads: Vec<_> = HEADS.into_iter().chain(["PAYS"]).collect();
    Ok(desk.print.list(&json, &heads, &rows)?)
}

/// `line` makes a file's line of what the tenant pays so far.
pub(super) async fn set(
    desk: &mut Desk<'_>,
    store: &Store,
    name: &str,
    listed: &PriceRow,
    line: impl FnOnce(Option<&PriceRow>) -> Result<Value, Failure>,
) -> Result<(), Failure> {
    let payer = desk.tenant(store, name).await?;
    let terms = tenant::find(store, &payer.id).await?;
    let own = terms.own.get(&listed.model).and_then(|(_, price)| price.clone());
    let before = PriceRow {
        price: own.map_or_else(|| listed.price.clone(), |price| Price::clone(&price)),
        ..listed.clone()
    };
    let row = price_list::one(line(Some(&before))?)?;
    if (row.context, row.max_output) != (listed.context, listed.max_output) {
        return Err(Failure::fixable("a model's sizes are the same for every tenant")
            .hint("leave --context and --max-output out, or --tenant"));
    }
    let version = tenant::set_price(store, &payer.id, &row.model, Some(&row.price), now_ms()).await?;
    let change: Change<'_> = (Some(&before), &row);
    if !desk.print.is_json() {
        tell(&mut desk.print, &[change])?;
    }
    let line = format!("{} pays its own price for {}: version {version}", payer.name, row.model);
    let json = json!({"version": version, "tenant": payer.id.as_str(), "changes": [told(&change)]});
    Ok(desk.print.done(&json, &line)?)
}

pub(super) async fn unset(desk: &mut Desk<'_>, model: &str, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let payer = desk.tenant(&store, name).await?;
    let terms = tenant::find(&store, &payer.id).await?;
    if !terms.own.get(model).is_some_and(|(_, price)| price.is_some()) {
        let own: Vec<_> = terms.own.iter().filter(|(_, (_, price))| price.is_some()).collect();
        let names: Vec<_> = own.into_iter().map(|(model, _)| model.as_str()).collect();
        let hint = match names[..] {
            [] => "it has none for any model".to_owned(),
            _ => format!("it has one for: {}", names.join(", ")),
        };
        return Err(Failure::fixable(format!("{} has no price of its own for that model", payer.name)).hint(hint));
    }
    let version = tenant::set_price(&store, &payer.id, model, None, now_ms()).await?;
    let line = format!("{} pays by the list for {model}: version {version}", payer.name);
    let json = json!({"version": version, "tenant": payer.id.as_str(), "model": model});
    Ok(desk.print.done(&json, &line)?)
}

pub(super) async fn times(desk: &mut Desk<'_>, factor: &str, name: &str) -> Result<(), Failure> {
    let times: Times = factor
        .parse()
        .map_err(|error: crate::money::TimesError| Failure::fixable(error.to_string()).hint("write it like 0.8"))?;
    let store = desk.store().await?;
    let payer = desk.tenant(&store, name).await?;
    let version = tenant::set_times(&store, &payer.id, times, now_ms()).await?;
    let line = format!("{} pays {times} times the list: version {version}", payer.name);
    let json = json!({"version": version, "tenant": payer.id.as_str(), "times": times.to_string()});
    Ok(desk.print.done(&json, &line)?)
}
