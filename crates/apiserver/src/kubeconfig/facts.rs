//! A kubeconfig looked at without talking to anybody: what it comes to, without its secrets.

use std::collections::BTreeMap;
use std::path::Path;

use dial::without_secret;
use kube::config::{AuthInfo, ExecConfig};
use serde::Serialize;

use super::{Identity, Loaded, impersonation, load};
use crate::connect::{ClientSettings, ConnectError, connect, install_crypto};

/// What a kubeconfig comes to, under the names of the fields it comes from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KubeconfigFacts {
    /// The server's address.
    pub server: String,
    /// The proxy, without user and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// Whether anybody may pose as the server.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_tls_verify: bool,
    /// The name the server has to have, where it is not that of its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// `inline`, a file, or nothing: the authorities of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// `inline`, a file, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// The key's file, if the certificate is in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<String>,
    /// What requests carry: `token`, `token file PATH`, `password of USER`, `exec plugin` or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<String>,
    /// The plugin, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecFacts>,
    /// Whom requests act as.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub impersonate: Option<String>,
    /// That user's UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_uid: Option<String>,
    /// That user's groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_groups: Option<Vec<String>>,
    /// What else there is to know of that user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_user_extra: Option<BTreeMap<String, Vec<String>>>,
}

/// The plugin that hands out credentials. Values of its environment may be secrets.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecFacts {
    api_version: Option<String>,
    command: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    /// The names of the variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    provide_cluster_info: bool,
}

const INLINE: &str = "inline";

/// Reads a kubeconfig as a node does that starts, and tells what it comes to. Nothing is sent, no
/// plugin is run.
///
/// # Errors
/// Those of [`connect`].
pub async fn examine_kubeconfig(path: &Path) -> Result<KubeconfigFacts, ConnectError> {
    install_crypto();
    let facts = facts_of(&load(path).await?)?;
    // Certificates, keys and tokens have to be of use too.
    connect(path, ClientSettings::default()).await?;
    Ok(facts)
}

fn facts_of(loaded: &Loaded) -> Result<KubeconfigFacts, ConnectError> {
    let (cluster, user) = (&loaded.cluster, &loaded.user);
    let identity = loaded.identity();
    let identity = identity.map_err(|source| ConnectError::Identity { path: loaded.path.clone(), source })?;
    let (client_certificate, client_key) = match identity {
        Identity::None => (None, None),
        Identity::Inline(_) => (Some(INLINE.to_owned()), None),
        Identity::Files(certificate, key) => {
            (Some(certificate.display().to_string()), Some(key.display().to_string()))
        }
    };
    let authority = cluster.certificate_authority_data.as_ref().map(|_| INLINE.to_owned());
    let authorization = authorization(user, client_certificate.is_some());
    let exec = user.exec.as_ref().filter(|_| authorization.as_deref() == Some(PLUGIN));
    let acting = impersonation(user.clone());
    Ok(KubeconfigFacts {
        server: loaded.config.cluster_url.to_string().trim_end_matches('/').to_owned(),
        proxy_url: cluster.proxy_url.as_deref().map(without_secret),
        insecure_skip_tls_verify: loaded.is_secure() && cluster.insecure_skip_tls_verify == Some(true),
        tls_server_name: cluster.tls_server_name.clone().filter(|_| loaded.is_secure()),
        certificate_authority: authority
            .or_else(|| cluster.certificate_authority.clone())
            .filter(|_| loaded.is_secure()),
        client_certificate,
        client_key,
        exec: exec.map(exec_facts),
        authorization,
        impersonate: acting.impersonate,
        as_uid: acting.impersonate_uid,
        as_groups: acting.impersonate_groups,
        as_user_extra: acting.impersonate_user_extra.map(|extra| extra.into_iter().collect()),
    })
}

const PLUGIN: &str = "exec plugin";

fn authorization(user: &AuthInfo, has_certificate: bool) -> Option<String> {
    if let Some(file) = &user.token_file {
        return Some(format!("token file {file}"));
    }
    if user.token.is_some() {
        return Some("token".to_owned());
    }
    if let Some(name) = &user.username {
        return Some(format!("password of {name}"));
    }
    user.exec.as_ref().filter(|_| !has_certificate).map(|_| PLUGIN.to_owned())
}

fn exec_facts(exec: &ExecConfig) -> ExecFacts {
    let names = exec.env.iter().flatten().filter_map(|variable| variable.get("name").cloned());
    ExecFacts {
        api_version: exec.api_version.clone(),
        command: exec.command.clone(),
        args: exec.args.clone().unwrap_or_default(),
        env: names.collect(),
        provide_cluster_info: exec.provide_cluster_info,
    }
}
