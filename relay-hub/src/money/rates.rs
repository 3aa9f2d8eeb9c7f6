//! Unit prices, and which of them each token of a usage is charged at. Knows no version, no tier and no tenant.

use relay_protocol::{Tokens, ToolCalls, Usage};
use serde::{Deserialize, Serialize};

use super::{Nanos, Times};

/// Prices per 1,000,000 tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Input that was not cached.
    pub input: Nanos,
    /// Input read from the vendor's cache.
    pub cached: Nanos,
    /// Input written to the vendor's cache, for its usual lifetime.
    pub cache_write: Nanos,
    /// Input written to the vendor's cache for longer: an hour, or twelve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<Nanos>,
    /// Output that is text.
    pub output: Nanos,
    /// Output that was reasoning; as other output where there is no price of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Nanos>,
    /// Sound in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_audio: Option<Nanos>,
    /// Pictures in; as other input where there is no price of its own, which is how vendors count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_image: Option<Nanos>,
    /// Sound out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_audio: Option<Nanos>,
    /// Pictures out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_image: Option<Nanos>,
}

/// Prices of the vendor's own tools, for each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ToolPrices {
    /// A search of the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search: Option<Nanos>,
    /// A search of stored files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_search: Option<Nanos>,
    /// A run of code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_interpreter: Option<Nanos>,
    /// A picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_generation: Option<Nanos>,
}

/// What may come up in a call beside text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    /// Sound, in or out.
    pub audio: bool,
    /// Pictures in.
    pub image: bool,
    /// A cache that is kept for longer than usual.
    pub long_cache: bool,
}

/// A sum in millionths of a billionth, and whether part of it had no price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) millionths: i128,
    pub(super) is_unpriced: bool,
}

impl Sum {
    fn add(&mut self, count: u64, price: Option<Nanos>, otherwise: Nanos) {
        if count > 0 {
            self.is_unpriced |= price.is_none();
            self.millionths = self
                .millionths
                .saturating_add(product(count, price.unwrap_or(otherwise)));
        }
    }
}

impl Rates {
    /// Prices of text alone.
    pub const fn plain(input: Nanos, cached: Nanos, cache_write: Nanos, output: Nanos) -> Self {
        Self {
            input,
            cached,
            cache_write,
            cache_write_long: None,
            output,
            reasoning: None,
            input_audio: None,
            input_image: None,
            output_audio: None,
            output_image: None,
        }
    }

    /// The tokens of a usage at these prices. What has no price is charged at the dearest of its side.
    ///
    /// A vendor does not say which of the cached tokens were text: they are taken to be, as far as there was text.
    pub(super) fn sum(&self, usage: &Usage) -> Sum {
        let all = usage.input.get();
        let read = usage.cached.get().min(all);
        let written = usage.cache_write.get().min(all.saturating_sub(read));
        let long = usage.cache_write_long.get().min(written);
        let audio = usage.input_audio.get().min(all);
        let image = usage.input_image.get().min(all.saturating_sub(audio));
        let text = all.saturating_sub(audio).saturating_sub(image);
        let cache = read.saturating_add(written);
        let (text, cache) = (text.saturating_sub(cache), cache.saturating_sub(text));
        let (image, cache) = (image.saturating_sub(cache), cache.saturating_sub(image));
        let audio = audio.saturating_sub(cache);
        let most = self.dearest_input(ALL);
        let mut sum = Sum::default();
        sum.add(text, Some(self.input), most);
        sum.add(image, Some(self.input_image.unwrap_or(self.input)), most);
        sum.add(audio, self.input_audio, most);
        sum.add(read, Some(self.cached), most);
        sum.add(written.saturating_sub(long), Some(self.cache_write), most);
        sum.add(long, self.cache_write_long, most);
        self.add_output(usage, &mut sum);
        sum
    }

    fn add_output(&self, usage: &Usage, sum: &mut Sum) {
        let all = usage.output.get();
        let reasoning = usage.reasoning.get().min(all);
        let rest = all.saturating_sub(reasoning);
        let audio = usage.output_audio.get().min(rest);
        let rest = rest.saturating_sub(audio);
        let image = usage.output_image.get().min(rest);
        let most = self.dearest_output(ALL);
        sum.add(rest.saturating_sub(image), Some(self.output), most);
        sum.add(reasoning, Some(self.reasoning.unwrap_or(self.output)), most);
        sum.add(audio, self.output_audio, most);
        sum.add(image, self.output_image, most);
    }

    /// The most that so many tokens can cost, unless something unforeseen is among them.
    pub(super) fn most(&self, input: Tokens, output: Tokens, kinds: Kinds) -> i128 {
        let input = product(input.get(), self.dearest_input(kinds));
        input.saturating_add(product(output.get(), self.dearest_output(kinds)))
    }

    fn dearest_input(&self, kinds: Kinds) -> Nanos {
        let audio = self.input_audio.filter(|_| kinds.audio);
        let image = self.input_image.filter(|_| kinds.image);
        let long = self.cache_write_long.filter(|_| kinds.long_cache);
        let text = self.input.max(self.cached).max(self.cache_write);
        [audio, image, long].into_iter().flatten().fold(text, Nanos::max)
    }

    fn dearest_output(&self, kinds: Kinds) -> Nanos {
        let audio = self.output_audio.filter(|_| kinds.audio);
        let others = [audio, self.reasoning, self.output_image];
        others.into_iter().flatten().fold(self.output, Nanos::max)
    }

    /// Each price with its name, as files and tables have them.
    pub fn named(&self) -> [(&'static str, Option<Nanos>); 10] {
        let Self {
            input,
            cached,
            cache_write,
            cache_write_long,
            output,
            reasoning,
            input_audio,
            input_image,
            output_audio,
            output_image,
        } = *self;
        [
            ("input", Some(input)),
            ("cached", Some(cached)),
            ("cache_write", Some(cache_write)),
            ("cache_write_long", cache_write_long),
            ("output", Some(output)),
            ("reasoning", reasoning),
            ("input_audio", input_audio),
            ("input_image", input_image),
            ("output_audio", output_audio),
            ("output_image", output_image),
        ]
    }

    /// Each price so many times; `None` where one does not come out even or is out of range.
    #[must_use]
    pub fn times(&self, times: Times) -> Option<Self> {
        let one = |price: Nanos| times.exactly(price);
        let maybe = |price: Option<Nanos>| match price {
            Some(price) => times.exactly(price).map(Some),
            None => Some(None),
        };
        Some(Self {
            input: one(self.input)?,
            cached: one(self.cached)?,
            cache_write: one(self.cache_write)?,
            cache_write_long: maybe(self.cache_write_long)?,
            output: one(self.output)?,
            reasoning: maybe(self.reasoning)?,
            input_audio: maybe(self.input_audio)?,
            input_image: maybe(self.input_image)?,
            output_audio: maybe(self.output_audio)?,
            output_image: maybe(self.output_image)?,
        })
    }

    /// The dearer of each two prices; a price that only one has stays.
    #[must_use]
    pub fn dearer(&self, other: &Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached: self.cached.max(other.cached),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_long: self.cache_write_long.max(other.cache_write_long),
            output: self.output.max(other.output),
            reasoning: dearer(self.reasoning, self.output, other.reasoning, other.output),
            input_audio: self.input_audio.max(other.input_audio),
            input_image: dearer(self.input_image, self.input, other.input_image, other.input),
            output_audio: self.output_audio.max(other.output_audio),
            output_image: self.output_image.max(other.output_image),
        }
    }
}

/// Of two prices that fall back on another where they are not given.
fn dearer(one: Option<Nanos>, falls: Nanos, other: Option<Nanos>, other_falls: Nanos) -> Option<Nanos> {
    (one.is_some() || other.is_some()).then(|| one.unwrap_or(falls).max(other.unwrap_or(other_falls)))
}

impl ToolPrices {
    /// The calls of tools. A tool without a price is charged like the dearest that has one.
    pub(super) fn sum(&self, calls: &ToolCalls) -> Sum {
        let most = self.dearest();
        let mut sum = Sum::default();
        for (count, price) in [
            (calls.web_search, self.web_search),
            (calls.file_search, self.file_search),
            (calls.code_interpreter, self.code_interpreter),
            (calls.image_generation, self.image_generation),
            (calls.other, None),
        ] {
            sum.add(u64::from(count).saturating_mul(PER_TOKENS), price, most);
        }
        sum
    }

    /// The most that so many calls of any tool can cost.
    pub(super) fn most(&self, calls: u32) -> i128 {
        product(u64::from(calls).saturating_mul(PER_TOKENS), self.dearest())
    }

    fn dearest(&self) -> Nanos {
        let prices = self.named();
        prices
            .into_iter()
            .filter_map(|(_, price)| price)
            .fold(Nanos::ZERO, Nanos::max)
    }

    /// Each price with the tool's name.
    pub fn named(&self) -> [(&'static str, Option<Nanos>); 4] {
        let Self {
            web_search,
            file_search,
            code_interpreter,
            image_generation,
        } = *self;
        [
            ("web_search", web_search),
            ("file_search", file_search),
            ("code_interpreter", code_interpreter),
            ("image_generation", image_generation),
        ]
    }
}

/// Both factors are below 2^64, so the product is below 2^127 for any price that is not negative.
fn product(count: u64, price: Nanos) -> i128 {
    i128::from(count).saturating_mul(i128::from(price.get()))
}

const ALL: Kinds = Kinds {
    audio: true,
    image: true,
    long_cache: true,
};
/// Prices of tokens are for so many of them.
pub(super) const PER_TOKENS: u64 = 1_000_000;
