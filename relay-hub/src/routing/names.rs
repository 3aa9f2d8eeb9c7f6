//! By what a call tells the conversation that it belongs to, and how that is kept: hashed together with the tenant, so that
//! nothing of it can be read and no two tenants ever meet.

use http::{HeaderMap, HeaderName};
use relay_protocol::Wire;

use super::rank;
use crate::{ids::TenantId, store::routes::Name};

/// The headers that name a conversation, on every wire, the first that is there. The body's own key comes after them.
/// Source: Codex sends `thread-id` and `session-id`, older ones `session_id`.
pub(super) const HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("thread-id"),
    HeaderName::from_static("thread_id"),
    HeaderName::from_static("session-id"),
    HeaderName::from_static("session_id"),
];
/// What a vendor gives its client to be shown again within one turn. It means something to one account alone.
pub(super) const TURN_STATE: HeaderName = HeaderName::from_static("x-codex-turn-state");

/// What is named.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// In one dialect: what another one calls the same is another conversation.
    Conversation(Wire),
    /// A conversation's side that asks for a model which the account of the rest does not serve.
    Aside(Wire),
    Response,
    TurnState,
    /// What a vendor hides in its answers, in whatever dialect it comes back.
    Hidden,
}

/// The hash of something that a tenant's client named.
pub(super) fn name(tenant: &TenantId, kind: Kind, text: &[u8]) -> Name {
    let kind = match kind {
        Kind::Conversation(wire) => wire.name(),
        Kind::Aside(Wire::Responses) => "aside of Responses",
        Kind::Aside(Wire::Chat) => "aside of Chat Completions",
        Kind::Aside(Wire::Messages) => "aside of Messages",
        Kind::Aside(Wire::Gemini) => "aside of Gemini",
        Kind::Response => "response",
        Kind::TurnState => "turn-state",
        Kind::Hidden => "hidden",
    };
    let mut name = Name::default();
    for (to, from) in name
        .iter_mut()
        .zip(rank::digest(&[tenant.as_str().as_bytes(), kind.as_bytes(), text]))
    {
        *to = from;
    }
    name
}

/// The number of a name in the ranking.
pub(super) fn number(name: &Name) -> u64 {
    name.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// What the call says of its conversation: by a header, else by its body.
pub(super) fn conversation<'a>(headers: &'a HeaderMap, in_body: Option<&'a str>) -> Option<&'a [u8]> {
    let in_head = HEADERS.into_iter().filter_map(|name| headers.get(name));
    in_head
        .map(http::HeaderValue::as_bytes)
        .chain(in_body.map(str::as_bytes))
        .find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_header_goes_before_the_body_and_the_thread_before_the_session() {
        let mut headers = HeaderMap::new();
        assert_eq!(conversation(&headers, None), None);
        assert_eq!(conversation(&headers, Some("key")), Some(&b"key"[..]));
        headers.insert("session_id", HeaderValue::from_static("session"));
        assert_eq!(conversation(&headers, Some("key")), Some(&b"session"[..]));
        headers.insert("thread-id", HeaderValue::from_static("thread"));
        assert_eq!(conversation(&headers, Some("key")), Some(&b"thread"[..]));
        headers.insert("thread-id", HeaderValue::from_static(""));
        assert_eq!(
            conversation(&headers, Some("key")),
            Some(&b"session"[..]),
            "what is empty names nothing"
        );
        headers.insert("session_id", HeaderValue::from_static(""));
        assert_eq!(conversation(&headers, Some("key")), Some(&b"key"[..]));
        assert_eq!(conversation(&headers, Some("")), None);
    }

    #[test]
    fn the_same_words_of_two_tenants_have_two_names() {
        let (one, two) = (TenantId::random(), TenantId::random());
        let of = |tenant, kind| name(tenant, kind, b"thread");
        assert_ne!(
            of(&one, Kind::Conversation(Wire::Chat)),
            of(&two, Kind::Conversation(Wire::Chat))
        );
        assert_ne!(of(&one, Kind::Conversation(Wire::Chat)), of(&one, Kind::Response));
        assert_eq!(
            of(&one, Kind::Conversation(Wire::Chat)),
            of(&one, Kind::Conversation(Wire::Chat))
        );
    }
}
