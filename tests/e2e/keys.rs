//! The public entrance takes a key in each of the five headers, over both versions of HTTP, and no other.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::{
    client::{Client, Whole},
    within::within,
};

use crate::{ask, setup};

async fn with_header(client: &Client, name: &str, value: &str) -> Whole {
    let request = client
        .request(Method::POST, "/responses")
        .header("content-type", "application/json");
    let request = request
        .header(name, value)
        .body(Full::new(Bytes::from(ask(false))))
        .unwrap();
    client.send(request).await.unwrap().rest().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_in_each_of_the_five_headers_and_no_other_key_is() {
    let world = setup().start().await;
    let authority = world.hub.certificate_authority();
    let base = format!("http://{}/v1", world.hub.http());
    let clients = [
        ("http", Client::new(&base, "")),
        ("https, HTTP/1.1", Client::tls(world.hub.https(), "", &authority, false)),
        ("https, HTTP/2", Client::tls(world.hub.https(), "", &authority, true)),
    ];
    let mut swapped = world.key.clone();
    let last = swapped.pop().unwrap();
    swapped.push(if last == 'A' { 'B' } else { 'A' });
    for (way, client) in clients {
        for name in ["authorization", "x-api-key", "X-API-Key", "api-key", "x-goog-api-key"] {
            let bearer = |key: &str| {
                if name == "authorization" {
                    format!("Bearer {key}")
                } else {
                    key.to_owned()
                }
            };
            let answer = with_header(&client, &name.to_lowercase(), &bearer(&world.key)).await;
            assert_eq!(answer.status, 200, "{way}, {name}: {}", answer.text());
            for wrong in [&swapped, "rk_nonsense", "", "sk-proj-somebody-elses"] {
                let answer = with_header(&client, &name.to_lowercase(), &bearer(wrong)).await;
                assert_eq!(answer.status, 401, "{way}, {name}: {wrong:?}: {}", answer.text());
                assert_eq!(answer.error_code(), "invalid_api_key", "{way}, {name}");
                assert!(
                    wrong.is_empty() || !answer.text().contains(wrong),
                    "the key is in the answer"
                );
            }
        }
        let none = client.post("/responses", ask(false)).await.unwrap().rest().await;
        assert_eq!(none.status, 401, "{way}");
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_and_a_suspended_tenant_are_refused_within_a_second() {
    let world = setup().start().await;
    let other = world.hub.add_key(&world.tenant).await;
    let client = |key: &str| Client::new(&format!("http://{}/v1", world.hub.http()), key);
    let status = async |key: &str| {
        client(key)
            .post("/responses", ask(false))
            .await
            .unwrap()
            .rest()
            .await
            .status
            .as_u16()
    };
    assert_eq!(status(&other).await, 200, "a key works as soon as it is made");
    let keys = world.hub.json(&["key", "list", "--tenant", &world.tenant]).await;
    let keys = if keys.is_array() { keys } else { keys["keys"].clone() };
    let id = keys
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|key| key["id"].as_str())
        .find(|id| {
            let id = id.trim_start_matches("key_");
            other.contains(id)
        });
    let id = id.unwrap_or_else(|| panic!("which key is {other}? {keys}")).to_owned();
    world
        .hub
        .command(&["key", "revoke", &id, "--tenant", &world.tenant])
        .await
        .succeeded();
    let revoked = Instant::now();
    while status(&other).await != 401 {
        assert!(
            revoked.elapsed() < within(Duration::from_secs(1)),
            "a revoked key still works"
        );
    }
    assert_eq!(status(&world.key).await, 200, "the other key still works");

    world
        .hub
        .command(&["tenant", "suspend", &world.tenant])
        .await
        .succeeded();
    let suspended = Instant::now();
    while status(&world.key).await == 200 {
        assert!(
            suspended.elapsed() < within(Duration::from_secs(1)),
            "a suspended tenant still calls"
        );
    }
    let through_agent = world
        .through_agent()
        .post("/responses", ask(false))
        .await
        .unwrap()
        .rest()
        .await;
    assert_ne!(through_agent.status, 200, "a suspended tenant's device still calls");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_cut_off_within_a_second() {
    let world = setup().start().await;
    let client = world.through_agent();
    let call = async || {
        client
            .post("/responses", ask(false))
            .await
            .unwrap()
            .rest()
            .await
            .status
            .as_u16()
    };
    assert_eq!(call().await, 200);
    let devices = world.hub.json(&["device", "list", "--tenant", &world.tenant]).await;
    let devices = if devices.is_array() {
        devices
    } else {
        devices["devices"].clone()
    };
    let id = devices[0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{devices}"))
        .to_owned();
    world
        .hub
        .command(&["device", "revoke", &id, "--tenant", &world.tenant])
        .await
        .succeeded();
    let revoked = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = call().await;
    assert_ne!(
        status,
        200,
        "a revoked device still calls after {:?}",
        revoked.elapsed()
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_asks_for_its_local_key_and_never_sends_it_on() {
    let world = setup().start().await;
    let base = world.agent.base_url();
    for key in ["", "wrong", &world.key] {
        let answer = Client::new(&base, key)
            .post("/responses", ask(false))
            .await
            .unwrap()
            .rest()
            .await;
        assert_eq!(answer.status, 401, "{key:?}: {}", answer.text());
    }
    let answer = world
        .through_agent()
        .post("/responses", ask(false))
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(answer.status, 200);
    let call = world.vendor.posts().pop().unwrap();
    assert!(!format!("{:?}", call.headers).contains(&world.agent.key));
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_both_shapes_without_the_vendor() {
    let world = setup().start().await;
    for client in [world.through_agent(), world.through_hub()] {
        let list = client.get("/models").await.unwrap().rest().await;
        assert_eq!(list.status, 200, "{}", list.text());
        let ids = list.json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].clone())
            .collect::<Vec<_>>();
        assert!(ids.contains(&crate::MODEL.into()), "{ids:?}");
        let catalog = client.get("/models?client_version=0.169.0").await.unwrap().rest().await;
        let models = catalog.json()["models"].as_array().unwrap().clone();
        assert!(
            models.iter().any(|model| model["slug"] == crate::MODEL),
            "{}",
            catalog.text()
        );
        let prompt = models[0]["base_instructions"].as_str().unwrap();
        assert!(prompt.len() > 200, "this replaces Codex's own instructions: {prompt}");
        assert!(catalog.headers.contains_key("etag"), "{:?}", catalog.headers);
    }
    assert_eq!(world.vendor.calls().len(), 0);
    let health = Client::new(&format!("http://{}", world.hub.http()), "")
        .get("/healthz")
        .await
        .unwrap();
    assert_eq!(health.status, 200);
}
