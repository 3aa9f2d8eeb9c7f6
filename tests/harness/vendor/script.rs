//! What the vendor does with one call: a plain value that a test builds in one line.
//! Knows nothing of HTTP or sockets; `render` and `serve` carry it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Tokens as the vendor reports and bills them. `input` includes `cached`, `output` includes `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    pub input: u64,
    pub cached: u64,
    pub output: u64,
    pub reasoning: u64,
}

/// What a bill has beyond plain tokens.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Extra {
    /// The service tier that the answer names.
    pub tier: &'static str,
    /// Output items of the vendor's own tools, and `reasoning`, by their `type`; Messages and Gemini know the last alone.
    pub tools: Vec<&'static str>,
    /// More members of the details of input and output.
    pub input_details: Value,
    pub output_details: Value,
    /// In place of the usage object: what makes no sense.
    pub nonsense: Option<Value>,
}

/// Plain text in the default tier.
pub static PLAIN: Extra = Extra {
    tier: "default",
    tools: Vec::new(),
    input_details: Value::Null,
    output_details: Value::Null,
    nonsense: None,
};

impl Extra {
    /// It is thought before it is answered, and the thought is signed.
    pub(super) fn thinks(&self) -> bool {
        self.tools.contains(&"reasoning")
    }
}

/// How a connection is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Break {
    /// The orderly half: the peer reads an end of stream.
    Fin,
    /// The hard half: the peer reads a reset.
    Reset,
}

/// The event that ends an answer.
#[derive(Clone, Debug)]
pub enum Ending {
    Completed,
    /// `response.incomplete` with this reason.
    Incomplete(&'static str),
    /// `response.failed` with this code and message.
    Failed(&'static str, String),
    /// None at all: the stream just ends.
    Missing,
}

/// One item of the model's output.
#[derive(Clone, Debug)]
pub enum Output {
    /// A message, one string per delta.
    Text(Vec<String>),
    /// A function call with its arguments as JSON text.
    Call { name: String, arguments: String },
}

/// What the answer's body is made of.
#[derive(Clone, Debug)]
pub enum Answer {
    /// One model turn in the wire the client asked for.
    Turn(Vec<Output>),
    /// A function call first, the message once the call's output is in the request.
    ToolRound { command: String, text: String },
    /// These bytes, whatever the client asked for.
    Body(Bytes),
    /// These chunks as they are, each one write.
    Chunks(Vec<Bytes>),
}

/// What the vendor says to a WebSocket upgrade.
#[derive(Clone, Debug)]
pub enum Upgrade {
    Accept,
    /// With this header in the 101.
    AcceptWith(&'static str, &'static str),
    Refuse(Box<Script>),
    /// Never answers.
    Hang,
    HangUp(Break),
}

/// How a call over WebSocket is broken, instead of an answer.
#[derive(Clone, Debug)]
pub enum SocketFault {
    /// This text frame, then nothing.
    Frame(String),
    /// A close frame with this code.
    Close(u16),
    /// A binary frame.
    Binary,
    /// The TCP connection ends without a close frame.
    HangUp(Break),
}

/// Everything the vendor does with one call.
#[derive(Clone, Debug)]
pub struct Script {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub answer: Answer,
    /// `None`: the vendor does not report usage.
    pub usage: Option<Usage>,
    pub extra: Extra,
    pub ending: Ending,
    /// Waited before the status line.
    pub delay: Duration,
    /// Waited before each event but the first.
    pub interval: Duration,
    /// After so many events the vendor is silent for so long.
    pub silence: Option<(usize, Duration)>,
    /// One permit lets one event go; `None` does not wait.
    pub gate: Option<Gate>,
    /// Kept open so long after the last event.
    pub linger: Duration,
    /// Never answers at all.
    pub hangs: bool,
    /// Answers with one document, though a stream be asked for.
    pub streams_nothing: bool,
    /// Breaks the connection instead of answering.
    pub hang_up: Option<Break>,
    /// Answers with these bytes instead of HTTP.
    pub garbage: Option<Bytes>,
    /// Breaks the connection after so many bytes of the body.
    pub cut: Option<(usize, Break)>,
    /// No write to the socket is longer than this.
    pub write_size: Option<usize>,
    /// Cuts a declared `content-length` short rather than a chunked body.
    pub declares_length: bool,
    pub socket_fault: Option<SocketFault>,
    /// A text frame over WebSocket is sent in so many fragments.
    pub fragments: usize,
}

/// Lets a test hold back a vendor's events and let them go one at a time.
#[derive(Clone, Debug)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    permits: Semaphore,
    waiting: AtomicUsize,
}

impl Gate {
    /// A gate that lets the first `open` events pass.
    pub fn new(open: usize) -> Self {
        Self(Arc::new(GateState {
            permits: Semaphore::new(open),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Lets `events` more events pass.
    pub fn release(&self, events: usize) {
        self.0.permits.add_permits(events);
    }

    pub(super) async fn pass(&self) {
        // Who need not wait is not seen to, be it for a moment.
        if let Ok(permit) = self.0.permits.try_acquire() {
            permit.forget();
            return;
        }
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let permit = self.0.permits.acquire().await.expect("a gate is never closed");
        permit.forget();
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many calls wait at the gate.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }
}

impl Script {
    /// A message of these words, one delta a word.
    pub fn message(text: &str) -> Self {
        Self::turn(vec![Output::Text(
            text.split_inclusive(' ').map(str::to_owned).collect(),
        )])
    }

    /// A message of `count` deltas of `size` bytes each.
    pub fn deltas(count: usize, size: usize) -> Self {
        let delta = |n: usize| {
            let mut text = format!("{n} ");
            text.extend(std::iter::repeat_n('x', size.saturating_sub(text.len())));
            text
        };
        Self::turn(vec![Output::Text((0..count).map(delta).collect())])
    }

    /// One turn with these output items.
    pub fn turn(output: Vec<Output>) -> Self {
        let words: usize = output
            .iter()
            .map(|item| match item {
                Output::Text(deltas) => deltas.len(),
                Output::Call { .. } => 12,
            })
            .sum();
        let usage = Usage {
            input: 1_200,
            cached: 256,
            output: words as u64 + 9,
            reasoning: 4,
        };
        Self {
            usage: Some(usage),
            ..Self::answer(Answer::Turn(output))
        }
    }

    /// The client's shell tool is called with `command`, Codex's where none is known; the answer to its output is `text`.
    pub fn tool_round(command: &str, text: &str) -> Self {
        Self::answer(Answer::ToolRound {
            command: command.to_owned(),
            text: text.to_owned(),
        })
    }

    /// Status and JSON error body as OpenAI writes it.
    pub fn error(status: u16, kind: &str, code: Option<&str>, message: &str) -> Self {
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        Self::json(status, &body)
    }

    /// Status and any JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        let bytes = serde_json::to_vec_pretty(body).expect("a JSON value serialises");
        Self {
            status,
            ..Self::answer(Answer::Body(bytes.into()))
        }
        .header("content-type", "application/json")
    }

    /// Status and plain text.
    pub fn text(status: u16, body: &str) -> Self {
        let answer = Answer::Body(Bytes::copy_from_slice(body.as_bytes()));
        Self {
            status,
            ..Self::answer(answer)
        }
        .header("content-type", "text/plain; charset=utf-8")
    }

    /// A 200 whose body is these bytes, each chunk one write.
    pub fn chunks(content_type: &str, chunks: Vec<Bytes>) -> Self {
        Self::answer(Answer::Chunks(chunks)).header("content-type", content_type)
    }

    /// A turn that ends with `response.failed`.
    pub fn failed(code: &'static str, message: &str) -> Self {
        Self {
            ending: Ending::Failed(code, message.to_owned()),
            usage: None,
            ..Self::message("never mind ")
        }
    }

    /// A turn that ends with `response.incomplete`.
    pub fn incomplete(reason: &'static str) -> Self {
        Self {
            ending: Ending::Incomplete(reason),
            ..Self::message("half a sentence ")
        }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self {
            hangs: true,
            ..Self::message("")
        }
    }

    /// Breaks the connection instead of answering.
    pub fn hang_up(how: Break) -> Self {
        Self {
            hang_up: Some(how),
            ..Self::message("")
        }
    }

    /// Answers with bytes that are not HTTP.
    pub fn garbage(bytes: &'static [u8]) -> Self {
        Self {
            garbage: Some(Bytes::from_static(bytes)),
            ..Self::message("")
        }
    }

    /// A fault of the WebSocket itself.
    pub fn socket_fault(fault: SocketFault) -> Self {
        Self {
            socket_fault: Some(fault),
            ..Self::message("")
        }
    }

    fn answer(answer: Answer) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            answer,
            usage: None,
            extra: PLAIN.clone(),
            ending: Ending::Completed,
            delay: Duration::ZERO,
            interval: Duration::ZERO,
            silence: None,
            gate: None,
            linger: Duration::ZERO,
            hangs: false,
            streams_nothing: false,
            hang_up: None,
            garbage: None,
            cut: None,
            write_size: None,
            declares_length: false,
            socket_fault: None,
            fragments: 1,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One document, though a stream be asked for.
    pub fn without_stream(mut self) -> Self {
        self.streams_nothing = true;
        self
    }

    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    pub fn extra(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }

    pub fn no_usage(mut self) -> Self {
        self.usage = None;
        self
    }

    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    pub fn silence(mut self, after_events: usize, how_long: Duration) -> Self {
        self.silence = Some((after_events, how_long));
        self
    }

    pub fn gate(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    pub fn cut(mut self, after_bytes: usize, how: Break) -> Self {
        self.cut = Some((after_bytes, how));
        self
    }

    pub fn write_size(mut self, bytes: usize) -> Self {
        self.write_size = Some(bytes);
        self
    }

    pub fn declares_length(mut self) -> Self {
        self.declares_length = true;
        self
    }

    pub fn fragments(mut self, count: usize) -> Self {
        self.fragments = count;
        self
    }
}
