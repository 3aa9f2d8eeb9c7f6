//! `relay-hub price set`: one line of the list, or of one tenant, from a command's words.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    diff::{changes, figures, tell},
    report,
};
use crate::{
    cli::{Desk, Failure, now_ms, typed},
    price_list,
    store::prices::{self, PriceRow},
};

#[derive(Args)]
pub(in crate::cli) struct Set {
    /// The vendor's model name.
    model: String,
    /// For this tenant alone; name or id.
    #[arg(long)]
    tenant: Option<String>,
    /// Input that was not cached, per 1,000,000 tokens.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    input: Option<String>,
    /// Input read from the vendor's cache; for a model that is not listed: as other input.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    cached: Option<String>,
    /// Input written to the vendor's cache; for a model that is not listed: as other input.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    cache_write: Option<String>,
    /// Input written to the vendor's cache for an hour or more.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    cache_write_long: Option<String>,
    /// Output, reasoning included where it has no price of its own.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    output: Option<String>,
    /// Output that was reasoning.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    reasoning: Option<String>,
    /// Sound in.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    input_audio: Option<String>,
    /// Pictures in; without it as other input.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    input_image: Option<String>,
    /// Sound out.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    output_audio: Option<String>,
    /// Pictures out.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    output_image: Option<String>,
    /// One search of the web.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    web_search: Option<String>,
    /// One search of stored files.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    file_search: Option<String>,
    /// One run of code at the vendor.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    code_interpreter: Option<String>,
    /// One picture made by a tool.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    image_generation: Option<String>,
    /// A service tier as a multiple of the default one: flex=0.5. All tiers that are named replace those there were.
    #[arg(long = "service", value_name = "TIER=FACTOR")]
    service: Vec<String>,
    /// Prices of a whole call with more input than a threshold: 272000:input=5,output=22.5. All that are named replace
    /// those there were.
    #[arg(long = "long", value_name = "TOKENS:KIND=AMOUNT,…")]
    long: Vec<String>,
    /// Context window in tokens; for a model that is not listed: 400000.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u64>,
    /// Most output of one call in tokens; for a model that is not listed: 128000.
    #[arg(long, value_name = "TOKENS")]
    max_output: Option<u64>,
}

pub(super) async fn run(desk: &mut Desk<'_>, words: Set) -> Result<(), Failure> {
    let store = desk.store().await?;
    let before = prices::list(&store).await?;
    let listed = before.iter().find(|row| row.model == words.model);
    if let Some(name) = words.tenant.clone() {
        let listed = listed.ok_or_else(|| unlisted(&words.model))?;
        return super::tenant::set(desk, &store, &name, listed, |known| line(known, words)).await;
    }
    if listed.is_none() && (words.input.is_none() || words.output.is_none()) {
        return Err(unlisted(&words.model).hint("name both --input and --output, such as --input 1.25 --output 10"));
    }
    let rows = [price_list::one(line(listed, words)?)?];
    let changes = changes(&before, &rows);
    let done = prices::import(&store, &rows, now_ms()).await?;
    if !desk.print.is_json() {
        tell(&mut desk.print, &changes)?;
    }
    report(desk, &done, &changes)
}

pub(super) fn unlisted(model: &str) -> Failure {
    Failure::fixable(format!("`{}` is not in the price list", typed(model)))
        .hint("`relay-hub price list` shows what is; `relay-hub price set` adds a model")
}

/// A file's line: what is known, with the words in its place.
fn line(known: Option<&PriceRow>, words: Set) -> Result<Value, Failure> {
    let mut line = match known.map(figures) {
        Some(Value::Object(line)) => line,
        _ => Map::from_iter([
            ("context".to_owned(), json!(CONTEXT)),
            ("max_output".to_owned(), json!(MAX_OUTPUT)),
        ]),
    };
    // A price of the cache that is that of other input says that there is none of its own: it follows.
    for key in ["cached", "cache_write"] {
        if line.get(key) == line.get("input") {
            line.remove(key);
        }
    }
    line.insert("name".to_owned(), words.model.into());
    let mut put = |key: &str, value: Option<Value>| value.map(|value| line.insert(key.to_owned(), value));
    put("input", words.input.map(Value::from));
    put("cached", words.cached.map(Value::from));
    put("cache_write", words.cache_write.map(Value::from));
    put("cache_write_long", words.cache_write_long.map(Value::from));
    put("output", words.output.map(Value::from));
    put("reasoning", words.reasoning.map(Value::from));
    put("input_audio", words.input_audio.map(Value::from));
    put("input_image", words.input_image.map(Value::from));
    put("output_audio", words.output_audio.map(Value::from));
    put("output_image", words.output_image.map(Value::from));
    put("context", words.context.map(Value::from));
    put("max_output", words.max_output.map(Value::from));
    if !words.long.is_empty() {
        let long = words.long.iter().map(|word| long(word));
        put("long", Some(long.collect::<Result<Vec<_>, _>>()?.into()));
    }
    if !words.service.is_empty() {
        let service = words.service.iter().map(|word| service(word));
        put("service", Some(service.collect::<Result<Vec<_>, _>>()?.into()));
    }
    let mut tools = match line.remove("tools") {
        Some(Value::Object(tools)) => tools,
        _ => Map::new(),
    };
    for (key, price) in [
        ("web_search", words.web_search),
        ("file_search", words.file_search),
        ("code_interpreter", words.code_interpreter),
        ("image_generation", words.image_generation),
    ] {
        price.map(|price| tools.insert(key.to_owned(), price.into()));
    }
    line.insert("tools".to_owned(), tools.into());
    Ok(line.into())
}

/// `272000:input=5,output=22.5`.
fn long(word: &str) -> Result<Value, Failure> {
    let wrong = || {
        Failure::fixable(format!("`{}` is no tier of a long context", typed(word)))
            .hint("write it like 272000:input=5,cached=0.5,output=22.5")
    };
    let (above, prices) = word.split_once(':').ok_or_else(wrong)?;
    let above: u64 = above.trim().parse().map_err(|_| wrong())?;
    let mut line = Map::from_iter([("above".to_owned(), json!(above))]);
    for part in prices.split(',') {
        let (key, price) = part.split_once('=').ok_or_else(wrong)?;
        line.insert(key.trim().replace('-', "_"), price.trim().into());
    }
    Ok(line.into())
}

/// `flex=0.5`.
fn service(word: &str) -> Result<Value, Failure> {
    let (tier, times) = word.split_once('=').ok_or_else(|| {
        Failure::fixable(format!("`{}` is no service tier with its factor", typed(word)))
            .hint("write it like flex=0.5; a tier with prices of its own comes from a file")
    })?;
    Ok(json!({"tier": tier.trim(), "times": times.trim()}))
}

const CONTEXT: u64 = 400_000;
const MAX_OUTPUT: u64 = 128_000;
