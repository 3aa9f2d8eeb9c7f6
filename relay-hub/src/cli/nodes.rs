//! `relay-hub node …`: egress nodes, seen from their hub; and how a machine becomes one.

use clap::Subcommand;
use relay_shared::{enrolment::Token, tunnel::server::BindError};
use serde_json::{Value, json};

use super::{
    Desk, Failure, devices, now_ms,
    print::{moment, standing},
    there_are, typed,
};
use crate::{
    ca::Authority,
    node::{self, NodeError, NodeHome},
    store::{
        Store,
        devices::TOKEN_LIFE_MS,
        nodes::{self, NodeRow, NodeTokenError},
    },
    way::NodeAt,
};

#[derive(Subcommand)]
pub(super) enum Node {
    /// Make a token for `relay-hub node enrol`, good once, for ten minutes; the node of this name becomes known with it.
    Token {
        /// What you call the node.
        name: String,
        /// Where this hub will dial it, on UDP and TCP.
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
    },
    /// Show egress nodes.
    List,
    /// Let nothing leave by a node any more, and end what it carries.
    Revoke {
        /// Name or id.
        name: String,
    },
    /// On the node: make a key and get its certificate. `relay-hub egress` then serves.
    Enrol {
        /// What `relay-hub node token` printed.
        token: String,
    },
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Node) -> Result<(), Failure> {
    match command {
        Node::Token { name, address } => token(desk, &name, &address).await,
        Node::List => list(desk).await,
        Node::Revoke { name } => revoke(desk, &name).await,
        Node::Enrol { token } => enrol(desk, &token).await,
    }
}

async fn token(desk: &mut Desk<'_>, name: &str, address: &str) -> Result<(), Failure> {
    let at = NodeAt::parse(address).ok_or_else(|| {
        Failure::fixable(format!("`{}` is no host with a port", typed(address)))
            .hint("write where this hub will dial the node, such as egress.example:8443")
    })?;
    let store = desk.store().await?;
    let hub = devices::reachable(&desk.data)?;
    let fingerprint = Authority::open(&desk.data)?.fingerprint();
    let now_ms = now_ms();
    let (node, secret) = nodes::add_token(&store, name, &at, now_ms).await?;
    let token = Token {
        hub: hub.clone(),
        fingerprint,
        secret,
    }
    .encode();
    let expires_ms = now_ms.saturating_add(TOKEN_LIFE_MS);
    let until = moment(expires_ms);
    let json = json!({
        "token": token.expose(), "node": node, "name": name, "address": at.to_string(), "hub": hub,
        "expires_ms": expires_ms, "expires": until,
    });
    desk.print.done(&json, token.expose())?;
    Ok(desk.print.talk(&format!(
        "good once, until {until}; on the node: relay-hub node enrol TOKEN (dials {hub}), then relay-hub egress"
    ))?)
}

fn shown(row: &NodeRow) -> Value {
    let NodeRow {
        id,
        name,
        at,
        created_ms,
        enrolled_ms,
        renewed_ms,
        not_after_ms,
        revoked_ms,
    } = row;
    json!({
        "id": id, "name": name, "address": at.to_string(), "created_ms": created_ms, "enrolled_ms": enrolled_ms,
        "renewed_ms": renewed_ms, "not_after_ms": not_after_ms, "revoked_ms": revoked_ms,
    })
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let all = nodes::list(&desk.store().await?).await?;
    let json: Vec<_> = all.iter().map(shown).collect();
    let known = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), moment);
    let rows: Vec<_> = all
        .iter()
        .map(|node| {
            let state = match (node.enrolled_ms, node.revoked_ms) {
                (None, None) => "not enrolled yet".to_owned(),
                (_, revoked_ms) => standing(revoked_ms),
            };
            vec![
                node.id.to_string(),
                node.name.clone(),
                node.at.to_string(),
                known(node.enrolled_ms),
                known(node.not_after_ms),
                state,
            ]
        })
        .collect();
    let heads = ["ID", "NAME", "ADDRESS", "ENROLLED", "CERTIFICATE UNTIL", "STATE"];
    Ok(desk.print.list(&json, &heads, &rows)?)
}

/// The node of this name or id.
pub(super) async fn find(store: &Store, name: &str) -> Result<NodeRow, Failure> {
    let mut all = nodes::list(store).await?;
    match all
        .iter()
        .position(|node| node.name == name || node.id.as_str() == name)
    {
        Some(at) => Ok(all.swap_remove(at)),
        None => {
            let names: Vec<_> = all.iter().map(|node| node.name.as_str()).collect();
            Err(Failure::fixable(format!("there is no egress node `{}`", typed(name)))
                .hint(there_are(&names, "relay-hub node token NAME --address HOST:PORT")))
        }
    }
}

async fn revoke(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let node = find(&store, name).await?;
    if !nodes::revoke(&store, &node.id, now_ms()).await? {
        return Err(
            Failure::fixable(format!("the egress node {} is revoked already", node.name))
                .hint("`relay-hub node list` shows since when"),
        );
    }
    let json = json!({"id": node.id, "name": node.name, "revoked": true});
    let line = format!(
        "revoked node {} ({}): nothing leaves by it any more",
        node.name, node.id
    );
    Ok(desk.print.done(&json, &line)?)
}

async fn enrol(desk: &mut Desk<'_>, token: &str) -> Result<(), Failure> {
    let home = NodeHome::in_data(desk.data.path());
    let who = node::enrol(&home, token).await?;
    let json = json!({"node": who.node, "name": who.name, "hub": who.hub});
    let line = format!(
        "this is egress node {} ({}) of the hub at {}",
        who.name, who.node, who.hub
    );
    desk.print.done(&json, &line)?;
    Ok(desk
        .print
        .talk("next: relay-hub egress --listen 0.0.0.0:8443 --allow api.openai.com")?)
}

impl From<NodeTokenError> for Failure {
    fn from(error: NodeTokenError) -> Self {
        match error {
            NodeTokenError::Store(store) => store.into(),
            NodeTokenError::Revoked(_) => Self::from_error(&error).hint("give the node another name"),
            NodeTokenError::BadName => Self::from_error(&error),
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let failure = Self::from_error(&error);
        match &error {
            NodeError::NotEnrolled(_) => failure.hint(
                "on the hub: relay-hub node token NAME --address HOST:PORT; then here: relay-hub node enrol TOKEN",
            ),
            NodeError::File { .. } => failure.hint("look at its owner and its mode, or enrol again with a fresh token"),
            NodeError::Token(_) => failure.hint("a token begins with `crt1_` and is one line"),
            NodeError::Hub { hub, .. } => failure.hint(format!("see that the hub runs and that TCP to {hub} is open")),
            NodeError::Refused(refusal) => failure.hint(refusal.hint.clone()),
            NodeError::Bind(BindError::Io { .. }) => failure.hint("name another address by --listen"),
            NodeError::Tls(_) | NodeError::Bind(BindError::Tls(_)) => failure.hint("enrol again with a fresh token"),
            NodeError::Key(_) => failure,
        }
    }
}
