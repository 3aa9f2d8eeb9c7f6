//! Is the hub reachable from here, by each way, and does it trust this device?

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use relay_shared::clock::{Clock, SystemClock};
use relay_shared::tasks::Tasks;
use relay_shared::tunnel::client::{DialError, Dialer};

use super::{Finding, Verdict};
use crate::config::dir::DataDir;
use crate::control::span;
use crate::enroll::{self, Device, Life};
use crate::failure::Failure;
use crate::tunnel::LinkMode;

pub(super) async fn look(dir: &DataDir, device: &Device, mode: LinkMode) -> Vec<Finding> {
    let mut findings = match enroll::life(dir) {
        Ok(life) => vec![clock(life, SystemClock.wall()), certificate(life, SystemClock.wall())],
        Err(error) => vec![Finding::of("certificate", error)],
    };
    let looked_up = tokio::net::lookup_host(&device.hub).await.map(|mut found| found.next());
    let Ok(Some(addr)) = looked_up else {
        let action = "check the name in the enrolment, your DNS, and the network";
        findings.push(Finding::fail("dns", format!("{} has no address", device.hub), action));
        return findings;
    };
    findings.push(Finding::pass("dns", format!("{} is {addr}", device.hub)));
    findings.extend(reach(dir, device, addr, mode).await);
    findings
}

async fn reach(dir: &DataDir, device: &Device, addr: SocketAddr, mode: LinkMode) -> Vec<Finding> {
    let tasks = Tasks::new();
    let dialer = match dialer(dir.clone(), device.clone(), &tasks).await {
        Ok(dialer) => dialer,
        Err(failure) => return vec![Finding::of("device key", failure)],
    };
    let (udp, tcp) = tokio::join!(Box::pin(dialer.quic(addr)), Box::pin(dialer.h2(addr)));
    let (udp, tcp) = (
        udp.map(|connection| connection.close()),
        tcp.map(|connection| connection.close()),
    );
    tasks.shutdown(Duration::from_secs(1)).await;
    vec![
        verdict("udp", "QUIC", addr, udp, mode == LinkMode::Quic),
        verdict("tcp", "HTTP/2", addr, tcp, mode == LinkMode::H2),
    ]
    .into_iter()
    .fold(Vec::new(), both_ways_closed)
}

/// One way that is closed is a warning; when both are, nothing works.
fn both_ways_closed(mut findings: Vec<Finding>, next: Finding) -> Vec<Finding> {
    if let Some(first) = findings.first_mut()
        && first.verdict != Verdict::Pass
        && next.verdict != Verdict::Pass
    {
        first.verdict = Verdict::Fail;
        findings.push(Finding {
            verdict: Verdict::Fail,
            ..next
        });
        return findings;
    }
    findings.push(next);
    findings
}

async fn dialer(dir: DataDir, device: Device, tasks: &Tasks) -> Result<Dialer, Failure> {
    // Off the runtime's threads: a keyring may take seconds.
    let identity = tokio::task::spawn_blocking(move || {
        let key = device.key(&dir)?;
        Ok::<_, enroll::DeviceError>((enroll::ca(&dir)?, enroll::identity(&dir, &key)?))
    });
    let (ca, identity) = identity.await.map_err(|error| Failure::program(error.to_string()))??;
    Dialer::new(&ca, &identity, tasks)
        .map_err(|error| Failure::user(error.to_string(), "enrol again: relay-agent enroll TOKEN --force"))
}

fn verdict(
    check: &'static str,
    name: &str,
    addr: SocketAddr,
    outcome: Result<(), DialError>,
    is_needed: bool,
) -> Finding {
    let error = match outcome {
        Ok(()) => return Finding::pass(check, format!("{name} to {addr} works, and both ends trust each other")),
        Err(error) => error,
    };
    let action = match &error {
        DialError::Trust { .. } => {
            "the certificate is not accepted: when it has ended, start the agent to renew it; when the device was revoked, enrol again"
        }
        DialError::Timeout { .. } | DialError::Network { .. } if check == "udp" => {
            "let UDP to that port through the firewall; HTTP/2 over TCP is used meanwhile"
        }
        DialError::Timeout { .. } | DialError::Network { .. } => {
            "check that the hub runs and that the firewall lets TCP to that port through"
        }
    };
    match is_needed {
        true => Finding::fail(check, error.to_string(), action),
        false => Finding::warn(check, error.to_string(), action),
    }
}

fn clock(life: Life, now: SystemTime) -> Finding {
    match life.begins.duration_since(now) {
        Ok(early) if early > SKEW => Finding::fail(
            "clock",
            format!(
                "this machine's clock is at least {} behind the hub's",
                span(early.as_secs())
            ),
            "set the clock (NTP)",
        ),
        _ => Finding::pass("clock", "not behind the certificate's begin"),
    }
}

fn certificate(life: Life, now: SystemTime) -> Finding {
    match life.ends.duration_since(now) {
        Ok(left) => Finding::pass("certificate", format!("good for {}", span(left.as_secs()))),
        Err(past) => Finding::warn(
            "certificate",
            format!("ended {} ago", span(past.duration().as_secs())),
            "start the agent: it renews the certificate as soon as it reaches the hub",
        ),
    }
}

const SKEW: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_closed_way_is_a_warning_and_two_are_a_failure() {
        let pass = || Finding::pass("udp", "");
        let warn = || Finding::warn("tcp", "", "");
        let verdicts = |all: [Finding; 2]| -> Vec<_> {
            all.into_iter()
                .fold(Vec::new(), both_ways_closed)
                .iter()
                .map(|finding| finding.verdict)
                .collect()
        };
        assert_eq!(verdicts([pass(), warn()]), [Verdict::Pass, Verdict::Warn]);
        assert_eq!(verdicts([warn(), pass()]), [Verdict::Warn, Verdict::Pass]);
        assert_eq!(verdicts([warn(), warn()]), [Verdict::Fail, Verdict::Fail]);
    }

    #[test]
    fn a_clock_that_is_behind_and_a_certificate_that_ended_are_found() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let hour = Duration::from_secs(3600);
        let good = Life {
            begins: now - hour,
            ends: now + hour,
        };
        assert_eq!(
            (clock(good, now).verdict, certificate(good, now).verdict),
            (Verdict::Pass, Verdict::Pass)
        );
        assert_eq!(clock(good, now - 2 * hour).verdict, Verdict::Fail);
        assert_eq!(certificate(good, now + 2 * hour).verdict, Verdict::Warn);
    }
}
