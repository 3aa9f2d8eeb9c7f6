//! The `h3::quic` traits over quinn. Differs from h3-quinn in what matters to a relay: a stream dropped before its end
//! is reset, never finished; nothing panics when a receiver is cancelled; a stream that ends inside a frame is an
//! error; streams have priorities; one small write is one write to QUIC. Knows nothing of requests.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf},
};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::frames::{Borders, CUT_FRAME, Piece};

/// A stream given up before its end.
pub(super) const CANCELLED: VarInt = VarInt::from_u32(0x10c);

type Opening<T> = Option<Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send + Sync>>>;
type Accepting<T> = BoxStream<'static, Result<T, ConnectionError>>;

/// A QUIC connection as h3 wants it.
pub(super) struct Connection {
    opener: Opener,
    uni: Accepting<quinn::RecvStream>,
    bi: Accepting<(quinn::SendStream, quinn::RecvStream)>,
}

impl Connection {
    pub(super) fn new(quic: quinn::Connection) -> Self {
        let uni = stream::unfold(
            quic.clone(),
            |quic| async move { Some((quic.accept_uni().await, quic)) },
        );
        let bi = stream::unfold(quic.clone(), |quic| async move { Some((quic.accept_bi().await, quic)) });
        Self {
            opener: Opener::new(quic),
            uni: uni.boxed(),
            bi: bi.boxed(),
        }
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let next = ready!(self.uni.poll_next_unpin(cx));
        Poll::Ready(accepted(next).map(|recv| RecvStream::new(recv, false)))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        let next = ready!(self.bi.poll_next_unpin(cx));
        Poll::Ready(accepted(next).map(BidiStream::new))
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

fn accepted<T>(next: Option<Result<T, ConnectionError>>) -> Result<T, ConnectionErrorIncoming> {
    match next {
        Some(stream) => stream.map_err(lost),
        None => Err(ConnectionErrorIncoming::InternalError("no more streams".to_owned())),
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens streams.
pub(super) struct Opener {
    quic: quinn::Connection,
    bi: Opening<(quinn::SendStream, quinn::RecvStream)>,
    uni: Opening<quinn::SendStream>,
}

impl Opener {
    const fn new(quic: quinn::Connection) -> Self {
        Self {
            quic,
            bi: None,
            uni: None,
        }
    }
}

impl Clone for Opener {
    fn clone(&self) -> Self {
        Self::new(self.quic.clone())
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        if self.bi.is_none() {
            // Nearly always there is credit for a stream, and then nothing has to be kept.
            if let Poll::Ready(opened) = pin!(self.quic.open_bi()).poll(cx) {
                return Poll::Ready(opened.map(BidiStream::new).map_err(stream_lost));
            }
        }
        let quic = &self.quic;
        let opening = self.bi.get_or_insert_with(|| {
            let quic = quic.clone();
            Box::pin(async move { quic.open_bi().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.bi = None;
        Poll::Ready(opened.map(BidiStream::new).map_err(stream_lost))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let quic = &self.quic;
        let opening = self.uni.get_or_insert_with(|| {
            let quic = quic.clone();
            Box::pin(async move { quic.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.uni = None;
        Poll::Ready(opened.map(SendStream::new).map_err(stream_lost))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.quic
            .close(VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX), reason);
    }
}

/// Both directions of a request.
pub(super) struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl BidiStream {
    fn new((send, recv): (quinn::SendStream, quinn::RecvStream)) -> Self {
        Self {
            send: SendStream::new(send),
            recv: RecvStream::new(recv, true),
        }
    }

    /// Ends when the other side wants no more of what we send, or is gone.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        let stopped = self.send.quic.stopped();
        async move {
            let _wanted = stopped.await;
        }
    }

    /// What can be told to the direction we write when h3 has it.
    pub(super) fn knob(&self) -> Arc<Knob> {
        Arc::clone(&self.send.knob)
    }
}

/// Reaches through h3 to the direction we write.
#[derive(Default)]
pub(super) struct Knob {
    priority: AtomicI32,
    is_cut: AtomicBool,
}

impl Knob {
    /// The priority of what is sent from here on.
    pub(super) fn set_priority(&self, priority: i32) {
        self.priority.store(priority, Ordering::Relaxed);
    }

    /// The stream will not come to its end: `poll_finish` tells so instead of finishing it.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

/// The direction we write. Dropped before its end it is reset, so that nobody takes the part for the whole.
pub(super) struct SendStream {
    quic: quinn::SendStream,
    waiting: Bytes,
    knob: Arc<Knob>,
    priority_set: i32,
    is_cut_told: bool,
    is_over: bool,
}

impl SendStream {
    fn new(quic: quinn::SendStream) -> Self {
        Self {
            quic,
            waiting: Bytes::new(),
            knob: Arc::default(),
            priority_set: 0,
            is_cut_told: false,
            is_over: false,
        }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while !self.waiting.is_empty() {
            let writing = pin!(self.quic.write_chunks(std::slice::from_mut(&mut self.waiting)));
            ready!(writing.poll(cx)).map_err(write_error)?;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if !self.waiting.is_empty() {
            return Err(StreamErrorIncoming::Unknown(
                "a write before the last one was through".into(),
            ));
        }
        let wanted = self.knob.priority.load(Ordering::Relaxed);
        if wanted != self.priority_set {
            self.priority_set = wanted;
            // Fails only when the stream is closed, which the write will say.
            let _closed = self.quic.set_priority(wanted);
        }
        // h3 hides the content behind `Buf`, so it has to be copied once; head and content then go in one write.
        let mut data = data.into();
        self.waiting = data.copy_to_bytes(data.remaining());
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(cx))?;
        if self.knob.is_cut.load(Ordering::Relaxed) {
            if !self.is_cut_told {
                self.is_cut_told = true;
                self.waiting = Bytes::from_static(CUT_FRAME);
            }
            // The reset comes with the drop.
            return self.poll_ready(cx);
        }
        self.is_over = true;
        Poll::Ready(self.quic.finish().map_err(|e| StreamErrorIncoming::Unknown(e.into())))
    }

    fn reset(&mut self, reset_code: u64) {
        self.is_over = true;
        // Fails only when the stream is closed already.
        let _closed = self.quic.reset(VarInt::from_u64(reset_code).unwrap_or(VarInt::MAX));
    }

    fn send_id(&self) -> StreamId {
        id(self.quic.id())
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.is_over {
            let _closed = self.quic.reset(CANCELLED);
        }
    }
}

/// The direction we read.
pub(super) struct RecvStream {
    quic: quinn::RecvStream,
    held: Bytes,
    borders: Option<Borders>,
    is_cut: bool,
    is_over: bool,
}

impl RecvStream {
    fn new(quic: quinn::RecvStream, is_request: bool) -> Self {
        Self {
            quic,
            held: Bytes::new(),
            borders: is_request.then(Borders::default),
            is_cut: false,
            is_over: false,
        }
    }

    /// Takes the next piece off what is held; none when all of it was to be left out.
    fn next_piece(&mut self) -> Result<Option<Bytes>, StreamErrorIncoming> {
        let Some(borders) = &mut self.borders else {
            return Ok(Some(std::mem::take(&mut self.held)));
        };
        let piece = borders
            .next(&self.held)
            .map_err(|e| StreamErrorIncoming::Unknown(e.into()))?;
        Ok(match piece {
            Piece::Whole(used) => Some(self.held.split_to(used)),
            Piece::Kept(used) => {
                self.held.advance(used);
                Some(Bytes::copy_from_slice(borders.kept()))
            }
            Piece::Nothing(used) => {
                self.held.advance(used);
                None
            }
            Piece::Cut => {
                self.is_cut = true;
                self.held.clear();
                // The sender waits for this before it resets the stream.
                quic::RecvStream::stop_sending(self, CANCELLED.into_inner());
                None
            }
        })
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let chunk = ready!(pin!(self.quic.read_chunk(usize::MAX, true)).poll(cx));
        let chunk = chunk.map_err(read_error).inspect_err(|_| self.is_over = true)?;
        self.is_over = chunk.is_none();
        Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes)))
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            while self.held.is_empty() {
                if self.is_cut {
                    let error_code = CANCELLED.into_inner();
                    return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
                }
                if self.is_over {
                    return Poll::Ready(Ok(None));
                }
                match ready!(self.poll_chunk(cx))? {
                    Some(chunk) => self.held = chunk,
                    None if self.borders.as_ref().is_none_or(Borders::may_end) => return Poll::Ready(Ok(None)),
                    None => return Poll::Ready(Err(StreamErrorIncoming::Unknown(CUT.into()))),
                }
            }
            if let Some(piece) = self.next_piece()? {
                return Poll::Ready(Ok(Some(piece)));
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        if !self.is_over {
            self.is_over = true;
            // Fails only when the stream is closed already.
            let _closed = self.quic.stop(VarInt::from_u64(error_code).unwrap_or(VarInt::MAX));
        }
    }

    fn recv_id(&self) -> StreamId {
        id(self.quic.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.is_over {
            let _closed = self.quic.stop(CANCELLED);
        }
    }
}

fn id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(id)).expect("a QUIC stream id is a QUIC stream id")
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => ConnectionErrorIncoming::ApplicationClose {
            error_code: close.error_code.into_inner(),
        },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn stream_lost(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: lost(error),
    }
}

fn read_error(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        ReadError::ConnectionLost(error) => stream_lost(error),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            StreamErrorIncoming::Unknown(error.into())
        }
    }
}

fn write_error(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        WriteError::ConnectionLost(error) => stream_lost(error),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamErrorIncoming::Unknown(error.into()),
    }
}

const CUT: &str = "the stream ended inside a frame or before the first";
