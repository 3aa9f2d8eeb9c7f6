//! How QUIC and its sockets are set up at both ends, and why. Numbers without a reason beside them are quinn's own.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::{hkdf, hmac};
use quinn::{Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt, congestion::CubicConfig};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use super::ear::Ear;
use crate::secret::Secret;

/// The hub's endpoint on `socket`. Its keys come from `quic_key`, so that after a restart it can answer packets of
/// connections it has forgotten with a reset the agent believes.
pub(super) fn hub_endpoint(
    socket: UdpSocket,
    tls: quinn::crypto::rustls::QuicServerConfig,
    quic_key: &Secret<[u8; 32]>,
    calls: u32,
    connections: usize,
) -> io::Result<Endpoint> {
    let master = hmac::Key::new(hmac::HMAC_SHA256, quic_key.expose());
    let derived = |label: &[u8]| hmac::sign(&master, label);
    let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, derived(b"reset").as_ref())));
    let mut cid_key = [0; 8];
    cid_key.copy_from_slice(&derived(b"cid").as_ref()[..8]);
    let cid_key = u64::from_le_bytes(cid_key);
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server.token_key(Arc::new(
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(derived(b"token").as_ref()),
    ));
    server.transport_config(Arc::new(hub_transport(calls)));
    server.max_incoming(connections);
    Endpoint::new(endpoint, Some(server), socket, Arc::new(quinn::TokioRuntime))
}

/// Whether who dials keeps its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// A laptop may wake up in another network: its socket is bound to no address.
    Nowhere,
    /// A server stays where it is. Its socket is connected, so that the system tells at once (by ICMP) that nobody
    /// listens on the other end any more. Where systems refuse a destination on a connected socket it is not.
    Here,
}

/// An endpoint for one connection of an agent, and what hears that nobody is there, where the system tells. A fresh socket
/// each time also gets a fresh mapping in the way's NATs.
pub(super) fn agent_endpoint(hub: SocketAddr, stays: Stays) -> io::Result<(Endpoint, Option<Ear>)> {
    let any = if hub.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = udp_socket(any, 2 * MIB)?;
    let mut ear = None;
    if stays == Stays::Here && cfg!(target_os = "linux") {
        socket.connect(hub)?;
        ear = Some(Ear::at(&socket)?);
    }
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime))?;
    Ok((endpoint, ear))
}

/// A UDP socket with large buffers, as far as the system allows: the default of 200 KB is a few milliseconds' worth.
pub(super) fn udp_socket(addr: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        if let Err(error) = set(&socket, buffer) {
            tracing::debug!(%error, "UDP buffers stay as they are");
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// What the hub's UDP socket asks for.
pub(super) const HUB_BUFFER: usize = 7 * MIB;

/// Small writes go out at once, and a peer that vanished without a word is noticed within about half a minute.
pub(super) fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn hub_transport(calls: u32) -> TransportConfig {
    let mut config = shared_transport();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams(calls)))
        // Long fat links: 250 ms at 256 Mbit/s.
        .stream_receive_window(VarInt::from_u32(8 * 1024 * 1024))
        // Without a bound a device could make the hub hold any amount.
        .receive_window(VarInt::from_u32(16 * 1024 * 1024));
    config
}

pub(super) fn agent_transport() -> TransportConfig {
    let mut config = shared_transport();
    config
        // The hub never opens a request.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(AGENT_STREAM_WINDOW))
        .receive_window(VarInt::from_u32(AGENT_CONNECTION_WINDOW))
        // NATs forget UDP after about 30 s.
        .keep_alive_interval(Some(Duration::from_secs(10)));
    config
}

/// CUBIC, although a few lost packets in a hundred slow it to a few Mbit/s. quinn's own BBR is no better answer: its
/// pacer sends by the window and not by BBR's rate, so that on a full link BBR loses 20 to 40 % of what it sends,
/// triples the round trip, and makes events beside two downloads wait for seconds, where CUBIC holds them up for half a
/// second; quinn calls it experimental. An agent that suffers from loss has `link = "h2"`, where the system's TCP decides.
fn shared_transport() -> TransportConfig {
    let mut congestion = CubicConfig::default();
    // 32 packets: the first upload of 1 MB over 150 ms is a quarter faster than with RFC 9002's ten.
    congestion.initial_window(32 * 1200);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(4))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(30_000))))
        // With RFC 9002's 333 ms a lost first packet costs a second.
        .initial_rtt(Duration::from_millis(100))
        .send_window(16 * 1024 * 1024)
        // Room for the watchdog's probes, which nobody reads, and no more.
        .datagram_receive_buffer_size(Some(1200))
        .datagram_send_buffer_size(1200)
        .congestion_controller_factory(Arc::new(congestion));
    config
}

/// The streams of a connection that is to carry so many calls. Hello needs one besides, and an ended call's stream is
/// free again only when the other side knows. QUIC tells of free ones in lots of an eighth, so that without the sixth
/// more the last eighth of the calls would wait for others to end.
pub(super) const fn streams(calls: u32) -> u32 {
    calls.saturating_add(calls / 6).saturating_add(8)
}

/// What an agent takes in for one answer before its reader must act: 25 Mbit/s at 150 ms.
pub(super) const AGENT_STREAM_WINDOW: u32 = 512 * 1024;
/// And for all answers together: no bound of its own. A bound below calls times stream window would let that many
/// readers who stall hold up every other call, and the hub sends nothing that was not asked for. So an agent takes in at
/// most as many stream windows as the hub permits calls: 256 MB with the usual 512, and that only when every one of them
/// has a client that stopped reading. HTTP/2 has no larger number.
pub(super) const AGENT_CONNECTION_WINDOW: u32 = (1 << 31) - 1;

const MIB: usize = 1024 * 1024;
