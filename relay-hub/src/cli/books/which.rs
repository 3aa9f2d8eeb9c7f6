//! Which rows a question is about: flags to filters, all that is wrong with them told at once.

use clap::Args;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use relay_shared::config::Problems;

use super::super::{Desk, Failure, now_ms, there_are, typed};
use crate::{
    ids::{AccountId, DeviceId, KeyId, Project, TenantId},
    store::{Store, accounts, devices, keys, usage::Filter},
};

/// From when to when.
#[derive(Args)]
pub(in crate::cli) struct Window {
    /// Booked then or later: a day (2026-11-21), a moment (2026-11-21T18:00:00Z), or so long ago (7d, 24h, 30m). UTC.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    since: Option<String>,
    /// Booked before then; a day is included to its end.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    until: Option<String>,
}

/// Whose calls.
#[derive(Args)]
pub(super) struct Which {
    /// Name or id; without it, everybody's.
    #[arg(long)]
    tenant: Option<String>,
    /// The id of an API key.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// The id of a device.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// The tenant's project, as it stands in the path or in the app token.
    #[arg(long)]
    project: Option<String>,
    /// The name asked for or the vendor's.
    #[arg(long)]
    model: Option<String>,
    /// The vendor account's name or id.
    #[arg(long)]
    account: Option<String>,
    #[command(flatten)]
    window: Window,
}

impl Window {
    /// Milliseconds since 1970: the first that counts, and the first that does not any more.
    pub(in crate::cli) fn read(&self, problems: &mut Problems) -> (Option<i64>, Option<i64>) {
        let now = now_ms();
        let mut one = |flag: &str, text: &Option<String>, end: bool| {
            let text = text.as_deref()?;
            let read = moment(text, end, now);
            if read.is_none() {
                problems.push(flag, format!("`{}` is no moment", typed(text)), MOMENTS);
            }
            read
        };
        let since = one("--since", &self.since, false);
        let until = one("--until", &self.until, true);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            problems.push(
                "--until",
                "is not after --since",
                "name a later end or an earlier beginning",
            );
        }
        (since, until)
    }
}

impl Which {
    /// Looks everything up.
    pub(super) async fn read(
        &self,
        desk: &Desk<'_>,
        store: &Store,
        problems: &mut Problems,
    ) -> Result<Filter, Failure> {
        let Self {
            tenant,
            key,
            device,
            project,
            model,
            account,
            window,
        } = self;
        let tenant = known_tenant(desk, store, tenant.as_deref(), problems).await?;
        let account = known_account(store, account.as_deref(), problems).await?;
        if key.is_some() && device.is_some() {
            let hint = "a call comes with a key or with a device: name one";
            problems.push("--device", "goes with no --key", hint);
        }
        let caller = match (key, device) {
            (Some(key), _) => known_key(store, key, problems).await?,
            (None, Some(device)) => known_device(store, device, problems).await?,
            (None, None) => None,
        };
        let named = project.as_deref().map(|name| (name, Project::parse(name)));
        if let Some((name, None)) = &named {
            let problem = format!("`{}` is no project", typed(name));
            problems.push("--project", problem, Project::NAMES);
        }
        let (since_ms, until_ms) = window.read(problems);
        Ok(Filter {
            project: named.and_then(|(_, project)| project),
            tenant,
            caller,
            model: model.clone(),
            account,
            since_ms,
            until_ms,
            ..Filter::default()
        })
    }
}

/// The tenant that was named, if one was and there is one.
pub(super) async fn known_tenant(
    desk: &Desk<'_>,
    store: &Store,
    name_or_id: Option<&str>,
    problems: &mut Problems,
) -> Result<Option<TenantId>, Failure> {
    let found = desk.tenant_id(store, name_or_id).await;
    found.or_else(|failure| failure.note("--tenant", problems).map(|()| None))
}

/// A removed account still has its calls: an id is taken as it is.
async fn known_account(
    store: &Store,
    name_or_id: Option<&str>,
    problems: &mut Problems,
) -> Result<Option<AccountId>, Failure> {
    let Some(text) = name_or_id else { return Ok(None) };
    let known = accounts::list(store).await?;
    let named = known.iter().find(|account| account.name == text);
    let found = named
        .map(|account| account.id.clone())
        .or_else(|| AccountId::parse(text).ok());
    if found.is_none() {
        let names: Vec<_> = known.iter().map(|account| account.name.as_str()).collect();
        let problem = format!("there is no vendor account `{}`", typed(text));
        problems.push("--account", problem, there_are(&names, "relay-hub account add NAME"));
    }
    Ok(found)
}

async fn known_key(store: &Store, text: &str, problems: &mut Problems) -> Result<Option<String>, Failure> {
    let keys = keys::list(store, None).await?;
    let found = KeyId::parse(text)
        .ok()
        .filter(|id| keys.iter().any(|key| key.id == *id));
    if found.is_none() {
        // What was typed may be a secret: it is not repeated.
        problems.push("--key", "there is no such key", "`relay-hub key list` shows ids");
    }
    Ok(found.map(|id| id.to_string()))
}

async fn known_device(store: &Store, text: &str, problems: &mut Problems) -> Result<Option<String>, Failure> {
    let devices = devices::list(store, None).await?;
    let found = DeviceId::parse(text).ok();
    let found = found.filter(|id| devices.iter().any(|device| device.id == *id));
    if found.is_none() {
        let problem = format!("there is no device `{}`", typed(text));
        problems.push("--device", problem, "`relay-hub device list` shows ids");
    }
    Ok(found.map(|id| id.to_string()))
}

/// Names with commas between them, each one of `all` and none twice.
pub(super) fn groups<T: Copy + PartialEq>(
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
    problems: &mut Problems,
) -> Vec<T> {
    let mut groups = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| *word != TOTAL) {
        match all.iter().find(|group| name(**group) == word) {
            Some(group) if groups.contains(group) => {
                problems.push("--by", format!("`{word}` is there twice"), "name each once");
            }
            Some(group) => groups.push(*group),
            None => {
                let names: Vec<_> = all.iter().map(|group| name(*group)).collect();
                let hint = format!("there are: {}, {TOTAL}", names.join(", "));
                problems.push("--by", format!("`{}` is nothing to sum by", typed(word)), hint);
            }
        }
    }
    groups
}

/// How many rows are wanted: all of them in CSV and JSON, `usual` in a table unless more are asked for.
pub(super) fn limit(asked: Option<u32>, usual: u32, is_table: bool, problems: &mut Problems) -> Option<u32> {
    if is_table && asked.is_some_and(|asked| asked > LARGEST_TABLE) {
        let hint = "--csv and --json write as many rows as there are";
        problems.push("--limit", format!("a table has at most {LARGEST_TABLE} rows"), hint);
    }
    if is_table { Some(asked.unwrap_or(usual)) } else { asked }
}

/// A day begins at midnight, UTC, and as an end is included.
fn moment(text: &str, is_end: bool, now_ms: i64) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    if let Ok(day) = text.parse::<Date>() {
        let first = if is_end { day.tomorrow().ok()? } else { day };
        return Some(first.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
    }
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: i64 = count.parse().ok().filter(|count| (0..=MOST_AGO).contains(count))?;
    let ago = match unit {
        "d" => SignedDuration::from_hours(count * 24),
        "h" => SignedDuration::from_hours(count),
        "m" => SignedDuration::from_mins(count),
        _ => return None,
    };
    now_ms.checked_sub(i64::try_from(ago.as_millis()).ok()?)
}

const MOMENTS: &str = "write a day as 2026-11-21, a moment as 2026-11-21T18:00:00Z, or how long ago as 7d, 24h or 30m";
/// A hundred years in hours.
const MOST_AGO: i64 = 876_600;
/// No group: one row over everything.
const TOTAL: &str = "total";
/// Columns are as wide as their widest cell, so a table is kept whole.
const LARGEST_TABLE: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_as_an_end_is_included() {
        let day = 86_400_000;
        assert_eq!(moment("1970-01-02", false, 0), Some(day));
        assert_eq!(moment("1970-01-02", true, 0), Some(2 * day));
        assert_eq!(moment("1970-01-02T00:00:01Z", true, 0), Some(day + 1_000));
        assert_eq!(moment("1970-01-02T01:00:00+01:00", true, 0), Some(day));
        assert_eq!(moment("7d", false, 10 * day), Some(3 * day));
        assert_eq!(moment("24h", true, 10 * day), Some(9 * day));
        for wrong in [
            "",
            "d",
            "-1d",
            "1w",
            "1.5h",
            "2026-13-01",
            "yesterday",
            "é",
            "99999999999999999999d",
            "876601h",
        ] {
            assert_eq!(moment(wrong, false, 0), None, "{wrong}");
        }
    }
}
