//! CPU time and memory of other processes, out of /proc.

use std::fs;

/// Processes that are watched, with all their children.
pub(crate) struct Watched(Vec<u32>);

impl Watched {
    pub(crate) fn new(roots: Vec<u32>) -> Self {
        Self(roots)
    }

    /// User and system time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.all().into_iter().filter_map(cpu_ticks).sum::<u64>() as f64 / TICKS_PER_SECOND
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.all().into_iter().filter_map(resident).sum()
    }

    fn all(&self) -> Vec<u32> {
        let mut all = self.0.clone();
        let mut at = 0;
        while let Some(&id) = all.get(at) {
            all.extend(children(id));
            at += 1;
        }
        all
    }
}

fn children(id: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn cpu_ticks(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything: the fields are counted after it. utime is the 14th of all.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

/// The unit of /proc/PID/stat, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
