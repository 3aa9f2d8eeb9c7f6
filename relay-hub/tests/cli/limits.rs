//! Limits: set, shown, taken away.

use serde_json::Value;

use super::Hub;

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
