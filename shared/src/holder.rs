//! Who holds a port. Linux tells; elsewhere the answer is "not known".

use std::{fmt, net::SocketAddr};

/// What a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Held by who listens.
    Tcp,
    /// Held by who is bound.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Words for the process that holds the port of `addr`, when it can be known.
#[cfg(target_os = "linux")]
#[must_use]
pub fn holder_of(addr: SocketAddr, protocol: Protocol) -> Option<String> {
    linux::holder_of(addr, protocol)
}

/// Words for the process that holds the port of `addr`, when it can be known.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn holder_of(_addr: SocketAddr, _protocol: Protocol) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::net::SocketAddr;
    use std::path::Path;

    use super::Protocol;

    pub(super) fn holder_of(addr: SocketAddr, protocol: Protocol) -> Option<String> {
        let inode = holding_inode(addr, protocol)?;
        let wanted = format!("socket:[{inode}]");
        let pid = fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            owns(&entry.path(), &wanted).then_some(pid)
        });
        match pid {
            Some(pid) => {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                Some(format!("{} (pid {pid})", name.trim()))
            }
            // The descriptors of other users' processes cannot be read; the owner of the socket still can.
            None => Some("a process of another user".to_owned()),
        }
    }

    fn owns(process: &Path, wanted: &str) -> bool {
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
            return false;
        };
        descriptors
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted))
    }

    fn holding_inode(addr: SocketAddr, protocol: Protocol) -> Option<String> {
        // Its states: 0A listens, 07 is bound.
        let (tables, state) = match protocol {
            Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
            Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
        };
        tables.iter().find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            text.lines()
                .skip(1)
                .find_map(|line| holder_on(line, addr.port(), state))
        })
    }

    /// A line of the kernel's table: `sl local rem st tx:rx tr:when retrnsmt uid timeout inode …`.
    fn holder_on(line: &str, port: u16, state: &str) -> Option<String> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it = *fields.get(3)? == state && u16::from_str_radix(local_port, 16) == Ok(port);
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_holder_of_a_port_is_named_with_its_pid() {
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            for (addr, protocol) in [
                (tcp.local_addr().unwrap(), Protocol::Tcp),
                (udp.local_addr().unwrap(), Protocol::Udp),
            ] {
                let holder = holder_of(addr, protocol).unwrap();
                assert!(holder.contains(&format!("(pid {})", std::process::id())), "{holder}");
            }
        }
    }
}
