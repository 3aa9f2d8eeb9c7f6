//! Fast answers for measurements, chosen by the model's name; nothing of the call is kept but sums.
//! See the head of `bin/scripted-vendor.rs` for the list.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::sync::mpsc;

use super::Shared;
use super::asked::Asked;
use super::render::{self, Turn};
use super::reply::{Reply, json_reply};
use super::script::{Break, Ending, Output, PLAIN, Usage};
use super::wire::Control;

const USAGE: Usage = Usage {
    input: 100,
    cached: 0,
    output: 20,
    reasoning: 0,
};
const PACED_EVENTS: usize = 200;
const FLAT_EVENTS: usize = 20_000;
/// Flat out, so many bytes go into one write: a busy vendor's events arrive bundled.
const FLAT_WRITE: usize = 16 * 1024;

/// The answer to a benchmark model; `None` for every other.
pub(super) fn reply(shared: &Arc<Shared>, path: &str, asked: &Asked) -> Option<Response<Reply>> {
    let mode = asked.model.strip_prefix("bench-")?;
    if mode == "unary" {
        return Some(unary(shared, path, asked));
    }
    let (kind, count) = match mode.rsplit_once("-x") {
        Some((kind, count)) => (kind, count.parse().ok()),
        None => (mode, None),
    };
    let plan = match kind {
        "sse-flat" => Plan::Flat(count.unwrap_or(FLAT_EVENTS)),
        "idle" => Plan::Idle,
        paced => {
            let millis = paced.strip_prefix("sse-")?.strip_suffix("ms")?.parse().ok()?;
            Plan::Paced(Duration::from_millis(millis), count.unwrap_or(PACED_EVENTS))
        }
    };
    let (sender, receiver) = mpsc::channel(4);
    let stream = Stream {
        shared: Arc::clone(shared),
        sender,
        model: asked.model.clone(),
    };
    shared.pumps.spawn(stream.run(plan));
    let mut response = Response::new(Reply::Stream {
        receiver,
        control: Control::new(),
        breaking: None,
    });
    let event_stream = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, event_stream);
    Some(response)
}

enum Plan {
    Paced(Duration, usize),
    Flat(usize),
    Idle,
}

fn unary(shared: &Shared, path: &str, asked: &Asked) -> Response<Reply> {
    shared.truth.count_fast(Some(USAGE));
    let id = format!("resp_bench{:019x}", shared.serial());
    let output = [Output::Text(vec![
        "Twenty tokens of plain text, no more and no less.".to_owned(),
    ])];
    let turn = Turn {
        id: &id,
        model: &asked.model,
        output: &output,
        usage: Some(USAGE),
        extra: &PLAIN,
        ending: &Ending::Completed,
    };
    let body = match path.ends_with("/chat/completions") {
        true => render::chat_body(&turn),
        false => render::responses_body(&turn),
    };
    json_reply(http::StatusCode::OK, &body)
}

struct Stream {
    shared: Arc<Shared>,
    sender: mpsc::Sender<Result<Bytes, Break>>,
    model: String,
}

impl Stream {
    async fn run(self, plan: Plan) {
        let id = format!("resp_bench{:019x}", self.shared.serial());
        let text = [Output::Text(vec![String::new()])];
        let turn = Turn {
            id: &id,
            model: &self.model,
            output: &text,
            usage: Some(USAGE),
            extra: &PLAIN,
            ending: &Ending::Completed,
        };
        let events = render::responses_events(&turn);
        let (opening, closing) = events.split_at(2);
        let join = |events: &[render::Event]| Bytes::from(events.iter().map(render::sse).collect::<String>());
        if self.sender.send(Ok(join(opening))).await.is_err() {
            return self.shared.truth.count_fast(None);
        }
        let is_whole = match plan {
            Plan::Idle => {
                self.sender.closed().await;
                false
            }
            Plan::Paced(interval, count) => self.paced(interval, count).await,
            Plan::Flat(count) => self.flat(count).await,
        };
        let ends = is_whole && self.sender.send(Ok(join(closing))).await.is_ok();
        self.shared.truth.count_fast(ends.then_some(USAGE));
    }

    async fn paced(&self, interval: Duration, count: usize) -> bool {
        let mut ticks = tokio::time::interval(interval);
        for _ in 0..count {
            ticks.tick().await;
            if self.sender.send(Ok(Bytes::from(delta(unix_nanos())))).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn flat(&self, count: usize) -> bool {
        static BLOCK: OnceLock<(Bytes, usize)> = OnceLock::new();
        let (block, per_block) = BLOCK.get_or_init(|| {
            let event = delta(0);
            let per_block = FLAT_WRITE / event.len();
            (Bytes::from(event.repeat(per_block)), per_block)
        });
        let event = block.len() / per_block;
        let mut left = count;
        while left > 0 {
            let now = left.min(*per_block);
            if self.sender.send(Ok(block.slice(..now * event))).await.is_err() {
                return false;
            }
            left -= now;
        }
        true
    }
}

/// One delta event that carries the moment it was made, so that a client can tell how long it was under way.
fn delta(sent_at: u128) -> String {
    format!(
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":4,\
         \"item_id\":\"msg_bench\",\"output_index\":0,\"content_index\":0,\"delta\":\"t={sent_at:020} \",\
         \"logprobs\":[],\"obfuscation\":\"aZ3k\"}}\n\n"
    )
}

fn unix_nanos() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}
