//! Would a client on this machine find the agent: its configuration, and the proxies in the way.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::config::env;
use crate::setup;

pub(super) fn look(base_url: &str, codex_home: Option<&Path>) -> Vec<Finding> {
    let dotenv = codex_home.and_then(|home| fs::read_to_string(home.join(".env")).ok());
    vec![
        proxies(&env::proxies_in_force(), env::no_proxy().as_deref(), dotenv.as_deref()),
        leftover(env::openai_base_url().as_deref(), base_url),
        codex(base_url, codex_home),
    ]
}

/// Clients apply HTTP_PROXY and ALL_PROXY to loopback unless NO_PROXY says otherwise; Codex's `.env` overrides it.
fn proxies(in_force: &[&str], no_proxy: Option<&str>, dotenv: Option<&str>) -> Finding {
    let list = dotenv
        .and_then(setup::listed)
        .or_else(|| no_proxy.map(str::to_owned))
        .unwrap_or_default();
    match (in_force, setup::is_loopback_exempt(&list)) {
        ([], _) => Finding::pass("proxy", "no proxy variable is set"),
        (set, true) => Finding::pass(
            "proxy",
            format!("{} set, and NO_PROXY leaves loopback out", set.join(", ")),
        ),
        (set, false) => Finding::fail(
            "proxy",
            format!("{} would carry calls to 127.0.0.1 to a proxy", set.join(", ")),
            "run `relay-agent setup codex`, or set NO_PROXY=127.0.0.1,localhost,::1",
        ),
    }
}

fn leftover(variable: Option<&str>, base_url: &str) -> Finding {
    match variable {
        None => Finding::pass("OPENAI_BASE_URL", "not set"),
        Some(url) if url.trim_end_matches('/') == base_url => Finding::pass("OPENAI_BASE_URL", "points here"),
        Some(url) => Finding::warn(
            "OPENAI_BASE_URL",
            format!(
                "set to {}: Codex ignores it, other clients do not",
                without_credentials(url)
            ),
            format!("unset it, or set it to {base_url}"),
        ),
    }
}

/// A URL as it may be shown: someone may have put a password into it.
fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{}", path.split('?').next().unwrap_or_default())
        }
        None => "something that is no URL".to_owned(),
    }
}

fn codex(base_url: &str, home: Option<&Path>) -> Finding {
    let not_set_up = |found: &str| Finding::warn("codex", found, "run: relay-agent setup codex");
    let Some(home) = home else {
        return not_set_up("Codex's directory is not known");
    };
    let path = home.join("config.toml");
    let Ok(text) = fs::read_to_string(&path) else {
        return not_set_up(&format!("there is no {}", path.display()));
    };
    match setup::base_url_in(&text) {
        Err(reason) => Finding::fail(
            "codex",
            format!("{} is not valid TOML: {reason}", path.display()),
            "correct that file",
        ),
        Ok(None) => not_set_up("Codex does not use the relay"),
        Ok(Some(url)) if url.trim_end_matches('/') == base_url => Finding::pass("codex", format!("uses {url}")),
        Ok(Some(url)) => Finding::fail(
            "codex",
            format!("uses {}, and the agent is at {base_url}", without_credentials(&url)),
            "run: relay-agent setup codex",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_proxy_in_the_way_of_loopback_is_found() {
        let exempt = "127.0.0.1,localhost,::1";
        let verdict = |set: &[&str], env: Option<&str>, file: Option<&str>| proxies(set, env, file).verdict;
        assert_eq!(verdict(&[], None, None), Verdict::Pass);
        assert_eq!(verdict(&["HTTP_PROXY"], None, None), Verdict::Fail);
        assert_eq!(verdict(&["HTTP_PROXY"], Some(exempt), None), Verdict::Pass);
        assert_eq!(
            verdict(&["HTTP_PROXY"], Some(exempt), Some("NO_PROXY=corp\n")),
            Verdict::Fail
        );
        assert_eq!(
            verdict(&["ALL_PROXY"], None, Some(&format!("NO_PROXY={exempt}\n"))),
            Verdict::Pass
        );
    }

    #[test]
    fn codex_pointed_elsewhere_is_found() {
        let home = tempfile::tempdir().unwrap();
        let (here, path) = ("http://127.0.0.1:8787/v1", home.path().join("config.toml"));
        assert_eq!(codex(here, Some(home.path())).verdict, Verdict::Warn);
        for (text, verdict) in [
            ("", Verdict::Warn),
            ("model = = 1", Verdict::Fail),
            ("openai_base_url = \"http://127.0.0.1:9/v1\"", Verdict::Fail),
            ("openai_base_url = \"http://127.0.0.1:8787/v1/\"", Verdict::Pass),
            (
                "model_provider = \"relay\"\n[model_providers.relay]\nbase_url = \"http://127.0.0.1:8787/v1\"",
                Verdict::Pass,
            ),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(codex(here, Some(home.path())).verdict, verdict, "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(without_credentials("http://u:secret@h:1/v1?k=secret"), "http://h:1/v1");
        assert!(!without_credentials("secret").contains("secret"));
    }
}
