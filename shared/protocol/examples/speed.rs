//! Measures the tap and the envelope: `cargo run --release -p relay-protocol --example speed`. Prints, asserts no speed.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use relay_protocol::{Endpoint, Envelope, Hidden, Payload, Piece, Shape, Tap, TapOptions, Wire, sse::Gate};

const EVENTS: usize = 20_000;

fn responses() -> Bytes {
    let mut text = String::from(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"usage\":null}}\n\n",
    );
    for n in 0..EVENTS {
        text += &format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{n},\
             \"item_id\":\"msg_0123456789abcdef0123456789abcdef\",\"output_index\":0,\"content_index\":0,\
             \"delta\":\" token\",\"logprobs\":[]}}\n\n"
        );
    }
    text += "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\
             \"usage\":{\"input_tokens\":10,\"output_tokens\":20000}}}\n\n";
    Bytes::from(text)
}

fn chat() -> Bytes {
    let mut text = String::new();
    for _ in 0..EVENTS {
        text += "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
                 \"model\":\"gpt-5\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\
                 \"finish_reason\":null}],\"usage\":null}\n\n";
    }
    text += "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20000}}\n\ndata: [DONE]\n\n";
    Bytes::from(text)
}

fn whole() -> Bytes {
    let text = "Some text of an answer with a \\\"quote\\\" and a line\\n".repeat(80_000);
    Bytes::from(format!(
        "{{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[{{\"text\":\"{text}\"}}],\"usage\":{{\"input_tokens\":1,\"output_tokens\":2}}}}"
    ))
}

/// A request of Codex's kind: source code in strings, 1.1 MB.
fn request() -> Bytes {
    let code = "fn main() {\\n    println!(\\\"hello\\\");\\n}\\n".repeat(500);
    let item = format!(
        "{{\"type\":\"message\",\"role\":\"user\",\"content\":[{{\"type\":\"input_text\",\"text\":\"{code}\"}}]}}"
    );
    let items = vec![item; 45].join(",");
    Bytes::from(format!("{{\"input\":[{items}],\"model\":\"gpt-5\",\"stream\":true}}"))
}

/// Runs `once` over the body in chunks for a second; the best of the runs counts, as the machine may be shared.
fn measure(name: &str, body: &Bytes, size: usize, mut once: impl FnMut(&[Bytes])) {
    let chunks: Vec<Bytes> = (0..body.len())
        .step_by(size)
        .map(|at| body.slice(at..body.len().min(at + size)))
        .collect();
    let mut best = Duration::MAX;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let run = Instant::now();
        once(&chunks);
        best = best.min(run.elapsed());
    }
    let rate = body.len() as f64 / best.as_secs_f64() / 1e9;
    let chunk = best.as_nanos() as f64 / chunks.len() as f64;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{name:<28} {size:>7} B chunks  {rate:>6.2} GB/s  {chunk:>9.0} ns a chunk"
    )
    .ok();
}

fn tap(wire: Wire, shape: Shape, chunks: &[Bytes]) {
    let mut tap = Tap::new(
        wire,
        shape,
        TapOptions {
            remove_usage_chunk: true,
        },
    );
    for chunk in chunks {
        tap.push(chunk.clone()).for_each(|piece: Piece| drop(black_box(piece)));
    }
    black_box(tap.end());
    assert!(tap.observed().usage.is_some());
}

fn main() {
    let (responses, chat, whole) = (responses(), chat(), whole());
    for size in [217, 1_400, 16 << 10, 64 << 10] {
        measure("responses", &responses, size, |chunks| {
            tap(Wire::Responses, Shape::Events, chunks)
        });
    }
    for size in [1_400, 16 << 10, 64 << 10] {
        measure("chat", &chat, size, |chunks| tap(Wire::Chat, Shape::Events, chunks));
    }
    measure("responses, whole", &whole, 16 << 10, |chunks| {
        tap(Wire::Responses, Shape::Whole, chunks)
    });
    measure("gate, responses", &responses, 16 << 10, |chunks| {
        let mut gate = Gate::new(Wire::Responses);
        for chunk in chunks {
            gate.push(chunk.clone()).for_each(|piece: Piece| drop(black_box(piece)));
        }
        assert!(gate.saw_terminal());
    });
    let request = request();
    measure("envelope", &request, request.len(), |chunks| {
        black_box(Envelope::read(Endpoint::Responses, &chunks[0]).is_ok());
    });
    measure("envelope and rename", &request, request.len(), |chunks| {
        let edits =
            Envelope::read(Endpoint::Responses, &chunks[0]).map(|envelope| envelope.edits(Some("gpt-5.1"), false));
        black_box(edits.unwrap_or_default().apply(&Payload::new(chunks[0].clone())).len());
    });
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini] {
        measure(
            &format!("nothing hidden, {}", wire.name()),
            &request,
            request.len(),
            |chunks| {
                assert!(Hidden::sent_back(wire, &chunks[0], 8).is_empty());
            },
        );
    }
}
