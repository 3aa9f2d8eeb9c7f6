//! What a client writes on its socket. It is read while something is done for it too, so that one that leaves is noticed.
//! Knows messages and no call.

use std::{collections::VecDeque, pin::pin};

use relay_protocol::{
    Payload,
    ws::{Item, Messages, Opcode, encode_pong, encode_text},
};
use tokio::sync::Mutex;

use super::{
    close::End,
    ends::{Sink, Source},
    session::TURNS,
};

/// A client's messages. What was read and not dealt with waits.
pub(super) struct FromClient {
    source: Source,
    messages: Messages,
    waiting: VecDeque<Item>,
}

impl FromClient {
    /// Of messages of up to `most` bytes.
    pub(super) fn new(source: Source, most: usize) -> Self {
        Self {
            source,
            messages: Messages::new(most),
            waiting: VecDeque::new(),
        }
    }

    /// The next message, whatever it is.
    pub(super) async fn next(&mut self) -> Result<Item, End> {
        loop {
            match self.waiting.pop_front() {
                Some(item) => return Ok(item),
                None => self.read().await?,
            }
        }
    }

    /// The next text. What is said about the socket itself is answered on the way.
    pub(super) async fn text(&mut self, to_client: &Mutex<Sink>) -> Result<Payload, End> {
        loop {
            match self.next().await? {
                Item::Text { text, .. } => return Ok(text),
                Item::Binary { .. } => return Err(End::Violation(1003)),
                Item::Close { .. } => return Err(End::ClientClosed),
                Item::Control { opcode, data, .. } => pong(opcode, &data, to_client).await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        let chunk = self.source.next().await.ok_or(End::ClientGone)?;
        let items = self.messages.push(chunk);
        let items = items.map_err(|error| End::Violation(error.close_code()))?;
        self.waiting.extend(items);
        Ok(())
    }

    /// Does something that may wait in line, as long as the client is there: one that leaves gives its place up. No more
    /// than one piece is read ahead, and it waits.
    pub(super) async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                read = self.read(), if self.waiting.is_empty() => read?,
            }
        }
    }

    /// The same for what may take long: pings are answered meanwhile, and a closing handshake ends it.
    pub(super) async fn attended<T>(
        &mut self,
        to_client: &Mutex<Sink>,
        work: impl Future<Output = T>,
    ) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                read = self.read(), if self.waiting.len() < TURNS => read?,
            }
            while let Some(at) = self.waiting.iter().position(|item| !matches!(item, Item::Text { .. })) {
                match self.waiting.remove(at) {
                    Some(Item::Control { opcode, data, .. }) => pong(opcode, &data, to_client).await?,
                    Some(Item::Close { .. }) => return Err(End::ClientClosed),
                    Some(Item::Binary { .. }) => return Err(End::Violation(1003)),
                    Some(Item::Text { .. }) | None => break,
                }
            }
        }
    }
}

async fn pong(opcode: Opcode, data: &Payload, to_client: &Mutex<Sink>) -> Result<(), End> {
    if opcode == Opcode::Pong {
        return Ok(());
    }
    let pong = encode_pong(data.as_slice(), None);
    to_client.lock().await.send(pong).await.map_err(|_| End::ClientGone)
}

/// Sends one text message.
pub(super) async fn send(to_client: &Mutex<Sink>, message: &[u8]) -> Result<(), End> {
    let sent = to_client.lock().await.send(encode_text(message, None)).await;
    sent.map_err(|_| End::ClientGone)
}
