//! Mutual TLS between agent and hub: TLS 1.3 only, one device CA, and who a device is by its certificate.
//! Knows no sockets and no storage.

mod clients;
mod shown;

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

use self::clients::Verifier;
pub use self::{
    clients::{Clients, HUB_URI},
    shown::Shown,
};

/// The name in the hub's certificate that agents ask for, whatever address they dialled.
pub const HUB_NAME: &str = "relay-hub";

/// Who a device is, out of its verified certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceIdentity {
    /// The tenant's id.
    pub tenant: String,
    /// The device's id.
    pub device: String,
    /// The certificate's serial number, hexadecimal.
    pub serial: String,
}

/// Why a certificate names no device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not X.509.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// A CA's own certificate is no device.
    #[error("a CA certificate is no device certificate")]
    Ca,
    /// No, a foreign, or more than one URI.
    #[error("the certificate must hold exactly one URI, relay://tenant/…/device/…")]
    Uri,
    /// Not issued for clients.
    #[error("the certificate is not meant for clients")]
    Usage,
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Keys or certificates do not fit or cannot be read.
    #[error("certificate or key: {0}")]
    Rustls(#[from] Error),
    /// A verifier cannot be built from the CA.
    #[error("the CA certificate cannot be used: {0}")]
    Ca(String),
    /// PEM text holds no such thing.
    #[error("PEM: {0}")]
    Pem(String),
}

impl DeviceIdentity {
    /// Reads a device's certificate (DER).
    ///
    /// # Errors
    /// When it names no device.
    pub fn read(certificate: &[u8]) -> Result<Self, IdentityError> {
        Clients::Devices.read(certificate)
    }

    /// The URI that goes into a device's certificate.
    #[must_use]
    pub fn uri(tenant: &str, device: &str) -> String {
        format!("relay://tenant/{tenant}/device/{device}")
    }
}

/// The certificates in a PEM text, in order, at least one.
///
/// # Errors
/// When there is none or one is damaged.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(TlsError::Pem("there is no certificate in it".to_owned())),
        Err(e) => Err(TlsError::Pem(e.to_string())),
    }
}

/// The private key in a PEM text.
///
/// # Errors
/// When there is none or it is damaged.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| TlsError::Pem(e.to_string()))
}

/// SHA-256 of a certificate, as enrolment tokens carry it.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The side that waits, of the tunnel and of egress nodes: the client must show a certificate of `ca` that names one of
/// `clients`.
///
/// # Errors
/// When the CA cannot be used.
pub fn server_mutual(
    ca: &CertificateDer<'static>,
    shown: Arc<Shown>,
    clients: Clients,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider());
    let webpki = verifier.build().map_err(|e| TlsError::Ca(e.to_string()))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(TLS13)?;
    let mut config = builder
        .with_client_cert_verifier(Arc::new(Verifier { webpki, clients }))
        .with_cert_resolver(shown);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // A resumed session would skip the look at the certificate's end of life; handshakes are rare here.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The hub's side where no client certificate is asked for (enrolment, or the public entrance).
///
/// # Errors
/// When key and chain do not fit together.
pub fn server_plain(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(TLS13)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The agent's side of the tunnel: trusts `ca` only and shows its own certificate.
///
/// # Errors
/// When key, chain and CA do not fit together.
pub fn client_mutual(
    ca: &CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(TLS13)?;
    let mut config = builder
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The agent's side without a certificate of its own: trusts `ca` (renewal), for the enrolment protocol.
///
/// # Errors
/// When the CA cannot be used.
pub fn client_plain(ca: &CertificateDer<'static>, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(TLS13)?;
    let mut config = builder.with_root_certificates(roots(ca)?).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The agent's side at enrolment: the hub's chain must hold a CA with this SHA-256 and a leaf signed by it.
///
/// # Errors
/// Never in practice; the signature keeps the family alike.
pub fn client_pinned(fingerprint: [u8; 32], alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(TLS13)?;
    let verifier = Arc::new(PinnedVerifier {
        fingerprint,
        provider: provider(),
    });
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|e| TlsError::Ca(e.to_string()))?;
    Ok(roots)
}

/// Trusts the one CA whose SHA-256 is known, if the server shows it, and what it signed.
#[derive(Debug)]
struct PinnedVerifier {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates
            .iter()
            .find(|certificate| fingerprint(certificate) == self.fingerprint);
        let pinned = pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|e| Error::General(e.to_string()))?;
        let name = ServerName::try_from(HUB_NAME).map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
