//! Opens the loopback sockets, or says who has them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use relay_shared::holder::{Protocol, holder_of};
use tokio::net::TcpListener;

use crate::failure::Failure;

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address could be reached from other machines.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// Someone else listens there.
    #[error("cannot listen on {addr}: the address is in use{}", by(holder.as_deref()))]
    Taken {
        /// Where.
        addr: SocketAddr,
        /// By whom, when that can be known.
        holder: Option<String>,
    },
    /// The system said no.
    #[error("cannot listen on {addr}: {source}")]
    Io {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn by(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        let hint = match &error {
            BindError::NotLoopback(_) => {
                "use 127.0.0.1:PORT or [::1]:PORT; the local listener is for this machine only"
            }
            BindError::Taken { .. } => {
                "stop that process (`relay-agent status` tells whether it is an agent), or choose another port with --listen 127.0.0.1:PORT and run `relay-agent setup codex` again"
            }
            BindError::Io { .. } => "choose another address with --listen 127.0.0.1:PORT",
        };
        Self::user(error.to_string(), hint)
    }
}

/// Listens on `addr`; with 127.0.0.1 also on `[::1]` and the same port, when the machine has it.
///
/// # Errors
/// When the address is not loopback, taken, or refused by the system.
pub(crate) async fn bind(addr: SocketAddr) -> Result<Vec<TcpListener>, BindError> {
    if !addr.ip().is_loopback() {
        return Err(BindError::NotLoopback(addr));
    }
    // With port 0 the port that is free for IPv4 may be taken for IPv6: another one is tried then.
    for _ in 0..TRIES {
        let first = listen(addr).await?;
        let Some(twin) = twin_of(&first, addr)? else {
            return Ok(vec![first]);
        };
        match listen(twin).await {
            Ok(second) => return Ok(vec![first, second]),
            Err(BindError::Taken { .. }) if addr.port() == 0 => {}
            Err(BindError::Io { source, .. }) => {
                tracing::info!(addr = %twin, error = %source, "not listening on IPv6");
                return Ok(vec![first]);
            }
            Err(error) => return Err(error),
        }
    }
    Err(BindError::Io {
        addr,
        source: io::ErrorKind::AddrInUse.into(),
    })
}

fn twin_of(first: &TcpListener, addr: SocketAddr) -> Result<Option<SocketAddr>, BindError> {
    if addr.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return Ok(None);
    }
    let bound = first.local_addr().map_err(|source| BindError::Io { addr, source })?;
    Ok(Some((Ipv6Addr::LOCALHOST, bound.port()).into()))
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, BindError> {
    match TcpListener::bind(addr).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BindError::Taken {
            addr,
            holder: holder_of(addr, Protocol::Tcp),
        }),
        Err(source) => Err(BindError::Io { addr, source }),
    }
}

const TRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_reported_with_its_holder() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = taken[0].local_addr().unwrap();
        let error = bind(addr).await.unwrap_err();
        assert!(matches!(error, BindError::Taken { .. }), "{error}");
        #[cfg(target_os = "linux")]
        assert!(
            error.to_string().contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:127.0.0.1]:0"] {
            let error = bind(addr.parse().unwrap()).await.unwrap_err();
            assert!(matches!(error, BindError::NotLoopback(_)), "{addr}: {error}");
        }
    }

    #[tokio::test]
    async fn both_families_have_the_same_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports.windows(2).all(|pair| pair[0] == pair[1]), "{ports:?}");
    }
}
