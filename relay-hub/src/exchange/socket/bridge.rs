//! A socket whose account speaks no Responses: each `response.create` on it is a call over HTTP. Knows no account and no
//! money.

use std::sync::Arc;

use relay_shared::call::CallId;
use tokio::sync::Mutex;

use super::{
    calls::Calls,
    close::{End, tell},
    ends::ClientEnd,
    from_client::FromClient,
};
use crate::{admission::SocketTicket, directory::Tenant};

/// One socket.
pub(super) struct Bridged {
    pub(super) calls: Calls,
    pub(super) tenant: Arc<Tenant>,
    pub(super) ticket: SocketTicket,
    pub(super) socket: CallId,
    /// A message may have so many bytes.
    pub(super) most: usize,
}

impl Bridged {
    pub(super) async fn run(self, client: ClientEnd) {
        let Ok((source, to_client)) = client.open().await else {
            return;
        };
        let Self {
            mut calls,
            tenant,
            ticket,
            socket,
            most,
        } = self;
        let (mut client, to_client) = (FromClient::new(source, most), Mutex::new(to_client));
        let (end, is_running) = loop {
            let next = tokio::select! {
                biased;
                why = tenant.stop.asked() => Err(End::Stopped(why)),
                next = client.text(&to_client) => next,
            };
            let message = match next {
                Ok(message) => message,
                Err(end) => break (end, false),
            };
            let done = client.attended(&to_client, calls.turn(&message, &to_client)).await;
            if let Err(end) = done.flatten() {
                break (end, true);
            }
        };
        tell(end, is_running, &socket.to_string(), to_client.into_inner()).await;
        drop(ticket);
    }
}
