//! The agent's view of itself: the two paths its own commands ask, and the file by which they find it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use relay_shared::call::CallId;
use relay_shared::clock::{Clock, SystemClock};
use relay_shared::tls::HUB_NAME;
use relay_shared::tunnel::{CALL_ID, body};
use serde::Serialize;

pub(crate) mod client;
mod run_file;
mod status;

pub use run_file::RunFile;
pub(crate) use status::span;
pub use status::{CallReport, CertificateReport, DeviceReport, Echo, LinkReport, Status};

use crate::enroll::{Device, Renewals};
use crate::forward::uplink::Uplink;
use crate::forward::{Calls, LocalBody, text};
use crate::keystore::KeyHome;
use crate::listener::Control;
use crate::tunnel::Link;

/// Answers `GET /relay/status` and `GET /relay/echo`.
pub(crate) struct Itself {
    pub(crate) base_url: String,
    pub(crate) since: Instant,
    pub(crate) link: Link,
    pub(crate) device: Device,
    pub(crate) renewals: Renewals,
    pub(crate) calls: Calls,
}

impl Control for Itself {
    async fn answer(&self, path: &str) -> Option<Response<LocalBody>> {
        match path {
            STATUS_PATH => Some(json(&self.status())),
            ECHO_PATH => Some(json(&echo(&self.link).await)),
            _ => None,
        }
    }
}

impl Itself {
    fn status(&self) -> Status {
        Status {
            running: true,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            base_url: self.base_url.clone(),
            uptime_s: SystemClock.now().duration_since(self.since).as_secs(),
            link: self.link_report(),
            device: self.device_report(),
            certificate: self.certificate_report(),
            calls: CallReport {
                running: self.calls.running(),
                total: self.calls.begun(),
            },
        }
    }

    fn link_report(&self) -> LinkReport {
        let link = self.link.status();
        LinkReport {
            state: link.state.as_str().to_owned(),
            transport: link.transport.map(|transport| transport.to_string()),
            rtt_us: link.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            since_s: SystemClock
                .wall()
                .duration_since(link.since)
                .unwrap_or_default()
                .as_secs(),
            last_error: link.last_error,
        }
    }

    fn device_report(&self) -> DeviceReport {
        DeviceReport {
            id: self.device.device.clone(),
            tenant: self.device.tenant.clone(),
            hub: self.device.hub.clone(),
            key_store: match self.device.key_store {
                KeyHome::Keyring => "keyring".to_owned(),
                KeyHome::File => "file".to_owned(),
            },
        }
    }

    fn certificate_report(&self) -> CertificateReport {
        let standing = self.renewals.standing();
        CertificateReport {
            not_after: unix(standing.life.ends),
            left_s: standing
                .life
                .ends
                .duration_since(SystemClock.wall())
                .unwrap_or_default()
                .as_secs(),
            last_error: standing.last_error,
        }
    }
}

/// Asks the hub whether it is well, by the way every call goes.
async fn echo(link: &Link) -> Echo {
    let begun = SystemClock.now();
    let mut request = Request::new(body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::builder()
        .scheme("https")
        .authority(HUB_NAME)
        .path_and_query("/healthz")
        .build()
        .unwrap_or_default();
    if let Ok(id) = HeaderValue::try_from(CallId::random().to_string()) {
        request.headers_mut().insert(CALL_ID, id);
    }
    let answer = Uplink::send(link, request).await;
    let took_us = u64::try_from(SystemClock.now().duration_since(begun).as_micros()).unwrap_or(u64::MAX);
    match answer {
        Ok(answer) => Echo {
            ok: answer.status() == StatusCode::OK,
            status: Some(answer.status().as_u16()),
            reason: None,
            took_us,
        },
        Err(down) => Echo {
            ok: false,
            status: None,
            reason: Some(down.reason),
            took_us,
        },
    }
}

fn json(value: &impl Serialize) -> Response<LocalBody> {
    let mut response = Response::new(text(serde_json::to_vec(value).unwrap_or_default()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(crate) const STATUS_PATH: &str = "/relay/status";
pub(crate) const ECHO_PATH: &str = "/relay/echo";
