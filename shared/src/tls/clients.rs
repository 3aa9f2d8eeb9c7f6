//! Who may come in at a port with mutual TLS: devices at a hub, the hub at its egress nodes. One CA signs all of them,
//! so that it is the name in a certificate that says what it is for.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use super::{DeviceIdentity, IdentityError};

/// The URI in the certificate with which a hub comes to its egress nodes. No device has it.
pub const HUB_URI: &str = "relay://hub";

/// Whose certificates open a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Enrolled devices: the port of a hub.
    Devices,
    /// The hub itself: the port of an egress node.
    Hub,
}

impl Clients {
    /// Who shows this certificate (DER). A hub has no tenant, and `hub` for its device.
    ///
    /// # Errors
    /// When it is none of these clients.
    pub fn read(self, certificate: &[u8]) -> Result<DeviceIdentity, IdentityError> {
        client(certificate, |uri| match self {
            Self::Devices => split_uri(uri),
            Self::Hub => (uri == HUB_URI).then_some(("", "hub")),
        })
    }
}

/// A client's certificate, by the one URI in it.
fn client(
    certificate: &[u8],
    named: impl FnOnce(&str) -> Option<(&str, &str)>,
) -> Result<DeviceIdentity, IdentityError> {
    let (_, parsed) =
        x509_parser::certificate::X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    if parsed.is_ca() {
        return Err(IdentityError::Ca);
    }
    let usage = parsed.extended_key_usage().map_err(|_| IdentityError::Unreadable)?;
    if !usage.is_some_and(|usage| usage.value.client_auth) {
        return Err(IdentityError::Usage);
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| IdentityError::Unreadable)?
        .ok_or(IdentityError::Uri)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(IdentityError::Uri);
    };
    let (tenant, device) = named(uri).ok_or(IdentityError::Uri)?;
    Ok(DeviceIdentity {
        tenant: tenant.to_owned(),
        device: device.to_owned(),
        serial: format!("{:x}", parsed.serial),
    })
}

fn split_uri(uri: &str) -> Option<(&str, &str)> {
    let (tenant, device) = uri.strip_prefix("relay://tenant/")?.split_once("/device/")?;
    let is_id = |id: &str| {
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    (is_id(tenant) && is_id(device)).then_some((tenant, device))
}

/// webpki's verdict, and then: is it one of those who may come in?
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) webpki: Arc<dyn ClientCertVerifier>,
    pub(super) clients: Clients,
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.webpki.verify_client_cert(end_entity, intermediates, now)?;
        self.clients
            .read(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
        Ok(verdict)
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
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
