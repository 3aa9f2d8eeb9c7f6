//! Is an agent running, is it the one that should, and does a call get through?

use std::net::SocketAddr;

use http::{Method, StatusCode};
use relay_shared::holder::{Protocol, holder_of};
use relay_shared::secret::Secret;

use super::Finding;
use crate::control::client::{Agent, AskError};
use crate::control::{ECHO_PATH, Echo, STATUS_PATH, Status};

/// What was seen of the agent.
pub(super) struct Seen {
    pub(super) findings: Vec<Finding>,
    pub(super) is_running: bool,
}

pub(super) async fn look(addr: SocketAddr, key: Option<&Secret<String>>, said_so: bool) -> Seen {
    match (Agent { addr, key }).ask(Method::GET, STATUS_PATH).await {
        Ok((StatusCode::OK, body)) => match serde_json::from_slice::<Status>(&body) {
            Ok(status) => running(&status),
            Err(_) => strange(addr, "its status makes no sense"),
        },
        Ok((StatusCode::UNAUTHORIZED, _)) => strange(addr, "it does not take this data directory's local key"),
        Ok((status, _)) => strange(addr, &format!("it answers {status}")),
        Err(AskError::Strange { reason, .. }) => strange(addr, &reason),
        Err(AskError::Nobody(_)) => {
            let found = if said_so {
                "it ran and is gone without a goodbye"
            } else {
                "no agent is running"
            };
            let finding = Finding::fail(
                "port",
                format!("nobody listens on {addr}: {found}"),
                "start it: relay-agent run",
            );
            Seen {
                findings: vec![finding],
                is_running: false,
            }
        }
    }
}

fn running(status: &Status) -> Seen {
    let port = Finding::pass(
        "port",
        format!("relay-agent (pid {}) listens at {}", status.pid, status.base_url),
    );
    let link = match (status.link.state.as_str(), &status.link.transport) {
        ("up", Some(transport)) => Finding::pass("link", format!("up over {transport}")),
        (state, _) => {
            let why = status.link.last_error.as_deref().unwrap_or("it has not been tried yet");
            Finding::fail(
                "link",
                format!("{state}: {why}"),
                "see the checks of dns, udp, tcp and certificate",
            )
        }
    };
    Seen {
        findings: vec![port, link],
        is_running: true,
    }
}

fn strange(addr: SocketAddr, reason: &str) -> Seen {
    let holder = holder_of(addr, Protocol::Tcp).unwrap_or_else(|| "an unknown process".to_owned());
    let finding = Finding::fail(
        "port",
        format!("{addr} is held by {holder}: {reason}"),
        "stop that process, or let the agent listen elsewhere (--listen) and run `relay-agent setup codex` again",
    );
    Seen {
        findings: vec![finding],
        is_running: false,
    }
}

/// A question through the running agent to the hub and back.
pub(super) async fn echo(addr: SocketAddr, key: Option<&Secret<String>>, is_running: bool) -> Finding {
    if !is_running {
        return Finding::warn(
            "end to end",
            "not looked at: no agent is running",
            "start it: relay-agent run",
        );
    }
    let outcome = match (Agent { addr, key }).ask(Method::GET, ECHO_PATH).await {
        Ok((StatusCode::OK, body)) => serde_json::from_slice::<Echo>(&body).map_err(|error| error.to_string()),
        Ok((status, _)) => Err(format!("the agent answered {status}")),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(echo) if echo.ok => Finding::pass(
            "end to end",
            format!(
                "the hub answered in {}.{:02} ms",
                echo.took_us / 1000,
                echo.took_us % 1000 / 10
            ),
        ),
        Ok(echo) => {
            let why = echo
                .status
                .map(|status| format!("the hub answered {status}"))
                .or(echo.reason);
            Finding::fail(
                "end to end",
                why.unwrap_or_default(),
                "see the checks above; the hub's log says more",
            )
        }
        Err(why) => Finding::fail("end to end", why, "restart the agent: relay-agent run"),
    }
}
