//! A hostile vendor behind a client of another wire: whatever it sends, the client is told an end in its own dialect or is cut
//! off, nothing that broke off looks complete, the bill is what `docs/endings.md` says, and the hub serves the next call within
//! the memory it had.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use relay_protocol::{VendorWire, Wire};
use relay_tests::{
    books::Row,
    client::{Client, Whole},
    vendor::{Break, Script},
    world::{Setup, World},
};

use crate::{lanes, setup};

mod crowd;
mod frames;

/// What must become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The answer is whole, and is charged as its vendor reports.
    Whole,
    /// The answer is whole; its report makes no sense, so the relay counts.
    Counted,
    /// The client is told that it failed, or is cut off, and nothing is charged.
    Failed,
    /// The client is told that it failed; what the vendor reported by then is charged, as `docs/endings.md` has it.
    Unfit,
    /// Either: readers may differ in what they forgive.
    Either,
}

use End::{Counted, Either, Failed, Unfit, Whole as Complete};

/// One thing that a vendor does.
struct Hostile {
    name: &'static str,
    script: Script,
    end: End,
    /// It takes long, so one client meets it.
    is_heavy: bool,
}

const EVENTS: &str = "text/event-stream";
/// So many bytes more than before the hub may keep, whatever comes: an answer of 16 MiB is the longest that is translated, and
/// for a client of Responses it may be there as text, as what is written of it, and on its way to the client.
const MEMORY: u64 = 160 << 20;

/// The first events of an answer, up to where its text begins.
pub(crate) const fn head(vendor: VendorWire) -> &'static str {
    match vendor {
        VendorWire::Responses => concat!(
            "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n",
            "data: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n",
        ),
        VendorWire::Messages => concat!(
            "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[]}}\n\n",
            "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        ),
        VendorWire::Chat | VendorWire::Gemini | VendorWire::Converse => "",
    }
}

/// A piece of text at a place among the parts; `json` stands between quotes.
fn piece_at(vendor: VendorWire, json: &str, at: usize) -> String {
    match vendor {
        VendorWire::Responses => format!(
            "data: {{\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"output_index\":{at},\"content_index\":{at},\"delta\":\"{json}\"}}\n\n"
        ),
        VendorWire::Chat => format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":{at},\"delta\":{{\"content\":\"{json}\"}},\"finish_reason\":null}}]}}\n\n"
        ),
        VendorWire::Messages => format!(
            "data: {{\"type\":\"content_block_delta\",\"index\":{at},\"delta\":{{\"type\":\"text_delta\",\"text\":\"{json}\"}}}}\n\n"
        ),
        VendorWire::Gemini | VendorWire::Converse => format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{json}\"}}],\"role\":\"model\"}},\"index\":{at}}}]}}\n\n"
        ),
    }
}

pub(crate) fn piece(vendor: VendorWire, json: &str) -> String {
    piece_at(vendor, json, 0)
}

/// A call of a tool, and a piece of its arguments; Gemini tells them whole.
fn call(vendor: VendorWire) -> (&'static str, String) {
    let more = "a".repeat(64 << 10);
    match vendor {
        VendorWire::Responses => (
            "data: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"id\":\"f\",\"type\":\"function_call\",\"call_id\":\"f\",\"name\":\"exec_command\",\"arguments\":\"\"}}\n\n",
            format!(
                "data: {{\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"f\",\"output_index\":1,\"delta\":\"{more}\"}}\n\n"
            ),
        ),
        VendorWire::Chat => (
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"f\",\"type\":\"function\",\"function\":{\"name\":\"exec_command\",\"arguments\":\"\"}}]}}]}\n\n",
            format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":\"{more}\"}}}}]}}}}]}}\n\n"
            ),
        ),
        VendorWire::Messages => (
            "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"f\",\"name\":\"exec_command\",\"input\":{}}}\n\n",
            format!(
                "data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"input_json_delta\",\"partial_json\":\"{more}\"}}}}\n\n"
            ),
        ),
        VendorWire::Gemini | VendorWire::Converse => (
            "",
            format!(
                "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"exec_command\",\"args\":{{\"cmd\":\"{more}\"}}}}}}],\"role\":\"model\"}}}}]}}\n\n"
            ),
        ),
    }
}

/// The end of an answer that used so much: input, cached, output.
pub(crate) fn tail(vendor: VendorWire, [input, cached, output]: [i128; 3]) -> String {
    match vendor {
        VendorWire::Responses => format!(
            "data: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"r\",\"status\":\"completed\",\"output\":[],\"usage\":{{\"input_tokens\":{input},\"input_tokens_details\":{{\"cached_tokens\":{cached}}},\"output_tokens\":{output},\"total_tokens\":{}}}}}}}\n\n",
            input + output
        ),
        VendorWire::Chat => format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: {{\"id\":\"c\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}},\"completion_tokens\":{output},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
            input + output
        ),
        // What was read from the cache is not among the input there.
        VendorWire::Messages => format!(
            "data: {{\"type\":\"content_block_stop\",\"index\":0}}\n\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"input_tokens\":{},\"cache_read_input_tokens\":{cached},\"output_tokens\":{output}}}}}\n\ndata: {{\"type\":\"message_stop\"}}\n\n",
            input - cached
        ),
        VendorWire::Gemini | VendorWire::Converse => format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"\"}}]}},\"finishReason\":\"STOP\",\"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":{input},\"cachedContentTokenCount\":{cached},\"candidatesTokenCount\":{output},\"totalTokenCount\":{}}}}}\n\n",
            input + output
        ),
    }
}

const fn error(vendor: VendorWire) -> &'static str {
    match vendor {
        VendorWire::Responses => {
            "data: {\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"no\"}}}\n\n"
        }
        VendorWire::Chat => "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n",
        VendorWire::Messages => {
            "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}\n\n"
        }
        VendorWire::Gemini | VendorWire::Converse => {
            "data: {\"error\":{\"code\":503,\"message\":\"no\",\"status\":\"UNAVAILABLE\"}}\n\n"
        }
    }
}

pub(crate) const SOUND: [i128; 3] = [40, 10, 9];

fn sends(body: impl Into<Bytes>) -> Script {
    Script::chunks(EVENTS, vec![body.into()])
}

/// Everything that a vendor of this wire does.
fn hostile(vendor: VendorWire) -> Vec<Hostile> {
    let head = head(vendor);
    let text = |count: usize| piece(vendor, "word ").repeat(count);
    let begun = format!("{head}{}", text(5));
    let whole = format!("{begun}{}", tail(vendor, SOUND));
    let with_usage = |usage| sends(format!("{begun}{}", tail(vendor, usage)));
    let between = |words: &str| sends(format!("{begun}{words}{}", tail(vendor, SOUND)));
    let light = |name, end, script| Hostile {
        name,
        script,
        end,
        is_heavy: false,
    };
    let moved = Script::text(302, "moved").header("location", "http://127.0.0.1:1/v1/elsewhere");
    // Gemini's answer ends with its body, and no sooner.
    let after_end = if vendor == VendorWire::Gemini { Either } else { Complete };
    let page = Script::text(200, "<html>Welcome to our captive portal</html>");
    let deep = format!("data: {}{}\n\n", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let deep_list = format!("data: {{\"choices\":{}\n\n", "[".repeat(10_000));
    let mut not_text = begun.clone().into_bytes();
    not_text.extend(
        piece(vendor, "@")
            .bytes()
            .map(|byte| if byte == b'@' { 0xff } else { byte }),
    );
    not_text.extend(tail(vendor, SOUND).bytes());
    let within = piece(vendor, "é");
    let within = &within.as_bytes()[..=within.find('é').unwrap()];
    let noise: Vec<u8> = (0..4096_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let doubled: String = whole.split_inclusive("\n\n").flat_map(|event| [event, event]).collect();
    let odd_lines = format!("\u{feff}: ping\n\n{whole}").replace('\n', "\r\n");
    vec![
        light(
            "resets in the middle",
            Failed,
            sends(whole.clone()).cut(begun.len(), Break::Reset),
        ),
        light(
            "closes in the middle",
            Failed,
            sends(whole.clone()).cut(begun.len() - 9, Break::Fin),
        ),
        light(
            "closes within a character",
            Failed,
            sends([begun.as_bytes(), within].concat()),
        ),
        light("ends without an end", Failed, sends(begun.clone())),
        light("says nothing", Failed, sends("")),
        light("only breathes", Failed, sends(": ping\n\n".repeat(1_000))),
        light("makes noise", Failed, sends(noise)),
        light(
            "says an error in the middle",
            Failed,
            sends(format!("{begun}{}", error(vendor))),
        ),
        light("says an error first", Failed, sends(error(vendor))),
        light("sends elsewhere", Failed, moved),
        light("shows a page", Failed, page),
        light(
            "is whole in odd lines, byte by byte",
            Complete,
            sends(odd_lines).write_size(1),
        ),
        light("ends twice", Complete, sends(format!("{whole}{}", tail(vendor, SOUND)))),
        light("goes on after its end", Complete, sends(format!("{whole}{}", text(3)))),
        light(
            "fails after its end",
            after_end,
            sends(format!("{whole}{}", error(vendor))),
        ),
        light(
            "ends before it begins",
            Either,
            sends(format!("{}{begun}", tail(vendor, SOUND))),
        ),
        light("says everything twice", Either, sends(doubled)),
        light(
            "names parts that are not there",
            Either,
            between(&piece_at(vendor, "x", 7)),
        ),
        light(
            "names a part beyond counting",
            Either,
            between(&piece_at(vendor, "x", usize::MAX)),
        ),
        light("nests 10,000 deep", Either, between(&deep)),
        light("opens 10,000 lists", Either, between(&deep_list)),
        light("writes no UTF-8", Either, sends(not_text)),
        light("writes half a character", Either, between(&piece(vendor, "\\ud800"))),
        light(
            "says null, lists and numbers",
            Either,
            between("data: null\n\ndata: []\n\ndata: 7\n\ndata: \"x\"\n\n"),
        ),
        light("breaks its JSON", Either, between("data: {\"type\":\n\n")),
        light(
            "reports too much to be true",
            Counted,
            with_usage([1_i128 << 62, 0, 1_i128 << 62]),
        ),
        light("reports less than nothing", Counted, with_usage([40, 0, -5])),
        light(
            "reports more than a number holds",
            Counted,
            with_usage([1_i128 << 80, 0, 9]),
        ),
        Hostile {
            name: "falls silent",
            script: sends(begun.clone()).linger(Duration::from_secs(60)),
            end: Failed,
            is_heavy: true,
        },
        Hostile {
            name: "is packed a thousandfold",
            script: bomb(),
            end: Failed,
            is_heavy: true,
        },
        Hostile {
            name: "writes a line without an end",
            script: sends(format!("{begun}data: {}", "a".repeat(6 << 20))),
            end: Failed,
            is_heavy: true,
        },
        Hostile {
            name: "writes 300 KB at once",
            script: between(&piece(vendor, &"a".repeat(300 << 10))),
            end: Complete,
            is_heavy: true,
        },
        Hostile {
            name: "writes 16 MB at once",
            script: between(&piece(vendor, &"a".repeat(16 << 20))),
            end: Unfit,
            is_heavy: true,
        },
        Hostile {
            name: "never ends a tool's input",
            script: endless_call(vendor),
            end: Failed,
            is_heavy: true,
        },
        Hostile {
            name: "says very many words",
            script: many_words(vendor),
            end: Complete,
            is_heavy: true,
        },
    ]
}

/// 16 MiB of zeros, packed.
fn bomb() -> Script {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        std::io::Write::write_all(&mut bomb, &[0; 1 << 16]).unwrap();
    }
    sends(bomb.finish().unwrap()).header("content-encoding", "gzip")
}

/// 18 MiB of arguments, in pieces.
fn endless_call(vendor: VendorWire) -> Script {
    let (opened, more) = call(vendor);
    let mut chunks = vec![Bytes::from(format!("{}{opened}", head(vendor)))];
    chunks.extend(std::iter::repeat_n(Bytes::from(more), 288));
    chunks.push(tail(vendor, SOUND).into());
    Script::chunks(EVENTS, chunks)
}

/// A hundred thousand events; of vendors but one a tenth, for these tests are built without optimisation.
fn many_words(vendor: VendorWire) -> Script {
    let count = if vendor == VendorWire::Chat { 100_000 } else { 10_000 };
    let mut body = head(vendor).to_owned();
    for at in 0..count {
        write!(body, "{}", piece(vendor, &format!("{at} "))).unwrap();
    }
    sends(body + &tail(vendor, SOUND))
}

/// What the client was told: true of a whole answer. Anything between that and a failure is none.
fn is_whole(client: Wire, answer: &Whole, context: &str) -> bool {
    let text = std::str::from_utf8(&answer.body).unwrap_or_else(|_| panic!("{context}: no UTF-8"));
    if answer.status != 200 {
        let told: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        assert!(
            told.get("error").is_some() || told[0].get("error").is_some(),
            "{context}: {text:.500}"
        );
        return false;
    }
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    for line in &lines {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok();
        assert!(is_json || *line == "[DONE]", "{context}: {line:.500}");
    }
    let last = lines.last().copied().unwrap_or_default();
    let is_end = |line: &&&str| match client {
        Wire::Responses => line.contains("\"type\":\"response.completed\""),
        Wire::Chat => **line == "[DONE]",
        Wire::Messages => line.contains("\"type\":\"message_stop\""),
        Wire::Gemini => line.contains("\"finishReason\":"),
    };
    let ends = lines.iter().filter(is_end).count();
    let has_failed = match client {
        Wire::Responses => last.contains("\"type\":\"response.failed\""),
        Wire::Messages => last.contains("\"type\":\"error\""),
        Wire::Chat | Wire::Gemini => last.starts_with("{\"error\":"),
    };
    let is_cut = answer.cut.is_some();
    assert!(ends <= 1, "{context}: {ends} ends");
    assert!(ends == 1 || has_failed || is_cut, "{context}: no end, {last:.500}");
    assert!(
        ends == 0 || !(has_failed || is_cut),
        "{context}: an end that is none, {last:.500}"
    );
    ends == 1
}

/// What is wrong with the bill of a call.
fn ill_billed(row: &Row, end: End, is_whole: bool, context: &str) -> Option<String> {
    let billed = match (row.charged, row.source.as_deref()) {
        (0, None) => "nothing",
        (_, Some("estimated")) => "counted",
        _ => "reported",
    };
    let is_right = match end {
        Complete => billed == "reported",
        Counted => billed == "counted",
        Failed => billed == "nothing",
        Unfit => billed != "counted",
        // What the vendor reported before it failed is charged.
        Either => !is_whole || billed != "nothing",
    };
    let is_held = row.held.is_none_or(|held| row.charged <= held);
    // The books say of no answer that it is whole whose client was told that it failed.
    let is_told = is_whole || row.ending != "completed";
    (!is_right || !is_held || !is_told).then(|| format!("{context}: {billed}, {row:?}"))
}

async fn ask(world: &World, client: Wire, script: Option<Script>) -> Whole {
    if let Some(script) = script {
        world.vendor.next(script);
    }
    let (path, body) = lanes::round(client, true, None);
    let caller = Client::new(&format!("http://{}", world.hub.http()), &world.key);
    caller.post(&path, body.to_string()).await.unwrap().rest().await
}

/// The next call is served: at once, or, where the account is out of use by then, once it is back.
async fn serves_on(world: &World, account: &str, client: Wire, sound: Script, context: &str) {
    let asked = world.vendor.posts().len();
    let answer = ask(world, client, Some(sound)).await;
    if answer.status == 200 {
        assert!(is_whole(client, &answer, context), "{context}: {}", answer.text());
        return;
    }
    assert_eq!(world.vendor.posts().len(), asked, "{context}: {}", answer.text());
    world.hub.command(&["account", "revive", account]).await.succeeded();
    world.look().await;
    let answer = ask(world, client, None).await;
    assert!(is_whole(client, &answer, context), "{context}: {}", answer.text());
}

fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// What the system says of a process's memory, in bytes.
fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// Every hostile thing, for the clients of the other wires.
async fn meets(vendor: VendorWire) {
    let settings = Setup {
        hub_toml: "[limits]\nidle_timeout = \"3s\"\n".to_owned(),
        ..setup()
    };
    let mut world = lanes::at(vendor, settings).await;
    let account = match vendor {
        VendorWire::Responses | VendorWire::Chat => "other",
        VendorWire::Messages => "anthropic",
        VendorWire::Gemini => "gemini",
        VendorWire::Converse => "aws",
    };
    let clients: Vec<_> = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini]
        .into_iter()
        .filter(|client| VendorWire::from(*client) != vendor)
        .collect();
    let (scripts, sound) = if vendor == VendorWire::Converse {
        (frames::hostile(), frames::sound())
    } else {
        let well = piece(vendor, "well");
        (
            hostile(vendor),
            sends(format!("{}{well}{}", head(vendor), tail(vendor, SOUND))),
        )
    };
    let pid = world.hub.program().pid();
    let before = resident(pid);
    let (mut met, mut wrong) = (Vec::new(), Vec::new());
    for (at, hostile) in scripts.into_iter().enumerate() {
        let at = at % clients.len();
        let all = if hostile.is_heavy {
            &clients[at..=at]
        } else {
            &clients[..]
        };
        for client in all {
            let context = format!("{} for {}: {}", vendor.name(), client.name(), hostile.name);
            let answer = ask(&world, *client, Some(hostile.script.clone())).await;
            let is_whole = is_whole(*client, &answer, &context);
            let is_right = match hostile.end {
                Complete | Counted => is_whole,
                Failed | Unfit => !is_whole,
                Either => true,
            };
            if !is_right {
                wrong.push(format!("{context}: whole is {is_whole}, {:.400}", answer.text()));
            }
            let call = answer.headers["relay-call-id"].to_str().unwrap().to_owned();
            met.push((call, hostile.end, is_whole, context));
        }
        serves_on(&world, account, clients[at], sound.clone(), hostile.name).await;
    }
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < MEMORY, "the hub has {grown} bytes more than before");
    let rows = world.books().settled(met.len()).await;
    for (call, end, is_whole, context) in &met {
        let row = rows.iter().find(|row| row.call == *call);
        let row = row.unwrap_or_else(|| panic!("{context}: no row"));
        wrong.extend(ill_billed(row, *end, *is_whole, context));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{}: {} cells, {grown} bytes more", vendor.name(), met.len());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_vendor_of_responses_gives_its_clients_an_end() {
    meets(VendorWire::Responses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_vendor_of_chat_gives_its_clients_an_end() {
    meets(VendorWire::Chat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_vendor_of_messages_gives_its_clients_an_end() {
    meets(VendorWire::Messages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_vendor_of_converse_gives_its_clients_an_end() {
    meets(VendorWire::Converse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_vendor_of_gemini_gives_its_clients_an_end() {
    meets(VendorWire::Gemini).await;
}
