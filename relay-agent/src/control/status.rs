//! What a running agent says about itself. Numbers and names; never a key, never a body.

use serde::{Deserialize, Serialize};

/// A running agent at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Always true: who does not run does not answer.
    pub running: bool,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// What clients use.
    pub base_url: String,
    /// Seconds since it began to listen.
    pub uptime_s: u64,
    /// The connection to the hub.
    pub link: LinkReport,
    /// Who this device is.
    pub device: DeviceReport,
    /// Its certificate.
    pub certificate: CertificateReport,
    /// The calls it carries.
    pub calls: CallReport,
}

/// The connection to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// `up`, `connecting` or `waiting`.
    pub state: String,
    /// `quic` or `h2`, when up.
    pub transport: Option<String>,
    /// Round trip in microseconds, when up.
    pub rtt_us: Option<u64>,
    /// Seconds in this state.
    pub since_s: u64,
    /// Why the last try or connection failed.
    pub last_error: Option<String>,
}

/// Who this device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its id.
    pub id: String,
    /// Its tenant's id.
    pub tenant: String,
    /// Host and port of the hub's tunnel.
    pub hub: String,
    /// Where its key is kept: `keyring` or `file`.
    pub key_store: String,
}

/// The device's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// When it ends, seconds since 1970.
    pub not_after: u64,
    /// Seconds left; 0 when it has ended.
    pub left_s: u64,
    /// Why the last renewal failed.
    pub last_error: Option<String>,
}

/// The calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    /// Running now.
    pub running: u64,
    /// Since the start.
    pub total: u64,
}

/// What `GET /relay/echo` found: a question to the hub and back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The hub answered 200.
    pub ok: bool,
    /// The status it answered, if it did.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub reason: Option<String>,
    /// Microseconds from question to answer.
    pub took_us: u64,
}

impl Status {
    /// The status for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &str| out.push_str(&format!("{name:<12} {value}\n"));
        line(
            "agent",
            &format!(
                "running (pid {}, version {}, up {})",
                self.pid,
                self.version,
                span(self.uptime_s)
            ),
        );
        line("base URL", &self.base_url);
        line("link", &self.link.to_text());
        if let Some(error) = &self.link.last_error {
            line("  last error", error);
        }
        line("hub", &self.device.hub);
        line(
            "device",
            &format!("{} of tenant {}", self.device.id, self.device.tenant),
        );
        line("device key", &self.device.key_store);
        line("certificate", &self.certificate.to_text());
        if let Some(error) = &self.certificate.last_error {
            line("  last error", error);
        }
        line(
            "calls",
            &format!("{} running, {} since the start", self.calls.running, self.calls.total),
        );
        out
    }
}

impl LinkReport {
    fn to_text(&self) -> String {
        let mut text = self.state.clone();
        if let Some(transport) = &self.transport {
            text = format!("{text} over {transport}");
        }
        if let Some(rtt) = self.rtt_us {
            text = format!("{text}, round trip {}.{:01} ms", rtt / 1000, rtt % 1000 / 100);
        }
        format!("{text}, for {}", span(self.since_s))
    }
}

impl CertificateReport {
    fn to_text(&self) -> String {
        match self.left_s {
            0 => "ended; it is renewed as soon as the hub can be reached".to_owned(),
            left => format!("good for {}", span(left)),
        }
    }
}

/// A time span for people: `3 h 5 min`.
pub(crate) fn span(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_well() {
        let status = Status {
            running: true,
            pid: 7,
            version: "0.1.0".into(),
            base_url: "http://127.0.0.1:8787/v1".into(),
            uptime_s: 3725,
            link: LinkReport {
                state: "up".into(),
                transport: Some("quic".into()),
                rtt_us: Some(12_340),
                since_s: 59,
                last_error: None,
            },
            device: DeviceReport {
                id: "dev_1".into(),
                tenant: "ten_1".into(),
                hub: "hub.example:8443".into(),
                key_store: "file".into(),
            },
            certificate: CertificateReport {
                not_after: 1,
                left_s: 61,
                last_error: None,
            },
            calls: CallReport { running: 1, total: 2 },
        };
        let text = status.to_text();
        for part in [
            "up over quic, round trip 12.3 ms, for 59 s",
            "1 h 2 min",
            "good for 1 min 1 s",
            "1 running",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
