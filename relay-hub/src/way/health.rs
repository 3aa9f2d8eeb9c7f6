//! How a way out does, in figures. Measures nothing itself.

use std::time::{Duration, SystemTime};

/// How a way out does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// It is left out until it works again.
    pub is_down: bool,
    /// When it failed last, and why; where the vendor was at fault, that.
    pub failed: Option<(SystemTime, String)>,
    /// When it connected last, and what that took.
    pub connected: Option<Connected>,
}

/// A connection to the vendor that came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    /// When.
    pub at: SystemTime,
    /// What it took, up to TLS with the vendor.
    pub connect: Duration,
    /// What TLS took, where there is any.
    pub tls: Option<Duration>,
}
