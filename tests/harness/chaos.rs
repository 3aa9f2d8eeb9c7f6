//! A network that fails on command: forwards UDP and TCP of one port to another address, drops, stalls and cuts.
//! Knows no protocol above.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A forwarding port. Dropping it ends all that runs through it.
pub struct Chaos {
    addr: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    target: Mutex<Option<SocketAddr>>,
    drops_udp: AtomicBool,
    refuses_tcp: AtomicBool,
    /// Bumped to cut every TCP connection there is.
    cut: watch::Sender<u64>,
    udp_packets: AtomicU64,
    tcp_connections: AtomicU64,
}

impl Chaos {
    /// Listens on a free loopback port, the same for UDP and TCP; forwards nowhere yet.
    pub async fn start() -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
            let addr = tcp.local_addr().expect("a bound socket has an address");
            if let Ok(udp) = UdpSocket::bind(addr).await {
                break (tcp, udp);
            }
        };
        let addr = tcp.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            target: Mutex::new(None),
            drops_udp: AtomicBool::new(false),
            refuses_tcp: AtomicBool::new(false),
            cut: watch::Sender::new(0),
            udp_packets: AtomicU64::new(0),
            tcp_connections: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(forward_udp(Arc::new(udp), Arc::clone(&state)));
        tasks.spawn(forward_tcp(tcp, Arc::clone(&state)));
        Self {
            addr,
            state,
            _tasks: tasks,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Forwards to this address from here on.
    pub fn towards(&self, target: SocketAddr) {
        *self.state.target.lock().expect("no holder panics") = Some(target);
    }

    /// Loses every UDP packet, in both directions, as a firewall does: without a word.
    pub fn drop_udp(&self, drops: bool) {
        self.state.drops_udp.store(drops, Ordering::SeqCst);
    }

    /// Closes new TCP connections at once.
    pub fn refuse_tcp(&self, refuses: bool) {
        self.state.refuses_tcp.store(refuses, Ordering::SeqCst);
    }

    /// Cuts every TCP connection there is.
    pub fn cut_tcp(&self) {
        self.state.cut.send_modify(|count| *count += 1);
    }

    /// UDP packets that went through.
    pub fn udp_packets(&self) -> u64 {
        self.state.udp_packets.load(Ordering::SeqCst)
    }

    /// TCP connections that went through.
    pub fn tcp_connections(&self) -> u64 {
        self.state.tcp_connections.load(Ordering::SeqCst)
    }
}

impl State {
    fn target(&self) -> Option<SocketAddr> {
        *self.target.lock().expect("no holder panics")
    }
}

async fn forward_udp(front: Arc<UdpSocket>, state: Arc<State>) {
    let mut back: HashMap<(SocketAddr, SocketAddr), Arc<UdpSocket>> = HashMap::new();
    let mut returning = JoinSet::new();
    let mut packet = vec![0; 65_536];
    loop {
        let Ok((length, client)) = front.recv_from(&mut packet).await else {
            continue;
        };
        let Some(target) = state.target().filter(|_| !state.drops_udp.load(Ordering::SeqCst)) else {
            continue;
        };
        let socket = match back.get(&(client, target)) {
            Some(socket) => Arc::clone(socket),
            None => {
                let Ok(socket) = connected(target).await else { continue };
                returning.spawn(return_udp(
                    Arc::clone(&front),
                    Arc::clone(&socket),
                    client,
                    Arc::clone(&state),
                ));
                back.insert((client, target), Arc::clone(&socket));
                socket
            }
        };
        state.udp_packets.fetch_add(1, Ordering::SeqCst);
        let _lost = socket.send(&packet[..length]).await;
    }
}

async fn connected(target: SocketAddr) -> std::io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(target).await?;
    Ok(Arc::new(socket))
}

async fn return_udp(front: Arc<UdpSocket>, back: Arc<UdpSocket>, client: SocketAddr, state: Arc<State>) {
    let mut packet = vec![0; 65_536];
    loop {
        // An error is the answer of a port that nobody listens on: the packet was lost, no more.
        match back.recv(&mut packet).await {
            Ok(length) if !state.drops_udp.load(Ordering::SeqCst) => {
                let _lost = front.send_to(&packet[..length], client).await;
            }
            Ok(_) => {}
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn forward_tcp(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if state.refuses_tcp.load(Ordering::SeqCst) {
            continue;
        }
        let Some(target) = state.target() else { continue };
        state.tcp_connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(carry(client, target, state.cut.subscribe()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut cut: watch::Receiver<u64>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _kept_coalescing = (client.set_nodelay(true), server.set_nodelay(true));
    cut.mark_unchanged();
    tokio::select! {
        _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _asked = cut.changed() => {
            let _reset = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
    let _gone = client.shutdown().await;
}
