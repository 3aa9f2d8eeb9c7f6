//! The way to the hub as forwarding sees it: two exist, the tunnel's link and the tests' own hub.

use std::future::Future;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use relay_shared::tunnel::body::{InBody, OutBody};

use crate::tunnel::{Link, LinkDown, LinkState};

/// Any error of a body on its way.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Carries calls to the hub.
pub(crate) trait Uplink: Clone + Send + Sync + 'static {
    /// An answer's body: a cut one ends with an error, and dropping it early cancels the call at the hub.
    type Answer: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;

    /// Whether a connection is there now.
    fn is_up(&self) -> bool;

    /// Sends a call and waits for the head of its answer; waits a bounded time for a connection. Dropping the future
    /// cancels the call.
    fn send(&self, request: Request<OutBody>) -> impl Future<Output = Result<Response<Self::Answer>, LinkDown>> + Send;
}

impl Uplink for Link {
    type Answer = InBody;

    fn is_up(&self) -> bool {
        matches!(self.status().state, LinkState::Up)
    }

    async fn send(&self, request: Request<OutBody>) -> Result<Response<InBody>, LinkDown> {
        Self::send(self, request).await
    }
}
