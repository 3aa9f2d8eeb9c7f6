//! Why a call was served by its account.

/// Why a call was served by its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Choice {
    /// Its tenant has no other.
    #[default]
    Only,
    /// It is the tenant's own: the call names no conversation.
    Tenant,
    /// It ranks first for a new conversation.
    Ranked,
    /// The conversation belongs to it.
    Pinned,
    /// What the call refers to, a stored response or a turn's state, is there and nowhere else.
    Bound,
    /// It made the reasoning that the call sends back, which no other can read.
    Reasoning,
    /// The conversation's account is out of use, and its tenant lets it go on elsewhere.
    Repinned,
    /// What ranks before it is out of use, resting or busy.
    Detour,
    /// Another account failed at this call.
    Failover,
}

impl Choice {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Only,
        Self::Tenant,
        Self::Ranked,
        Self::Pinned,
        Self::Bound,
        Self::Reasoning,
        Self::Repinned,
        Self::Detour,
        Self::Failover,
    ];

    /// Its name in a row, and a label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::Tenant => "tenant",
            Self::Ranked => "ranked",
            Self::Pinned => "pinned",
            Self::Bound => "bound",
            Self::Reasoning => "reasoning",
            Self::Repinned => "repinned",
            Self::Detour => "detour",
            Self::Failover => "failover",
        }
    }
}
