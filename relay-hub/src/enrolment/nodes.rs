//! The same for egress nodes: no tenant has them.

use relay_shared::enrolment::{EnrolError, EnrolRequest, NodeReply, RenewRequest};
use tracing::info;

use super::{
    ASK_AGAIN, CERTIFICATE_LIFE_MS, Enrolment, expired_token, failed, refused_request, unknown_token, used_token,
};
use crate::{
    ca::Request,
    ids::NodeId,
    store::{
        millis,
        nodes::{self, Redeemed, Renewal},
    },
};

impl Enrolment {
    /// Uses a node's token up and gives the node a certificate, both or neither.
    pub async fn enrol_node(&self, request: EnrolRequest) -> Result<NodeReply, EnrolError> {
        let asked = Request::parse(&request.csr).map_err(refused_request)?;
        let now_ms = millis(self.clock.wall());
        let until = now_ms.saturating_add(CERTIFICATE_LIFE_MS);
        let redeemed = nodes::redeem(&self.store, &request.secret, asked.key_hash(), now_ms, until).await;
        let (node, name) = match redeemed.map_err(failed)? {
            Redeemed::Good(node, name) => (node, name),
            Redeemed::Unknown => return Err(unknown_token()),
            Redeemed::Used => return Err(used_token()),
            Redeemed::Expired => return Err(expired_token()),
            Redeemed::Revoked => return Err(revoked()),
        };
        info!(%node, name, "egress node enrolled");
        self.node_reply(&asked, &node, name)
    }

    /// Gives a known node another certificate, also after the last one ran out.
    pub async fn renew_node(&self, request: RenewRequest) -> Result<NodeReply, EnrolError> {
        let asked = Request::parse(&request.csr).map_err(refused_request)?;
        let node = NodeId::parse(&request.device).map_err(|_| unknown_node())?;
        let now_ms = millis(self.clock.wall());
        let until = now_ms.saturating_add(CERTIFICATE_LIFE_MS);
        let renewal = nodes::renew(&self.store, &node, asked.key_hash(), now_ms, until).await;
        let name = match renewal.map_err(failed)? {
            Renewal::Good(name) => name,
            Renewal::Unknown => return Err(unknown_node()),
            Renewal::Revoked => return Err(revoked()),
        };
        info!(%node, name, "egress node's certificate renewed");
        self.node_reply(&asked, &node, name)
    }

    fn node_reply(&self, asked: &Request, node: &NodeId, name: String) -> Result<NodeReply, EnrolError> {
        let issued = self.authority.sign_node(asked, node, self.clock.wall());
        Ok(NodeReply {
            node: node.to_string(),
            name,
            certificate: issued.map_err(refused_request)?.pem,
            ca: self.authority.pem().to_owned(),
            hub: self.hub.clone(),
        })
    }
}

fn unknown_node() -> EnrolError {
    EnrolError::new("unknown_node", "The hub does not know this node and key", ASK_AGAIN)
}

fn revoked() -> EnrolError {
    EnrolError::new("node_revoked", "This egress node was revoked", ASK_AGAIN)
}
