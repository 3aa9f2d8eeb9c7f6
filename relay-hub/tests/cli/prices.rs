//! Prices: set, imported, approved.

use std::fs;

use super::Hub;

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
