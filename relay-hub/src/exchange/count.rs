//! A count of the tokens of a request for a client whose vendor speaks another wire, where its own way of counting has no
//! place. Knows words and a tokenizer; knows no vendor and no money.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use relay_protocol::{Endpoint, Payload, Tokens, Wire, Words};
use relay_shared::tunnel::ESTIMATED;
use tokio::task::spawn_blocking;

use super::{bill::by_bytes, body::ReplyBody, internal};
use crate::{refusal::Refused, tokenizer};

/// A text is counted in parts of so many bytes: a tokenizer takes long for a long text without a blank.
const PART: usize = 4 * 1024;
/// Of a text with more parts than this some are counted, from all over it: counting is for nothing.
const PARTS: usize = 64;

/// What a request is for the model: by its own tokenizer where that is known, else a token for four bytes.
///
/// # Errors
/// The body is not what its wire says.
pub(super) async fn count(endpoint: Endpoint, model: &str, body: &Payload) -> Result<Tokens, Refused> {
    let (model, body) = (model.to_owned(), body.clone());
    let counted = spawn_blocking(move || {
        let words = Words::of(endpoint, body.as_slice())?;
        Ok(of_text(&model, &words.text).saturating_add(words.beside))
    });
    counted.await.map_err(|_| internal())?
}

fn of_text(model: &str, text: &str) -> Tokens {
    let all = parts(text);
    let step = all.len().div_ceil(PARTS).max(1);
    let (mut tokens, mut bytes) = (0, 0);
    for part in all.into_iter().step_by(step) {
        let Some(counted) = tokenizer::count(model, part) else {
            return by_bytes(text.len());
        };
        tokens += counted;
        bytes += part.len() as u64;
    }
    let whole = Tokens::new(tokens).saturating_mul(text.len() as u64);
    Tokens::new(whole.get().div_ceil(bytes.max(1)))
}

fn parts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::with_capacity(text.len().div_ceil(PART));
    while !text.is_empty() {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        parts.push(part);
        text = rest;
    }
    parts
}

/// In the shape of the client's wire, marked as ours.
pub(super) fn answer(wire: Wire, tokens: Tokens) -> Response<ReplyBody> {
    let name = match wire {
        Wire::Gemini => "totalTokens",
        Wire::Messages | Wire::Responses | Wire::Chat => "input_tokens",
    };
    let body = format!("{{\"{name}\":{}}}", tokens.get());
    let mut response = Response::new(ReplyBody::whole(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ESTIMATED, HeaderValue::from_static(name));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_counted_as_the_tokenizer_does_and_a_long_one_by_parts_of_it() {
        assert_eq!(of_text("gpt-4o", "tiktoken is great!").get(), 6);
        assert_eq!(of_text("gpt-4o", "").get(), 0);
        let sentence = "The quick brown fox jumps over the lazy dog. ";
        let one = of_text("gpt-4o", sentence).get();
        for times in [100, 10_000] {
            let counted = of_text("gpt-4o", &sentence.repeat(times)).get() / times as u64;
            assert!(counted.abs_diff(one) <= 1, "{counted} for {one}");
        }
        assert_eq!(of_text("nobody-knows-it", &"é".repeat(6)).get(), 3);
        assert!(parts(&"é".repeat(PART)).iter().all(|part| part.len() <= PART));
    }
}
