//! Programs that are started, watched and always ended again: when their guard is dropped, and when
//! the task itself is interrupted.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::say;

/// A started program and everything it starts in turn: they share a process group.
pub(crate) struct Running {
    name: String,
    child: Child,
    /// What it says on stderr.
    log: PathBuf,
}

impl Running {
    /// Starts a program whose first line on stdout is its ready line, a JSON object, and waits for it.
    pub(crate) fn ready(name: &str, mut command: Command, folder: &Path) -> Result<(Self, Value)> {
        command.stdout(Stdio::piped());
        let mut running = Self::start(name, command, folder)?;
        let out = running.child.stdout.take().context("stdout is piped")?;
        let lines = lines_of(out);
        match lines.recv_timeout(READY_WITHIN) {
            Ok(line) => {
                let ready = serde_json::from_str(&line).with_context(|| format!("{name} said: {line}"))?;
                Ok((running, ready))
            }
            Err(RecvTimeoutError::Timeout) => bail!("{name} was not ready in time\n{}", running.last_words()),
            Err(RecvTimeoutError::Disconnected) => bail!("{name} ended before it was ready\n{}", running.last_words()),
        }
    }

    /// Starts a program and hands on its lines of stdout as they come.
    pub(crate) fn lines(name: &str, mut command: Command, folder: &Path) -> Result<(Self, Receiver<String>)> {
        command.stdout(Stdio::piped());
        let mut running = Self::start(name, command, folder)?;
        let out = running.child.stdout.take().context("stdout is piped")?;
        Ok((running, lines_of(out)))
    }

    /// Starts a program; its stderr goes to a file in `folder`.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        command
            .stdin(Stdio::null())
            .stderr(File::create(&log)?)
            .process_group(0);
        let mut groups = groups();
        if groups.ending {
            bail!("interrupted");
        }
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        groups.ids.push(child.id());
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, at most so long.
    pub(crate) fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end within {} s", self.name, within.as_secs());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The end of what it said on stderr, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal("TERM", &[self.child.id()]);
        if self.wait(END_WITHIN).is_err() {
            signal("KILL", &[self.child.id()]);
            self.child.wait().ok();
        }
        groups().ids.retain(|id| *id != self.child.id());
    }
}

fn lines_of(out: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1024);
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // Nobody listens any more: the pipe is still emptied, so that the program does not block.
            sender.try_send(line).ok();
        }
    });
    receiver
}

/// The process groups that run.
struct Groups {
    ids: Vec<u32>,
    /// Set by the first signal: nothing is started any more.
    ending: bool,
}

static GROUPS: Mutex<Groups> = Mutex::new(Groups {
    ids: Vec::new(),
    ending: false,
});
static ENDING: Condvar = Condvar::new();

fn groups() -> MutexGuard<'static, Groups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every started program when this one is told to end. What waits for them then fails, so that
/// the guards up the stack clear away the rest.
pub(crate) fn end_with_us() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupts = runtime.block_on(async { Interrupts::new() })?;
    thread::spawn(move || {
        runtime.block_on(interrupts.first());
        say::line("\nending");
        let mut groups = groups();
        groups.ending = true;
        signal("TERM", &groups.ids);
        drop(groups);
        ENDING.notify_all();
        thread::sleep(END_WITHIN * 3);
        signal("KILL", &self::groups().ids);
        leave();
    });
    Ok(())
}

#[allow(clippy::exit, reason = "the main thread had its time to end by itself")]
fn leave() {
    process::exit(130);
}

/// Waits until a signal says to end.
pub(crate) fn wait_for_interrupt() {
    let mut groups = groups();
    while !groups.ending {
        groups = ENDING.wait(groups).unwrap_or_else(PoisonError::into_inner);
    }
}

/// An error when the task is to end.
pub(crate) fn check_interrupt() -> Result<()> {
    if groups().ending {
        Err(anyhow!("interrupted"))
    } else {
        Ok(())
    }
}

struct Interrupts([tokio::signal::unix::Signal; 3]);

impl Interrupts {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn first(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Sends a signal to whole groups. The program `kill` does it: the system call would need unsafe code.
fn signal(name: &str, groups: &[u32]) {
    for group in groups {
        let mut kill = Command::new("kill");
        kill.args([&format!("-{name}"), "--", &format!("-{group}")]);
        kill.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

const READY_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);
