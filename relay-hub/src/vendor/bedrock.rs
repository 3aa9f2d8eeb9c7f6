//! Amazon Bedrock. Anthropic's models there speak the Messages wire in other clothes: the same body without what the path
//! already says, and the same events, each in a frame of its own. All others are asked by Converse. Does no IO.
//!
//! Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html> and
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html> (2026-11).

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use relay_protocol::{Endpoint, EnvelopeError, Payload, with_members};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Asked, Trouble,
    aws::event_stream::{Frame, FrameError, Frames},
    segment,
};

const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BEDROCK_VERSION: &str = "\"bedrock-2023-05-31\"";
/// What an error is, with an address after a colon at times.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FRAMES: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// The path of a call of this model. The client's query is left out: Bedrock has none, and a signature would have to
/// cover it.
pub(super) fn path(prefix: &str, endpoint: Endpoint, model: &str, stream: bool) -> Uri {
    let call = match (endpoint, stream) {
        (Endpoint::CountTokens, _) => "count-tokens",
        (_, true) if converses(model) => "converse-stream",
        (_, false) if converses(model) => "converse",
        (_, true) => "invoke-with-response-stream",
        (_, false) => "invoke",
    };
    format!("{prefix}/model/{}/{call}", segment(model))
        .try_into()
        .unwrap_or_default()
}

/// Whether a model is asked by Converse: Anthropic's are asked in their own wire, which says more.
pub fn converses(model: &str) -> bool {
    // An application's own profile has a name that tells nothing.
    !model.contains("anthropic.") && !model.contains("application-inference-profile/")
}

/// The body as Bedrock wants it. One of Converse is so already; one of Messages goes without `model` and `stream`, which the path says, with Bedrock's version in place of the
/// header's, and with the client's betas, which stand in a header elsewhere. The headers lose both.
///
/// # Errors
/// The body is no object.
pub(super) fn body(asked: &Asked<'_>, body: Payload, headers: &mut HeaderMap) -> Result<Payload, EnvelopeError> {
    let betas = betas(headers);
    headers.remove(BETA);
    headers.remove(VERSION);
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::ACCEPT, if asked.stream { FRAMES } else { JSON });
    if converses(asked.model) {
        return Ok(body);
    }
    let mut without = vec!["model", "stream", "anthropic_version"];
    let mut put = vec![("anthropic_version", BEDROCK_VERSION)];
    if let Some(betas) = &betas {
        without.push("anthropic_beta");
        put.push(("anthropic_beta", betas));
    }
    if asked.endpoint == Endpoint::CountTokens {
        // What is counted is the body of a call, which cannot be without; the count is the same.
        without.push("max_tokens");
        put.push(("max_tokens", "1"));
    }
    let edited = with_members(body.as_slice(), &without, &put)?;
    if asked.endpoint == Endpoint::CountTokens {
        let call = format!(
            r#"{{"input":{{"invokeModel":{{"body":"{}"}}}}}}"#,
            STANDARD.encode(edited)
        );
        return Ok(Payload::new(Bytes::from(call)));
    }
    Ok(Payload::new(Bytes::from(edited)))
}

/// The header's words as a list in JSON.
fn betas(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(BETA).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim);
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| serde_json::json!(words).to_string())
}

/// Tells Bedrock's answer to one call as Anthropic itself would; one by Converse as an event for each frame, under the name
/// that the frame tells.
pub struct Reader {
    converses: bool,
    frames: Option<Frames>,
    trouble: Option<Trouble>,
}

impl Reader {
    /// For an answer with this head, which becomes what a client of Messages expects.
    pub fn of(headers: &mut HeaderMap, converses: bool) -> Self {
        let is_framed = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes();
            kind.get(..FRAMES.len())
                .is_some_and(|kind| FRAMES.as_bytes().eq_ignore_ascii_case(kind))
        });
        if is_framed {
            headers.insert(header::CONTENT_TYPE, EVENTS);
        }
        // Another body has another length.
        headers.remove(header::CONTENT_LENGTH);
        Self {
            converses,
            frames: is_framed.then(Frames::default),
            trouble: None,
        }
    }

    /// The events that are whole with these bytes, and whether the stream can go on: after a checksum that is wrong, or
    /// bytes that are no frame, nothing can be trusted.
    pub fn push(&mut self, bytes: Bytes) -> (Bytes, Result<(), FrameError>) {
        let Self {
            frames: Some(frames),
            trouble,
            converses,
        } = self
        else {
            return (bytes, Ok(()));
        };
        let mut events = BytesMut::new();
        frames.push(&bytes);
        let so_far = loop {
            match frames.pop() {
                Ok(Some(frame)) if *converses => match happening(&frame, &mut events) {
                    Ok(met) => *trouble = trouble.or(met),
                    Err(error) => break Err(error),
                },
                Ok(Some(frame)) => match event(&frame, &mut events) {
                    Ok(met) => *trouble = trouble.or(met),
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (events.freeze(), so_far)
    }

    /// What an exception in the stream says of the account, once.
    pub const fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// A body that came as a whole. A refusal has Anthropic's shape, for Bedrock's own is another.
    pub fn whole(&self, status: StatusCode, headers: &HeaderMap, body: Bytes) -> Bytes {
        if !status.is_success() {
            return refusal(status, error_type(headers).unwrap_or_default(), &body);
        }
        match counted(&body) {
            Some(tokens) => Bytes::from(format!("{{\"input_tokens\":{tokens}}}")),
            None => body,
        }
    }
}

/// The tokens of a count, which has no other member.
fn counted(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Count {
        input_tokens: u64,
    }
    serde_json::from_slice::<Count>(body)
        .ok()
        .map(|count| count.input_tokens)
}

/// What an error of Amazon's is, by its name.
pub(super) fn error_type(headers: &HeaderMap) -> Option<&str> {
    let said = headers.get(ERROR_TYPE)?.to_str().ok()?;
    said.split(':').next()
}

/// What a refusal says of the account, where its head names it.
pub(super) fn trouble(headers: &HeaderMap) -> Option<Trouble> {
    trouble_of(error_type(headers)?)
}

/// In the words of heads, `ThrottlingException`, and in those of streams, `throttlingException`.
/// Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html#API_runtime_InvokeModel_Errors>
/// and <https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html> (2026-11).
fn trouble_of(kind: &str) -> Option<Trouble> {
    let name = kind.strip_suffix("Exception").unwrap_or(kind);
    match name.to_ascii_lowercase().as_str() {
        "unrecognizedclient"
        | "invalidsignature"
        | "signaturedoesnotmatch"
        | "expiredtoken"
        | "requestexpired"
        | "invalidclienttokenid"
        | "missingauthenticationtoken"
        | "incompletesignature" => Some(Trouble::Credential),
        "accessdenied" | "notauthorized" | "optinrequired" => Some(Trouble::Forbidden),
        "throttling" | "servicequotaexceeded" => Some(Trouble::Limited),
        "modelnotready" | "serviceunavailable" => Some(Trouble::Overloaded),
        "internalserver" | "internalfailure" | "modelerror" | "modelstreamerror" => Some(Trouble::Failing),
        "modeltimeout" => Some(Trouble::Late),
        _ => None,
    }
}

/// A refusal in Anthropic's words. What Amazon says of a credential repeats what was signed, the session's token among
/// it, so that only what is known to be about the call is passed on.
fn refusal(status: StatusCode, kind: &str, body: &[u8]) -> Bytes {
    let (code, own) = match trouble_of(kind) {
        Some(Trouble::Credential) => (
            "authentication_error",
            "The upstream does not accept the relay's credential.",
        ),
        Some(Trouble::Forbidden) => (
            "permission_error",
            "The upstream does not let the relay make this call.",
        ),
        Some(Trouble::Limited) => ("rate_limit_error", ""),
        Some(Trouble::Overloaded) => ("overloaded_error", ""),
        Some(Trouble::Late) => ("timeout_error", ""),
        Some(Trouble::Failing | Trouble::Unreachable | Trouble::Broke) => ("api_error", ""),
        None => match (kind, status.as_u16()) {
            ("ResourceNotFoundException", _) => ("not_found_error", ""),
            ("ValidationException", _) => ("invalid_request_error", ""),
            (_, 401) => ("authentication_error", REFUSED),
            (_, 403) => ("permission_error", REFUSED),
            (_, 404) => ("not_found_error", REFUSED),
            (_, 429) => ("rate_limit_error", REFUSED),
            (_, 400..=499) => ("invalid_request_error", REFUSED),
            _ => ("api_error", REFUSED),
        },
    };
    let told = if own.is_empty() {
        told(body)
    } else {
        Some(own.to_owned())
    };
    Bytes::from(error(code, told.as_deref().unwrap_or(REFUSED)))
}

const REFUSED: &str = "The upstream refused the call.";

fn error(code: &str, message: &str) -> String {
    serde_json::json!({"type": "error", "error": {"type": code, "message": message}}).to_string()
}

/// The message of a refusal or an exception.
fn told(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        #[serde(alias = "Message")]
        message: Option<String>,
    }
    serde_json::from_slice::<Told>(payload).ok()?.message
}

/// Writes the event of a frame, and says what it tells of the account.
fn event(frame: &Frame, events: &mut BytesMut) -> Result<Option<Trouble>, FrameError> {
    if frame.header(":message-type").as_deref() != Some("event") {
        let kind = frame.header(":exception-type").or_else(|| frame.header(":error-code"));
        let kind = kind.as_deref().unwrap_or_default();
        write_event("error", exception(kind, &frame.payload).as_bytes(), events);
        return Ok(trouble_of(kind));
    }
    if frame.header(":event-type").as_deref() == Some("chunk") {
        let data = data(&frame.payload).ok_or(FrameError::Malformed)?;
        write_event(&kind(&data)?, &data, events);
    }
    // Another kind of event is none of the model's answer.
    Ok(None)
}

/// Writes an event of Converse, `{"contentBlockDelta":{…}}`, and says what it tells of the account.
/// Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html> (2026-11).
fn happening(frame: &Frame, events: &mut BytesMut) -> Result<Option<Trouble>, FrameError> {
    let is_event = frame.header(":message-type").as_deref() == Some("event");
    let kind = match is_event {
        true => frame.header(":event-type"),
        false => frame.header(":exception-type").or_else(|| frame.header(":error-code")),
    };
    let kind = kind.unwrap_or_default();
    let is_name = (1..=64).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let payload: &RawValue = serde_json::from_slice(&frame.payload).map_err(|_| FrameError::Malformed)?;
    if !is_name {
        return Err(FrameError::Malformed);
    }
    events.extend_from_slice(b"data: {\"");
    events.extend_from_slice(kind.as_bytes());
    events.extend_from_slice(b"\":");
    // Blanks between JSON's words may be line ends, which would end the line here.
    let lines = payload.get().split(['\n', '\r']);
    lines.for_each(|line| events.extend_from_slice(line.as_bytes()));
    events.extend_from_slice(b"}\n\n");
    Ok(if is_event { None } else { trouble_of(&kind) })
}

/// What a frame of the model's answer carries.
fn data(payload: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        bytes: Cow<'a, str>,
    }
    let chunk: Chunk<'_> = serde_json::from_slice(payload).ok()?;
    STANDARD.decode(chunk.bytes.as_bytes()).ok()
}

/// The `type` of an event of the Messages wire, which names it.
fn kind(data: &[u8]) -> Result<String, FrameError> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let typed: Typed = serde_json::from_slice(data).map_err(|_| FrameError::Malformed)?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_fit = (1..=64).contains(&typed.r#type.len()) && typed.r#type.bytes().all(is_name);
    is_fit.then_some(typed.r#type).ok_or(FrameError::Malformed)
}

fn write_event(kind: &str, data: &[u8], events: &mut BytesMut) {
    events.extend_from_slice(b"event: ");
    events.extend_from_slice(kind.as_bytes());
    // Blanks between JSON's words may be line ends, which would end the line here.
    let lines = data.split(|byte| matches!(byte, b'\n' | b'\r'));
    for line in lines.filter(|line| !line.is_empty()) {
        events.extend_from_slice(b"\ndata: ");
        events.extend_from_slice(line);
    }
    events.extend_from_slice(b"\n\n");
}

/// What went wrong in the middle of an answer, in Anthropic's words.
/// Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ResponseStream.html> (2026-11).
fn exception(kind: &str, payload: &[u8]) -> String {
    let code = match kind {
        "throttlingException" => "rate_limit_error",
        "validationException" => "invalid_request_error",
        "serviceUnavailableException" => "overloaded_error",
        "modelTimeoutException" => "timeout_error",
        _ => "api_error",
    };
    let message = told(payload);
    error(
        code,
        message
            .as_deref()
            .unwrap_or("The upstream failed in the middle of its answer."),
    )
}

#[cfg(test)]
mod tests;
