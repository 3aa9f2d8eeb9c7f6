use std::fs::{self, File};

use super::*;
use crate::skip::{Need, skip};

#[test]
fn a_disk_that_somebody_uses_leaves_no_mount_behind() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match Disk::mount(folder.path()) {
        Ok(disk) => disk,
        Err(why) => return skip(Need::Mount, &format!("a disk of our own cannot be mounted here: {why}")),
    };
    let used = File::create(folder.path().join("used")).unwrap();
    drop(disk);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "the folder below it is seen"
    );
    drop(used);
}
