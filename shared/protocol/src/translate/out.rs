//! The way of an ordered event to the client. Knows how much of an answer may be kept for one.

use super::names::Names;
use crate::codec::{Outbox, WriteAnswer};
use crate::event::{Event, Failure, Opened};
use crate::sse::long::ROOM;
use crate::tokens::Tokens;
use crate::usage::Usage;
use crate::wire::Wire;

pub(super) struct Out {
    pub(super) names: Names,
    pub(super) writer: Box<dyn WriteAnswer>,
    pub(super) outbox: Outbox,
    pub(super) usage: Option<Usage>,
    pub(super) failure: Option<Failure>,
    client: Wire,
    /// What was told so far.
    told: usize,
    /// What of it belongs to the call that is open.
    of_call: Option<usize>,
    /// An answer may be so long.
    longest: usize,
}

impl Out {
    pub(super) fn new(client: Wire, names: Names, writer: Box<dyn WriteAnswer>, outbox: Outbox) -> Self {
        Self {
            names,
            writer,
            outbox,
            usage: None,
            failure: None,
            client,
            told: 0,
            of_call: None,
            longest: LONGEST_ANSWER,
        }
    }

    /// The model may write so many tokens.
    pub(super) fn allow(&mut self, tokens: Tokens) {
        let tokens = usize::try_from(tokens.get()).unwrap_or(usize::MAX);
        self.longest = tokens.saturating_mul(LONGEST_TOKEN).clamp(LEAST, LONGEST_ANSWER);
    }

    pub(super) fn write(&mut self, event: Event) {
        self.weigh(&event);
        let is_over = self.outbox.kept() > MOST_KEPT;
        let Self {
            names,
            writer,
            outbox,
            usage,
            failure,
            ..
        } = self;
        names.pass(event, &mut |event| {
            let (is_begin, is_end) = (event == Event::Begin, event == Event::End);
            if let Event::Fail(why) = event {
                *failure = Some(why);
                return;
            }
            if is_over {
                // What is too long to be told again is not: its client is told that it failed.
                return;
            }
            if is_end && let Some(usage) = usage {
                writer.write(Event::Usage(*usage), outbox);
            }
            writer.write(event, outbox);
            if is_begin && let Some(usage) = usage {
                writer.write(Event::Usage(*usage), outbox);
            }
        });
    }

    /// Why no more of the answer can be told, if so.
    pub(super) fn excess(&self) -> Option<&'static str> {
        // These say a call when it is whole, and not before.
        let gathers = self.client == Wire::Gemini || self.client != Wire::Responses && self.names.gathers();
        if self.outbox.kept() > MOST_KEPT {
            Some(TOO_LONG_AGAIN)
        } else if gathers && self.of_call.is_some_and(|call| call > ROOM) {
            Some("The upstream's model wrote a call of more than 48 KiB, which cannot be told in this stream.")
        } else if self.told > self.longest {
            Some("The upstream's answer is too long.")
        } else {
            None
        }
    }

    /// What the client is told: texts, and what stands around them.
    fn weigh(&mut self, event: &Event) {
        let weight = match event {
            Event::Open(opened) => {
                self.of_call = matches!(opened, Opened::Call { .. }).then_some(0);
                AROUND + opened.len()
            }
            Event::Delta(text) => {
                if let Some(call) = &mut self.of_call {
                    *call += text.len();
                }
                text.len()
            }
            Event::Cite(citation) => {
                let texts = [&citation.url, &citation.title, &citation.quote];
                AROUND + texts.into_iter().flatten().map(String::len).sum::<usize>()
            }
            Event::Sign(opaque) => opaque.data.len(),
            Event::Begin | Event::Close | Event::Usage(_) | Event::Stop(_) | Event::End | Event::Fail(_) => 0,
        };
        self.told = self.told.saturating_add(weight);
    }
}

/// So much is held, packed, of an answer that is told again at its end: about 240 KB of text.
const MOST_KEPT: usize = 96 << 10;
const TOO_LONG_AGAIN: &str = "The upstream's answer is too long to be told again at its end, as Responses does; ask for it as chat \
                              completions, or as a whole.";
/// No answer is longer, whatever its model may write.
const LONGEST_ANSWER: usize = 16 << 20;
/// Nor is any cut that is shorter than this.
const LEAST: usize = 1 << 20;
/// Few tokens have as many bytes, and no text consists of them.
const LONGEST_TOKEN: usize = 32;
/// What is told of a part or a citation beside its texts.
const AROUND: usize = 256;
