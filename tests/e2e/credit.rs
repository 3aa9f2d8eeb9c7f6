//! Money that comes otherwise than by the operator's hand: codes that are redeemed once, credit that ends, plans that
//! give each month and day, and what becomes of a call when nothing is left. On a running hub, over kills and restarts.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, Whole};
use relay_tests::socket::Socket;
use relay_tests::vendor::{Gate, Script};
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, ask, ask_chat, events, setup};

const PATIENCE: Duration = Duration::from_secs(20);

/// A tenant without money; its id and a client with its key.
async fn poor(world: &World, name: &str) -> (String, Client) {
    let added = world.hub.json(&["tenant", "add", name]).await;
    let id = added["id"].as_str().unwrap().to_owned();
    let key = world.hub.add_key(&id).await;
    (id, client(world, &key, "/v1"))
}

fn client(world: &World, key: &str, path: &str) -> Client {
    Client::new(&format!("http://{}{path}", world.hub.http()), key)
}

async fn post(client: &Client, body: impl Into<String>) -> Whole {
    client.post("/responses", body.into()).await.unwrap().rest().await
}

fn told(answer: &Whole) -> (u16, String) {
    (answer.status.as_u16(), answer.error_code())
}

/// Waits until the tenant's balance is this many billionths.
async fn until(world: &World, tenant: &str, posted: i64) {
    let began = Instant::now();
    while world.books().balance(tenant).await.posted != posted {
        assert!(began.elapsed() < PATIENCE, "{:?}", world.books().balance(tenant).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A moment so many milliseconds from now, as commands take it.
fn soon(millis: u64) -> String {
    let at = SystemTime::now() + Duration::from_millis(millis);
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    jiff::Timestamp::from_millisecond(i64::try_from(since.as_millis()).unwrap())
        .unwrap()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_redeemed_once_by_the_command_or_by_the_api() {
    let world = setup().start().await;
    let (first, _) = poor(&world, "first").await;
    let (second, _) = poor(&world, "second").await;
    let words = [
        "code", "create", "--amount", "2.50", "--count", "2", "--lasts", "30", "--note", "spring",
    ];
    let made = world.hub.json(&words).await;
    let texts: Vec<_> = made
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code["code"].as_str().unwrap())
        .collect();
    let key = world.hub.add_key(&first).await;
    let own = client(&world, &key, "/relay");
    let body = json!({"code": texts[0]}).to_string();
    let tries = join_all((0..200).map(|_| own.post("/redeem", body.clone()))).await;
    let mut booked = 0;
    for answer in tries {
        let answer = answer.unwrap().rest().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let done = answer.json();
        assert_eq!((&done["credited"], &done["balance"]), (&json!("2.50"), &json!("2.50")));
        assert_eq!(done["source"], format!("code {}", made[0]["id"].as_str().unwrap()));
        assert!(done["expires_at"].as_str().unwrap().ends_with('Z'), "{done}");
        booked += usize::from(done["booked"] == true);
    }
    assert_eq!(booked, 1);
    let late = world
        .hub
        .command(&["code", "redeem", texts[0], "--tenant", "second"])
        .await;
    assert_eq!(late.exit_code, Some(1), "{late:?}");
    assert!(
        late.stderr.contains("redeemed before") && !late.stderr.contains(texts[0]),
        "{late:?}"
    );
    let done = world
        .hub
        .json(&["code", "redeem", texts[1], "--tenant", "second"])
        .await;
    assert_eq!((&done["balance"], &done["booked"]), (&json!("2.50"), &json!(true)));
    until(&world, &second, 2_500_000_000).await;
    let grants = world.hub.json(&["tenant", "grants", "second"]).await;
    assert_eq!(grants[0]["remaining"], "2.50", "{grants}");
    let listed = world.hub.json(&["code", "list"]).await;
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|code| code["redeemed_ms"].is_i64()),
        "{listed}"
    );
    let dump = world.books().dump().await;
    let log = std::fs::read_to_string(world.hub.log_file()).unwrap();
    for text in texts {
        let bare = text.replace('-', "");
        for said in [&dump, &log] {
            assert!(!said.contains(text) && !said.to_uppercase().contains(&bare));
        }
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_dies_under_redemptions_books_each_once() {
    let mut world = setup().start().await;
    let (tenant, _) = poor(&world, "poor").await;
    let key = world.hub.add_key(&tenant).await;
    let made = world
        .hub
        .json(&["code", "create", "--amount", "1", "--count", "60"])
        .await;
    let texts: Vec<_> = made
        .as_array()
        .unwrap()
        .iter()
        .map(|code| json!({"code": code["code"]}).to_string())
        .collect();
    let own = client(&world, &key, "/relay");
    let tries = join_all(
        texts
            .iter()
            .map(async |body| match own.post("/redeem", body.clone()).await {
                Ok(answer) => answer.rest().await.status == 200,
                Err(_) => false,
            }),
    );
    let killed = async {
        // Somewhere in the middle: the first ones are booked.
        while world.books().balance(&tenant).await.posted == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.hub.program().kill().await;
    };
    let (told, ()) = tokio::join!(tries, killed);
    let told = told.into_iter().filter(|is_told| *is_told).count();
    let found = world.books().balance(&tenant).await.posted / 1_000_000_000;
    assert!(
        i64::try_from(told).unwrap() <= found && found <= 60,
        "{told} were told, {found} are booked"
    );
    world.hub.serve().await;
    let own = client(&world, &key, "/relay");
    for body in &texts {
        assert_eq!(
            own.post("/redeem", body.clone()).await.unwrap().rest().await.status,
            200
        );
    }
    assert_eq!(world.books().balance(&tenant).await.posted, 60_000_000_000);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_codes_is_told_to_wait() {
    let world = setup().start().await;
    let client = client(&world, &world.key, "/relay");
    for body in ["", "{}", "[]", r#"{"code": 7}"#, r#"{"code": ""}"#] {
        let answer = client.post("/redeem", body).await.unwrap().rest().await;
        assert_eq!(
            told(&answer),
            (400, "invalid_request".to_owned()),
            "{body}: {}",
            answer.text()
        );
        assert_eq!(answer.json()["error"]["param"], "code");
    }
    let mut refused = 0;
    for at in 0..20 {
        let code = format!("ABCD-EFGH-JKMN-00{at:02}");
        let answer = client
            .post("/redeem", json!({"code": code}).to_string())
            .await
            .unwrap()
            .rest()
            .await;
        if answer.status == 429 {
            let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=600).contains(&wait), "{wait}");
            refused += 1;
        } else {
            assert_eq!(told(&answer), (400, "invalid_request".to_owned()), "{}", answer.text());
        }
    }
    assert_eq!(refused, 11, "an empty code was a guess too");
    let request = client.request(Method::GET, "/redeem").body(Full::default()).unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 405);
    let stranger = Client::new(&format!("http://{}/relay", world.hub.http()), "rk_x");
    assert_eq!(stranger.post("/redeem", "{}").await.unwrap().status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_that_is_over_goes_back_and_running_calls_keep_theirs() {
    let mut world = setup().start().await;
    let (tenant, client) = poor(&world, "poor").await;
    let credit = ["tenant", "credit", "poor", "5", "--id", "trial"];
    let done = world
        .hub
        .json(&[&credit[..], &["--expires", &soon(4_000)]].concat())
        .await;
    assert_eq!((&done["booked"], &done["reference"]), (&json!(true), &json!("trial")));
    let done = world
        .hub
        .json(&[&credit[..], &["--expires", &soon(9_000)]].concat())
        .await;
    assert_eq!(done["booked"], false, "the same source is booked once");
    // A call that runs while its credit ends.
    let gate = Gate::new(1);
    world.vendor.next(Script::deltas(20, 20).gate(&gate));
    let mut running = client.post("/responses", ask(true)).await.unwrap();
    running.until("response.created").await.unwrap();
    while world.books().open_holds().await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let held = world.books().balance(&tenant).await.held;
    until(&world, &tenant, held).await;
    assert_eq!(
        told(&post(&client, ask(false)).await),
        (429, "insufficient_quota".to_owned())
    );
    gate.release(1_000);
    let whole = running.rest().await;
    assert_eq!(whole.cut, None);
    assert_eq!(events(&whole.body).last().unwrap()["type"], "response.completed");
    until(&world, &tenant, 0).await;
    // And while no hub runs.
    let more = ["tenant", "credit", "poor", "7", "--expires", &soon(1_500)];
    world.hub.command(&more).await.succeeded();
    world.hub.program().kill().await;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    world.hub.serve().await;
    let (_, again) = (tenant.clone(), world.hub.add_key(&tenant).await);
    let client = self::client(&world, &again, "/v1");
    assert_eq!(
        told(&post(&client, ask(false)).await),
        (429, "insufficient_quota".to_owned())
    );
    until(&world, &tenant, 0).await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_gives_its_quota_and_then_refuses_or_downgrades() {
    let world = crate::Setup {
        models: vec![MODEL.to_owned(), "small".to_owned()],
        ..setup()
    }
    .start()
    .await;
    world
        .hub
        .command(&[
            "price", "set", "small", "--input", "0", "--cached", "0", "--output", "0",
        ])
        .await
        .succeeded();
    // One call of `ask` fits, a second does not.
    let monthly = ["--monthly", "0.006"];
    world
        .hub
        .command(&[&["plan", "add", "strict"], &monthly[..]].concat())
        .await
        .succeeded();
    let kind = [&["plan", "add", "kind"], &monthly[..], &["--downgrade", "small"]].concat();
    world.hub.command(&kind).await.succeeded();
    let (strict, refused) = poor(&world, "strict").await;
    let (kind, served) = poor(&world, "kind").await;
    assert_eq!(
        told(&post(&served, ask(false)).await),
        (429, "insufficient_quota".to_owned())
    );
    for name in ["strict", "kind"] {
        world.hub.command(&["tenant", "plan", name, name]).await.succeeded();
    }
    world.look().await;
    for (tenant, client) in [(&strict, &refused), (&kind, &served)] {
        until(&world, tenant, 6_000_000).await;
        let answer = post(client, ask(false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["model"], MODEL);
    }
    assert_eq!(
        told(&post(&refused, ask(false)).await),
        (429, "insufficient_quota".to_owned())
    );
    let before = world.vendor.posts().len();
    for stream in [false, true] {
        let answer = post(&served, ask(stream)).await;
        assert_eq!((answer.status.as_u16(), &answer.cut), (200, &None), "{}", answer.text());
        let chat = ask_chat(json!({"stream": stream, "max_completion_tokens": 500}));
        let answer = served.post("/chat/completions", chat).await.unwrap().rest().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let key = world.hub.add_key(&kind).await;
    let mut socket = Socket::responses(world.hub.http(), &key).await.unwrap();
    let create = json!({"type": "response.create", "model": MODEL, "input": "x", "max_output_tokens": 500});
    socket.send(&create.to_string()).await.unwrap();
    assert!(
        socket
            .answer()
            .await
            .unwrap()
            .last()
            .unwrap()
            .contains("response.completed")
    );
    for call in &world.vendor.posts()[before..] {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(body["model"], "small", "{body}");
    }
    assert_eq!(world.vendor.posts().len(), before + 5);
    let rows = world.hub.json(&["usage", "--tenant", "kind"]).await;
    let rows: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["upstream_model"] == "small")
        .collect();
    assert_eq!(rows.len(), 5, "{rows:#?}");
    assert!(
        rows.iter().all(|row| row["model"] == MODEL && row["charged"] == "0.00"),
        "{rows:#?}"
    );
    let used = 6_000_000 - world.books().balance(&kind).await.posted;
    assert!(used > 0 && world.books().balance(&strict).await.posted == 6_000_000 - used);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_words_about_credit_get_all_their_problems_at_once() {
    let world = setup().start().await;
    let cases: &[(&str, &[&str])] = &[
        (
            "code create --amount -1 --count 0 --expires 2001-01-01 --lasts x",
            &["--amount", "--count", "--expires", "--lasts"],
        ),
        ("code create --amount 0", &["--amount"]),
        (
            "plan add a/b --monthly x --daily 1e3 --downgrade none-such",
            &["--monthly", "--daily", "NAME", "--downgrade"],
        ),
        ("plan add nothing", &["NAME"]),
        ("tenant credit acme 1 --expires yesterday", &["--expires"]),
    ];
    for (words, keys) in cases {
        let words: Vec<_> = words.split(' ').chain(["--json"]).collect();
        let ended = world.hub.command(&words).await;
        assert_eq!(ended.exit_code, Some(1), "{ended:?}");
        let error: Value = serde_json::from_str(&ended.stderr).unwrap();
        let found: Vec<_> = error["error"]["problems"].as_array().unwrap().iter().collect();
        let named: Vec<_> = found.iter().map(|problem| problem["key"].as_str().unwrap()).collect();
        assert_eq!(&named, keys, "{error}");
        assert!(
            found
                .iter()
                .all(|problem| problem["hint"].as_str().is_some_and(|hint| !hint.is_empty())),
            "{error}"
        );
    }
    for (words, hint) in [
        (&["tenant", "plan", "acme", "none-such"][..], "plan add"),
        (&["plan", "remove", "none-such"], "plan add"),
        (&["code", "revoke", "code_0000000000000000"], "code list"),
        (&["code", "redeem", "x", "--tenant", "acme"], "code list"),
    ] {
        let ended = world.hub.command(words).await;
        assert_eq!(ended.exit_code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("hint:") && ended.stderr.contains(hint),
            "{ended:?}"
        );
    }
}
