//! What a kubeconfig may not say: upstream refuses these, because it could only guess what is meant.

use std::collections::BTreeSet;

use dial::Proxy;
use kube::config::{AuthInfo, Cluster, Kubeconfig};

/// One thing that is wrong with a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigFinding {
    /// Where, e.g. `user.token`: of the user and the cluster that are used.
    pub field: &'static str,
    /// What, and what to do about it. Has no secrets.
    pub message: String,
}

impl std::fmt::Display for KubeconfigFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with the document itself. Its empty texts are gone already.
pub(super) fn of_document(document: &Kubeconfig) -> Vec<KubeconfigFinding> {
    let mut found = Vec::new();
    let mut expect = |field, is: &Option<String>, expected: &str| {
        if let Some(is) = is.as_ref().filter(|is| !is.is_empty() && *is != expected) {
            found.push(finding(field, format!("it is {is:?}, and has to be {expected:?}")));
        }
    };
    expect("apiVersion", &document.api_version, "v1");
    expect("kind", &document.kind, "Config");
    found.extend(repeated("clusters", document.clusters.iter().map(|one| &one.name)));
    found.extend(repeated("users", document.auth_infos.iter().map(|one| &one.name)));
    found.extend(repeated("contexts", document.contexts.iter().map(|one| &one.name)));
    found
}

/// Everything that is wrong with the cluster.
pub(super) fn of_cluster(cluster: &Cluster) -> Vec<KubeconfigFinding> {
    let mut found = Vec::new();
    let has_data = cluster.certificate_authority_data.is_some();
    if has_data && cluster.certificate_authority.is_some() {
        found.push(both("cluster.certificate-authority", "certificate-authority-data"));
    }
    let has_authority = has_data || cluster.certificate_authority.is_some();
    if has_authority && cluster.insecure_skip_tls_verify == Some(true) {
        let what = "a server that is not verified needs no certificate authority; remove one of them";
        found.push(finding("cluster.insecure-skip-tls-verify", what));
    }
    if let Some(Err(error)) = cluster.proxy_url.as_deref().map(Proxy::parse) {
        found.push(finding("cluster.proxy-url", error.to_string()));
    }
    found
}

/// The data of the certificate authority has no certificate.
pub(super) fn no_authority() -> KubeconfigFinding {
    finding("cluster.certificate-authority-data", "there is no certificate in PEM in it")
}

/// Everything that is wrong with the user.
pub(super) fn of_user(user: &AuthInfo) -> Vec<KubeconfigFinding> {
    let mut found = Vec::new();
    if user.token.is_some() && (user.username.is_some() || user.password.is_some()) {
        found.push(finding("user.token", "there is a password too, and only one of them can be shown"));
    }
    if user.token_file.is_some() && user.username.is_some() {
        found.push(finding("user.tokenFile", "there is a password too, and only one of them can be shown"));
    }
    if user.client_certificate.is_some() || user.client_certificate_data.is_some() {
        if user.client_certificate.is_some() && user.client_certificate_data.is_some() {
            found.push(both("user.client-certificate", "client-certificate-data"));
        }
        match (&user.client_key, &user.client_key_data) {
            (Some(_), Some(_)) => found.push(both("user.client-key", "client-key-data")),
            (None, None) => found.push(finding("user.client-key", "the client certificate has no key")),
            _ => {}
        }
    }
    if let Some(exec) = &user.exec {
        if user.auth_provider.is_some() {
            found.push(finding("user.exec", "there is an auth-provider too; remove it"));
        }
        let is_nameless = |one: &std::collections::HashMap<String, String>| {
            one.get("name").is_none_or(|name| name.is_empty())
        };
        if exec.env.iter().flatten().any(is_nameless) {
            found.push(finding("user.exec.env", "a variable has no name"));
        }
    }
    let is_more = user.impersonate_uid.is_some()
        || user.impersonate_groups.as_ref().is_some_and(|groups| !groups.is_empty())
        || user.impersonate_user_extra.as_ref().is_some_and(|extra| !extra.is_empty());
    if is_more && user.impersonate.is_none() {
        found.push(finding("user.as", "as-uid, as-groups and as-user-extra need a user to act as"));
    }
    found
}

fn repeated<'a>(
    field: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> impl Iterator<Item = KubeconfigFinding> {
    let mut seen = BTreeSet::new();
    names
        .filter(|name| !seen.insert(name.as_str()))
        .map(|name| finding(field, format!("{name:?} is there twice")))
        .collect::<Vec<_>>()
        .into_iter()
}

fn both(field: &'static str, other: &str) -> KubeconfigFinding {
    finding(field, format!("there is {other} too; remove one of them"))
}

fn finding(field: &'static str, message: impl Into<String>) -> KubeconfigFinding {
    KubeconfigFinding { field, message: message.into() }
}
