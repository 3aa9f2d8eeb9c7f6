//! Tenants, their keys, devices and books.

use std::fs;

use super::Hub;

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
    assert!(listed.contains(id) && !listed.contains(&key[3 + 16 + 1..]));
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
