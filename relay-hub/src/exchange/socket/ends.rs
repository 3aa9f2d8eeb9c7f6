//! The client's end of a socket, on whichever transport, and the vendor's. Knows bytes and no messages.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::{SocketClient, switched};
use crate::exchange::body::{ClientBody, Cut, ReplyBody, Sender};

/// The largest piece read from a socket at once.
const READ: usize = 16 * 1024;
/// A client whose upgrade is not done by then has gone.
const UPGRADE: Duration = Duration::from_secs(10);
/// A peer that takes nothing for so long has gone.
const STALL: Duration = Duration::from_secs(60);

/// The client's end, before its upgrade is done.
pub(super) enum ClientEnd {
    Upgrade(OnUpgrade),
    Bodies(ClientBody, Sender),
}

/// Where bytes come from.
pub(super) enum Source {
    Io(ReadHalf<TokioIo<Upgraded>>, BytesMut),
    Body(ClientBody),
}

/// Where bytes go.
pub(super) enum Sink {
    Io(WriteHalf<TokioIo<Upgraded>>),
    Body(Sender),
}

/// The client's end and the head that tells it so.
pub(super) fn client(
    socket: Option<SocketClient>,
    body: ClientBody,
    headers: HeaderMap,
) -> (Option<ClientEnd>, Response<ReplyBody>) {
    match socket {
        Some(SocketClient::Upgrade(upgrade, accept)) => {
            let mut response = switched(StatusCode::SWITCHING_PROTOCOLS, headers, ReplyBody::Whole(None));
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            (Some(ClientEnd::Upgrade(upgrade)), response)
        }
        Some(SocketClient::Bodies) => {
            let (sender, stream) = ReplyBody::stream();
            (
                Some(ClientEnd::Bodies(body, sender)),
                switched(StatusCode::OK, headers, stream),
            )
        }
        None => (None, Response::new(ReplyBody::Whole(None))),
    }
}

impl ClientEnd {
    /// Waits until the client's socket is up.
    pub(super) async fn open(self) -> Result<(Source, Sink), Cut> {
        match self {
            Self::Upgrade(upgrade) => match tokio::time::timeout(UPGRADE, upgrade).await {
                Ok(Ok(io)) => Ok(split(TokioIo::new(io))),
                Ok(Err(_)) | Err(_) => Err(Cut),
            },
            Self::Bodies(body, sender) => Ok((Source::Body(body), Sink::Body(sender))),
        }
    }
}

/// The two directions of an upgraded connection.
pub(super) fn split(io: TokioIo<Upgraded>) -> (Source, Sink) {
    let (read, write) = tokio::io::split(io);
    (Source::Io(read, BytesMut::new()), Sink::Io(write))
}

impl Source {
    /// The next bytes; `None` at the end, clean or not: a socket ends by its closing handshake.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Io(read, buffer) => {
                // Nothing is reserved while the peer is silent but what a read needs.
                buffer.reserve(READ);
                match read.read_buf(buffer).await {
                    Ok(0) | Err(_) => None,
                    Ok(_) => Some(buffer.split().freeze()),
                }
            }
            Self::Body(body) => loop {
                match body.frame().await? {
                    Ok(frame) => match frame.into_data() {
                        Ok(bytes) => return Some(bytes),
                        Err(_trailers) => continue,
                    },
                    Err(Cut) => return None,
                }
            },
        }
    }
}

impl Sink {
    /// Waits until the peer takes the bytes.
    ///
    /// # Errors
    /// The peer has gone, or takes nothing.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), Cut> {
        let sent = async {
            match self {
                Self::Io(write) => {
                    write.write_all(&bytes).await.map_err(|_| Cut)?;
                    write.flush().await.map_err(|_| Cut)
                }
                Self::Body(sender) => sender.send(bytes).await,
            }
        };
        tokio::time::timeout(STALL, sent).await.map_err(|_| Cut)?
    }

    /// Ends this direction cleanly.
    pub(super) async fn end(self) {
        match self {
            Self::Io(mut write) => {
                // The peer may have closed first.
                drop(write.shutdown().await);
            }
            Self::Body(sender) => sender.end().await,
        }
    }
}
