//! Hears from the system that nobody listens on the other end of a connected UDP socket: it learns so by ICMP with the
//! first packet that arrives there in vain. QUIC itself would go on sending for seconds. Knows no QUIC.

use std::{io, net::UdpSocket};

/// Listens beside the one that uses the socket.
#[cfg(target_os = "linux")]
pub(super) struct Ear(tokio::net::UdpSocket);

/// Elsewhere sockets are not connected, and there is nothing to hear.
#[cfg(not(target_os = "linux"))]
pub(super) struct Ear;

#[cfg(target_os = "linux")]
impl Ear {
    /// Of a connected socket.
    pub(super) fn at(socket: &UdpSocket) -> io::Result<Self> {
        Ok(Self(tokio::net::UdpSocket::from_std(socket.try_clone()?)?))
    }

    async fn refused(&self) {
        let error = tokio::io::Interest::ERROR;
        while self.0.ready(error).await.is_ok() {
            // What was heard is not heard again.
            let heard: io::Result<()> = self.0.try_io(error, || Err(io::ErrorKind::WouldBlock.into()));
            drop(heard);
            // Whoever sends meanwhile takes the error away: it comes again with the next packet.
            let error = self.0.take_error().ok().flatten();
            if error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                return;
            }
        }
        std::future::pending().await
    }
}

#[cfg(not(target_os = "linux"))]
impl Ear {
    /// Of a socket.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn at(_: &UdpSocket) -> io::Result<Self> {
        Ok(Self)
    }

    async fn refused(&self) {
        std::future::pending().await
    }
}

/// Resolves once one hears that nobody listens; never where there is none.
pub(super) async fn refused(ear: Option<&Ear>) {
    match ear {
        Some(ear) => ear.refused().await,
        None => std::future::pending().await,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_packet_in_vain_is_heard_of_and_one_that_arrives_is_not() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.set_nonblocking(true).unwrap();
        here.connect(there.local_addr().unwrap()).unwrap();
        let ear = Ear::at(&here).unwrap();
        here.send(b"x").unwrap();
        there.send_to(b"y", here.local_addr().unwrap()).unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(50), ear.refused()).await;
        assert!(heard.is_err(), "somebody is there");
        drop(there);
        here.send(b"x").unwrap();
        tokio::time::timeout(Duration::from_secs(10), ear.refused())
            .await
            .unwrap();
    }
}
