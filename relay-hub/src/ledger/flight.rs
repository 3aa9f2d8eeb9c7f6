//! Holds of the last moments, where they outlive the hub but not the machine: so that no first byte waits for the disk.
//! A hold is here from the moment an answer is passed on until it stands in the journal. Knows no balance.
//!
//! A file of fixed slots, written over and over and never synced. The death of the hub loses none of it; the death of
//! the machine may, and then calls that began moments before have no row: as for every call that was open, nobody is
//! charged for them.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::journal::HoldLine;

/// The file of one hub's life.
pub(super) struct Flight {
    file: File,
    epoch: i64,
    taken: Box<[AtomicBool]>,
}

impl Flight {
    /// An empty file for this epoch. What an earlier one left must have been read.
    pub(super) fn begin(path: &Path, epoch: i64) -> io::Result<Self> {
        // A new one: a hub that was replaced and does not know it writes on to its own. Where the old one stays, the new
        // one cannot be made.
        fs::remove_file(path).ok();
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.set_len((SLOTS as u64).saturating_mul(SLOT as u64))?;
        Ok(Self {
            file,
            epoch,
            taken: (0..SLOTS).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    pub(super) const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Writes a hold; false where it finds no place, and the journal must do.
    pub(super) fn write(&self, line: &HoldLine<'_>) -> bool {
        let Some((taken, at)) = self.slot(line.id) else {
            return false;
        };
        if taken.swap(true, Ordering::Acquire) {
            return false;
        }
        let is_written = slot_of(line).is_some_and(|bytes| write_at(&self.file, &bytes, at).is_ok());
        if !is_written {
            taken.store(false, Ordering::Release);
        }
        is_written
    }

    /// The hold that was written here is durable by now, or over.
    pub(super) fn free(&self, hold: i64) {
        if let Some((taken, _)) = self.slot(hold) {
            taken.store(false, Ordering::Release);
        }
    }

    fn slot(&self, hold: i64) -> Option<(&AtomicBool, u64)> {
        let slot = usize::try_from(hold).ok()?.checked_rem(SLOTS)?;
        let at = (slot as u64).saturating_mul(SLOT as u64);
        Some((self.taken.get(slot)?, at))
    }
}

/// The file that an earlier hub left, read whole; empty where there is none.
pub(super) fn left(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// The holds in it. A slot that is empty or torn has none.
pub(super) fn holds(file: &[u8]) -> impl Iterator<Item = HoldLine<'_>> {
    file.chunks_exact(SLOT).filter_map(|slot| {
        let (sum, body) = slot.split_at_checked(SUM)?;
        let is_whole = digest(&SHA256, body).as_ref().starts_with(sum);
        is_whole.then(|| rmp_serde::from_slice(body).ok()).flatten()
    })
}

/// A checksum, the line, zeros; `None` where the line is too long.
fn slot_of(line: &HoldLine<'_>) -> Option<[u8; SLOT]> {
    let mut slot = [0; SLOT];
    let (sum, body) = slot.split_at_mut_checked(SUM)?;
    let mut rest = &mut *body;
    rmp_serde::encode::write(&mut rest, line).ok()?;
    sum.copy_from_slice(digest(&SHA256, body).as_ref().get(..SUM)?);
    Some(slot)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> Result<(), io::Error> {
    let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// More streams than begin in the moments until the journal has them. The file has 2 MiB.
const SLOTS: usize = 8 * 1024;
const SLOT: usize = 256;
const SUM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: i64, model: &str) -> HoldLine<'_> {
        HoldLine {
            id,
            call: 7,
            tenant: "ten_a",
            caller: "key_b",
            model: model.into(),
            amount: 5,
            price_version: 1,
            epoch: 3,
            at_ms: 1,
        }
    }

    #[test]
    fn what_is_written_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flight");
        assert!(left(&path).unwrap().is_empty());
        assert!(left(dir.path()).is_err(), "a folder is no file that was left");
        let flight = Flight::begin(&path, 3).unwrap();
        let slots = i64::try_from(SLOTS).unwrap();
        assert!(flight.write(&line(1, "m")) && flight.write(&line(slots - 1, "m")));
        assert!(!flight.write(&line(1 + slots, "m")), "its slot is taken");
        flight.free(1);
        assert!(flight.write(&line(1 + slots, "m")), "its slot is free");
        assert!(!flight.write(&line(2, &"m".repeat(SLOT))), "too long");
        assert!(flight.write(&line(2, "n")), "which takes no slot");
        let file = left(&path).unwrap();
        let ids: Vec<_> = holds(&file).map(|hold| hold.id).collect();
        assert_eq!(ids, [1 + slots, 2, slots - 1]);
        drop(Flight::begin(&path, 4).unwrap());
        assert_eq!(holds(&left(&path).unwrap()).count(), 0, "a new life begins empty");
    }

    #[test]
    fn a_hub_that_was_replaced_writes_over_no_hold_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flight");
        let (replaced, next) = (Flight::begin(&path, 3).unwrap(), Flight::begin(&path, 4).unwrap());
        assert!(next.write(&line(1, "m")) && replaced.write(&line(1, "another")));
        assert_eq!(holds(&left(&path).unwrap()).collect::<Vec<_>>(), [line(1, "m")]);
    }

    #[test]
    fn a_torn_slot_has_no_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flight");
        assert!(Flight::begin(&path, 3).unwrap().write(&line(0, "m")));
        let whole = left(&path).unwrap();
        assert_eq!(holds(&whole).next(), Some(line(0, "m")));
        for at in [0, 7, 8, 20] {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            assert_eq!(holds(&torn).count(), 0);
        }
        assert_eq!(holds(&whole[..SLOT - 1]).count(), 0);
    }
}
