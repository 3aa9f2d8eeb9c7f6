//! The link between an agent and its hub: HTTP/3 over QUIC, and HTTP/2 over TCP where UDP is blocked, with the same
//! requests, the same mutual TLS and the same promise: a body that was cut never looks complete.
//! Knows nothing of what the requests mean.

mod accept;
pub mod body;
mod calls;
pub mod client;
mod counted;
mod dial;
mod ear;
mod enrol;
mod frames;
mod h2client;
mod h2server;
mod h2stream;
mod h3client;
mod h3quic;
mod h3server;
mod params;
mod pump;
mod registry;
mod seen;
pub mod server;
pub mod stream;
pub mod supervisor;
mod upkeep;
mod watch;

use std::fmt;

/// ALPN of HTTP/3, on UDP.
pub const ALPN_H3: &[u8] = b"h3";
/// ALPN of HTTP/2, on TCP.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN of enrolment, on TCP, without a client certificate.
pub const ALPN_ENROL: &[u8] = b"relay-enrol/1";

/// Request header with the agent's id of the call.
pub const CALL_ID: http::HeaderName = http::HeaderName::from_static("relay-call-id");
/// Header of a translated answer: which fields of the request its vendor was not told of.
pub const DROPPED: http::HeaderName = http::HeaderName::from_static("relay-dropped");
/// Header of an answer: which of its fields the relay worked out itself, as well as it can.
pub const ESTIMATED: http::HeaderName = http::HeaderName::from_static("relay-estimated");
/// Request header that says the bodies are the two directions of a WebSocket: `relay-socket: websocket`.
pub const SOCKET: http::HeaderName = http::HeaderName::from_static("relay-socket");
/// Header of the tunnel's 409: this call id came before, and this request was not run.
pub const DUPLICATE: http::HeaderName = http::HeaderName::from_static("relay-duplicate");
/// Header of the answer to hello: which process of the hub this is. A call may only be sent a second time to the very
/// process that would know it from the first.
pub const INSTANCE: http::HeaderName = http::HeaderName::from_static("relay-instance");
/// Header of the answer to hello: how many calls the hub takes at once on this connection.
pub const CALLS: http::HeaderName = http::HeaderName::from_static("relay-calls");
/// Header of a CONNECT to an egress node: which of the vendor's addresses to try first, `4` or `6`.
pub const FAMILY: http::HeaderName = http::HeaderName::from_static("relay-family");
/// Header of an egress node's answer to CONNECT: the address that it left by.
pub const LEFT_BY: http::HeaderName = http::HeaderName::from_static("relay-left-by");
/// Header of an egress node's answer to CONNECT that is no: why, for people.
pub const REASON: http::HeaderName = http::HeaderName::from_static("relay-reason");
/// Answered by the tunnel itself with 204: proves that both ends speak, after the certificates were checked.
pub const HELLO_PATH: &str = "/relay/hello";

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP/3 over QUIC over UDP.
    Quic,
    /// HTTP/2 over TLS over TCP.
    H2,
}

impl Transport {
    /// `quic` or `h2`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::H2 => "h2",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
