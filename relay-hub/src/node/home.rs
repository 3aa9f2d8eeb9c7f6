//! What an egress node keeps on its disk: its key, which never leaves the machine, its certificate, and who its hub is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use bytes::Bytes;
use http::StatusCode;
use rcgen::{CertificateParams, KeyPair};
use relay_shared::{
    enrolment::{EnrolError, EnrolRequest, NODE_ENROL_PATH, NODE_RENEW_PATH, NodeReply, RenewRequest, Token},
    secret::Secret,
    tls,
    tunnel::client::{self, HubTrust},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::NodeError;
use crate::files::{self, Readable};

/// The directory of a node's files.
#[derive(Debug, Clone)]
pub struct NodeHome(PathBuf);

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its id.
    pub node: String,
    /// The operator's name for it.
    pub name: String,
    /// Host and port of its hub's tunnel.
    pub hub: String,
}

/// What the node shows, and whose word it takes.
pub(super) struct Papers {
    pub(super) ca: CertificateDer<'static>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl NodeHome {
    /// The files of a node in a data directory, beside those of a hub if there are any.
    pub fn in_data(data: &Path) -> Self {
        Self(data.join("node"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, NodeError> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Zeroizing::new(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(NodeError::NotEnrolled(self.0.display().to_string()))
            }
            Err(error) => Err(unusable(&path, error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], readable: Readable) -> Result<(), NodeError> {
        let path = self.file(name);
        files::replace(&path, bytes, readable).map_err(|error| unusable(&path, error))
    }

    /// Who this node is.
    ///
    /// # Errors
    /// It was not enrolled, or the file is damaged.
    pub fn enrolled(&self) -> Result<Enrolled, NodeError> {
        serde_json::from_slice(&self.read(WHO)?).map_err(|error| unusable(&self.file(WHO), error))
    }

    pub(super) fn papers(&self) -> Result<Papers, NodeError> {
        let damaged = |name: &str| {
            let path = self.file(name);
            move |error: tls::TlsError| unusable(&path, error)
        };
        let ca = tls::certificates(&self.read(CA)?).map_err(damaged(CA))?;
        Ok(Papers {
            ca: ca
                .into_iter()
                .next()
                .ok_or_else(|| unusable(&self.file(CA), "it is empty"))?,
            chain: tls::certificates(&self.read(CERTIFICATE)?).map_err(damaged(CERTIFICATE))?,
            key: tls::private_key(&self.read(KEY)?).map_err(damaged(KEY))?,
        })
    }

    pub(super) fn quic_key(&self) -> Result<Secret<[u8; 32]>, NodeError> {
        let bytes = <[u8; 32]>::try_from(self.read(QUIC_KEY)?.as_slice());
        bytes
            .map(Secret::new)
            .map_err(|_| unusable(&self.file(QUIC_KEY), "it is damaged"))
    }

    /// A certificate request, signed with the node's key.
    fn request(&self) -> Result<String, NodeError> {
        let pem = self.read(KEY)?;
        let pem = std::str::from_utf8(&pem).map_err(|error| unusable(&self.file(KEY), error))?;
        request_of(&KeyPair::from_pem(pem)?)
    }

    /// Asks the hub for the next certificate, and keeps it.
    pub(super) async fn renew(&self, who: &Enrolled) -> Result<Papers, NodeError> {
        let request = RenewRequest {
            device: who.node.clone(),
            csr: self.request()?,
        };
        let trust = HubTrust::Ca(self.papers()?.ca);
        let reply = ask(&who.hub, trust, NODE_RENEW_PATH, &request).await?;
        self.write(CERTIFICATE, reply.certificate.as_bytes(), Readable::Ordinary)?;
        self.papers()
    }

    /// Keeps what the hub answered.
    pub(super) fn keep(&self, key: &KeyPair, reply: &NodeReply) -> Result<Enrolled, NodeError> {
        let who = Enrolled {
            node: reply.node.clone(),
            name: reply.name.clone(),
            hub: reply.hub.clone(),
        };
        files::make_private_directory(&self.0).map_err(|error| unusable(&self.0, error))?;
        let mut quic_key = Zeroizing::new([0; 32]);
        rand::fill(quic_key.as_mut_slice())
            .map_err(|_| unusable(&self.file(QUIC_KEY), "the system has no randomness"))?;
        self.write(QUIC_KEY, quic_key.as_slice(), Readable::OwnerOnly)?;
        self.write(KEY, Zeroizing::new(key.serialize_pem()).as_bytes(), Readable::OwnerOnly)?;
        self.write(CERTIFICATE, reply.certificate.as_bytes(), Readable::Ordinary)?;
        self.write(CA, reply.ca.as_bytes(), Readable::Ordinary)?;
        // Last: without it the node counts as not enrolled.
        let text = serde_json::to_vec_pretty(&who).map_err(|error| unusable(&self.file(WHO), error))?;
        self.write(WHO, &text, Readable::Ordinary)?;
        Ok(who)
    }
}

/// Makes a machine an egress node: a key made here, a certificate from the hub that the token names. What was enrolled
/// here before is given up.
///
/// # Errors
/// When the token, the hub or the directory is not as it should be. Nothing is changed then.
pub async fn enrol(home: &NodeHome, token: &str) -> Result<Enrolled, NodeError> {
    let token = Token::parse(token)?;
    let key = KeyPair::generate()?;
    let request = EnrolRequest {
        secret: token.secret.expose().clone(),
        csr: request_of(&key)?,
        name: String::new(),
    };
    let trust = HubTrust::Fingerprint(token.fingerprint);
    let reply = ask(&token.hub, trust, NODE_ENROL_PATH, &request).await?;
    home.keep(&key, &reply)
}

fn request_of(key: &KeyPair) -> Result<String, NodeError> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}

async fn ask(
    hub: &str,
    trust: HubTrust,
    path: &str,
    request: &(impl Serialize + Sync),
) -> Result<NodeReply, NodeError> {
    let failed = |reason: String| NodeError::Hub {
        hub: hub.to_owned(),
        reason,
    };
    let json = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
    let answered = client::enrol(hub, trust, path, Bytes::from(json)).await;
    let (status, answer) = answered.map_err(failed)?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&answer).map_err(|error| failed(format!("its answer makes no sense: {error}")));
    }
    match serde_json::from_slice::<EnrolError>(&answer) {
        Ok(refusal) => Err(NodeError::Refused(refusal)),
        Err(_) => Err(failed(format!("it answered {status}"))),
    }
}

fn unusable(path: &Path, problem: impl ToString) -> NodeError {
    NodeError::File {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}

const WHO: &str = "node.json";
const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.crt";
const CA: &str = "ca.crt";
const QUIC_KEY: &str = "quic.key";
