//! Accounts: what is asked of them and what is never shown.

use std::fs;

use super::Hub;

#[test]
fn a_vendors_secret_is_never_seen_again() {
    let hub = Hub::init();
    let added = hub.account("main");
    assert_eq!(
        (&added["base_url"], &added["websocket"]),
        (&"https://api.example/v1".into(), &true.into())
    );
    let file = hub.dir.path().join("secret");
    fs::write(&file, "sk-canary-7\n").unwrap();
    let path = file.to_str().unwrap();
    let second = [
        "account",
        "add",
        "second",
        "--vendor",
        "openai",
        "--base-url",
        "http://127.0.0.1:9",
        "--secret-file",
        path,
    ];
    assert_eq!(
        hub.json(&[&second[..], &["--no-websocket"]].concat())["websocket"],
        false
    );
    let said = [
        hub.ok(&["account", "list"]),
        hub.ok(&["account", "list", "--json"]),
        added.to_string(),
    ]
    .concat();
    assert!(said.contains("main") && said.contains("second") && !said.contains("canary"));
    for entry in fs::read_dir(hub.data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
    {
        let bytes = fs::read(&entry).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"canary"), "{}", entry.display());
    }
    hub.refused(
        &[
            "account",
            "add",
            "main",
            "--vendor",
            "openai",
            "--base-url",
            "https://x",
            "--secret-env",
            "CANARY_SECRET",
        ],
        1,
        &["already"],
    );
    let add = |rest: &[&'static str]| [&["account", "add", "x", "--base-url", "https://x"], rest].concat();
    hub.refused(
        &add(&["--vendor", "nobody", "--secret-env", "CANARY_SECRET"]),
        2,
        &["openai"],
    );
    hub.refused(&add(&["--vendor", "openai"]), 2, &["--secret-env"]);
    hub.refused(
        &add(&["--vendor", "openai", "--secret-env", "NOT_SET_ANYWHERE"]),
        1,
        &["NOT_SET_ANYWHERE"],
    );
    hub.refused(
        &add(&["--vendor", "openai", "--secret-file", "/nowhere/secret"]),
        1,
        &["/nowhere/secret"],
    );
    let shown = [
        hub.ok(&["account", "show", "second"]),
        hub.ok(&["account", "show", "second", "--json"]),
    ]
    .concat();
    assert!(shown.contains("http://127.0.0.1:9") && !shown.contains("canary"));
    assert_eq!(hub.json(&["account", "disable", "second"])["changed"], true);
    assert_eq!(hub.json(&["account", "disable", "second"])["changed"], false);
    assert!(hub.json(&["account", "list"])[1]["disabled_ms"].is_i64());
    assert_eq!(hub.json(&["account", "enable", "second"])["disabled"], false);
    assert!(hub.json(&["account", "show", "second"])["disabled_ms"].is_null());
    hub.refused(&["account", "disable", "nobody"], 1, &["there are: main, second"]);
    assert_eq!(hub.json(&["account", "remove", "main"])["removed"], true);
    hub.refused(&["account", "remove", "main"], 1, &["there are: second"]);
}

#[test]
fn a_credential_tells_all_that_is_wrong_with_it_at_once() {
    let hub = Hub::init();
    let add = |rest: &[&'static str]| {
        let start = ["account", "add", "x", "--secret-env", "CANARY_SECRET", "--base-url"];
        [&start[..], rest].concat()
    };
    hub.refused(
        &add(&[
            "http://vendor.example",
            "--vendor",
            "compatible",
            "--credential",
            "client-credentials",
            "--token-url",
            "http://login.example",
            "--key-id",
            "AKIA",
            "--api-version",
            "2024-10-21",
        ]),
        1,
        &[
            "--base-url",
            "--client-id",
            "--token-url",
            "in clear",
            "--key-id",
            "--api-version",
        ],
    );
    hub.refused(
        &add(&[
            "https://x",
            "--vendor",
            "azure",
            "--credential",
            "refresh-token",
            "--entra-tenant",
            "a/b",
        ]),
        1,
        &[
            "azure takes no refresh-token",
            "api-key or client-credentials",
            "--entra-tenant",
        ],
    );
    hub.refused(
        &add(&["https://x", "--vendor", "compatible", "--wires", "chat,telnet"]),
        2,
        &["telnet"],
    );
    let azure = add(&[
        "https://r.openai.azure.com",
        "--vendor",
        "azure",
        "--credential",
        "client-credentials",
    ]);
    let added = hub.json(&[&azure[..], &["--entra-tenant", "contoso.example", "--client-id", "me"]].concat());
    let settings = &added["settings"];
    assert_eq!(
        settings["token_url"],
        "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"
    );
    assert_eq!(settings["scope"], "https://cognitiveservices.azure.com/.default");
    assert_eq!(
        (&added["credential"], &added["websocket"]),
        (&"client-credentials".into(), &false.into())
    );
    let shown = hub.ok(&["account", "show", "x"]);
    assert!(shown.contains("contoso.example") && shown.contains("client-credentials") && !shown.contains("canary"));
}
