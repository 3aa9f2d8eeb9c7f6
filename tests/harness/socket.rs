//! A WebSocket client that sees raw bytes: sends any frame, keeps all it received, tells a close from a cut.
//! Knows nothing of the relay.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::{self, Frame};

const PATIENCE: Duration = Duration::from_secs(30);
/// Any key will do: a test wants to see the same bytes at the other end.
const MASK: [u8; 4] = [0x1b, 0x2c, 0x3d, 0x4e];

/// An open WebSocket.
pub struct Socket {
    stream: TcpStream,
    buffer: BytesMut,
    /// All bytes after the handshake.
    pub received: Vec<u8>,
    /// The handshake's answer, head only.
    pub head: String,
}

/// What came out of a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Other(u8, Bytes),
    Close(Option<u16>),
    /// The connection ended without a close frame.
    Cut,
}

/// What an upgrade led to.
pub enum Opened {
    Socket(Box<Socket>),
    /// The status and everything after it.
    Refused(u16, String),
}

impl Socket {
    /// Asks for an upgrade of `path` with these extra header lines (`name: value`).
    pub async fn open(addr: SocketAddr, path: &str, headers: &[String]) -> anyhow::Result<Opened> {
        let mut stream = TcpStream::connect(addr).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let extra: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let host = if headers.iter().any(|line| line.to_lowercase().starts_with("host:")) {
            String::new()
        } else {
            format!("Host: {addr}\r\n")
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = BytesMut::new();
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let count = tokio::time::timeout(PATIENCE, stream.read_buf(&mut buffer))
                .await
                .context("no answer")??;
            if count == 0 {
                bail!("closed in the handshake: {}", String::from_utf8_lossy(&buffer));
            }
        };
        let head = String::from_utf8_lossy(&buffer.split_to(end)).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .context("no status line")?;
        if status != 101 {
            let mut rest = Vec::from(&buffer[..]);
            let _stays_open = tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut rest)).await;
            return Ok(Opened::Refused(status, head + &String::from_utf8_lossy(&rest)));
        }
        let received = buffer.to_vec();
        Ok(Opened::Socket(Box::new(Self {
            stream,
            buffer,
            received,
            head,
        })))
    }

    /// Opens `{base}/responses` below a base URL's host with this key; fails when refused.
    pub async fn responses(addr: SocketAddr, key: &str) -> anyhow::Result<Self> {
        match Self::open(addr, "/v1/responses", &[format!("authorization: Bearer {key}")]).await? {
            Opened::Socket(socket) => Ok(*socket),
            Opened::Refused(status, answer) => bail!("refused with {status}: {answer}"),
        }
    }

    /// Sends one text message and returns its bytes on the wire.
    pub async fn send(&mut self, text: &str) -> anyhow::Result<Vec<u8>> {
        let bytes = frames::mask(frames::message(frames::TEXT, text.as_bytes(), 1), MASK);
        self.send_raw(&bytes).await?;
        Ok(bytes)
    }

    /// Sends one message in two frames with a ping between them, as a client may; returns the bytes.
    pub async fn send_in_two(&mut self, text: &str) -> anyhow::Result<Vec<u8>> {
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        let mut head = frames::message(frames::TEXT, first, 1);
        head[0] &= 0x7f;
        let mut tail = frames::message(frames::TEXT, second, 1);
        tail[0] = 0x80;
        let ping = frames::message(frames::PING, b"still there?", 1);
        let bytes = [
            frames::mask(head, MASK),
            frames::mask(ping, MASK),
            frames::mask(tail, MASK),
        ]
        .concat();
        self.send_raw(&bytes).await?;
        Ok(bytes)
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends a close frame.
    pub async fn close(&mut self) -> anyhow::Result<()> {
        let bytes = frames::mask(frames::close(1000, ""), MASK);
        self.send_raw(&bytes).await
    }

    /// The next whole message.
    pub async fn next(&mut self) -> anyhow::Result<Message> {
        let mut text = Vec::new();
        loop {
            while let Some(Frame { last, opcode, payload }) = frames::take(&mut self.buffer) {
                match opcode {
                    0 | frames::TEXT => {
                        text.extend_from_slice(&payload);
                        if last {
                            return Ok(Message::Text(String::from_utf8(text)?));
                        }
                    }
                    frames::CLOSE => {
                        let code = payload.get(..2).map(|two| u16::from_be_bytes([two[0], two[1]]));
                        return Ok(Message::Close(code));
                    }
                    frames::PONG => {}
                    other => return Ok(Message::Other(other, payload)),
                }
            }
            let before = self.buffer.len();
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
            match read.await.context("the socket fell silent")? {
                Ok(count) if count > 0 => self.received.extend_from_slice(&self.buffer[before..]),
                _ended => return Ok(Message::Cut),
            }
        }
    }

    /// Reads text messages up to the one that ends an answer; returns them all.
    pub async fn answer(&mut self) -> anyhow::Result<Vec<String>> {
        let ends = ["response.completed", "response.incomplete", "response.failed", "error"];
        let mut messages = Vec::new();
        loop {
            match self.next().await? {
                Message::Text(text) => {
                    let is_end = ends.iter().any(|kind| text.contains(&format!("\"type\":\"{kind}\"")));
                    messages.push(text);
                    if is_end {
                        return Ok(messages);
                    }
                }
                other => bail!("{other:?} instead of an answer's end, after {messages:?}"),
            }
        }
    }
}
