//! Clients by country, with a real database file: at the public entrance, behind an agent, and when the file changes.

use std::{fs, net::Ipv4Addr, time::Duration};

use relay_tests::{
    client::{Client, Whole},
    mmdb::{self, Network},
    world::World,
};

use crate::{ask, setup};

const HERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 0);
const GERMAN: &[Network] = &[(HERE, 8, "DE"), (Ipv4Addr::new(192, 0, 2, 0), 24, "FR")];
const FRENCH: &[Network] = &[(HERE, 8, "FR")];

async fn call(client: &Client) -> Whole {
    client.post("/responses", ask(false)).await.unwrap().rest().await
}

async fn limit(world: &World, arguments: &[&str]) {
    world
        .hub
        .command(&[&["limit", "set"], arguments].concat())
        .await
        .succeeded();
}

/// Until the hub has seen what was changed.
async fn until(client: &Client, status: u16) -> Whole {
    let waiting = async {
        loop {
            let answer = call(client).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect("the hub sees the change")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_let_in_by_their_country_and_by_the_newest_file() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("countries.mmdb");
    fs::write(&file, mmdb::countries(GERMAN)).unwrap();
    let mut world = setup();
    world.hub_toml = format!("[countries]\ndatabase = \"{}\"\n", file.display());
    let world = world.start().await;
    let (client, agent) = (world.through_hub(), world.through_agent());
    assert_eq!(call(&client).await.status, 200);

    limit(&world, &["--tenant", &world.tenant, "--blocked-countries", "us,de"]).await;
    for client in [&client, &agent] {
        let refused = until(client, 400).await;
        assert_eq!(refused.error_code(), "address_not_allowed");
        assert!(refused.text().contains("not taken from DE"), "{}", refused.text());
    }
    let listed = world.hub.json(&["limit", "list"]).await;
    assert!(listed.to_string().contains(r#"["US","DE"]"#), "{listed}");

    // A file that is no database leaves the last one in force.
    fs::write(&file, "nonsense").unwrap();
    world_says(&world, "stays as it was").await;
    assert_eq!(call(&client).await.status, 400);
    fs::write(&file, mmdb::countries(FRENCH)).unwrap();
    until(&client, 200).await;

    limit(&world, &["--tenant", &world.tenant, "--blocked-countries", "off"]).await;
    limit(&world, &["--global", "--allowed-countries", "DE"]).await;
    until(&client, 400).await;
    fs::write(&file, mmdb::countries(&[])).unwrap();
    let unknown = async { while !call(&client).await.text().contains("country is not known") {} };
    tokio::time::timeout(Duration::from_secs(60), unknown).await.unwrap();
    let wrong = world
        .hub
        .command(&["limit", "set", "--global", "--allowed-countries", "Germany"])
        .await
        .failed();
    assert!(wrong.stderr.contains("two letters"), "{}", wrong.stderr);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

async fn world_says(world: &World, words: &str) {
    let said = async {
        while !fs::read_to_string(world.hub.log_file()).unwrap().contains(words) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.expect(words);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_countries_are_nobody_s_business_and_a_bad_file_is_told() {
    let mut world = setup().start().await;
    limit(&world, &["--global", "--allowed-countries", "DE"]).await;
    let key = world.hub.add_key(&world.tenant).await;
    let client = Client::new(&format!("http://{}/v1", world.hub.http()), &key);
    assert_eq!(call(&client).await.status, 200);

    world.hub.program().terminate().await;
    let file = world.scratch().join("bad.mmdb");
    fs::write(&file, "nonsense").unwrap();
    let told = format!("[countries]\ndatabase = \"{}\"\n", file.display());
    world.hub.configure(world.chaos.addr(), &told);
    let refused = world.hub.try_serve().await.unwrap_err().to_string();
    assert!(refused.contains("is no database of countries"), "{refused}");
}
