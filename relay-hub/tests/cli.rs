//! The commands as an operator runs them: words in, JSON, text and exit codes out.
#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

struct Hub {
    dir: TempDir,
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Hub {
    /// An empty place.
    fn nowhere() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn init() -> Self {
        let hub = Self::nowhere();
        hub.ok(&["init"]);
        hub
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-hub"));
        command
            .args(words)
            .env("RELAY_HUB_DATA", self.data())
            .env("CANARY_SECRET", "sk-canary-7");
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended {
            code: status.code().unwrap(),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }

    fn ok(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
        ended.stdout
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[words, &["--json"]].concat())).unwrap()
    }

    /// A refusal: its exit code, and what it tells.
    fn refused(&self, words: &[&str], code: i32, parts: &[&str]) {
        let ended = self.run(words);
        assert_eq!(ended.code, code, "{words:?}: {}{}", ended.stdout, ended.stderr);
        for part in parts {
            assert!(
                ended.stderr.contains(part),
                "{words:?} does not say {part:?}: {}",
                ended.stderr
            );
        }
    }

    fn account(&self, name: &str) -> Value {
        self.json(&[
            "account",
            "add",
            name,
            "--vendor",
            "openai",
            "--base-url",
            "https://api.example/v1/",
            "--secret-env",
            "CANARY_SECRET",
        ])
    }
}

#[test]
fn init_makes_a_hub_and_never_overwrites() {
    let hub = Hub::nowhere();
    hub.refused(&["tenant", "list"], 1, &["no hub", "relay-hub init", "--data"]);
    let made = hub.run(&["init"]);
    assert_eq!(made.code, 0);
    for step in ["tenant add", "tenant credit", "account add", "serve", "device token"] {
        assert!(made.stderr.contains(step), "{step}: {}", made.stderr);
    }
    let before = fs::read(hub.data().join("seal.key")).unwrap();
    hub.refused(
        &["init"],
        1,
        &["hub.toml", "hub.sqlite", "seal.key", "ca.key", "--data"],
    );
    assert_eq!(fs::read(hub.data().join("seal.key")).unwrap(), before);
    assert_eq!(hub.json(&["check-config"])["ok"], true);
}

#[cfg(unix)]
#[test]
fn secrets_on_disk_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let hub = Hub::init();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for file in ["seal.key", "quic.key", "tls/ca.key", "tls/server.key", "hub.sqlite"] {
        assert_eq!(mode(&hub.data().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&hub.data()), 0o700);
}

#[test]
fn a_tenant_is_added_credited_and_suspended() {
    let hub = Hub::init();
    let added = hub.json(&["tenant", "add", "acme"]);
    let id = added["id"].as_str().unwrap();
    assert!(id.starts_with("ten_"));
    hub.refused(&["tenant", "add", "acme"], 1, &["already"]);
    hub.refused(&["tenant", "add", "a\tb"], 1, &["cannot be a tenant's name"]);
    assert_eq!(hub.json(&["tenant", "credit", "acme", "10.50"])["balance"], "10.50");
    assert_eq!(
        hub.json(&["tenant", "credit", id, "0.000000001", "--reference", "r1"])["balance"],
        "10.500000001"
    );
    let again = hub.json(&["tenant", "credit", id, "0.000000001", "--reference", "r1"]);
    assert_eq!(
        (&again["balance"], &again["booked"]),
        (&"10.500000001".into(), &false.into())
    );
    hub.refused(&["tenant", "credit", id, "1", "--reference", "r1"], 1, &["r1"]);
    for (amount, part) in [
        ("-1", "negative"),
        ("0", "more than 0"),
        ("1e3", "not an amount"),
        ("", "not an amount"),
        ("0.0000000001", "decimals"),
        ("1000000001", "mistake"),
        ("99999999999999999999999", "mistake"),
    ] {
        hub.refused(&["tenant", "credit", "acme", amount], 1, &[part]);
    }
    hub.ok(&["tenant", "credit", "acme", "900000000"]);
    hub.refused(&["tenant", "credit", "acme", "900000000"], 1, &["mistake"]);
    hub.refused(&["tenant", "credit", "nobody", "1"], 1, &["nobody", "there are: acme"]);
    assert_eq!(hub.json(&["tenant", "suspend", "acme"])["suspended"], true);
    let listed = &hub.json(&["tenant", "list"])[0];
    assert_eq!(
        (&listed["suspended"], &listed["balance"]),
        (&true.into(), &"900000010.500000001".into())
    );
    hub.refused(&["device", "token", "--tenant", "acme"], 1, &["suspended"]);
    assert_eq!(hub.json(&["tenant", "resume", "acme"])["changed"], true);
    let table = hub.ok(&["tenant", "list"]);
    assert!(table.lines().next().unwrap().starts_with("NAME") && table.contains("active"));
    assert_eq!(hub.json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn a_credit_is_given_with_the_tenant_or_to_it_in_either_way() {
    let hub = Hub::init();
    hub.refused(&["tenant", "credit", "acme", "1"], 1, &["tenant add"]);
    for (amount, part) in [("-1", "negative"), ("0", "more than 0"), ("x", "not an amount")] {
        hub.refused(&["tenant", "add", "acme", "--credit", amount], 1, &[part]);
    }
    assert_eq!(hub.json(&["tenant", "list"]), serde_json::json!([]));
    let added = hub.json(&["tenant", "add", "acme", "--credit", "1.5"]);
    assert_eq!((&added["tenant"], &added["balance"]), (&added["id"], &"1.50".into()));
    let credited = hub.json(&["tenant", "credit", "--tenant", "acme", "2", "--note", "invoice 7"]);
    assert_eq!(credited["balance"], "3.50");
    for words in [&["acme"][..], &["1"], &["acme", "1", "--tenant", "acme"]] {
        hub.refused(&[&["tenant", "credit"], words].concat(), 2, &["TENANT AMOUNT"]);
    }
}

#[test]
fn a_key_is_shown_once() {
    let hub = Hub::init();
    hub.ok(&["tenant", "add", "acme"]);
    let made = hub.json(&["key", "add", "--tenant", "acme", "--name", "ci"]);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with("rk_") && key.len() == 3 + 16 + 1 + 43);
    let plain = hub.run(&["key", "add", "--tenant", "acme"]);
    assert!(
        plain.stdout.starts_with("rk_") && plain.stdout.lines().count() == 1,
        "stdout is the key alone"
    );
    let listed = hub.ok(&["key", "list", "--tenant", "acme", "--json"]);
    assert!(listed.contains(id) && !listed.contains(key.rsplit('_').next().unwrap()));
    assert_eq!(hub.json(&["key", "revoke", id, "--tenant", "acme"])["revoked"], true);
    hub.refused(&["key", "revoke", id, "--tenant", "acme"], 1, &["no active key"]);
    hub.refused(&["key", "revoke", "sk-canary-7", "--tenant", "acme"], 1, &["key list"]);
    assert!(
        !hub.run(&["key", "revoke", "sk-canary-7", "--tenant", "acme"])
            .stderr
            .contains("canary")
    );
    let by_text = plain.stdout.trim();
    assert_eq!(
        hub.json(&["key", "revoke", by_text, "--tenant", "acme"])["revoked"],
        true
    );
    hub.refused(&["key", "add", "--tenant", "nobody"], 1, &["nobody"]);
}

#[test]
fn a_device_token_names_where_the_hub_is_reached() {
    let hub = Hub::init();
    hub.ok(&["tenant", "add", "acme"]);
    let token = |hub: &Hub| {
        let made = hub.json(&["device", "token", "--tenant", "acme"]);
        let token = relay_shared::enrolment::Token::parse(made["token"].as_str().unwrap())
            .ok()
            .unwrap();
        assert_eq!(made["hub"], token.hub.as_str());
        token.hub
    };
    assert_eq!(token(&hub), "127.0.0.1:8443");
    let toml = hub.data().join("hub.toml");
    fs::write(&toml, "[tunnel]\nadvertise = \"hub.example\"\n").unwrap();
    assert_eq!(token(&hub), "hub.example:8443");
    fs::write(&toml, "[tunnel]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    hub.refused(
        &["device", "token", "--tenant", "acme"],
        1,
        &["port", "tunnel.advertise"],
    );
    assert_eq!(hub.json(&["device", "list"]), serde_json::json!([]));
    hub.refused(
        &["device", "revoke", "dev_0000000000000000", "--tenant", "acme"],
        1,
        &["no active device"],
    );
}

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

#[test]
fn an_import_is_approved_before_it_changes_anything() {
    let hub = Hub::init();
    let file = hub.dir.path().join("list.toml");
    fs::write(
        &file,
        "[[model]]\nname = 'mine'\ninput = '1'\noutput = '9'\ncontext = 1000\nmax_output = 100\n\
         [[model.long]]\nabove = 500\ninput = '2'\noutput = '10'\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    // Nobody is at a terminal here.
    hub.refused(
        &["price", "import", path],
        1,
        &["1 models would change", "no price was changed", "--yes"],
    );
    hub.refused(&["price", "import", path, "--json"], 1, &["--yes"]);
    let done = hub.ok(&["price", "import", path, "--yes"]);
    assert!(done.contains("over 500 input 2.00"), "{done}");
    // Where nothing changes there is nothing to approve.
    hub.ok(&["price", "import", path]);
    let all = hub.json(&["price", "list", "--all"]);
    let versions = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["model"] == "mine")
        .count();
    assert_eq!(versions, 1);
}

#[test]
fn a_tenant_may_pay_otherwise_than_by_the_list() {
    let hub = Hub::init();
    hub.ok(&["tenant", "add", "acme"]);
    let pays = |model: &str| {
        let all = hub.json(&["price", "list", "--tenant", "acme"]);
        let found = all
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["model"] == model)
            .cloned();
        found.unwrap()
    };
    assert_eq!(
        (&pays("gpt-5")["times"], &pays("gpt-5")["own"]),
        (&"1.00".into(), &false.into())
    );
    let done = hub.json(&["price", "times", "0.8", "--tenant", "acme"]);
    assert_eq!(
        (&done["times"], &pays("gpt-5")["version"]),
        (&"0.80".into(), &done["version"])
    );
    let told = hub.ok(&[
        "price",
        "set",
        "gpt-5",
        "--tenant",
        "acme",
        "--input",
        "1",
        "--web-search",
        "0.02",
    ]);
    assert!(
        told.contains("input 1.25 -> 1.00") && told.contains("web search 0.01 -> 0.02"),
        "{told}"
    );
    let row = pays("gpt-5");
    assert_eq!(
        (&row["input"], &row["times"], &row["own"]),
        (&"1.00".into(), &"1.00".into(), &true.into())
    );
    assert_eq!(pays("gpt-5-mini")["times"], "0.80");
    hub.ok(&["price", "unset", "gpt-5", "--tenant", "acme"]);
    assert_eq!(pays("gpt-5")["input"], "1.25");
    hub.refused(
        &["price", "unset", "gpt-5", "--tenant", "acme"],
        1,
        &["no price of its own"],
    );
    hub.refused(&["price", "times", "1001", "--tenant", "acme"], 1, &["no factor"]);
    hub.refused(
        &["price", "set", "nothing", "--tenant", "acme", "--input", "1"],
        1,
        &["not in the price list"],
    );
    hub.refused(&["price", "times", "1", "--tenant", "nobody"], 1, &["there are: acme"]);
}

#[test]
fn tiers_and_tools_are_set_by_words() {
    let hub = Hub::init();
    let words = [
        "--input",
        "1",
        "--output",
        "8",
        "--cached",
        "0.1",
        "--reasoning",
        "9",
        "--service",
        "flex=0.5",
    ];
    let set = ["price", "set", "mine", "--long", "272000:input=2,output=12"];
    hub.ok(&[&set[..], &words[..]].concat());
    let all = hub.json(&["price", "list"]);
    let row = all
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["model"] == "mine")
        .unwrap();
    assert_eq!(
        (&row["reasoning"], &row["long"][0]["above"]),
        (&"9.00".into(), &272_000.into())
    );
    let flex = &row["service"][0];
    assert_eq!(
        (&flex["tier"], &flex["input"], &flex["long"][0]["output"]),
        (&"flex".into(), &"0.50".into(), &"6.00".into())
    );
    for (word, value, told) in [
        ("--long", "x", "272000:input=5"),
        ("--long", "9:inputs=1,output=2", "unknown key"),
        ("--service", "flex", "flex=0.5"),
        ("--service", "flex=0.333333333", "no factor"),
    ] {
        hub.refused(&["price", "set", "mine", word, value], 1, &[told]);
    }
}

#[test]
fn prices_are_set_and_imported_under_versions() {
    let hub = Hub::init();
    let find = |model: &str| {
        let all = hub.json(&["price", "list"]);
        all.as_array()
            .unwrap()
            .iter()
            .find(|row| row["model"] == model)
            .cloned()
    };
    assert_eq!(find("gpt-5.2-codex").unwrap()["input"], "1.75");
    let set = hub.json(&["price", "set", "gpt-5.2-codex", "--input", "2"]);
    assert_eq!(set["changed"], serde_json::json!(["gpt-5.2-codex"]));
    let row = find("gpt-5.2-codex").unwrap();
    // The cache's price of its own stays; where there was none, it is that of other input.
    assert_eq!((&row["cached"], &row["cache_write"]), (&"0.175".into(), &"2.00".into()));
    assert_eq!(
        (&row["input"], &row["output"], &row["version"]),
        (&"2.00".into(), &"14.00".into(), &set["version"])
    );
    hub.refused(&["price", "set", "mine", "--input", "1"], 1, &["--output"]);
    hub.ok(&["price", "set", "mine", "--input", "1", "--output", "4.5"]);
    assert_eq!(find("mine").unwrap()["cached"], "1.00");
    hub.refused(&["price", "set", "mine", "--input", "-1"], 1, &["negative"]);
    hub.refused(&["price", "set", "mine", "--output", "99999999"], 1, &["absurd"]);
    let file = hub.dir.path().join("list.toml");
    let line = |name: &str, input: &str| {
        format!("[[model]]\nname = \"{name}\"\ninput = \"{input}\"\noutput = \"9\"\ncontext = 1000\nmax_output = 100\n")
    };
    fs::write(
        &file,
        format!(
            "version = \"v\"\nsource = \"s\"\n{}{}",
            line("mine", "3"),
            line("other", "1")
        ),
    )
    .unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(
        hub.json(&["price", "import", path, "--dry-run"])["changes"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(find("other"), None);
    let done = hub.json(&["price", "import", path, "--yes"]);
    assert_eq!(
        (&done["added"], &done["changed"]),
        (&serde_json::json!(["other"]), &serde_json::json!(["mine"]))
    );
    assert_eq!(hub.json(&["price", "import", path, "--yes"])["unchanged"], 2);
    fs::write(
        &file,
        format!("version = \"v\"\nsource = \"s\"\nfoo = 1\n{}", line("mine", "x")),
    )
    .unwrap();
    hub.refused(&["price", "import", path], 1, &["foo", "`x`", "no price was changed"]);
    let json = r#"{"model":[{"name":"mine","input":"4","output":"9","context":1000,"max_output":100}]}"#;
    fs::write(&file, json).unwrap();
    let done = hub.ok(&["price", "import", path, "--yes"]);
    assert!(done.starts_with("changed mine: input 3.00 -> 4.00"), "{done}");
}

#[test]
fn a_broken_hub_toml_is_told_as_a_whole() {
    let hub = Hub::init();
    let text = "[tunnel]\nlisten = \"nowhere\"\nlisen = \"0.0.0.0:1\"\n\n[limits]\nbody_bytes = \"many\"\nhead_bytes = -4\n\n\
                [http]\nlisten = \"0.0.0.0:80\"\n\n[unheard]\nof = 1\n";
    fs::write(hub.data().join("hub.toml"), text).unwrap();
    let parts = [
        "tunnel.listen",
        "lisen",
        "body_bytes",
        "head_bytes",
        "http.listen",
        "loopback",
        "unheard",
    ];
    hub.refused(&["check-config"], 1, &parts);
    hub.refused(&["serve"], 1, &parts);
    let told: Value = serde_json::from_str(&hub.run(&["check-config", "--json"]).stdout).unwrap();
    assert_eq!(told["problems"].as_array().unwrap().len(), 6, "{told}");
    fs::remove_file(hub.data().join("hub.toml")).unwrap();
    hub.refused(&["check-config"], 1, &["hub.toml", "relay-hub init"]);
}

#[test]
fn with_json_a_failure_is_one_object_on_stderr() {
    let hub = Hub::nowhere();
    for (words, code, part) in [
        (&["serve"][..], 1, "relay-hub init"),
        (&["check-config"], 1, "hub.toml"),
        (&["unheard-of"], 2, "unheard-of"),
    ] {
        let ended = hub.run(&[words, &["--json"]].concat());
        assert_eq!(ended.code, code, "{words:?}");
        let told: Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!(told["error"]["exit_code"], code, "{told}");
        assert!(told.to_string().contains(part), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_went_away_is_no_failure() {
    use std::process::Stdio;
    let hub = Hub::init();
    let mut child = hub
        .command(&["price", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn wrong_words_are_wrong_usage_and_help_is_none() {
    let hub = Hub::nowhere();
    for words in [
        &["unheard-of"][..],
        &["tenant"],
        &["tenant", "credit", "a"],
        &["key", "add"],
        &[],
    ] {
        let ended = hub.run(words);
        assert_eq!(ended.code, 2, "{words:?}");
        assert!(!ended.stderr.is_empty());
    }
    let help = hub.run(&["help"]);
    assert_eq!(help.code, 0);
    for command in [
        "init",
        "serve",
        "check-config",
        "tenant",
        "key",
        "device",
        "account",
        "price",
        "usage",
        "ledger",
    ] {
        assert!(help.stdout.contains(command), "{command}");
    }
    assert!(hub.run(&["--version"]).stdout.starts_with("relay-hub "));
}

#[test]
fn an_unused_hub_has_books_that_add_up_and_no_usage() {
    let hub = Hub::init();
    let verdict = hub.json(&["ledger", "verify"]);
    assert_eq!((&verdict["ok"], &verdict["transfers"]), (&true.into(), &0.into()));
    assert_eq!(hub.json(&["usage"]), serde_json::json!([]));
    assert_eq!(hub.json(&["usage", "--totals"]), serde_json::json!([]));
    hub.refused(&["usage", "--limit", "0"], 2, &["--limit"]);
    assert!(hub.ok(&["usage"]).starts_with("CALL"));
    hub.refused(&["usage", "--tenant", "nobody"], 1, &["nobody"]);
}

#[cfg(unix)]
mod serving {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Child, Stdio},
    };

    use super::*;

    struct Serving {
        child: Child,
        ready: Value,
    }

    fn serve(hub: &Hub) -> Serving {
        let words = [
            "serve",
            "--tunnel",
            "127.0.0.1:0",
            "--https",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ];
        let mut child = hub
            .command(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Serving {
            child,
            ready: serde_json::from_str(&line).unwrap(),
        }
    }

    fn end(mut serving: Serving, signal: &str) -> Option<i32> {
        let pid = serving.child.id().to_string();
        Command::new("kill").args([signal, &pid]).status().unwrap();
        serving.child.wait().unwrap().code()
    }

    #[test]
    fn commands_work_while_the_hub_runs_and_a_second_hub_does_not() {
        let hub = Hub::init();
        let serving = serve(&hub);
        assert_eq!(serving.ready["ready"], true);
        for name in ["tunnel", "https", "http"] {
            assert!(
                serving.ready[name].as_str().unwrap().starts_with("127.0.0.1:"),
                "{name}"
            );
        }
        hub.ok(&["tenant", "add", "acme"]);
        hub.ok(&["tenant", "credit", "acme", "5"]);
        let token = hub.json(&["device", "token", "--tenant", "acme"]);
        assert_eq!(token["hub"], serving.ready["tunnel"]);
        let pid = format!("pid {}", serving.child.id());
        hub.refused(&["serve"], 1, &["another relay-hub", &pid]);
        assert_eq!(end(serving, "-TERM"), Some(0));
        assert_eq!(hub.json(&["ledger", "verify"])["ok"], true);
    }

    #[test]
    fn a_hub_that_was_killed_starts_again() {
        let hub = Hub::init();
        assert_eq!(end(serve(&hub), "-KILL"), None);
        assert_eq!(end(serve(&hub), "-INT"), Some(0));
    }
}

#[test]
fn limits_are_set_shown_and_taken_away() {
    let hub = Hub::init();
    let tenant = hub.json(&["tenant", "add", "acme"])["id"].as_str().unwrap().to_owned();
    let key = hub.json(&["key", "add", "--tenant", "acme"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let set = [
        "limit",
        "set",
        "--tenant",
        "acme",
        "--requests-per-minute",
        "60",
        "--daily-spend",
        "10.5",
    ];
    let rule = hub.json(&[&set[..], &["--allowed-models", "gpt-5*,fast"]].concat());
    assert_eq!(rule["scope"], format!("tenant:{tenant}"));
    assert_eq!(rule["limits"]["requests_per_minute"], 60);
    assert_eq!(rule["limits"]["daily_spend"], "10.50");
    assert_eq!(rule["limits"]["allowed_models"][1], "fast");
    let of_key = hub.json(&["limit", "set", "--key", &key, "--expires", "2099-01-01"]);
    assert_eq!(of_key["limits"]["expires"], "2099-01-01T00:00:00Z");
    hub.ok(&[
        "limit",
        "set",
        "--tenant",
        "acme",
        "--model",
        "gpt-5",
        "--max-output",
        "100",
    ]);
    hub.ok(&["limit", "set", "--global", "--concurrent-calls", "5"]);
    assert_eq!(hub.json(&["limit", "list"]).as_array().unwrap().len(), 4);
    assert_eq!(
        hub.json(&["limit", "list", "--tenant", "acme"])
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let table = hub.ok(&["limit", "list"]);
    assert!(table.contains("max_output") && table.contains("acme"), "{table}");

    let kept = hub.json(&["limit", "set", "--tenant", "acme", "--requests-per-minute", "off"]);
    assert_eq!(kept["limits"]["requests_per_minute"], Value::Null);
    assert_eq!(kept["limits"]["daily_spend"], "10.50");
    let less = hub.json(&["limit", "clear", "--tenant", "acme", "daily-spend"]);
    assert_eq!(less["limits"]["daily_spend"], Value::Null);
    assert_eq!(less["limits"]["allowed_models"][0], "gpt-5*");
    hub.ok(&["limit", "clear", "--tenant", "acme"]);
    assert_eq!(hub.json(&["limit", "list"]).as_array().unwrap().len(), 3);
}

#[test]
fn all_wrong_limits_are_told_at_once_and_none_is_set() {
    let hub = Hub::init();
    hub.ok(&["tenant", "add", "acme"]);
    let words = [
        &[
            "limit",
            "set",
            "--tenant",
            "acme",
            "--requests-per-minute",
            "-1",
            "--daily-spend",
            "lots",
        ][..],
        &[
            "--allowed-addresses",
            "10.1.1.1/8",
            "--expires",
            "2001-01-01",
            "--body-bytes",
            "1MiB",
        ],
    ];
    let told = [
        "--requests-per-minute",
        "--daily-spend",
        "--allowed-addresses",
        "10.0.0.0/8",
        "--expires",
        "future",
    ];
    hub.refused(&words.concat(), 1, &told);
    assert_eq!(hub.json(&["limit", "list"]), serde_json::json!([]));
    hub.refused(&["limit", "set", "--requests-per-minute", "5"], 2, &["--global"]);
    hub.refused(
        &["limit", "set", "--global", "--tenant", "acme", "--max-output", "5"],
        2,
        &["two"],
    );
    hub.refused(&["limit", "set", "--global"], 2, &["no limit"]);
    hub.refused(
        &["limit", "set", "--global", "--expires", "2099-01-01"],
        1,
        &["global", "tenant"],
    );
    hub.refused(
        &["limit", "set", "--tenant", "nobody", "--max-output", "5"],
        1,
        &["acme"],
    );
    hub.refused(
        &["limit", "set", "--key", "key_0000000000000000", "--max-output", "5"],
        1,
        &["key list"],
    );
    hub.refused(
        &["limit", "set", "--endpoint", "/v1/models", "--max-output", "5"],
        1,
        &["/v1/responses"],
    );
    hub.refused(&["limit", "clear", "--global", "speed"], 1, &["speed", "--help"]);
}
