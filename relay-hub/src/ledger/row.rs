//! One row a call: who, what, how long, how it ended. Never a body.

use std::{borrow::Cow, fmt, net::IpAddr, sync::Arc};

use relay_protocol::{Code, Tokens, Usage, UsageSource};
use relay_shared::call::CallId;

use super::{choice::Choice, detail::Flags};
use crate::{
    identity::By,
    ids::{AccountId, AppPlan, Project, TenantId},
    money::Nanos,
};

/// What is known of a call when it ended.
#[derive(Debug, Clone)]
pub struct UsageRow {
    /// The call.
    pub call: CallId,
    /// Who pays.
    pub tenant: TenantId,
    /// With what it called.
    pub by: By,
    /// For which of its projects.
    pub project: Option<Project>,
    /// The plan of its app token.
    pub plan: Option<AppPlan>,
    /// The vendor account that served it.
    pub account: Option<AccountId>,
    /// Why that one.
    pub choice: Choice,
    /// The way out it took.
    pub egress: Option<Arc<str>>,
    /// The address of this machine that it left by.
    pub local_address: Option<IpAddr>,
    /// Canonical path, such as `/v1/responses`.
    pub endpoint: &'static str,
    /// The model asked for.
    pub model: String,
    /// The model at the vendor.
    pub upstream_model: String,
    /// Tokens, where any were counted.
    pub usage: Option<(Usage, UsageSource)>,
    /// What the usage costs by the price list.
    pub cost: Nanos,
    /// The price list's version.
    pub price_version: i64,
    /// The status the client saw.
    pub status: u16,
    /// How it ended.
    pub ending: Ending,
    /// When it came, milliseconds since 1970.
    pub started_ms: i64,
    /// Until the hold was granted, microseconds.
    pub hold_us: Option<u64>,
    /// Until the vendor's first byte, microseconds.
    pub first_byte_us: Option<u64>,
    /// Until its end, microseconds.
    pub total_us: Option<u64>,
    /// The vendor's own id of the request.
    pub vendor_request_id: Option<String>,
    /// The answer's id.
    pub response_id: Option<String>,
    /// How the client came.
    pub link: Link,
    /// Whether the answer was a stream.
    pub streamed: bool,
    /// The service tier that was billed, where it was not the default one.
    pub tier: Option<String>,
    /// What an operator should know of its bill.
    pub flags: Flags,
}

impl UsageRow {
    /// Input and output together; none where nothing was counted.
    pub fn tokens(&self) -> Tokens {
        let usage = self.usage.as_ref().map(|(usage, _)| *usage).unwrap_or_default();
        usage.input.saturating_add(usage.output)
    }
}

/// How a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// The public entrance.
    Https,
    /// The plain entrance on loopback.
    Http,
    /// The tunnel over QUIC.
    Quic,
    /// The tunnel over TCP.
    H2,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The vendor completed it.
    Completed,
    /// The vendor stopped at a limit.
    Incomplete,
    /// The vendor reported a failure inside the answer.
    Failed,
    /// We refused it.
    Refused(Code),
    /// The vendor answered with an error status.
    VendorError,
    /// The vendor broke off.
    VendorCut,
    /// The vendor was silent for too long.
    VendorTimeout,
    /// The client left after the vendor was called.
    ClientGone,
    /// The client left before the vendor was called.
    ClientGoneBeforeDispatch,
    /// Its tenant was suspended while it ran.
    Suspended,
    /// Its tenant's credit did not cover more of it.
    OutOfCredit,
    /// A daily or monthly limit did not cover more of it.
    OverLimit,
    /// A warm-up frame: no turn.
    Warmup,
    /// The hub shut down under it.
    HubDraining,
    /// The hub could not book or go on; not charged.
    HubFault,
    /// Released at start: an earlier hub left it open.
    Recovered,
    /// Its hold was dropped without a settlement.
    Abandoned,
}

impl Link {
    /// Its name in a row.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Quic => "quic",
            Self::H2 => "h2",
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Ending {
    /// Its name in a row.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Refused(code) => return format!("refused:{}", code.name()).into(),
            Self::VendorError => "vendor_error",
            Self::VendorCut => "vendor_cut",
            Self::VendorTimeout => "vendor_timeout",
            Self::ClientGone => "client_gone",
            Self::ClientGoneBeforeDispatch => "client_gone_before_dispatch",
            Self::Suspended => "tenant_suspended",
            Self::OutOfCredit => "out_of_credit",
            Self::OverLimit => "over_limit",
            Self::Warmup => "warmup",
            Self::HubDraining => "hub_draining",
            Self::HubFault => "hub_fault",
            Self::Recovered => "recovered",
            Self::Abandoned => "abandoned",
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::{row, wish};

    #[test]
    fn a_row_tells_its_tokens_and_names() {
        let mut row = row(&wish(&TenantId::random(), 1), Ending::Completed);
        assert_eq!(row.tokens(), Tokens::new(15));
        row.usage = None;
        assert_eq!(row.tokens(), Tokens::ZERO);
        let links = [Link::Https, Link::Http, Link::Quic, Link::H2];
        assert_eq!(links.map(|link| link.to_string()), ["https", "http", "quic", "h2"]);
        let refused = Ending::Refused(Code::RateLimited);
        assert_eq!(refused.to_string(), "refused:rate_limit_exceeded");
        assert_eq!(Ending::OutOfCredit.to_string(), "out_of_credit");
    }
}
