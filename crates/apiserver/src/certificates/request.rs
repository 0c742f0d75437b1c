//! What a certificate is asked for: subject, names, usages and the PKCS #10 document.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::string::PrintableString;
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, SanType};
use sha2::{Digest as _, Sha512_256};
use thiserror::Error;

use super::key::RequestKey;

/// The group all nodes are in.
const NODES: &str = "system:nodes";

/// A certificate request that cannot be made.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The system has no randomness.
    #[error("make a private key")]
    Generate(#[source] rcgen::Error),
    /// No key in the text.
    #[error("read a private key")]
    KeyPem(#[source] rustls::pki_types::pem::Error),
    /// The key is damaged.
    #[error("use a private key")]
    Key(#[source] rustls::Error),
    /// Not RSA, ECDSA or Ed25519.
    #[error("the private key is of a kind that cannot sign requests")]
    KeyKind,
    /// A name cannot be written into a request.
    #[error("write the certificate request")]
    Write(#[source] rcgen::Error),
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Showing to the API server who the node is.
    Client,
    /// Serving the node's own API.
    Serving,
}

impl Use {
    /// Who signs it.
    pub(crate) fn signer(self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    /// `spec.usages`, in the order upstream writes them on rotation.
    pub(crate) fn usages(self, is_rsa: bool) -> Vec<&'static str> {
        let authenticates = match self {
            Self::Client => "client auth",
            Self::Serving => "server auth",
        };
        let mut usages = vec!["digital signature"];
        if is_rsa {
            usages.push("key encipherment");
        }
        usages.push(authenticates);
        usages
    }
}

/// What is to stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// `system:node:<name>`.
    pub common_name: String,
    /// `system:nodes`.
    pub organizations: Vec<String>,
    /// For serving: the node's DNS names.
    pub dns_names: BTreeSet<String>,
    /// For serving: the node's addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Template {
    /// Of a client certificate.
    pub fn for_client(node_name: &str) -> Self {
        Self {
            common_name: format!("system:node:{node_name}"),
            organizations: vec![NODES.to_owned()],
            dns_names: BTreeSet::new(),
            addresses: BTreeSet::new(),
        }
    }

    /// Of a serving certificate, from the node's addresses as (type, address). `None` while there
    /// is no address to ask for; `allows_dns_only` is the feature gate `AllowDNSOnlyNodeCSR`.
    pub fn for_serving<'a>(
        node_name: &str,
        node_addresses: impl IntoIterator<Item = (&'a str, &'a str)>,
        allows_dns_only: bool,
    ) -> Option<Self> {
        let mut template = Self::for_client(node_name);
        for (kind, text) in node_addresses.into_iter().filter(|(_, text)| !text.is_empty()) {
            match (kind, text.parse::<IpAddr>()) {
                ("Hostname" | "ExternalIP" | "InternalIP", Ok(address)) => {
                    template.addresses.insert(address);
                }
                ("Hostname" | "ExternalDNS" | "InternalDNS", _) => {
                    template.dns_names.insert(text.to_owned());
                }
                _ => {}
            }
        }
        let is_enough = !template.addresses.is_empty() || allows_dns_only && !template.dns_names.is_empty();
        is_enough.then_some(template)
    }

    /// The PKCS #10 document in PEM, signed with the key.
    pub(crate) fn request_pem(&self, key: &RequestKey) -> Result<String, RequestError> {
        let mut params = CertificateParams::new(Vec::new()).map_err(RequestError::Write)?;
        params.distinguished_name = DistinguishedName::new();
        for name in &self.organizations {
            params.distinguished_name.push(DnType::OrganizationName, dn_value(name));
        }
        params.distinguished_name.push(DnType::CommonName, dn_value(&self.common_name));
        for name in &self.dns_names {
            let name = name.as_str().try_into().map_err(RequestError::Write)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        // By their text, as upstream sorts them.
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort_by_key(ToString::to_string);
        params.subject_alt_names.extend(addresses.into_iter().map(|ip| SanType::IpAddress(*ip)));
        let request = params.serialize_request(key).map_err(RequestError::Write)?;
        Ok(super::key::pem_block("CERTIFICATE REQUEST", request.der()))
    }
}

/// The narrowest kind of string that holds the text, as Go's encoder picks it.
fn dn_value(text: &str) -> DnValue {
    PrintableString::try_from(text)
        .map_or_else(|_| DnValue::Utf8String(text.to_owned()), DnValue::PrintableString)
}

/// The name of a bootstrap request: the same for the same key and wishes, so that a kubelet which
/// is started again takes up the request it has made before. It is upstream's formula, so either
/// kubelet finds the other's request.
pub(crate) fn digested_name(key: &RequestKey, template: &Template, usages: &[&str]) -> String {
    let mut hash = Sha512_256::new();
    // The delimiter is not in the alphabet: different lists never give the same text.
    let mut write = |data: &[u8]| hash.update(URL_SAFE_NO_PAD.encode(data) + "|");
    write(key.public_info());
    write(template.common_name.as_bytes());
    template.organizations.iter().for_each(|name| write(name.as_bytes()));
    usages.iter().for_each(|usage| write(usage.as_bytes()));
    format!("node-csr-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateSigningRequestDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    use super::*;

    /// The secret 0, 1, 2, …; guards nothing. The name it leads to was computed with Go.
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\n\
        MHcCAQEEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4foAoGCCqGSM49\n\
        AwEHoUQDQgAEelkxgIYMQDfIPBJ0mEXI7hQk3Sl/rcuJXjWCVdLH0rKoyiVYDyYm\n\
        /leQYv8bmf+RwkoNoG+zK1viAUjJJJ9WUA==\n\
        -----END EC PRIVATE KEY-----\n";

    #[test]
    fn usages_depend_on_the_kind_of_key() {
        assert_eq!(Use::Client.usages(false), ["digital signature", "client auth"]);
        assert_eq!(Use::Client.usages(true), ["digital signature", "key encipherment", "client auth"]);
        assert_eq!(Use::Serving.usages(false), ["digital signature", "server auth"]);
    }

    #[test]
    fn serving_names_come_from_the_addresses_of_the_node() {
        let all = [
            ("InternalIP", "10.0.0.1"),
            ("ExternalIP", "not an address"),
            ("Hostname", "n1"),
            ("Hostname", "10.0.0.2"),
            ("InternalDNS", "n1.internal"),
            ("InternalDNS", ""),
            ("Other", "ignored"),
            ("InternalIP", "fd00::1"),
        ];
        let template = Template::for_serving("n1", all, false).unwrap();
        assert_eq!(template.dns_names, BTreeSet::from(["n1".to_owned(), "n1.internal".to_owned()]));
        let addresses: Vec<String> = template.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert_eq!(template.common_name, "system:node:n1");
        assert_eq!(Template::for_serving("n1", [("Hostname", "n1")], false), None);
        assert!(Template::for_serving("n1", [("Hostname", "n1")], true).is_some());
        assert_eq!(Template::for_serving("n1", [], true), None);
    }

    #[test]
    fn the_request_says_what_the_template_says() {
        let key = RequestKey::generate().unwrap();
        let addresses = [("InternalIP", "10.0.0.1"), ("Hostname", "n1")];
        let template = Template::for_serving("n1", addresses, false).unwrap();
        let pem = template.request_pem(&key).unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        let info = &request.certification_request_info;
        assert_eq!(info.subject.to_string(), "O=system:nodes, CN=system:node:n1");
        assert_eq!(info.subject_pki.raw, key.public_info());
        let names: Vec<String> =
            request.requested_extensions().unwrap().map(|extension| format!("{extension:?}")).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(names[0].contains("DNSName(\"n1\"), IPAddress"), "{names:?}");
        // A client's request asks for no extension at all: its signer refuses names.
        let pem = Template::for_client("n1").request_pem(&key).unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        assert!(request.requested_extensions().is_none());
    }

    #[test]
    fn the_name_of_a_request_follows_from_key_and_wishes() {
        let key = RequestKey::from_pem(KEY).unwrap();
        let usages = Use::Client.usages(false);
        let name = digested_name(&key, &Template::for_client("n1"), &usages);
        assert_eq!(name, "node-csr-OuBt8j4pm7TedjpxrTBNOx4dECaUbrg9-E7iYBjOFvQ");
        assert_eq!(name, digested_name(&key, &Template::for_client("n1"), &usages));
        assert_ne!(name, digested_name(&key, &Template::for_client("n2"), &usages));
    }
}
