//! Anthropic's models as Bedrock offers them: the model in the path, a body without it, answers in frames with two checksums,
//! and a signature that is recomputed. Shares no code with the relay.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::render::Event;
use super::script::Script;

/// What a stream of frames calls itself.
pub const FRAMES: &str = "application/vnd.amazon.eventstream";
/// What Amazon says of a signature that is wrong: the whole of what was signed.
pub const CANONICAL: &str = "The Canonical String for this request should have been";

/// An access key, and where it is good.
#[derive(Clone, Copy)]
pub struct Key {
    pub id: &'static str,
    pub secret: &'static str,
    pub session: &'static str,
    pub region: &'static str,
}

/// The key of the tests.
pub const KEY: Key = Key {
    id: "AKIDBEDROCKTEST",
    secret: "bedrock/secret+with=signs",
    session: "session-token==",
    region: "eu-central-1",
};

/// The model and whether a stream is asked for, in a path like `/model/a.b-v1%3A0/invoke`.
pub(super) fn asked(path: &str) -> Option<(String, bool)> {
    let (model, call) = path.strip_prefix("/model/")?.rsplit_once('/')?;
    let streams = ["invoke-with-response-stream", "converse-stream"];
    Some((unescaped(model), streams.contains(&call)))
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        plain.push(char::from(u8::from_str_radix(digits, 16).expect("two digits")));
        plain.push_str(rest);
    }
    plain
}

/// An error as Bedrock writes it.
pub fn error(status: u16, kind: &str, message: &str) -> Script {
    let kind = format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/");
    Script::json(status, &json!({"message": message})).header("x-amzn-errortype", &kind)
}

pub(super) fn wrong_signature(headers: &HeaderMap) -> Script {
    let token = headers
        .get("x-amz-security-token")
        .and_then(|token| token.to_str().ok());
    let told = format!(
        "{CANONICAL}\n'POST\n…\nx-amz-security-token:{}\n'",
        token.unwrap_or_default()
    );
    error(403, "InvalidSignatureException", &told)
}

/// Why Bedrock takes no body like this.
pub(super) fn unfit(path: &str, headers: &HeaderMap, body: &[u8]) -> Option<Script> {
    let invalid = |problem: &str| Some(error(400, "ValidationException", problem));
    let Ok(mut body) = serde_json::from_slice::<Value>(body) else {
        return invalid("Malformed input request");
    };
    if path.ends_with("/count-tokens") {
        let inner = body["input"]["invokeModel"]["body"].as_str().map(from_base64);
        body = inner
            .and_then(|inner| serde_json::from_slice(&inner).ok())
            .unwrap_or_default();
    }
    if headers.keys().any(|name| name.as_str().starts_with("anthropic-")) {
        return invalid("a header of Anthropic's");
    }
    if path.contains("/converse") {
        let messages = body["messages"].as_array();
        let has_blocks = |message: &Value| message["content"].is_array();
        let is_fit = messages.is_some_and(|messages| messages.iter().all(has_blocks)) && body.get("model").is_none();
        return if is_fit {
            None
        } else {
            invalid("Malformed input request")
        };
    }
    for name in ["model", "stream"] {
        if body.get(name).is_some() {
            return invalid(&format!("extraneous key [{name}] is not permitted"));
        }
    }
    if body["anthropic_version"] != "bedrock-2023-05-31" || !body["max_tokens"].is_u64() {
        return invalid("required key [anthropic_version] or [max_tokens] not found");
    }
    None
}

/// The frames of an answer.
pub(super) fn frames(events: &[Event]) -> Vec<Bytes> {
    let frames = events.iter().map(|event| match event.name {
        "error" => {
            let told: Value = serde_json::from_str(&event.data).expect("an event is JSON");
            let text = |name: &str| told["error"][name].as_str().unwrap_or_default().to_owned();
            exception(&text("type"), &text("message"))
        }
        _ => chunk(&event.data),
    });
    frames.collect()
}

/// The frames of an answer by Converse.
pub(super) fn happenings(events: &[(&'static str, Value)]) -> Vec<Bytes> {
    let frames = events.iter().map(|(kind, payload)| {
        if kind.ends_with("Exception") {
            return exception(kind, payload["message"].as_str().unwrap_or_default());
        }
        happening(kind, &payload.to_string())
    });
    frames.collect()
}

/// A frame with an event of Converse, whatever it carries.
pub fn happening(kind: &str, payload: &str) -> Bytes {
    let headers = [
        (":event-type", kind),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    framed(&headers, payload)
}

/// The first words of a frame, that says to be so long, with the checksum that they should have.
pub fn prelude(total: u32, headers: u32) -> Vec<u8> {
    let mut words = [total.to_be_bytes(), headers.to_be_bytes()].concat();
    words.extend(crc32(&words).to_be_bytes());
    words
}

/// A frame with an event of Anthropic's in it.
pub fn chunk(event: &str) -> Bytes {
    let headers = [
        (":event-type", "chunk"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    frame(&headers, &json!({"bytes": base64(event.as_bytes()), "p": "abcdefghij"}))
}

/// A frame that says what went wrong.
pub fn exception(kind: &str, message: &str) -> Bytes {
    let headers = [(":exception-type", kind), (":message-type", "exception")];
    frame(&headers, &json!({"message": message}))
}

fn frame(headers: &[(&str, &str)], payload: &Value) -> Bytes {
    framed(headers, &payload.to_string())
}

fn framed(headers: &[(&str, &str)], payload: &str) -> Bytes {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).expect("a short name"));
        head.extend(name.bytes());
        head.push(7);
        head.extend(u16::try_from(value.len()).expect("a short value").to_be_bytes());
        head.extend(value.bytes());
    }
    let number = |length: usize| u32::try_from(length).expect("a short frame");
    let mut frame = prelude(number(16 + head.len() + payload.len()), number(head.len()));
    frame.extend(head);
    frame.extend(payload.bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame.into()
}

/// Bit by bit, as the definition has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
            text.push(if at <= three.len() { digit } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().take_while(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).expect("a digit");
        bits = (bits << 6) | u32::try_from(value).expect("six bits");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(((bits >> count) & 0xff) as u8);
        }
    }
    bytes
}

impl Key {
    /// Accepts what is signed with this key, as [`super::Vendor::guard`] wants it.
    pub fn verifier(self) -> impl Fn(&Method, &str, &HeaderMap, &[u8]) -> bool + Send + Sync + 'static {
        move |method, path, headers, body| self.verify(method, path, headers, body).is_some()
    }

    /// Signature Version 4 from the vendor's side.
    fn verify(self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Option<()> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let rest = text("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name: &str| rest.split(", ").find_map(|part| part.strip_prefix(name));
        let (credential, signed, given) = (part("Credential=")?, part("SignedHeaders=")?, part("Signature=")?);
        let at = text("x-amz-date")?;
        let date = at.get(..8)?;
        let scope = format!("{date}/{}/bedrock/aws4_request", self.region);
        let is_recent = age(at)? <= 300;
        let is_ours =
            credential == format!("{}/{scope}", self.id) && text("x-amz-security-token") == Some(self.session);
        let names: Vec<_> = signed.split(';').collect();
        let needed = ["host", "content-type", "x-amz-date", "x-amz-security-token"];
        if !is_recent || !is_ours || path.contains('?') || !needed.iter().all(|name| names.contains(name)) {
            return None;
        }
        let mut canonical = format!("{method}\n{}\n\n", path.replace('%', "%25"));
        for name in &names {
            canonical += &format!("{name}:{}\n", text(name)?.trim());
        }
        canonical += &format!("\n{signed}\n{}", hex(&Sha256::digest(body)));
        let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let words = [date, self.region, "bedrock", "aws4_request", &to_sign];
        let key = format!("AWS4{}", self.secret).into_bytes();
        let wanted = words.iter().fold(key, |key, word| mac(&key, word.as_bytes()));
        (hex(&wanted) == given).then_some(())
    }
}

/// Seconds between then and now.
fn age(at: &str) -> Option<u64> {
    let moment = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", at)
        .ok()?
        .to_datetime()
        .ok()?;
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(jiff::Timestamp::now().as_second().abs_diff(moment.as_second()))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
