//! All that a model reads of a request, whatever its wire: what a count of its tokens goes by. Knows no tokenizer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::loss::Losses;
use crate::refusal::Refusal;
use crate::tokens::Tokens;
use crate::translate::read;
use crate::turn::{Form, Json, Media, MediaKind, MediaSource, Part, Tool, Turn};
use crate::wire::{Endpoint, Wire};

/// The words of a request, and what stands beside them. No `Debug`: it is what tenants write.
#[derive(Default)]
pub struct Words {
    /// Of messages, tools and the form of the answer.
    pub text: String,
    /// What about the rest counts as: each message's frame, pictures and files.
    pub beside: Tokens,
}

/// Google's may stand around the request of the call that is asked about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped<'a> {
    #[serde(borrow, alias = "generate_content_request")]
    generate_content_request: Option<&'a RawValue>,
}

impl Words {
    /// Of the body of a call to `endpoint`.
    ///
    /// # Errors
    /// When the body is not what its wire says.
    pub fn of(endpoint: Endpoint, body: &[u8]) -> Result<Self, Refusal> {
        let body = match endpoint.wire() {
            Wire::Gemini => inside(body),
            Wire::Responses | Wire::Chat | Wire::Messages => Cow::Borrowed(body),
        };
        // What another wire could not say is not asked of it here.
        Ok(Self::of_turn(&read(endpoint.wire(), &body, &mut Losses::default())?))
    }

    fn of_turn(turn: &Turn) -> Self {
        let mut words = Self::default();
        for message in &turn.messages {
            words.beside = words.beside.saturating_add(PER_MESSAGE);
            words.parts(&message.parts);
        }
        for tool in &turn.tools {
            words.tool(tool);
        }
        if let Form::Schema(schema) = &turn.form {
            words.say(schema.schema.as_str());
        }
        words
    }

    fn parts(&mut self, parts: &[Part]) {
        for part in parts {
            match part {
                Part::Text(text) => self.say(&text.text),
                Part::Refusal(text) => self.say(text),
                Part::Media(media) => self.beside = self.beside.saturating_add(about(media)),
                Part::Call(call) => {
                    self.say(&call.name.name);
                    self.say(&call.arguments);
                }
                Part::CallResult(result) => self.parts(&result.parts),
                // Thoughts of turns gone by are not read again; what one vendor alone knows is not told to another.
                Part::Reasoning(_) | Part::CacheMark(_) | Part::Foreign(_) => {}
            }
        }
    }

    fn tool(&mut self, tool: &Tool) {
        match tool {
            Tool::Function(function) => {
                self.say(&function.name.name);
                self.say(function.description.as_deref().unwrap_or_default());
                self.say(function.schema.as_ref().map_or("", Json::as_str));
            }
            Tool::Custom(custom) => {
                self.say(&custom.name.name);
                self.say(custom.description.as_deref().unwrap_or_default());
                self.say(custom.format.as_ref().map_or("", Json::as_str));
            }
            Tool::Foreign(_) | Tool::CacheMark(_) => {}
        }
    }

    fn say(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push_str(text);
            self.text.push('\n');
        }
    }
}

/// What a picture, a document, a sound or a film is about.
fn about(media: &Media) -> Tokens {
    let bytes = match (&media.source, media.kind) {
        (_, MediaKind::Image) | (MediaSource::Url { .. } | MediaSource::Stored(_), _) => 0,
        (MediaSource::Data { base64, .. }, MediaKind::File | MediaKind::Audio | MediaKind::Video) => {
            base64.len() as u64
        }
    };
    PER_PICTURE.max(Tokens::new(bytes / BYTES_PER_TOKEN_OF_A_FILE))
}

fn inside(body: &[u8]) -> Cow<'_, [u8]> {
    let wrapped = serde_json::from_slice::<Wrapped<'_>>(body).ok();
    let request = wrapped.and_then(|wrapped| wrapped.generate_content_request);
    request.map_or(Cow::Borrowed(body), |request| Cow::Borrowed(request.get().as_bytes()))
}

/// The marks around a message, and its role.
const PER_MESSAGE: Tokens = Tokens::new(4);
/// Of about a million pixels: 765 at OpenAI, up to 1,600 at Anthropic, 1,032 at Google.
const PER_PICTURE: Tokens = Tokens::new(1_000);
/// A page of a PDF is some 2,000 tokens, and in base64 some 64 KiB.
const BYTES_PER_TOKEN_OF_A_FILE: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(endpoint: Endpoint, body: &str) -> (String, u64) {
        let words = Words::of(endpoint, body.as_bytes()).map_err(|refusal| refusal.message);
        let words = words.unwrap();
        (words.text, words.beside.get())
    }

    #[test]
    fn the_words_of_a_request_are_the_same_in_every_wire() {
        let messages = r#"{"model":"m","system":"Be brief.","max_tokens":9,"thinking":{"type":"enabled","budget_tokens":1024},
            "tools":[{"name":"f","description":"Does f.","input_schema":{"type":"object"}}],
            "messages":[{"role":"user","content":"Hello"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"Hm","signature":"s"},{"type":"tool_use","id":"1","name":"f","input":{"a":1}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"Done"},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]}]}"#;
        let gemini = r#"{"systemInstruction":{"parts":[{"text":"Be brief."}]},
            "tools":[{"functionDeclarations":[{"name":"f","description":"Does f.","parametersJsonSchema":{"type":"object"}}]}],
            "contents":[{"role":"user","parts":[{"text":"Hello"}]},
            {"role":"model","parts":[{"text":"Hm","thought":true},{"functionCall":{"name":"f","args":{"a":1}}}]},
            {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"Done"}}},
            {"inlineData":{"mimeType":"image/png","data":"AAAA"}}]}]}"#;
        let said = "Be brief.\nHello\nf\n{\"a\":1}\nDone\nf\nDoes f.\n{\"type\":\"object\"}\n".to_owned();
        assert_eq!(words(Endpoint::CountTokens, messages), (said.clone(), 16 + 1_000));
        assert_eq!(words(Endpoint::CountGeminiTokens, gemini), (said.clone(), 16 + 1_000));
        let wrapped = format!(r#"{{"generateContentRequest":{gemini}}}"#);
        assert_eq!(words(Endpoint::CountGeminiTokens, &wrapped), (said, 16 + 1_000));
    }

    #[test]
    fn a_file_counts_by_its_size_and_not_as_text() {
        let data = "A".repeat(640_000);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"document","source":
            {{"type":"base64","media_type":"application/pdf","data":"{data}"}}}}]}}]}}"#
        );
        assert_eq!(words(Endpoint::CountTokens, &body), (String::new(), 4 + 20_000));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in ["[]", r#"{"model":"m"}"#, r#"{"model":"m","messages":[7]}"#] {
            assert!(Words::of(Endpoint::CountTokens, body.as_bytes()).is_err(), "{body}");
        }
    }
}
