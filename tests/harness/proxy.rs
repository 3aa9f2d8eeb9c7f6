//! Real proxies of the system, each a process that listens on a free port and leaves by an address of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
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
}

/// Who may use it.
pub type Login<'a> = Option<(&'a str, &'a str)>;

/// A proxy that runs.
pub struct Proxy {
    child: Child,
    addr: SocketAddr,
}

impl Kind {
    /// Where it is installed; the test that asks is skipped where it is not.
    pub fn find(self) -> Option<PathBuf> {
        let (variable, usual, need) = match self {
            Self::Tinyproxy => ("RELAY_TINYPROXY", "/usr/bin/tinyproxy", Need::Tinyproxy),
            Self::Microsocks => ("RELAY_MICROSOCKS", "/usr/bin/microsocks", Need::Microsocks),
        };
        let path = std::env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        if path.is_file() {
            return Some(path);
        }
        skip(need, &format!("no {}: apt-get install {need}", path.display()));
        None
    }

    fn command(self, path: &Path, scratch: &Path, port: u16, login: Login<'_>, leaves_by: &str) -> Command {
        let mut command = program::command(path, scratch);
        match self {
            Self::Tinyproxy => {
                let login = login.map_or_else(String::new, |(user, word)| format!("BasicAuth {user} {word}\n"));
                let text = format!(
                    "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Error\nBind {leaves_by}\n\
                     DisableViaHeader Yes\n{login}"
                );
                let file = scratch.join(format!("tinyproxy-{port}.conf"));
                fs::write(&file, text).expect("the scratch directory is writable");
                command.arg("-d").arg("-c").arg(file);
            }
            Self::Microsocks => {
                command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-b", leaves_by]);
                if let Some((user, word)) = login {
                    command.args(["-u", user, "-P", word]);
                }
            }
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Proxy {
    /// Starts one, and waits until it listens. Neither of the two can be asked for a free port, so that another one is
    /// tried when somebody took it meanwhile.
    pub async fn start(kind: Kind, path: &Path, scratch: &Path, login: Login<'_>, leaves_by: &str) -> Self {
        loop {
            let addr = free_port();
            let mut child = kind
                .command(path, scratch, addr.port(), login, leaves_by)
                .spawn()
                .expect("the proxy starts");
            loop {
                if TcpStream::connect(addr).await.is_ok() && child.try_wait().is_ok_and(|ended| ended.is_none()) {
                    return Self { child, addr };
                }
                if !matches!(child.try_wait(), Ok(None)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child of ours can be killed");
    }
}

fn free_port() -> SocketAddr {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("a bound socket has an address")
}

/// TLS in front of a proxy.
pub struct TlsFront {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl TlsFront {
    /// Shows the certificate and has the key of these PEM files, and passes on what comes.
    pub async fn start(chain: &Path, key: &Path, to: SocketAddr) -> Self {
        let chain = CertificateDer::pem_file_iter(chain).expect("a readable chain");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS");
        let tls = tls.with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
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
