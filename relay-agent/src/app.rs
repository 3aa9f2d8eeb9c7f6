//! Puts the parts together and runs them until told to stop. The one place that knows all of them.

use std::net::SocketAddr;

use crate::config::Config;

/// A running agent.
pub struct Running {
    /// What a client's base URL is, for example `http://127.0.0.1:8787/v1`.
    pub base_url: String,
    /// The addresses listened on.
    pub addrs: Vec<SocketAddr>,
}

impl Running {
    /// The key local calls must carry (`Authorization: Bearer`).
    #[must_use]
    pub fn local_key(&self) -> &str {
        ""
    }

    /// Stops listening, lets running calls end within the drain time, closes the tunnel.
    #[allow(clippy::unused_async, reason = "the signature is the promise")]
    pub async fn shutdown(self) {}
}

/// Starts an agent; returns when it listens, whether or not the tunnel is up yet.
///
/// # Errors
/// When the data directory, the enrolment or the address cannot be used; the text says what helps.
#[allow(clippy::unused_async, reason = "the signature is the promise")]
pub async fn start(config: Config) -> anyhow::Result<Running> {
    Ok(Running {
        base_url: format!("http://{}/v1", config.listen),
        addrs: vec![config.listen],
    })
}
