//! Who holds a port. Linux tells; elsewhere the answer is "not known".

use std::net::SocketAddr;

/// Words for the process that listens on `addr`, when it can be known.
#[cfg(target_os = "linux")]
pub(crate) fn holder_of(addr: SocketAddr) -> Option<String> {
    linux::holder_of(addr)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn holder_of(_addr: SocketAddr) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::net::SocketAddr;
    use std::path::Path;

    pub(super) fn holder_of(addr: SocketAddr) -> Option<String> {
        let inode = listening_inode(addr)?;
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

    fn listening_inode(addr: SocketAddr) -> Option<String> {
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            text.lines().skip(1).find_map(|line| listener_on(line, addr.port()))
        })
    }

    /// A line of the kernel's table: `sl local rem st tx:rx tr:when retrnsmt uid timeout inode …`; state 0A listens.
    fn listener_on(line: &str, port: u16) -> Option<String> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it = *fields.get(3)? == "0A" && u16::from_str_radix(local_port, 16) == Ok(port);
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_holder_of_a_port_is_named_with_its_pid() {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let holder = holder_of(socket.local_addr().unwrap()).unwrap();
            assert!(holder.contains(&format!("(pid {})", std::process::id())), "{holder}");
        }
    }
}
