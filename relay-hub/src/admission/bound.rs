//! The most that a call can use, from what its request says. Knows no tenant and no balance.

use relay_protocol::{Carries, Code, Envelope, Refusal, Tokens};

use crate::{
    catalogue::Model,
    money::{Kinds, Most, Nanos, Offer, Price},
    refusal::Refused,
};

/// What the call can use at most. What lies behind a name (an earlier answer, a stored prompt, a file) may fill the
/// whole context window.
pub(super) fn most(model: &Model, envelope: &Envelope, default_output: Tokens) -> Most {
    let carries = &envelope.carries;
    let tools = calls(envelope);
    let asked = envelope.max_output.unwrap_or(default_output).min(model.max_output);
    let text = Tokens::new((envelope.bytes as u64).div_ceil(BYTES_PER_INPUT_TOKEN));
    let pictures = PER_PICTURE.saturating_mul(u64::from(carries.pictures));
    let found = PER_TOOL_CALL.saturating_mul(u64::from(tools));
    let behind = match (envelope.continues, envelope.behind) {
        _ if carries.files => model.context,
        (true, None) => model.context,
        (true, Some(behind)) => behind,
        (false, _) => Tokens::ZERO,
    };
    let parts = [text, pictures, found, behind];
    let input = parts.into_iter().fold(Tokens::ZERO, Tokens::saturating_add);
    // Each of the texts that are embedded together may fill the window.
    let room = if envelope.endpoint.embeds() {
        text
    } else {
        model.context
    };
    Most {
        input: input.min(room),
        output: asked.saturating_mul(u64::from(envelope.n.max(1))),
        tools,
        kinds: Kinds {
            audio: carries.sound || envelope.continues,
            image: carries.pictures > 0 || carries.files || carries.writes_pictures || envelope.continues,
            long_cache: envelope.keeps_cache,
        },
    }
}

/// How much output is paid for, of a call whose request names no most: a step at a time, up to what the model can give.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    most: Most,
    step: Tokens,
    end: Tokens,
}

impl Reach {
    /// That far does the first hold reach; `None` where the request says how far the output goes.
    pub(super) fn first(model: &Model, envelope: &Envelope, most: Most) -> Option<Self> {
        let end = model.max_output.saturating_mul(u64::from(envelope.n.max(1)));
        let step = most.output;
        envelope.max_output.is_none().then_some(Self { most, step, end })
    }

    /// So many tokens, of all answers together.
    pub fn output(&self) -> Tokens {
        self.most.output
    }

    /// A step further; `None` at the end.
    pub fn further(&self) -> Option<Self> {
        let output = self.most.output.saturating_add(self.step).min(self.end);
        let most = Most { output, ..self.most };
        (output > self.most.output).then_some(Self { most, ..*self })
    }

    /// Shorter first steps, for who has not enough for a whole one.
    pub(super) fn shorter(self) -> impl Iterator<Item = Self> {
        let output = self.most.output.get();
        [output / 4, output / 16]
            .into_iter()
            .filter(|part| *part > 0)
            .map(move |part| Self {
                most: Most {
                    output: Tokens::new(part),
                    ..self.most
                },
                ..self
            })
    }

    /// The most that a call of this reach can cost.
    pub fn cost(&self, offer: &Offer, tier: Option<&str>) -> Nanos {
        offer.bound(&self.most, tier)
    }
}

fn calls(envelope: &Envelope) -> u32 {
    if !envelope.carries.offers_tools() {
        return 0;
    }
    let asked = envelope.max_tool_calls.unwrap_or(TOOL_CALLS);
    asked.max(u32::from(envelope.carries.always_searches))
}

/// A call that will use something which has no price is refused: its price is never guessed. A tool that is only offered
/// is no use of it yet (Codex offers `web_search` with every call); one that is called without a price is flagged.
pub(super) fn refuse_unpriced(price: &Price, envelope: &Envelope) -> Result<(), Refused> {
    let Carries {
        pictures: _,
        files: _,
        sound,
        searches: _,
        always_searches,
        searches_files: _,
        runs_code: _,
        makes_pictures: _,
        keeps_cache: _,
        writes_pictures: _,
    } = envelope.carries;
    let tier = envelope.service_tier.as_deref();
    let wants = [
        (price.tariff(tier).is_none(), "this service tier"),
        (sound && price.standard.base.input_audio.is_none(), "sound"),
        (always_searches && price.tools.web_search.is_none(), "web searches"),
    ];
    let missing: Vec<_> = wants.into_iter().filter(|(is_missing, _)| *is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = missing.into_iter().map(|(_, what)| what).collect();
    let message = format!("The relay has no price of this model for {}.", named.join(" and "));
    Err(Refusal::new(Code::InvalidRequest, message)
        .hint("leave it out, or ask the operator to add one with `relay-hub price set`")
        .into())
}

/// One token of text is taken to be at least this many bytes when money is set aside for an input.
const BYTES_PER_INPUT_TOKEN: u64 = 2;
/// The most that one picture is counted as by any model whose way of counting is known (gpt-4o-mini).
const PER_PICTURE: Tokens = Tokens::new(49_152);
/// What one call of a tool of the vendor's may add to the input.
const PER_TOOL_CALL: Tokens = Tokens::new(10_000);
/// How many calls of the vendor's tools are paid for in advance where the request names no most.
const TOOL_CALLS: u32 = 8;

#[cfg(test)]
mod tests;
