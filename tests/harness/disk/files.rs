//! What a disk has, what it was told to keep, and what a loss of power leaves of it. Pure; knows no kernel.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// The root's number.
pub(super) const ROOT: u64 = 1;
/// A disk writes so much at once or not at all.
const SECTOR: usize = 512;

/// Everything on a disk.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) nodes: BTreeMap<u64, Node>,
    last: u64,
}

/// A file or a folder.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) mode: u16,
    pub(super) kind: Kind,
}

#[derive(Clone)]
pub(super) enum Kind {
    Folder(BTreeMap<OsString, u64>),
    File(Content),
}

/// A file's bytes.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// As programs read them.
    pub(super) now: Vec<u8>,
    /// As they were when somebody last waited for the disk.
    synced: Vec<u8>,
    /// What was done since.
    since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, written) => put(bytes, *at, written),
            Self::Cut(length) => bytes.resize(*length, 0),
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
    let end = at + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(written);
}

impl Content {
    pub(super) fn write(&mut self, at: usize, written: &[u8]) {
        put(&mut self.now, at, written);
        self.since.push(Change::Write(at, written.to_vec()));
    }

    pub(super) fn cut(&mut self, length: usize) {
        self.now.resize(length, 0);
        self.since.push(Change::Cut(length));
    }

    pub(super) fn sync(&mut self) {
        for change in self.since.drain(..) {
            change.make(&mut self.synced);
        }
    }

    /// What was synced, and of the rest what `keeps` says, sector by sector: writes are dropped, and torn.
    fn after_power_loss(&self, keeps: &mut impl FnMut() -> bool) -> Self {
        let mut left = self.synced.clone();
        for change in &self.since {
            match change {
                Change::Cut(length) if keeps() => left.resize(*length, 0),
                Change::Cut(_) => {}
                Change::Write(at, written) => {
                    for (number, sector) in written.chunks(SECTOR).enumerate() {
                        if keeps() {
                            put(&mut left, at + number * SECTOR, sector);
                        }
                    }
                }
            }
        }
        Self {
            now: left.clone(),
            synced: left,
            since: Vec::new(),
        }
    }
}

impl Files {
    pub(super) fn new() -> Self {
        let root = Node {
            mode: 0o700,
            kind: Kind::Folder(BTreeMap::new()),
        };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            last: ROOT,
        }
    }

    pub(super) fn folder(&mut self, number: u64) -> Option<&mut BTreeMap<OsString, u64>> {
        match &mut self.nodes.get_mut(&number)?.kind {
            Kind::Folder(names) => Some(names),
            Kind::File(_) => None,
        }
    }

    pub(super) fn content(&mut self, number: u64) -> Option<&mut Content> {
        match &mut self.nodes.get_mut(&number)?.kind {
            Kind::File(content) => Some(content),
            Kind::Folder(_) => None,
        }
    }

    pub(super) fn add(&mut self, folder: u64, name: OsString, node: Node) -> Option<u64> {
        let number = self.last + 1;
        self.folder(folder)?.insert(name, number);
        self.nodes.insert(number, node);
        self.last = number;
        Some(number)
    }

    /// All that was written so far is kept.
    pub(super) fn sync_all(&mut self) {
        for node in self.nodes.values_mut() {
            if let Kind::File(content) = &mut node.kind {
                content.sync();
            }
        }
    }

    /// What is found when the power is back. Names are kept: what is tried is the writing of files that are there.
    pub(super) fn after_power_loss(&self, mut keeps: impl FnMut() -> bool) -> Self {
        let mut left = self.clone();
        for node in left.nodes.values_mut() {
            if let Kind::File(content) = &mut node.kind {
                *content = content.after_power_loss(&mut keeps);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_of_power_drops_and_tears_what_was_not_synced() {
        let mut content = Content::default();
        content.write(0, &[1; 2 * SECTOR]);
        content.sync();
        content.write(0, &[2; 3 * SECTOR]);
        content.cut(SECTOR);
        let none = content.after_power_loss(&mut || false);
        assert_eq!(none.now, [1; 2 * SECTOR]);
        let mut turns = [false, true, false, false].into_iter().cycle();
        let torn = content.after_power_loss(&mut || turns.next().unwrap());
        assert_eq!(torn.now, [[1; SECTOR], [2; SECTOR]].concat());
        assert_eq!(content.after_power_loss(&mut || true).now, content.now);
    }
}
