//! The certificates between a hub and its egress nodes: a node shows that it is this node, the hub that it is the hub.
//! Neither can stand for a device, nor a device for one of them.

use std::time::SystemTime;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use relay_shared::{tls::HUB_URI, tunnel::client::Identity};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Authority, CaError, DEVICE_LIFE, Issued, Request, SignError, leaf, live};
use crate::ids::NodeId;

impl Authority {
    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A server certificate of a day that names the node. Nothing of the request is taken over but its key.
    pub fn sign_node(&self, request: &Request, node: &NodeId, now: SystemTime) -> Result<Issued, SignError> {
        let name = node.server_name().try_into().map_err(SignError::Sign)?;
        let names = vec![SanType::DnsName(name)];
        self.sign(
            request,
            leaf(node.as_str(), names, ExtendedKeyUsagePurpose::ServerAuth),
            now,
        )
    }

    /// What the hub shows to its nodes: a fresh key and a client certificate of a day. It is made for each connection
    /// and kept nowhere.
    pub fn hub_client(&self, now: SystemTime) -> Result<Identity, CaError> {
        let key = KeyPair::generate()?;
        let uri = SanType::URI(HUB_URI.try_into()?);
        let mut params = leaf("relay-hub", vec![uri], ExtendedKeyUsagePurpose::ClientAuth);
        live(&mut params, now, DEVICE_LIFE);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;
    use relay_shared::tls::{self, Clients};

    use super::*;
    use crate::{
        config::DataDir,
        files,
        ids::{DeviceId, TenantId},
    };

    #[test]
    fn a_certificate_is_good_for_what_it_was_made_and_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        files::make_private_directory(data.ca_key().parent().unwrap()).unwrap();
        let (authority, now) = (Authority::create(&data).unwrap(), SystemTime::now());
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let request = Request::parse(&request.pem().unwrap()).unwrap();
        let der = |pem: &str| tls::certificates(pem.as_bytes()).unwrap().remove(0);

        let device = authority.sign_device(&request, &TenantId::random(), &DeviceId::random(), now);
        let device = der(&device.unwrap().pem);
        let node = der(&authority.sign_node(&request, &NodeId::random(), now).unwrap().pem);
        let hub = authority.hub_client(now).unwrap().chain.remove(0);
        for (certificate, is_device, is_hub) in [(device, true, false), (node, false, false), (hub, false, true)] {
            assert_eq!(Clients::Devices.read(&certificate).is_ok(), is_device);
            assert_eq!(Clients::Hub.read(&certificate).is_ok(), is_hub);
        }
    }
}
