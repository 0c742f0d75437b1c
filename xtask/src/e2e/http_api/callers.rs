//! Who asks: nobody, holders of certificates, and service accounts with one right each.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;

use crate::cluster::{Paths, node_pair, stranger_pair};
use crate::e2e::scene::Scene;
use crate::isolation::NODE;

/// Service accounts: name, verbs, and the subresource of nodes they are allowed to use.
const ACCOUNTS: &[(&str, &[&str], &str)] = &[
    ("no-rights", &[], ""),
    ("healthz", &["get"], "healthz"),
    ("pods", &["get"], "pods"),
    ("configz", &["get"], "configz"),
    ("metrics", &["get", "delete"], "metrics"),
    ("stats", &["get", "create"], "stats"),
    ("log", &["get"], "log"),
    ("checkpoint", &["create"], "checkpoint"),
    ("statusz", &["get"], "statusz"),
    ("proxy-get", &["get"], "proxy"),
    ("proxy-create", &["create"], "proxy"),
    ("proxy", &["*"], "proxy"),
];

/// A caller's means to prove who it is.
#[derive(Clone)]
pub(super) struct Caller {
    /// What it speaks TLS with, and thus its certificate.
    pub(super) tls: Arc<ClientConfig>,
    /// Its bearer token.
    pub(super) token: Option<String>,
}

/// All callers by name.
pub(super) struct Callers(BTreeMap<String, Caller>);

impl Callers {
    /// Makes the accounts with their rights and the certificates.
    pub(super) async fn arrange(scene: &Scene) -> Result<Self> {
        let paths = &scene.cluster.paths;
        let plain = Arc::new(tls(paths, None)?);
        let mut callers = BTreeMap::new();
        let token = |token: String| Caller { tls: plain.clone(), token: Some(token) };
        callers.insert("none".to_owned(), Caller { tls: plain.clone(), token: None });
        callers.insert("bad-token".to_owned(), token("nobody.gave.this".to_owned()));
        let read = |name: &str| {
            let path = paths.file(name);
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        for (name, pair) in [
            ("admin", read("admin.crt")? + &read("admin.key")?),
            ("node", read("node.crt")? + &read("node.key")?),
            ("expired", node_pair(paths, NODE, -7200, -3600)?),
            ("stranger", stranger_pair()?),
        ] {
            let tls = Arc::new(tls(paths, Some(&pair))?);
            callers.insert(name.to_owned(), Caller { tls, token: None });
        }
        for (name, verbs, subresource) in ACCOUNTS {
            account(scene, name, verbs, subresource).await.with_context(|| format!("make account {name}"))?;
            let made = scene.kubectl_out(&["create", "token", name]).await?;
            callers.insert((*name).to_owned(), token(made.trim().to_owned()));
        }
        // A certificate that is good wins over a token that is not, and the other way round.
        let admin = callers["admin"].tls.clone();
        let mixed = Caller { tls: admin, token: callers["bad-token"].token.clone() };
        callers.insert("admin-with-bad-token".to_owned(), mixed);
        let stranger = callers["stranger"].tls.clone();
        let mixed = Caller { tls: stranger, token: callers["proxy"].token.clone() };
        callers.insert("stranger-with-token".to_owned(), mixed);
        Ok(Self(callers))
    }

    /// A caller by name.
    pub(super) fn get(&self, name: &str) -> Result<&Caller> {
        self.0.get(name).with_context(|| format!("there is no caller {name:?}"))
    }
}

async fn account(scene: &Scene, name: &str, verbs: &[&str], subresource: &str) -> Result<()> {
    scene.create::<ServiceAccount>(json!({ "metadata": { "name": name } })).await?;
    if verbs.is_empty() {
        return Ok(());
    }
    let full = format!("{}-{name}", scene.namespace);
    let roles: Api<ClusterRole> = Api::all(scene.cluster.client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(scene.cluster.client.clone());
    // Left by nobody but a run of the same scenario on this cluster.
    let _ = roles.delete(&full, &DeleteParams::default()).await;
    let _ = bindings.delete(&full, &DeleteParams::default()).await;
    let rules = json!([{ "apiGroups": [""], "resources": [format!("nodes/{subresource}")], "verbs": verbs }]);
    let role = serde_json::from_value(json!({ "metadata": { "name": full }, "rules": rules }))?;
    roles.create(&PostParams::default(), &role).await?;
    let group = "rbac.authorization.k8s.io";
    let binding = serde_json::from_value(json!({
        "metadata": { "name": full },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": full },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": scene.namespace }],
    }))?;
    bindings.create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// Trusts the cluster's authority, and shows the certificate of a pair if there is one.
fn tls(paths: &Paths, pair: Option<&str>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(paths.file("ca.crt")).context("read the authority")?;
    roots.add(authority).context("use the authority")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_root_certificates(roots);
    let Some(pair) = pair else { return Ok(builder.with_no_client_auth()) };
    let certificate = CertificateDer::from_pem_slice(pair.as_bytes()).context("read a certificate")?;
    let key = PrivateKeyDer::from_pem_slice(pair.as_bytes()).context("read a key")?;
    builder.with_client_auth_cert(vec![certificate], key).context("use a certificate")
}
