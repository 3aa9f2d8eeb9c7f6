//! Keeps the certificate of a running egress node fresh, also after a time in which its hub was away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_shared::{
    backoff,
    clock::{Clock as _, SystemClock},
    tunnel::server::Tunnel,
};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use x509_parser::prelude::FromDer as _;

use super::{
    NodeError,
    home::{Enrolled, NodeHome},
};

/// Renews at half-life, until `stop`.
pub(super) async fn keep_fresh(home: NodeHome, who: Enrolled, port: Tunnel, stop: CancellationToken) {
    let mut failures = 0;
    while stop.run_until_cancelled(wait(&home, failures)).await.is_some() {
        match renew(&home, &who, &port).await {
            Ok(()) => {
                failures = 0;
                info!(node = who.node, "certificate renewed");
            }
            Err(error) => {
                failures = u32::saturating_add(failures, 1);
                warn!(
                    node = who.node,
                    error = &error as &dyn std::error::Error,
                    "certificate not renewed"
                );
            }
        }
    }
}

async fn renew(home: &NodeHome, who: &Enrolled, port: &Tunnel) -> Result<(), NodeError> {
    let papers = home.renew(who).await?;
    Ok(port.show(papers.chain, papers.key)?)
}

/// Until half of the certificate's life is over, give or take a tenth of that by chance; after a failure a while.
async fn wait(home: &NodeHome, failures: u32) {
    if failures > 0 {
        return tokio::time::sleep(pause(failures)).await;
    }
    let due = home.papers().ok().and_then(|papers| half_life(papers.chain.first()?));
    let Some((begins, half)) = due else {
        return tokio::time::sleep(LOOK).await;
    };
    let due = begins + half.mul_f64(0.9 + 0.2 * backoff::random());
    // A timer stands still while the machine sleeps: the wall clock is looked at again and again.
    while let Ok(left) = due.duration_since(SystemClock.wall()) {
        tokio::time::sleep(left.min(LOOK)).await;
        if left.is_zero() {
            return;
        }
    }
}

/// When a certificate's life begins, and half of how long it is.
fn half_life(certificate: &CertificateDer<'_>) -> Option<(SystemTime, Duration)> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let at = |seconds: i64| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?));
    let begins = at(parsed.validity().not_before.timestamp())?;
    let ends = at(parsed.validity().not_after.timestamp())?;
    Some((begins, ends.duration_since(begins).ok()? / 2))
}

/// 30 s, then twice as long each time, up to ten minutes.
fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
    Duration::from_secs(30)
        .saturating_mul(doubled)
        .min(Duration::from_secs(600))
}

const LOOK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_never_repeated_within_30_s() {
        assert_eq!(pause(1), Duration::from_secs(30));
        assert_eq!(pause(3), Duration::from_secs(120));
        assert_eq!(pause(u32::MAX), Duration::from_secs(600));
    }
}
