//! Measures the translating lane: `cargo run --release -p relay-protocol --example translate`. Prints, asserts no speed.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use relay_protocol::{Flat, Framing, Lane, Reply, Target, Tokens, Translator, VendorWire, Wire, translate};

const CLIENTS: [Wire; 4] = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini];
const EVENTS: usize = 2_000;

/// A stream of `EVENTS` pieces of text, as each vendor writes it.
fn stream(vendor: VendorWire) -> Vec<u8> {
    let (head, piece, tail) = match vendor {
        VendorWire::Responses => (
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\nevent: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":7,\"item_id\":\"msg_0123456789abcdef0123456789abcdef\",\"output_index\":0,\"content_index\":0,\"delta\":\" token\",\"logprobs\":[]}\n\n",
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[]}}\n\n",
        ),
        VendorWire::Chat => (
            "",
            "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-5\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        ),
        VendorWire::Messages => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[]}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" token\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        VendorWire::Gemini => (
            "",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" token\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":7,\"totalTokenCount\":15},\"modelVersion\":\"gemini-3.5-flash\",\"responseId\":\"xMd9aLyPNrGU1PIPq\"}\n\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\",\"index\":0}]}\n\n",
        ),
        VendorWire::Converse => (
            "data: {\"messageStart\":{\"role\":\"assistant\"}}\n\n",
            "data: {\"contentBlockDelta\":{\"contentBlockIndex\":0,\"delta\":{\"text\":\" token\"},\"p\":\"abcdefghijkl\"}}\n\n",
            "data: {\"messageStop\":{\"stopReason\":\"end_turn\"}}\n\ndata: {\"metadata\":{}}\n\n",
        ),
    };
    format!("{head}{}{tail}", piece.repeat(EVENTS)).into_bytes()
}

/// A request of an agent's kind: source code in strings, many turns of calls and results, about 1 MB.
fn request(client: Wire) -> Vec<u8> {
    let code = "fn main() {\\n    println!(\\\"hello\\\");\\n}\\n".repeat(250);
    let turn = match client {
        Wire::Responses => format!(
            "{{\"type\":\"function_call\",\"call_id\":\"call_N\",\"name\":\"shell\",\"arguments\":\"{{\\\"command\\\":[\\\"ls\\\"]}}\"}},{{\"type\":\"function_call_output\",\"call_id\":\"call_N\",\"output\":\"{code}\"}}"
        ),
        Wire::Chat => format!(
            "{{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"id\":\"call_N\",\"type\":\"function\",\"function\":{{\"name\":\"shell\",\"arguments\":\"{{}}\"}}}}]}},{{\"role\":\"tool\",\"tool_call_id\":\"call_N\",\"content\":\"{code}\"}}"
        ),
        Wire::Messages => format!(
            "{{\"role\":\"assistant\",\"content\":[{{\"type\":\"tool_use\",\"id\":\"call_N\",\"name\":\"shell\",\"input\":{{\"command\":[\"ls\"]}}}}]}},{{\"role\":\"user\",\"content\":[{{\"type\":\"tool_result\",\"tool_use_id\":\"call_N\",\"content\":[{{\"type\":\"text\",\"text\":\"{code}\"}}]}}]}}"
        ),
        Wire::Gemini => format!(
            "{{\"role\":\"model\",\"parts\":[{{\"functionCall\":{{\"id\":\"call_N\",\"name\":\"shell\",\"args\":{{}}}}}}]}},{{\"role\":\"user\",\"parts\":[{{\"functionResponse\":{{\"id\":\"call_N\",\"name\":\"shell\",\"response\":{{\"output\":\"{code}\"}}}}}}]}}"
        ),
    };
    let mut turns = String::new();
    for number in 0..90 {
        if number > 0 {
            turns.push(',');
        }
        turns += &turn.replace("call_N", &format!("call_{number}"));
    }
    let mut body = String::new();
    let written = match client {
        Wire::Responses => write!(body, "{{\"model\":\"m\",\"input\":[{turns}],\"stream\":true}}"),
        Wire::Chat => write!(body, "{{\"model\":\"m\",\"messages\":[{turns}],\"stream\":true}}"),
        Wire::Messages => write!(
            body,
            "{{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{turns}],\"stream\":true}}"
        ),
        Wire::Gemini => write!(body, "{{\"contents\":[{turns}]}}"),
    };
    written.ok();
    body.into_bytes()
}

/// The CPU time of one run, over half a second of it: the machine may be shared.
fn each(mut once: impl FnMut()) -> Duration {
    let (started, mut runs) = (cpu(), 0_u32);
    loop {
        once();
        runs += 1;
        let spent = cpu().saturating_sub(started);
        if spent > Duration::from_millis(500) {
            return spent / runs;
        }
    }
}

/// What this thread has used of a CPU, as Linux counts it; elsewhere the time that went by.
fn cpu() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

fn main() {
    for vendor in VendorWire::ALL {
        let stream = stream(vendor);
        for client in CLIENTS {
            if !matches!(Lane::between(client, vendor), Some(Lane::Translate(_))) {
                continue;
            }
            let time = each(|| {
                let reply = Reply {
                    id: "0123456789abcdef".to_owned(),
                    model: "m".to_owned(),
                    created: 1_790_000_000,
                    wants_usage: true,
                };
                let Some(mut translator) = Translator::new(client, vendor, Framing::Events, reply, Flat::default())
                else {
                    return;
                };
                for chunk in stream.chunks(1_400) {
                    translator.push(Bytes::copy_from_slice(chunk), None);
                    black_box(std::iter::from_fn(|| translator.take()).count());
                }
                translator.end(None);
                black_box(std::iter::from_fn(|| translator.take()).count());
                assert!(translator.has_ended());
            });
            let event = time.as_nanos() / EVENTS as u128;
            say(&format!(
                "stream   {:<24} for {:<24} {event:>6} ns an event",
                vendor.name(),
                client.name()
            ));
        }
    }
    for client in CLIENTS {
        let body = request(client);
        for vendor in VendorWire::ALL {
            if !matches!(Lane::between(client, vendor), Some(Lane::Translate(_))) {
                continue;
            }
            let target = Target {
                model: "claude-sonnet-4-5",
                is_openai: false,
                is_streamed: true,
                max_output: Tokens::new(32_000),
            };
            let time = each(|| {
                let translated = translate(client, vendor, &body, &target);
                black_box(translated.map(|translated| translated.body.len()).unwrap_or_default());
            });
            let (kilobytes, micros) = (body.len() / 1000, time.as_micros());
            say(&format!(
                "request  {:<24} for {:<24} {micros:>6} us for {kilobytes} KB",
                client.name(),
                vendor.name()
            ));
        }
    }
}
