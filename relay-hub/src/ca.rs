//! The hub's certificate authority for devices and egress nodes, the hub's own certificate, and the QUIC keys. Knows no
//! store.

mod nodes;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{digest, rand};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use relay_shared::{
    secret::Secret,
    tls::{self, DeviceIdentity, HUB_NAME, TlsError},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};
use zeroize::Zeroizing;

use crate::{
    config::DataDir,
    files::{self, Readable},
    ids::{DeviceId, TenantId},
};

/// Why a key or certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the data directory.
    #[error("cannot use {path}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{path} is damaged: restore it from a backup")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: Option<TlsError>,
    },
    /// Certificates cannot be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// Why a device gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Unreadable, unsigned, or with a key we do not take.
    #[error("the certificate request cannot be used")]
    Request(#[source] rcgen::Error),
    /// Ours to fix.
    #[error("cannot sign a certificate")]
    Sign(#[source] rcgen::Error),
}

/// Signs certificates of devices, and the hub's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A device's certificate request with a verified signature.
pub struct Request {
    inner: CertificateSigningRequestParams,
}

impl Request {
    /// Reads a PEM request and verifies that its sender has the key.
    pub fn parse(pem: &str) -> Result<Self, SignError> {
        if pem.len() > LONGEST_REQUEST {
            return Err(SignError::Request(rcgen::Error::CouldNotParseCertificationRequest));
        }
        let inner = CertificateSigningRequestParams::from_pem(pem).map_err(SignError::Request)?;
        let key = inner.public_key.algorithm();
        let is_taken = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ]
        .into_iter()
        .any(|taken| taken == key);
        if is_taken {
            Ok(Self { inner })
        } else {
            Err(SignError::Request(rcgen::Error::UnsupportedSignatureAlgorithm))
        }
    }

    /// SHA-256 of the public key: what a device is known by at renewal.
    pub fn key_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        let spki = self.inner.public_key.subject_public_key_info();
        hash.copy_from_slice(digest::digest(&digest::SHA256, &spki).as_ref());
        hash
    }
}

/// A certificate just made.
pub struct Issued {
    /// The certificate, PEM.
    pub pem: String,
    /// End of its life.
    pub not_after: SystemTime,
}

impl Authority {
    /// Makes the authority of a new hub and writes its two files.
    pub fn create(data: &DataDir) -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("codex-relay device CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(fresh_serial());
        live(&mut params, SystemTime::now(), CA_LIFE);
        let certificate = params.self_signed(&key)?;
        write(
            &data.ca_key(),
            Zeroizing::new(key.serialize_pem()).as_bytes(),
            Readable::OwnerOnly,
        )?;
        write(&data.ca_certificate(), certificate.pem().as_bytes(), Readable::Ordinary)?;
        Self::open(data)
    }

    /// Reads the authority of a data directory.
    pub fn open(data: &DataDir) -> Result<Self, CaError> {
        let pem = read_text(&data.ca_certificate())?;
        let certificate = first_certificate(&data.ca_certificate(), &pem)?;
        let key_pem = Zeroizing::new(read_text(&data.ca_key())?);
        let damaged = |_| CaError::Damaged {
            path: shown(&data.ca_key()),
            source: None,
        };
        let key = KeyPair::from_pem(&key_pem).map_err(damaged)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            pem,
        })
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the authority's certificate: what enrolment tokens pin.
    pub fn fingerprint(&self) -> [u8; 32] {
        tls::fingerprint(&self.certificate)
    }

    /// A client certificate of a day that names the device. Nothing of the request is taken over but its key.
    pub fn sign_device(
        &self,
        request: &Request,
        tenant: &TenantId,
        device: &DeviceId,
        now: SystemTime,
    ) -> Result<Issued, SignError> {
        let uri = DeviceIdentity::uri(tenant.as_str(), device.as_str());
        let name = SanType::URI(uri.try_into().map_err(SignError::Sign)?);
        self.sign(
            request,
            leaf(device.as_str(), vec![name], ExtendedKeyUsagePurpose::ClientAuth),
            now,
        )
    }

    /// A certificate of a day for the key of a request, of which nothing else is taken over.
    fn sign(&self, request: &Request, mut params: CertificateParams, now: SystemTime) -> Result<Issued, SignError> {
        live(&mut params, now, DEVICE_LIFE);
        let certificate = params
            .signed_by(&request.inner.public_key, &self.issuer)
            .map_err(SignError::Sign)?;
        Ok(Issued {
            pem: certificate.pem(),
            not_after: now + DEVICE_LIFE,
        })
    }

    /// Makes the hub's own certificate and writes its chain and key.
    fn issue_server(&self, data: &DataDir, advertise: Option<&str>) -> Result<(), CaError> {
        let key = KeyPair::generate()?;
        let names = CertificateParams::new(server_names(advertise))?.subject_alt_names;
        let mut params = leaf(HUB_NAME, names, ExtendedKeyUsagePurpose::ServerAuth);
        live(&mut params, SystemTime::now(), SERVER_LIFE);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = format!("{}{}", certificate.pem(), self.pem);
        write(
            &data.server_key(),
            Zeroizing::new(key.serialize_pem()).as_bytes(),
            Readable::OwnerOnly,
        )?;
        write(&data.server_certificate(), chain.as_bytes(), Readable::Ordinary)
    }
}

/// What every certificate says that is no authority's.
fn leaf(subject: &str, names: Vec<SanType>, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(subject);
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(fresh_serial());
    params
}

/// What the hub shows on its tunnel.
pub struct ServerIdentity {
    /// The device CA: devices must show a certificate of it.
    pub ca: CertificateDer<'static>,
    /// Leaf, then the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl ServerIdentity {
    /// Reads the hub's certificate; makes another one where it is missing, runs out within 30 days or does not
    /// name the advertised host.
    pub fn load(data: &DataDir, advertise: Option<&str>) -> Result<Self, CaError> {
        let authority = Authority::open(data)?;
        if !is_good(data, advertise) {
            authority.issue_server(data, advertise)?;
        }
        let chain_pem = read_text(&data.server_certificate())?;
        let key_pem = Zeroizing::new(read_text(&data.server_key())?);
        let damaged = |path: PathBuf| {
            move |e| CaError::Damaged {
                path: shown(&path),
                source: Some(e),
            }
        };
        Ok(Self {
            ca: authority.certificate,
            chain: tls::certificates(chain_pem.as_bytes()).map_err(damaged(data.server_certificate()))?,
            key: tls::private_key(key_pem.as_bytes()).map_err(damaged(data.server_key()))?,
        })
    }
}

/// Makes the key that all keys of the QUIC endpoint come from. It must outlive a restart, so that agents notice one at
/// once instead of after a timeout.
pub fn create_quic_key(data: &DataDir) -> Result<(), CaError> {
    let mut bytes = Zeroizing::new([0; QUIC_KEY_LENGTH]);
    rand::fill(bytes.as_mut_slice()).expect("the system's random source answers");
    write(&data.quic_key(), bytes.as_slice(), Readable::OwnerOnly)
}

/// Reads that key.
pub fn load_quic_key(data: &DataDir) -> Result<Secret<[u8; QUIC_KEY_LENGTH]>, CaError> {
    let path = data.quic_key();
    let unreadable = |source| CaError::File {
        path: shown(&path),
        source,
    };
    let bytes = Zeroizing::new(fs::read(&path).map_err(unreadable)?);
    let key = <[u8; QUIC_KEY_LENGTH]>::try_from(bytes.as_slice());
    key.map(Secret::new).map_err(|_| CaError::Damaged {
        path: shown(&path),
        source: None,
    })
}

fn server_names(advertise: Option<&str>) -> Vec<String> {
    let mut names = vec![
        HUB_NAME.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(
        advertise
            .map(host_of)
            .filter(|host| !names.iter().any(|n| n == host))
            .map(str::to_owned),
    );
    names
}

/// The host of `host`, `host:port` or `[v6]:port`.
pub(crate) fn host_of(advertise: &str) -> &str {
    if let Some(rest) = advertise.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match advertise.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        Some(_) | None => advertise,
    }
}

fn is_good(data: &DataDir, advertise: Option<&str>) -> bool {
    let Ok(pem) = fs::read(data.server_certificate()) else {
        return false;
    };
    let Ok(chain) = tls::certificates(&pem) else {
        return false;
    };
    let Some(Ok((_, leaf))) = chain
        .first()
        .map(|leaf| x509_parser::certificate::X509Certificate::from_der(leaf))
    else {
        return false;
    };
    let soon = SystemTime::now() + Duration::from_secs(30 * DAY);
    let soon = soon
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    let names: Vec<String> = match leaf.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(shown_name).collect(),
        Ok(None) | Err(_) => Vec::new(),
    };
    data.server_key().exists()
        && leaf.validity().not_after.timestamp() > soon
        && server_names(advertise).iter().all(|name| names.contains(name))
}

fn shown_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    }
}

/// An hour of the past is covered: clocks differ.
fn live(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + now.saturating_sub(Duration::from_secs(3600));
    params.not_after = epoch + now + life;
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn fresh_serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system's random source answers");
    // A serial number is positive and has no leading zeros.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn first_certificate(path: &Path, pem: &str) -> Result<CertificateDer<'static>, CaError> {
    let damaged = |source| CaError::Damaged {
        path: shown(path),
        source,
    };
    let all = tls::certificates(pem.as_bytes()).map_err(|e| damaged(Some(e)))?;
    all.into_iter().next().ok_or_else(|| damaged(None))
}

fn read_text(path: &Path) -> Result<String, CaError> {
    fs::read_to_string(path).map_err(|source| CaError::File {
        path: shown(path),
        source,
    })
}

fn write(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), CaError> {
    files::replace(path, bytes, readable).map_err(|source| CaError::File {
        path: shown(path),
        source,
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

const DAY: u64 = 86_400;
const CA_LIFE: Duration = Duration::from_secs(3_650 * DAY);
const SERVER_LIFE: Duration = Duration::from_secs(730 * DAY);
const DEVICE_LIFE: Duration = Duration::from_secs(DAY);
const LONGEST_REQUEST: usize = 16 * 1024;
const QUIC_KEY_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn new_hub() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        files::make_private_directory(data.ca_key().parent().unwrap()).unwrap();
        Authority::create(&data).unwrap();
        (dir, data)
    }

    fn request(key: &KeyPair, params: CertificateParams) -> String {
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_devices_certificate_names_it_whatever_the_request_asked_for() {
        let (_dir, data) = new_hub();
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["relay-hub".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let asked = Request::parse(&request(&key, greedy)).unwrap();
        let (tenant, device) = (TenantId::random(), DeviceId::random());
        let issued = Authority::open(&data)
            .unwrap()
            .sign_device(&asked, &tenant, &device, SystemTime::now())
            .unwrap();
        let der = tls::certificates(issued.pem.as_bytes()).unwrap().remove(0);
        let identity = DeviceIdentity::read(&der).unwrap();
        assert_eq!(
            (identity.tenant.as_str(), identity.device.as_str()),
            (tenant.as_str(), device.as_str())
        );
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (mine, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let params = CertificateParams::default();
        let good = params.serialize_request(&mine).unwrap();
        let foreign = params.serialize_request(&other).unwrap();
        // The body of one with the signature of the other: both are DER sequences of the same length but the signature.
        let mut mixed = good.der().to_vec();
        let signature = foreign.der().len() - 60;
        let at = mixed.len() - 60;
        mixed[at..].copy_from_slice(&foreign.der()[signature..]);
        let pem = pem_of(&mixed);
        assert!(matches!(Request::parse(&pem), Err(SignError::Request(_))));
        assert!(matches!(Request::parse("nonsense"), Err(SignError::Request(_))));
        assert_ne!(
            Request::parse(&good.pem().unwrap()).unwrap().key_hash(),
            Request::parse(&foreign.pem().unwrap()).unwrap().key_hash()
        );
    }

    fn pem_of(der: &[u8]) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(der)
        )
    }

    #[test]
    fn the_hubs_certificate_is_kept_until_it_no_longer_fits() {
        let (_dir, data) = new_hub();
        let first = ServerIdentity::load(&data, None).unwrap();
        assert_eq!(first.chain.len(), 2);
        assert_eq!(first.chain[1], first.ca);
        assert_eq!(ServerIdentity::load(&data, None).unwrap().chain, first.chain);
        let named = ServerIdentity::load(&data, Some("hub.example:8443")).unwrap();
        assert_ne!(named.chain, first.chain);
        assert_eq!(
            ServerIdentity::load(&data, Some("hub.example:9443")).unwrap().chain,
            named.chain
        );
    }

    #[test]
    fn hosts_are_found_in_addresses() {
        for (text, host) in [
            ("a.b", "a.b"),
            ("a.b:1", "a.b"),
            ("[::1]:2", "::1"),
            ("::1", "::1"),
            ("10.0.0.1:3", "10.0.0.1"),
        ] {
            assert_eq!(host_of(text), host);
        }
    }
}
