//! Real proxies of the system, each a process that listens on a free port and leaves by an address of its own, on this
//! machine or on another one.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    namespace::Machine,
    program,
    skip::{Need, skip},
};

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP CONNECT.
    Tinyproxy,
    /// SOCKS version 5.
    Microsocks,
    /// HTTP CONNECT within TLS.
    Squid,
}

/// Who may use it.
pub type Login<'a> = Option<(&'a str, &'a str)>;

/// Where a proxy runs, and how.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// For its files.
    pub scratch: &'a Path,
    /// Where, if not on this machine.
    pub machine: Option<&'a Machine>,
    pub listens_at: IpAddr,
    pub leaves_by: &'a str,
    /// The chain and the key that it shows where it speaks TLS.
    pub tls: Option<(&'a Path, &'a Path)>,
}

/// A proxy that runs.
pub struct Proxy {
    child: Child,
    addr: SocketAddr,
    /// What its own user must be able to read.
    _open: Option<tempfile::TempDir>,
}

impl<'a> Place<'a> {
    /// On this machine, without TLS.
    pub fn here(scratch: &'a Path, leaves_by: &'a str) -> Self {
        Self {
            scratch,
            machine: None,
            listens_at: Ipv4Addr::LOCALHOST.into(),
            leaves_by,
            tls: None,
        }
    }

    /// Nobody else listens on another machine of ours.
    fn free_port(&self) -> SocketAddr {
        static NEXT: AtomicU16 = AtomicU16::new(3_128);
        match self.machine {
            Some(_) => SocketAddr::new(self.listens_at, NEXT.fetch_add(1, Ordering::Relaxed)),
            None => free_port(),
        }
    }
}

impl Kind {
    /// Where it is installed; the test that asks is skipped where it is not.
    pub fn find(self) -> Option<PathBuf> {
        let (variable, usual, need) = match self {
            Self::Tinyproxy => ("RELAY_TINYPROXY", "/usr/bin/tinyproxy", Need::Tinyproxy),
            Self::Microsocks => ("RELAY_MICROSOCKS", "/usr/bin/microsocks", Need::Microsocks),
            Self::Squid => ("RELAY_SQUID", "/usr/sbin/squid", Need::Squid),
        };
        let path = std::env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        if path.is_file() {
            return Some(path);
        }
        skip(need, &format!("no {}: apt-get install {need}", path.display()));
        None
    }

    fn command(self, path: &Path, place: &Place<'_>, addr: SocketAddr, login: Login<'_>, open: &Path) -> Command {
        let mut command = match place.machine {
            Some(machine) => machine.command(path, place.scratch),
            None => program::command(path, place.scratch),
        };
        let (ip, port, leaves_by) = (addr.ip().to_string(), addr.port().to_string(), place.leaves_by);
        match self {
            Self::Tinyproxy => {
                let login = login.map_or_else(String::new, |(user, word)| format!("BasicAuth {user} {word}\n"));
                let text = format!(
                    "Port {port}\nListen {ip}\nTimeout 600\nMaxClients 100\nLogLevel Error\nBind {leaves_by}\n\
                     DisableViaHeader Yes\n{login}"
                );
                let file = place.scratch.join(format!("tinyproxy-{port}.conf"));
                fs::write(&file, text).expect("the scratch directory is writable");
                command.arg("-d").arg("-c").arg(file);
            }
            Self::Microsocks => {
                command.args(["-i", &ip, "-p", &port, "-b", leaves_by]);
                if let Some((user, word)) = login {
                    command.args(["-u", user, "-P", word]);
                }
            }
            Self::Squid => {
                let file = place.scratch.join(format!("squid-{port}.conf"));
                fs::write(&file, squid(addr, place, login, open)).expect("the scratch directory is writable");
                command.args(["-N", "-f"]).arg(file);
            }
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Nothing is cached or written; who may use it is decided by a program, as squid wants it.
fn squid(addr: SocketAddr, place: &Place<'_>, login: Login<'_>, open: &Path) -> String {
    let who = login.map_or_else(
        || "http_access allow all\n".to_owned(),
        |(user, word)| {
            let judge = open.join("judge.sh");
            let text = format!(
                "while read -r user word; do\n  [ \"$user $word\" = \"{user} {word}\" ] && echo OK || echo ERR\ndone\n"
            );
            fs::write(&judge, text).expect("the temporary directory is writable");
            format!(
                "auth_param basic program /bin/sh {}\nauth_param basic children 1 startup=1 idle=1\n\
                 acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n",
                judge.display()
            )
        },
    );
    let port = match place.tls {
        Some((chain, key)) => format!(
            "https_port {addr} tls-cert={} tls-key={}\n",
            chain.display(),
            key.display()
        ),
        None => format!("http_port {addr}\n"),
    };
    format!(
        "{port}{who}tcp_outgoing_address {}\ncache deny all\ncache_mem 1 MB\naccess_log none\ncache_log /dev/null\n\
         cache_store_log none\npid_filename none\npinger_enable off\nvisible_hostname proxy.example\nvia off\n\
         forwarded_for delete\ncoredump_dir none\nshutdown_lifetime 0 seconds\n",
        place.leaves_by
    )
}

impl Proxy {
    /// Starts one, and waits until it listens. None of them can be asked for a free port, so that another one is tried
    /// when somebody took it meanwhile.
    ///
    /// # Panics
    /// When it ends each time.
    #[allow(clippy::panic, reason = "a test says what broke by panicking")]
    pub async fn start(kind: Kind, path: &Path, place: Place<'_>, login: Login<'_>) -> Self {
        let open = (kind == Kind::Squid).then(open_dir);
        let folder = open.as_ref().map_or(place.scratch, tempfile::TempDir::path);
        for _ in 0..STARTS {
            let addr = place.free_port();
            let mut child = kind
                .command(path, &place, addr, login, folder)
                .spawn()
                .expect("the proxy starts");
            loop {
                if TcpStream::connect(addr).await.is_ok() && child.try_wait().is_ok_and(|ended| ended.is_none()) {
                    return Self {
                        child,
                        addr,
                        _open: open,
                    };
                }
                if !matches!(child.try_wait(), Ok(None)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("{} does not stay: was it built without something?", path.display());
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child of ours can be killed");
    }
}

/// A directory that every user may look into: a proxy that root starts gives up its rights.
fn open_dir() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755));
    builder.tempdir().expect("the temporary directory is writable")
}

/// So often nobody is unlucky.
const STARTS: usize = 8;

fn free_port() -> SocketAddr {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("a bound socket has an address")
}

/// TLS in front of somebody who speaks none.
pub struct TlsFront {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl TlsFront {
    /// Shows the certificate and has the key of these PEM files, and passes on what comes to a free loopback port.
    pub async fn start(chain: &Path, key: &Path, to: SocketAddr) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::listen(free, chain, key, to).await
    }

    /// The same for what comes to this address.
    pub async fn listen(at: SocketAddr, chain: &Path, key: &Path, to: SocketAddr) -> Self {
        let chain = CertificateDer::pem_file_iter(chain).expect("a readable chain");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS");
        let tls = tls.with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(at).await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                passing.spawn(async move {
                    let (Ok(mut client), Ok(mut proxy)) = (acceptor.accept(client).await, TcpStream::connect(to).await)
                    else {
                        return;
                    };
                    // Either end may hang up first.
                    drop(tokio::io::copy_bidirectional(&mut client, &mut proxy).await);
                });
            }
        });
        Self { addr, _tasks: tasks }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
