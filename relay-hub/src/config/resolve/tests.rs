//! What `hub.toml` may say, and what it is told when it says something else.

use super::*;
use crate::config::TEMPLATE;

fn read(text: &str) -> Result<Config, Problems> {
    resolve(&DataDir::new("/nowhere"), text, &Overrides::default())
}

/// The problems' keys, problems and hints, one a line.
fn problems(text: &str) -> Vec<String> {
    let problems = read(text).unwrap_err();
    for problem in problems.iter() {
        assert!(!problem.hint.is_empty(), "no hint: {problem}");
    }
    problems.to_string().lines().map(str::to_owned).collect()
}

/// A certificate and its key.
fn pem() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn the_template_tells_the_real_defaults() {
    let uncommented: String = TEMPLATE
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])))
        .map(|line| format!("{line}\n"))
        .collect();
    let home = tempfile::tempdir().unwrap();
    let data = DataDir::new(home.path());
    fs::create_dir(home.path().join("tls")).unwrap();
    let (certificate, key) = pem();
    fs::write(data.server_certificate(), certificate).unwrap();
    fs::write(data.server_key(), key).unwrap();
    let of = |text: &str| resolve(&data, text, &Overrides::default()).unwrap();
    assert_eq!(of(&uncommented), of(""));
    assert_eq!(of(TEMPLATE), of(""));
    assert_eq!(uncommented.lines().count(), 29, "{uncommented}");
}

#[test]
fn every_example_of_the_template_can_be_used() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("company-ca.pem"), pem().0).unwrap();
    fs::write(home.path().join("countries.mmdb"), "").unwrap();
    let is_setting = |line: &&str| line.contains(" = ") && !line.contains("key = value");
    let examples: Vec<_> = TEMPLATE
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(is_setting)
        .collect();
    assert_eq!(examples.len(), 5);
    let config = resolve(&DataDir::new(home.path()), &examples.join("\n"), &Overrides::default()).unwrap();
    assert_eq!(config.tunnel.advertise.as_deref(), Some("relay.example.com:8443"));
    assert_eq!(config.aliases["fast"], "gpt-5-mini");
    assert_eq!(config.public.hosts["claude.example.com"], Family::Anthropic);
    assert_eq!(config.egress.extra_ca, Some(home.path().join("company-ca.pem")));
    assert_eq!(config.countries, Some(home.path().join("countries.mmdb")));
}

#[test]
fn all_problems_are_told_at_once_each_with_its_key_its_line_and_a_hint() {
    let text = "[tunnel]\nlisten = 'nowhere'\nlisen = '0.0.0.0:1'\n[limits]\nbody_bytes = 'many'\nhead_bytes = -4\n\
                idle_timeout = 300\nratio = 0\nfirst_byte_timeout = '1ms'\n\
                calls_per_connection = 20000\n[http]\nlisten = '0.0.0.0:80'\n\
                [aliases]\na = 'a'\nb = 'c'\nc = 'd'\n[egress]\nextra_ca = 'gone.pem'\n[log]\njson = 'yes'\nfilter = '=='\n\
                [unheard]\nof = 1\n[https]\ncertificate = 'gone.crt'\n";
    let told = problems(text);
    for (key, line) in [
        ("tunnel.listen", 2),
        ("tunnel.lisen", 3),
        ("limits.body_bytes", 5),
        ("limits.head_bytes", 6),
        ("limits.idle_timeout", 7),
        ("limits.ratio", 8),
        ("limits.first_byte_timeout", 9),
        ("limits.calls_per_connection", 10),
        ("http.listen", 12),
        ("aliases.a", 14),
        ("aliases.b", 15),
        ("egress.extra_ca", 18),
        ("log.json", 20),
        ("log.filter", 21),
        ("unheard", 22),
        ("https.certificate", 25),
    ] {
        let place = format!("{key} (hub.toml line {line}): ");
        assert!(
            told.iter().any(|problem| problem.starts_with(&place)),
            "{place}:\n{told:#?}"
        );
    }
    assert_eq!(told.len(), 17, "{told:#?}");
}

#[test]
fn a_value_of_any_other_kind_is_told_like_the_rest() {
    let text = "limits.head_bytes = []\nlimits.ratio = 99999999999999999999999\nlimits.body_bytes = 1.5\n\
                limits.idle_timeout = { s = 1 }\nlimits.drain_timeout = 1979-05-27\nlog.filter = 1\naliases = 1\n";
    assert_eq!(problems(text).len(), 7, "{:#?}", problems(text));
}

#[test]
fn broken_syntax_and_a_repeated_key_name_their_line() {
    assert!(problems("[tunnel\nlisten = 1")[0].contains("line 1"));
    let twice = problems("[aliases]\na = 'x'\na = 'y'\n");
    assert!(twice[0].contains("line 3"), "{twice:?}");
}

#[test]
fn a_host_is_bound_by_its_name_and_every_wrong_one_is_told() {
    let config = read("[hosts]\n'Claude.Example.com.' = 'anthropic'\n'10.0.0.1' = 'openai'").unwrap();
    let hosts: Vec<_> = config.public.hosts.into_iter().collect();
    let expected = [("10.0.0.1", Family::OpenAi), ("claude.example.com", Family::Anthropic)];
    assert_eq!(hosts, expected.map(|(name, family)| (name.to_owned(), family)));
    let told = problems(
        "[hosts]\n'a.example:443' = 'openai'\n'b.example' = 'claude'\n'c d' = 'x'\n\
         'e.example' = 'gemini'\n'E.example' = 'gemini'",
    );
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(
        told.iter()
            .any(|line| line.contains("there are openai, anthropic, gemini")),
        "{told:#?}"
    );
}

#[test]
fn an_origin_is_written_as_browsers_write_it() {
    let of = |text: &str| read(&format!("public.cors_origins = ['{text}']"));
    for good in [
        "https://app.example.com",
        "http://localhost:3000",
        "https://app.example.com:8443",
        "http://[::1]:3000",
        "http://127.0.0.1",
    ] {
        assert!(of(good).unwrap().public.cors_origins.contains(good), "{good}");
    }
    for bad in [
        "*",
        "",
        "null",
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://App.example.com",
        "https://app.example.com:443",
        "https://app.example.com:08443",
        "https://*.example.com",
        "ftp://app.example.com",
        "https://u@app.example.com",
    ] {
        assert!(of(bad).is_err(), "{bad}");
    }
    assert_eq!(
        problems("[public]\ncors_origins = ['*', 'x']\ncors_origin = []").len(),
        3
    );
}

#[test]
fn flags_say_more_than_the_file() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let overrides = Overrides {
        tunnel: Some(any),
        https: Some(Door::Closed),
        http: Some(Door::At(any)),
        log: Some("debug".to_owned()),
    };
    let text = "tunnel.listen = '127.0.0.1:1'\nhttp.listen = '127.0.0.1:2'\nlog.filter = 'warn'\n";
    let config = resolve(&DataDir::new("/nowhere"), text, &overrides).unwrap();
    assert_eq!((config.tunnel.listen, config.http), (any, Some(any)));
    assert_eq!((config.https, config.log.filter.as_str()), (None, "debug"));
    let open = Overrides {
        http: Some(Door::At(SocketAddr::from(([0, 0, 0, 0], 80)))),
        ..Overrides::default()
    };
    let told = resolve(&DataDir::new("/nowhere"), "", &open).unwrap_err().to_string();
    assert!(told.starts_with("--http: "), "{told}");
}

#[test]
fn devices_are_always_told_a_port() {
    let advertised = |host: &str| {
        let text = format!("tunnel.advertise = '{host}'");
        read(&text).map(|config| config.tunnel.advertise.unwrap())
    };
    for (written, told) in [
        ("relay.example.com", "relay.example.com:8443"),
        ("relay.example.com:443", "relay.example.com:443"),
        ("192.0.2.7", "192.0.2.7:8443"),
        ("2001:db8::7", "[2001:db8::7]:8443"),
        ("[2001:db8::7]:1", "[2001:db8::7]:1"),
    ] {
        assert_eq!(advertised(written).as_deref(), Ok(told));
    }
    for bad in ["", ":1", "https://relay.example.com", "a b", "relay:99999", "relay:0"] {
        assert!(advertised(bad).is_err(), "{bad}");
    }
    assert!(read("tunnel.listen = '0.0.0.0:0'\ntunnel.advertise = 'relay.example.com'").is_err());
}

#[test]
fn two_entrances_cannot_share_a_port() {
    let told = problems("https.listen = '127.0.0.1:8443'");
    assert!(
        told[0].starts_with("https.listen: 127.0.0.1:8443 is taken by tunnel.listen"),
        "{told:?}"
    );
    assert!(read("tunnel.listen = '127.0.0.1:0'\nhttps.listen = '127.0.0.1:0'").is_ok());
}

#[test]
fn a_file_that_is_no_pem_is_told_before_the_hub_starts() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a.pem"), "not PEM").unwrap();
    let text = "[https]\ncertificate = 'a.pem'\nkey = 'a.pem'\n[egress]\nextra_ca = 'a.pem'\n";
    let told = resolve(&DataDir::new(home.path()), text, &Overrides::default()).unwrap_err();
    assert_eq!(told.iter().count(), 3, "{told}");
}
