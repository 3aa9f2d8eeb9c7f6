//! What became of each model between two lists, for a person and for a program.

use serde_json::{Value, json};

use crate::{cli::Failure, cli::print::Print, store::prices::PriceRow};

/// A model whose line is not what it was; nothing before where it was not listed.
pub(super) type Change<'a> = (Option<&'a PriceRow>, &'a PriceRow);

pub(super) fn changes<'a>(before: &'a [PriceRow], after: &'a [PriceRow]) -> Vec<Change<'a>> {
    let known = |row: &PriceRow| before.iter().find(|known| known.model == row.model);
    let pairs = after.iter().map(|row| (known(row), row));
    pairs
        .filter(|(before, row)| before.is_none_or(|before| !before.says_the_same(row)))
        .collect()
}

pub(super) fn told((before, row): &Change<'_>) -> Value {
    json!({"model": row.model, "before": before.map(figures), "after": figures(row)})
}

pub(super) fn tell(print: &mut Print<'_>, changes: &[Change<'_>]) -> Result<(), Failure> {
    for (before, row) in changes {
        print.line(&difference(*before, row))?;
    }
    Ok(())
}

/// One line that says what became of a model.
fn difference(before: Option<&PriceRow>, after: &PriceRow) -> String {
    let now = columns(after);
    let Some(then) = before.map(columns) else {
        let parts: Vec<_> = now.iter().map(|(name, value)| format!("{name} {value}")).collect();
        return format!("added {}: {}", after.model, parts.join(", "));
    };
    let value = |columns: &[(String, String)], name: &str| {
        let found = columns.iter().find(|(known, _)| known == name);
        found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
    };
    let gone = then
        .iter()
        .filter(|(name, _)| !now.iter().any(|(known, _)| known == name));
    let parts: Vec<_> = now
        .iter()
        .chain(gone)
        .map(|(name, _)| (name, value(&then, name), value(&now, name)))
        .filter(|(_, then, now)| then != now)
        .map(|(name, then, now)| format!("{name} {then} -> {now}"))
        .collect();
    format!("changed {}: {}", after.model, parts.join(", "))
}

/// Every figure of a line that is there, with its name in words.
pub(super) fn columns(row: &PriceRow) -> Vec<(String, String)> {
    let words = |name: &str| name.replace('_', " ");
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |before: &str, named: &[(&'static str, Option<crate::money::Nanos>)]| {
        for (name, price) in named {
            if let Some(price) = price {
                all.push((format!("{before}{}", words(name)), price.to_string()));
            }
        }
    };
    let price = &row.price;
    let tiers = price
        .service
        .iter()
        .map(|service| (format!("{} ", service.tier), &service.tariff));
    for (tier, tariff) in [(String::new(), &price.standard)].into_iter().chain(tiers) {
        add(&tier, &tariff.base.named());
        for long in &tariff.long {
            add(&format!("{tier}over {} ", long.above), &long.rates.named());
        }
    }
    add("", &price.tools.named());
    all.push(("context".to_owned(), row.context.to_string()));
    all.push(("max output".to_owned(), row.max_output.to_string()));
    all
}

/// The same figures with the keys of a file.
pub(super) fn figures(row: &PriceRow) -> Value {
    let mut figures = serde_json::to_value(&row.price).unwrap_or_default();
    if let Value::Object(map) = &mut figures {
        map.insert("context".to_owned(), json!(row.context));
        map.insert("max_output".to_owned(), json!(row.max_output));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price_list;

    fn list(more: &str) -> Vec<PriceRow> {
        let text = format!("[[model]]\nname='m'\ncached='0'\noutput='2'\ncontext=3\nmax_output=4\n{more}");
        price_list::read("p", &text).unwrap()
    }

    #[test]
    fn a_change_is_told_by_what_differs() {
        let (before, after) = (list("input='1'"), list("input='1.5'"));
        let changed = changes(&before, &after);
        assert_eq!(
            difference(changed[0].0, changed[0].1),
            "changed m: input 1.00 -> 1.50, cache write 1.00 -> 1.50"
        );
        assert!(changes(&before, &before).is_empty());
        assert_eq!(
            difference(None, &after[0]),
            "added m: input 1.50, cached 0.00, cache write 1.50, output 2.00, context 3, max output 4"
        );
    }

    #[test]
    fn tiers_and_tools_are_told_by_name() {
        let before = list("input='1'\n[model.tools]\nfile_search='0.0025'");
        let after = list(
            "input='1'\n[model.tools]\nweb_search='0.01'\n[[model.long]]\nabove=2\ninput='2'\noutput='3'\n\
             [[model.service]]\ntier='flex'\ntimes='0.5'",
        );
        assert_eq!(
            difference(before.first(), &after[0]),
            "changed m: over 2 input none -> 2.00, over 2 cached none -> 2.00, over 2 cache write none -> 2.00, \
             over 2 output none -> 3.00, flex input none -> 0.50, flex cached none -> 0.00, flex cache write none -> 0.50, \
             flex output none -> 1.00, flex over 2 input none -> 1.00, flex over 2 cached none -> 1.00, \
             flex over 2 cache write none -> 1.00, flex over 2 output none -> 1.50, web search none -> 0.01, \
             file search 0.0025 -> none"
        );
    }
}
