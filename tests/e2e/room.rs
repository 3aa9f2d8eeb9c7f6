//! How many calls one agent carries at once is the operator's to say.

use crate::{ask, setup};
use http::StatusCode;
use relay_tests::world::Setup;

const IDLE: &str = r#"{"model":"bench-idle","input":"hello","stream":true,"max_output_tokens":64}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_carries_as_many_calls_as_hub_toml_says_and_refuses_one_more() {
    let setup = setup();
    let world = Setup {
        hub_toml: "[limits]\ncalls_per_connection = 30".to_owned(),
        models: [setup.models.clone(), vec!["bench-idle".to_owned()]].concat(),
        ..setup
    }
    .start()
    .await;
    let client = world.through_agent();
    let mut open = Vec::new();
    for _ in 0..30 {
        let answer = client.post("/responses", IDLE).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        open.push(answer);
    }
    let refused = client.post("/responses", ask(false)).await.unwrap().rest().await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.text().contains("limits.calls_per_connection"), "{refused:?}");
    let waiting = client.post("/responses", ask(false));
    let (answered, ()) = tokio::join!(waiting, async { drop(open.pop()) });
    assert_eq!(answered.unwrap().rest().await.status, StatusCode::OK);
    drop(open);
    world.assert_sound().await;
}
