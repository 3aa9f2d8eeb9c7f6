//! Machines of their own on this one: network namespaces that cables join, gone with whoever made them. For Linux, with
//! leave to make them; a test that has none is skipped. Knows nothing of hub and vendor.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use crate::{
    program,
    skip::{Need, skip},
};

/// Set for the run of a test that has a namespace of its own.
const INSIDE: &str = "RELAY_INSIDE_NAMESPACE";
/// No network but a loopback, no mount that others see.
const APART: [&str; 2] = ["--net", "--mount"];

/// Runs the test of this name again, on a machine of its own, and tells that this run of it is over; false within that
/// run, which has a loopback that is up. Skips the test where no such machine can be made.
///
/// # Panics
/// When the test fails there.
pub async fn runs_elsewhere(test: &'static str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        ip(&["link", "set", "lo", "up"]);
        return false;
    }
    let run = tokio::task::spawn_blocking(move || apart(test)).await;
    if let Some(done) = run.expect("nothing panics there") {
        let _unheard = std::io::stderr().write_all(&done.stderr);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
    true
}

/// None where no namespace, or no cable, can be made.
fn apart(test: &str) -> Option<Output> {
    let look = "ip link set lo up && ip link add here0 type veth peer name there0 && nsenter --version";
    let may = Command::new("unshare").args(APART).args(["sh", "-c", look]).output();
    if !may.is_ok_and(|done| done.status.success()) {
        skip(
            Need::Namespace,
            "no leave to make network namespaces with unshare, nsenter and ip",
        );
        return None;
    }
    let again = std::env::current_exe().expect("a test has a file");
    let mut command = Command::new("unshare");
    command.args(APART).arg(again).args(["--exact", test, "--nocapture"]);
    Some(command.env(INSIDE, "1").output().expect("unshare starts"))
}

/// `ip` on the machine where the test runs.
///
/// # Panics
/// When it fails.
pub fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

/// Makes this the file of names of the machine where the test runs.
///
/// # Panics
/// When it cannot be put into its place.
pub fn name_hosts(file: &Path) {
    run(Command::new("mount").arg("--bind").arg(file).arg("/etc/hosts"));
}

fn run(command: &mut Command) {
    let done = command.output().expect("the program is there: it was looked for");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
}

/// A machine of its own. Its loopback is up; it passes nothing on.
pub struct Machine {
    /// Holds the namespaces until its input ends, with this value or with the test.
    holder: Child,
}

impl Machine {
    /// One that knows the names of this file, as `/etc/hosts` has them.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn boot(hosts: &Path) -> Self {
        let begin = "mount --bind \"$0\" /etc/hosts && ip link set lo up && echo up && exec cat >&2";
        let mut command = Command::new("unshare");
        command.args(APART).args(["sh", "-c", begin]).arg(hosts);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare is there: it was looked for");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut said);
        assert!(read.is_ok() && said.trim() == "up", "no machine: {said}");
        Self { holder }
    }

    /// A command of `program` on this machine, as [`program::command`] makes one.
    pub fn command(&self, program: &Path, home: &Path) -> tokio::process::Command {
        let mut command = program::command(Path::new("nsenter"), home);
        command.args(self.entry()).arg(program);
        command
    }

    /// `ip` on this machine.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, arguments: &[&str]) {
        run(Command::new("nsenter").args(self.entry()).arg("ip").args(arguments));
    }

    /// What `nsenter` is to be told.
    fn entry(&self) -> [String; 3] {
        let of = |kind: &str, file: &str| format!("--{kind}=/proc/{}/ns/{file}", self.holder.id());
        [of("net", "net"), of("mount", "mnt"), "--".to_owned()]
    }

    /// How many packets came by this interface so far.
    pub fn received(&self, interface: &str) -> u64 {
        packets(&format!("/proc/{}/net/dev", self.holder.id()), interface).0
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended with an error, of which somebody has told.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// One end of a cable: its machine, or the one where the test runs; its interface and its address, with the length of the
/// network's prefix.
#[derive(Clone, Copy)]
pub struct End<'a> {
    pub machine: Option<&'a Machine>,
    pub interface: &'a str,
    pub address: &'a str,
}

/// Lays a cable. Nothing goes over it by itself: no address of IPv6 is made.
///
/// # Panics
/// When it cannot be laid.
pub fn lay(one: End<'_>, other: End<'_>) {
    let (here, there) = (one.interface, other.interface);
    ip(&["link", "add", here, "type", "veth", "peer", "name", there]);
    for End {
        machine,
        interface,
        address,
    } in [one, other]
    {
        if let Some(machine) = machine {
            let pid = machine.holder.id().to_string();
            ip(&["link", "set", interface, "netns", &pid]);
        }
        for arguments in [
            &["link", "set", interface, "addrgenmode", "none"][..],
            &["address", "add", address, "dev", interface],
            &["link", "set", interface, "up"],
        ] {
            machine.map_or_else(|| ip(arguments), |machine| machine.ip(arguments));
        }
    }
}

/// How many packets the machine where the test runs sent by this interface so far.
pub fn sent(interface: &str) -> u64 {
    packets("/proc/self/net/dev", interface).1
}

/// Received and sent: the second and the tenth number after the name.
fn packets(file: &str, interface: &str) -> (u64, u64) {
    let table = fs::read_to_string(file).expect("Linux tells what each interface carried");
    let row = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    let numbers: Vec<u64> = row
        .expect("there is such an interface")
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    (numbers[1], numbers[9])
}
