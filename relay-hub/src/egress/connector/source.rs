//! An address of this machine by which calls leave, and whether it is still there. Knows no vendor.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::OnceLock,
};

use socket2::{Domain, Socket, Type};

/// An address to leave by. What cannot be bound is not left by.
pub(super) struct Source {
    address: IpAddr,
    held: OnceLock<Held>,
}

/// A port of the address that is taken, and a socket that asks for it, always in vain.
struct Held {
    _taken: UdpSocket,
    at: SocketAddr,
    asks: Socket,
}

impl Source {
    pub(super) const fn new(address: IpAddr) -> Self {
        Self {
            address,
            held: OnceLock::new(),
        }
    }

    /// Whether the address is this machine's now. Each call asks, so it is one question to the system: a port that is known
    /// to be taken is refused for that where the address is there, else for the address.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn is_here(&self) -> io::Result<()> {
        let Some(held) = self.held.get() else {
            let held = Held::new(self.address)?;
            // Somebody else may have been faster; then this one is let go.
            drop(self.held.set(held));
            return Ok(());
        };
        match held.asks.bind(&held.at.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            asked => asked,
        }
    }
}

impl Held {
    fn new(address: IpAddr) -> io::Result<Self> {
        let taken = UdpSocket::bind((address, 0))?;
        let at = taken.local_addr()?;
        let asks = Socket::new(Domain::for_address(at), Type::DGRAM, None)?;
        Ok(Self {
            _taken: taken,
            at,
            asks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_here_however_often_it_is_asked_and_no_other_is() {
        for address in ["127.0.0.1", "::1"] {
            let address = address.parse().unwrap();
            if UdpSocket::bind((address, 0)).is_err() {
                println!("skipped: {address} is not here");
                continue;
            }
            let source = Source::new(address);
            for _ in 0..3 {
                source.is_here().unwrap();
            }
        }
        let source = Source::new("192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(source.is_here().unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        }
    }
}
