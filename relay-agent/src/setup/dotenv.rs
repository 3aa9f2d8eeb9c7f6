//! The `NO_PROXY` line of a `.env` file. Pure text; other lines are not looked at.
//!
//! Codex applies HTTP_PROXY and ALL_PROXY to loopback too, and what stands in its `.env` overrides the environment:
//! so the line must hold the loopback names and all that the environment said before.

/// The names that must not go through a proxy.
pub(crate) const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// The text with the loopback names in `NO_PROXY`. `inherited` is what the environment says, used when the file says
/// nothing. Unchanged when nothing is missing.
pub(super) fn with_loopback(text: &str, inherited: Option<&str>) -> String {
    match last_line(text) {
        Some((at, line)) => {
            let mut names = names(value_of(line));
            if covers_loopback(&names) {
                return text.to_owned();
            }
            add(&mut names, &LOOPBACK);
            replace_line(text, at, Some(&format!("{}{}", prefix_of(line), names.join(","))))
        }
        None => {
            let mut all = names(inherited.unwrap_or_default());
            if !covers_loopback(&all) {
                add(&mut all, &LOOPBACK);
            }
            let gap = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            format!("{text}{gap}NO_PROXY={}\n", all.join(","))
        }
    }
}

/// The text without what [`with_loopback`] added to `before`, whatever else was changed since.
pub(super) fn without_ours(text: &str, before: &str, inherited: Option<&str>) -> String {
    let Some((at, line)) = last_line(text) else {
        return text.to_owned();
    };
    let kept = match last_line(before) {
        Some((_, old)) => names(value_of(old)),
        None => Vec::new(),
    };
    let ours = names(value_of(
        last_line(&with_loopback(before, inherited)).map_or("", |(_, line)| line),
    ));
    let left: Vec<_> = names(value_of(line))
        .into_iter()
        .filter(|name| kept.contains(name) || !ours.contains(name))
        .collect();
    let line = (!left.is_empty()).then(|| format!("{}{}", prefix_of(line), left.join(",")));
    replace_line(text, at, line.as_deref())
}

/// Whether clients with this list leave loopback alone.
pub(crate) fn is_loopback_exempt(list: &str) -> bool {
    covers_loopback(&names(list))
}

/// The list in the file, when it has one.
pub(crate) fn listed(text: &str) -> Option<String> {
    last_line(text).map(|(_, line)| names(value_of(line)).join(","))
}

fn covers_loopback(names: &[String]) -> bool {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    has("*") || LOOPBACK.iter().all(|name| has(name))
}

fn add(names: &mut Vec<String>, more: &[&str]) {
    for name in more {
        if !names.iter().any(|found| found == name) {
            names.push((*name).to_owned());
        }
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The last definition counts.
fn last_line(text: &str) -> Option<(usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| split(line).is_some())
        .last()
}

/// `export NO_PROXY=` and what follows.
fn split(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let bare = name.trim().strip_prefix("export ").map_or(name.trim(), str::trim);
    (bare == "NO_PROXY").then_some((name, value))
}

fn prefix_of(line: &str) -> String {
    split(line).map_or_else(String::new, |(name, _)| format!("{name}="))
}

fn value_of(line: &str) -> &str {
    let value = split(line).map_or("", |(_, value)| value.trim());
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or_default();
        }
    }
    value.split(" #").next().unwrap_or_default().trim()
}

fn replace_line(text: &str, at: usize, line: Option<&str>) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    for (number, old) in text.split_inclusive('\n').enumerate() {
        if number != at {
            out.push_str(old);
        } else if let Some(line) = line {
            out.push_str(line);
            let end = if old.ends_with("\r\n") { "\r\n" } else { "\n" };
            out.push_str(if old.ends_with('\n') { end } else { "" });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_merged_and_nothing_else_moves() {
        for (before, after) in [
            ("", "NO_PROXY=127.0.0.1,localhost,::1\n"),
            ("A=1", "A=1\nNO_PROXY=127.0.0.1,localhost,::1\n"),
            ("NO_PROXY=corp\nA=1\n", "NO_PROXY=corp,127.0.0.1,localhost,::1\nA=1\n"),
            (
                "export NO_PROXY=\"corp, localhost\"\n",
                "export NO_PROXY=corp,localhost,127.0.0.1,::1\n",
            ),
            (
                "NO_PROXY=a # why\r\nB=2\r\n",
                "NO_PROXY=a,127.0.0.1,localhost,::1\r\nB=2\r\n",
            ),
            ("NO_PROXY=*\n", "NO_PROXY=*\n"),
            (
                "NO_PROXY=::1,127.0.0.1,localhost\n",
                "NO_PROXY=::1,127.0.0.1,localhost\n",
            ),
            ("# NO_PROXY=x\n", "# NO_PROXY=x\nNO_PROXY=127.0.0.1,localhost,::1\n"),
        ] {
            assert_eq!(with_loopback(before, None), after);
            assert_eq!(with_loopback(after, None), after, "a second time changes nothing");
        }
        assert_eq!(
            with_loopback("", Some("corp.example")),
            "NO_PROXY=corp.example,127.0.0.1,localhost,::1\n"
        );
    }

    #[test]
    fn what_was_added_is_taken_away_and_what_the_user_added_stays() {
        for (before, changed, undone) in [
            ("A=1\n", "A=1\nNO_PROXY=127.0.0.1,localhost,::1\nB=2\n", "A=1\nB=2\n"),
            ("", "NO_PROXY=127.0.0.1,localhost,::1,mine\n", "NO_PROXY=mine\n"),
            (
                "NO_PROXY=corp,localhost\n",
                "NO_PROXY=corp,localhost,127.0.0.1,::1\nC=3\n",
                "NO_PROXY=corp,localhost\nC=3\n",
            ),
            ("", "B=2\n", "B=2\n"),
        ] {
            assert_eq!(without_ours(changed, before, None), undone);
        }
        assert_eq!(
            without_ours("NO_PROXY=corp,127.0.0.1,localhost,::1\n", "", Some("corp")),
            ""
        );
    }
}
