//! How an egress node comes to a vendor: is it on the list, where does its name lead, may that be reached. Knows nothing
//! of who asks.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{StatusCode, Uri};
use tokio::net::{TcpSocket, TcpStream};

use super::AllowList;
use crate::{egress::Reach, way::Family};

/// Where connections leave, and where they may lead.
pub(super) struct Exit {
    allow: AllowList,
    reach: Reach,
    source: Option<IpAddr>,
}

/// Why a connection was not made: a status, and words for the hub's operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl Exit {
    pub(super) fn new(allow: AllowList, allows_private: bool, source: Option<IpAddr>) -> Self {
        let reach = Reach {
            only: source.map(Family::of),
            first: None,
            allows_private,
        };
        Self { allow, reach, source }
    }

    /// A connection to the host and port of a CONNECT, and the address that it left by.
    pub(super) async fn connect(&self, to: &Uri, first: Option<Family>) -> Result<(TcpStream, IpAddr), Refused> {
        let (Some(host), Some(port)) = (to.host(), to.port_u16()) else {
            return Err(Refused(
                StatusCode::BAD_REQUEST,
                "no host with a port is named".to_owned(),
            ));
        };
        if !self.allow.permits(host, port) {
            let words = format!("{host}:{port} is not on the node's list");
            return Err(Refused(StatusCode::FORBIDDEN, words));
        }
        let reach = Reach { first, ..self.reach };
        let connecting = self.reached(reach, host, port);
        let connected = tokio::time::timeout(CONNECT, connecting).await;
        let late = |_| {
            Refused(
                StatusCode::GATEWAY_TIMEOUT,
                format!("{host}:{port} did not answer in time"),
            )
        };
        let tcp = connected.map_err(late)??;
        let local = tcp.local_addr().map_err(|error| unreachable(&error))?;
        Ok((tcp, local.ip()))
    }

    async fn reached(&self, reach: Reach, host: &str, port: u16) -> Result<TcpStream, Refused> {
        let found = reach.resolve(host, port).await;
        let found = found.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Refused(StatusCode::FORBIDDEN, error.to_string()),
            _ => unreachable(&error),
        })?;
        let mut failed = Refused(StatusCode::BAD_GATEWAY, format!("{host} has no address"));
        for address in found {
            let dialled = tokio::time::timeout(EACH, self.dial(address)).await;
            match dialled {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(refused)) => failed = refused,
                Err(_) => failed = Refused(StatusCode::GATEWAY_TIMEOUT, format!("{address} did not answer in time")),
            }
        }
        Err(failed)
    }

    async fn dial(&self, address: SocketAddr) -> Result<TcpStream, Refused> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(|error| gone(&error))?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into()).map_err(|error| gone(&error))?;
        }
        let tcp = socket.connect(address).await.map_err(|error| unreachable(&error))?;
        tcp.set_nodelay(true).map_err(|error| unreachable(&error))?;
        Ok(tcp)
    }
}

fn unreachable(error: &io::Error) -> Refused {
    Refused(StatusCode::BAD_GATEWAY, error.to_string())
}

/// The node itself is at fault, mostly for want of its address.
fn gone(error: &io::Error) -> Refused {
    let words = format!("the node cannot leave by its address: {error}");
    Refused(StatusCode::SERVICE_UNAVAILABLE, words)
}

/// Below the hub's own patience (`limits.vendor_connect_timeout`), so that the vendor is told from the node.
const CONNECT: Duration = Duration::from_secs(4);
/// For one of several addresses.
const EACH: Duration = Duration::from_millis(2500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Pattern;

    fn exit(allow: &[&str], allows_private: bool, source: Option<&str>) -> Exit {
        let allow = allow.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        Exit::new(allow, allows_private, source.map(|text| text.parse().unwrap()))
    }

    async fn refused(exit: &Exit, to: &str) -> u16 {
        exit.connect(&to.parse().unwrap(), None).await.unwrap_err().0.as_u16()
    }

    #[tokio::test]
    async fn each_refusal_says_who_is_at_fault() {
        let vendor = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = vendor.local_addr().unwrap();
        let allow = here.to_string();
        let (_, left_by) = exit(&[&allow], false, Some("127.0.0.8"))
            .connect(&allow.parse().unwrap(), None)
            .await
            .unwrap();
        assert_eq!(left_by.to_string(), "127.0.0.8");

        assert_eq!(refused(&exit(&["api.openai.com"], false, None), &allow).await, 403);
        assert_eq!(refused(&exit(&[&allow], false, None), "127.0.0.1").await, 400);
        // Of a network for documentation, so no machine has it.
        assert_eq!(refused(&exit(&[&allow], false, Some("192.0.2.9")), &allow).await, 503);
        drop(vendor);
        assert_eq!(refused(&exit(&[&allow], false, None), &allow).await, 502);
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_unless_that_is_allowed() {
        let vendor = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // `localhost` itself is meant by whoever writes it; a name below it is like any other.
        let name = format!("vendor.localhost:{}", vendor.local_addr().unwrap().port());
        if tokio::net::lookup_host(&name).await.is_ok() {
            assert_eq!(refused(&exit(&[&name], false, None), &name).await, 403);
            assert!(
                exit(&[&name], true, None)
                    .connect(&name.parse().unwrap(), None)
                    .await
                    .is_ok()
            );
        }
    }
}
