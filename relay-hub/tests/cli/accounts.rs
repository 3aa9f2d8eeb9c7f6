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

/// A file in the hub's place.
fn file(hub: &Hub, name: &str, text: &str) -> String {
    let path = hub.dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn accounts_are_imported_from_each_kind_of_file_with_their_shares_and_sealed() {
    let hub = Hub::init();
    hub.ok(&["tenant", "add", "acme"]);
    hub.ok(&["tenant", "add", "other"]);
    let secret = file(&hub, "secret", "sk-canary-7\n");
    let toml = format!(
        "[[account]]\nname = 'one'\nvendor = 'openai'\nbase_url = 'https://api.example/v1/'\nsecret_env = 'CANARY_SECRET'\n\
         with = ['acme', 'other']\nweight = 3\nconcurrency = 7\nno_websocket = true\n\
         [[account]]\nname = 'aws'\nvendor = 'bedrock'\naws_region = 'eu-west-1'\nkey_id = 'AKIA'\nsecret_file = '{secret}'\n\
         exclusive = 'acme'\nprefer = 6\nmodels = ['eu.anthropic.*', 'x']\n"
    );
    let toml = file(&hub, "accounts.toml", &toml);
    assert_eq!(hub.json(&["account", "import", &toml, "--dry-run"])["fit"], 2);
    assert!(hub.json(&["account", "list"]).as_array().unwrap().is_empty());
    let added = hub.json(&["account", "import", &toml]);
    assert_eq!(
        (&added["added"], &added["accounts"][1]["name"]),
        (&2.into(), &"aws".into())
    );

    let json = r#"{"account": [{"name": "three", "vendor": "anthropic", "base_url": "https://x", "secret_env": "CANARY_SECRET"}]}"#;
    assert_eq!(
        hub.json(&["account", "import", &file(&hub, "a.json", json)])["added"],
        1
    );
    let csv = "name,vendor,base_url,secret_env,wires,exclusive,rpm\n\
               four,compatible,https://y,CANARY_SECRET,\"chat,responses\",,60\nfive,openai,https://z,CANARY_SECRET,,other,\n";
    assert_eq!(hub.json(&["account", "import", &file(&hub, "a.csv", csv)])["added"], 2);

    let listed = hub.json(&["account", "list"]);
    let of = |name: &str| {
        listed
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&of("one")["base_url"], &of("one")["websocket"]),
        (&"https://api.example/v1".into(), &false.into())
    );
    assert_eq!(of("aws")["base_url"], "https://bedrock-runtime.eu-west-1.amazonaws.com");
    assert_eq!(of("aws")["settings"]["prefers"], 6);
    assert_eq!(
        of("four")["settings"]["wires"],
        serde_json::json!(["chat", "responses"])
    );
    let fares = hub.json(&["account", "health"]);
    let of = |name: &str| {
        fares
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&of("one")["weight"], &of("one")["concurrency"]),
        (&"3".into(), &"7".into())
    );
    assert_eq!(
        (&of("one")["users"], &of("aws")["users"]),
        (&"named: acme other".into(), &"exclusive: acme".into())
    );
    assert_eq!(
        (&of("four")["rpm"], &of("five")["users"]),
        (&"60".into(), &"exclusive: other".into())
    );
    assert_eq!(hub.json(&["seal", "show"])[0]["secrets"], 5);
}

#[test]
fn a_file_of_accounts_tells_all_that_is_wrong_with_it_at_once_and_adds_none() {
    let hub = Hub::init();
    hub.account("main");
    let toml = "kind = 1\n[[account]]\n";
    hub.refused(
        &["account", "import", &file(&hub, "k.toml", toml)],
        1,
        &["kind: unknown key"],
    );
    let toml = "[[account]]\nname = 'fit'\nvendor = 'openai'\nbase_url = 'https://x'\nsecret_env = 'CANARY_SECRET'\n\
        [[account]]\nname = 'main'\nvendor = 'openai'\nbase_url = 'http://vendor.example'\nsecret_env = 'NOT_SET_ANYWHERE'\n\
        [[account]]\nnaem = 'x'\nvendor = 'nobody'\nsecret_env = 'A'\nsecret_file = 'b'\nweight = 1000\nwith = ['nobody']\n\
        [[account]]\nname = 'fit'\nvendor = 'compatible'\ncredential = 'client-credentials'\nbase_url = 'https://x'\n\
        secret_env = 'CANARY_SECRET'\nno_websocket = 'maybe'\nwires = ['tin']\nprefer = 5\n\
        [[account]]\nname = 'mine'\nvendor = 'openai'\nbase_url = 'https://x'\ncredential = 'refresh-token'\n\
        token_url = 'https://t'\nclient_id = 'c'\nsecret_env = 'CANARY_SECRET'\nwith = ['acme']\n";
    hub.ok(&["tenant", "add", "acme"]);
    let parts = [
        "line 6: account 2 (main).base_url",
        "in clear",
        "account 2 (main).secret: the environment variable NOT_SET_ANYWHERE",
        "account 2 (main).name: there is already an account named `main`",
        "line 11: account 3.naem: unknown key",
        "account 3.name: is missing",
        "account 3.vendor: `nobody` is not known",
        "account 3.secret_env, secret_file: are two ways to say one thing",
        "account 3.base_url: is missing",
        "account 3.weight: `1000` cannot be used",
        "account 3.with: there is no tenant `nobody`",
        "account 4 (fit).name: there is already",
        "account 4 (fit).no_websocket: is neither true nor false",
        "account 4 (fit).wires: `tin` is not known",
        "account 4 (fit).prefer: `5` is not known",
        "account 4 (fit).client_id: is missing",
        "account 4 (fit).token_url: is missing",
        "account 5 (mine).with: the credential is personal",
        "no account was added",
    ];
    hub.refused(&["account", "import", &file(&hub, "a.toml", toml)], 1, &parts);
    let csv = "name,vendor,base_url,secret_env\nx,openai,https://x\ny,openai,ftp://y,CANARY_SECRET\n";
    hub.refused(&["account", "import", &file(&hub, "a.csv", csv)], 1, &["line: 2"]);
    let csv = "name,vendor,base_url,secret_env\ny,openai,ftp://y,CANARY_SECRET\n";
    hub.refused(
        &["account", "import", &file(&hub, "b.csv", csv)],
        1,
        &["line 2: account 1 (y).base_url"],
    );
    for (name, text) in [
        ("e.toml", ""),
        ("e.json", "[]"),
        ("e.csv", "name,vendor\n"),
        ("s.toml", "= 1"),
    ] {
        hub.refused(&["account", "import", &file(&hub, name, text)], 1, &["problem"]);
    }
    hub.refused(
        &["account", "import", "/nowhere/accounts.toml"],
        1,
        &["/nowhere/accounts.toml"],
    );
    assert_eq!(hub.json(&["account", "list"]).as_array().unwrap().len(), 1);
}
