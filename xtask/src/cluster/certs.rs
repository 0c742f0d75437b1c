//! The cluster's keys, certificates and kubeconfig files, made anew for each cluster.

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use super::Paths;
use crate::isolation::{NODE, NODE_IP, NODE_IPV6};
use crate::workspace::write;

/// What the API server calls itself to servers of other API groups.
pub(super) const AGGREGATOR: &str = "front-proxy-client";

/// Who a certificate is for.
struct Subject {
    /// The file name without its ending.
    file: &'static str,
    common_name: String,
    /// Groups, to the API server.
    organization: Option<&'static str>,
    /// Names and addresses for a server.
    hosts: Vec<String>,
    /// Whether a kubeconfig is written for it.
    kubeconfig: bool,
}

fn subjects() -> Vec<Subject> {
    let client = |file, common_name: String, organization| Subject {
        file,
        common_name,
        organization,
        hosts: Vec::new(),
        kubeconfig: true,
    };
    let server = |file, common_name: String, hosts: &[&str]| Subject {
        file,
        common_name,
        organization: None,
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        kubeconfig: false,
    };
    let api_names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "127.0.0.1",
        NODE_IP,
        "10.96.0.1",
    ];
    vec![
        client("admin", "admin".into(), Some("system:masters")),
        client("controllers", "system:kube-controller-manager".into(), None),
        client("scheduler", "system:kube-scheduler".into(), None),
        client("node", format!("system:node:{NODE}"), Some("system:nodes")),
        Subject { kubeconfig: false, ..client("aggregator", AGGREGATOR.into(), None) },
        server("apiserver", "kube-apiserver".into(), &api_names),
        server("kubelet", NODE.into(), &[NODE, "localhost", "127.0.0.1", NODE_IP, NODE_IPV6]),
    ]
}

fn authority() -> CertificateParams {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(DnType::CommonName, "ferrolet-test-ca");
    authority
}

/// Writes everything to the state folder.
pub(super) fn write_all(paths: &Paths) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let authority = authority();
    write(&paths.file("ca.crt"), authority.self_signed(&authority_key)?.pem())?;
    write(&paths.file("ca.key"), authority_key.serialize_pem())?;
    let issuer = Issuer::from_params(&authority, &authority_key);

    for subject in subjects() {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subject.hosts)?;
        params.distinguished_name.push(DnType::CommonName, subject.common_name);
        if let Some(organization) = subject.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        write(&paths.file(&format!("{}.crt", subject.file)), params.signed_by(&key, &issuer)?.pem())?;
        write(&paths.file(&format!("{}.key", subject.file)), key.serialize_pem())?;
        if subject.kubeconfig {
            let credentials = json!({
                "client-certificate": paths.file(&format!("{}.crt", subject.file)),
                "client-key": paths.file(&format!("{}.key", subject.file)),
            });
            write_kubeconfig(paths, subject.file, &credentials)?;
        }
    }

    // Service account tokens are signed with this pair; the API server accepts ECDSA as well as RSA.
    let accounts = KeyPair::generate()?;
    write(&paths.file("accounts.key"), accounts.serialize_pem())?;
    write(&paths.file("accounts.pub"), accounts.public_key_pem())
}

/// Who signs for the cluster.
fn issuer(paths: &Paths) -> Result<Issuer<'static, KeyPair>> {
    let authority_key = std::fs::read_to_string(paths.file("ca.key")).context("read the authority's key")?;
    Ok(Issuer::new(authority(), KeyPair::from_pem(&authority_key)?))
}

/// A client certificate of an administrator that names a uid, with its key, in one text.
pub(crate) fn admin_pair_with_uid(paths: &Paths, uid: &str) -> Result<String> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.distinguished_name.push(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]), uid);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.signed_by(&key, &issuer(paths)?)?.pem() + &key.serialize_pem())
}

/// A client certificate of a node with its key, in one text, valid around now by these many seconds.
pub(crate) fn node_pair(paths: &Paths, node: &str, from_seconds: i64, to_seconds: i64) -> Result<String> {
    let issuer = issuer(paths)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now + time::Duration::seconds(from_seconds);
    params.not_after = now + time::Duration::seconds(to_seconds);
    Ok(params.signed_by(&key, &issuer)?.pem() + &key.serialize_pem())
}

/// A new certificate for the kubelet's server and its key, each as text.
pub(crate) fn serving_pair(paths: &Paths) -> Result<(String, String)> {
    let issuer = issuer(paths)?;
    let key = KeyPair::generate()?;
    let hosts = [NODE, "localhost", "127.0.0.1", NODE_IP].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, NODE);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
}

/// An authority that nobody trusts, unless told to.
pub(crate) struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// Another authority, of the same name as the cluster's.
    pub(crate) fn generate() -> Result<Self> {
        Ok(Self { params: authority(), key: KeyPair::generate()? })
    }

    /// Its own certificate, as text.
    pub(crate) fn certificate(&self) -> Result<String> {
        Ok(self.params.self_signed(&self.key)?.pem())
    }

    /// A certificate for an administrator with its key, in one text.
    pub(crate) fn admin_pair(&self) -> Result<String> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.distinguished_name.push(DnType::CommonName, "admin");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&key, &issuer)?.pem() + &key.serialize_pem())
    }
}

/// A certificate for an administrator with its key, in one text, from an authority that nobody trusts.
pub(crate) fn stranger_pair() -> Result<String> {
    Authority::generate()?.admin_pair()
}

/// Writes `USER.kubeconfig` for the API server with these credentials.
pub(crate) fn write_kubeconfig(paths: &Paths, user: &str, credentials: &Value) -> Result<()> {
    let cluster =
        json!({ "server": "https://127.0.0.1:6443", "certificate-authority": paths.file("ca.crt") });
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": user, "user": credentials }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
        "current-context": "test",
    });
    write(&paths.file(&format!("{user}.kubeconfig")), document.to_string())
}
