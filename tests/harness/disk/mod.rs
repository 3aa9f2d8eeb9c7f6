//! A disk that fails on command: it is full, it is slow, it loses its power. A folder of the system whose files are
//! kept in memory (FUSE). Linux alone, and only where the system lets it be mounted.

mod files;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use self::files::{Content, Files, Kind, Node, ROOT};

/// Names and sizes change by way of the disk alone, so the kernel may remember them.
const TTL: Duration = Duration::from_secs(60);

/// A mounted disk. Dropping it unmounts it, whoever still has a file of it open.
pub struct Disk {
    state: Shared,
    _session: BackgroundSession,
    path: PathBuf,
}

/// What was left by a loss of power.
pub struct Image(Files);

type Shared = Arc<Mutex<State>>;

struct State {
    files: Files,
    is_full: bool,
    is_dead: bool,
    syncs: Arc<Syncs>,
}

/// How what somebody waits for gets to the disk.
#[derive(Default)]
struct Syncs {
    pace: Mutex<Pace>,
    changed: Condvar,
}

#[derive(Default)]
struct Pace {
    takes: Duration,
    is_held: bool,
    /// How many ended so far.
    ended: usize,
}

impl Syncs {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("no holder panics")
    }

    /// Blocks until this one has ended.
    fn wait(&self) {
        let is_held = |pace: &mut Pace| pace.is_held;
        let takes = self
            .changed
            .wait_while(self.pace(), is_held)
            .expect("no holder panics")
            .takes;
        std::thread::sleep(takes);
        self.pace().ended += 1;
    }
}

impl Disk {
    /// An empty disk at a folder.
    ///
    /// # Errors
    /// The system cannot or may not mount it.
    pub fn mount(path: &Path) -> io::Result<Self> {
        Self::mount_image(path, Image(Files::new()))
    }

    /// A disk with what another one left.
    ///
    /// # Errors
    /// As for [`Disk::mount`].
    pub fn mount_image(path: &Path, image: Image) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            files: image.0,
            is_full: false,
            is_dead: false,
            syncs: Arc::default(),
        }));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("failing-disk".to_owned())];
        let session = fuser::spawn_mount(Fuse(Arc::clone(&state)), path, &config)?;
        Ok(Self {
            state,
            _session: session,
            path: path.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Whether every write fails for want of room.
    pub fn full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    fn syncs(&self) -> Arc<Syncs> {
        Arc::clone(&self.state().syncs)
    }

    /// How long it takes to have written what somebody waits for.
    pub fn sync_takes(&self, long: Duration) {
        self.syncs().pace().takes = long;
    }

    /// Whether all that is to be written for somebody waits.
    pub fn hold_syncs(&self, is_held: bool) {
        let syncs = self.syncs();
        syncs.pace().is_held = is_held;
        syncs.changed.notify_all();
    }

    /// How often something was written for somebody who waited for it.
    pub fn syncs_ended(&self) -> usize {
        self.syncs().pace().ended
    }

    /// As if all that was written so far had reached the disk by itself.
    pub fn settle(&self) {
        self.state().files.sync_all();
    }

    /// The power is gone: nothing is read or written any more, and of what nobody waited for, `keeps` says what is left.
    pub fn cut(&self, keeps: impl FnMut() -> bool) -> Image {
        let mut state = self.state();
        state.is_dead = true;
        Image(state.files.after_power_loss(keeps))
    }
}

impl Drop for Disk {
    /// A hub that was killed a moment ago may have files open yet, as after a test that failed: it keeps them, and the
    /// folder is free at once. Nothing would take the mount away later.
    fn drop(&mut self) {
        let ways = [
            ("umount", &["-l"][..]),
            ("fusermount3", &["-u", "-z"]),
            ("fusermount", &["-u", "-z"]),
        ];
        let is_done = |(program, arguments): &(&str, &[&str])| {
            let mut unmount = Command::new(program);
            unmount.args(*arguments).arg(&self.path).stderr(Stdio::null());
            unmount.status().is_ok_and(|status| status.success())
        };
        // Where none of them is there, the session does it as well as it can.
        let _is_unmounted = ways.iter().any(is_done);
    }
}

struct Fuse(Shared);

type Outcome<T> = Result<T, Errno>;

impl State {
    fn alive(&mut self) -> Outcome<&mut Files> {
        if self.is_dead {
            return Err(Errno::EIO);
        }
        Ok(&mut self.files)
    }

    fn attr(&mut self, number: u64) -> Outcome<FileAttr> {
        let node = self.alive()?.nodes.get(&number).ok_or(Errno::ENOENT)?;
        let (kind, size) = match &node.kind {
            Kind::Folder(_) => (FileType::Directory, 4096),
            Kind::File(content) => (FileType::RegularFile, content.now.len() as u64),
        };
        Ok(attr(number, kind, size, node.mode))
    }

    fn add(&mut self, folder: INodeNo, name: &OsStr, mode: u32, kind: Kind) -> Outcome<FileAttr> {
        if self.is_full {
            return Err(Errno::ENOSPC);
        }
        let mode = (mode & 0o777) as u16;
        let added = self.alive()?.add(folder.0, name.to_owned(), Node { mode, kind });
        self.attr(added.ok_or(Errno::ENOENT)?)
    }

    fn find(&mut self, folder: INodeNo, name: &OsStr) -> Outcome<u64> {
        let names = self.alive()?.folder(folder.0).ok_or(Errno::ENOENT)?;
        names.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn content(&mut self, number: INodeNo) -> Outcome<&mut Content> {
        self.alive()?.content(number.0).ok_or(Errno::ENOENT)
    }

    fn write(&mut self, number: INodeNo, at: u64, bytes: &[u8]) -> Outcome<u32> {
        if self.is_full {
            return Err(Errno::ENOSPC);
        }
        self.content(number)?.write(at as usize, bytes);
        Ok(bytes.len() as u32)
    }

    fn unlink(&mut self, folder: INodeNo, name: &OsStr) -> Outcome<()> {
        let names = self.alive()?.folder(folder.0).ok_or(Errno::ENOENT)?;
        names.remove(name).map(drop).ok_or(Errno::ENOENT)
    }

    fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Outcome<()> {
        let number = self.find(from.0, from.1)?;
        self.unlink(from.0, from.1)?;
        let names = self.alive()?.folder(to.0.0).ok_or(Errno::ENOENT)?;
        names.insert(to.1.to_owned(), number);
        Ok(())
    }

    fn list(&mut self, number: INodeNo) -> Outcome<Vec<(u64, FileType, std::ffi::OsString)>> {
        let names = self.alive()?.folder(number.0).ok_or(Errno::ENOTDIR)?.clone();
        let kind = |number: u64, files: &Files| match files.nodes.get(&number).map(|node| &node.kind) {
            Some(Kind::Folder(_)) => FileType::Directory,
            _ => FileType::RegularFile,
        };
        let files = self.alive()?;
        let listed = names
            .into_iter()
            .map(|(name, number)| (number, kind(number, files), name));
        Ok(listed.collect())
    }
}

fn attr(number: u64, kind: FileType, size: u64, mode: u16) -> FileAttr {
    let long_ago = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: long_ago,
        mtime: long_ago,
        ctime: long_ago,
        crtime: long_ago,
        kind,
        perm: mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Fuse {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> Outcome<T>) -> Outcome<T> {
        act(&mut self.0.lock().expect("no holder panics"))
    }
}

const FIRST: Generation = Generation(0);

impl Filesystem for Fuse {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.with(|state| {
            let number = state.find(parent, name)?;
            state.attr(number)
        });
        match found {
            Ok(attr) => reply.entry(&TTL, &attr, FIRST),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|state| state.attr(ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.with(|state| {
            if let Some(size) = size {
                state.content(ino)?.cut(size as usize);
            }
            if let Some(mode) = mode {
                let node = state.alive()?.nodes.get_mut(&ino.0).ok_or(Errno::ENOENT)?;
                node.mode = (mode & 0o777) as u16;
            }
            state.attr(ino.0)
        });
        match set {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let folder = Kind::Folder(std::collections::BTreeMap::new());
        match self.with(|state| state.add(parent, name, mode & !umask, folder)) {
            Ok(attr) => reply.entry(&TTL, &attr, FIRST),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.with(|state| state.add(parent, name, mode & !umask, Kind::File(Content::default()))) {
            Ok(attr) => reply.created(&TTL, &attr, FIRST, FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.with(|state| state.unlink(parent, name)), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer(
            self.with(|state| state.rename((parent, name), (newparent, newname))),
            reply,
        );
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.with(|state| {
            let bytes = &state.content(ino)?.now;
            let begin = (offset as usize).min(bytes.len());
            let end = begin.saturating_add(size as usize).min(bytes.len());
            Ok(bytes[begin..end].to_vec())
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with(|state| state.write(ino, offset, data)) {
            Ok(size) => reply.written(size),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let synced = self.with(|state| {
            state.content(ino)?.sync();
            Ok(Arc::clone(&state.syncs))
        });
        match synced {
            // Others go on meanwhile.
            Ok(syncs) => drop(std::thread::spawn(move || {
                syncs.wait();
                reply.ok();
            })),
            Err(error) => reply.error(error),
        }
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.with(|state| state.list(ino)) {
            Ok(listed) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                for (at, (number, kind, name)) in listed.iter().enumerate().skip(from) {
                    if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }
}

fn answer(outcome: Outcome<()>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

#[cfg(test)]
mod tests;

const _: () = assert!(ROOT == INodeNo::ROOT.0);
