//! A kubeconfig read and taken apart: where the server is, and who we are to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use kube::Config;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};
use secrecy::ExposeSecret as _;

use crate::certificates::CertificatePair;
use crate::connect::ConnectError;
use crate::credentials::{Credentials, ExecPlugin, TokenFile, basic, bearer};
use crate::excerpt;
use crate::identity::{FILE_CHECK, FileIdentity, IdentityError, Renewals, ShownIdentity};
use crate::news::{IdentityNews, Observer};

/// What a kubeconfig says, with paths that no longer depend on where it is.
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    /// The server's side. Its user is empty.
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) user: AuthInfo,
}

/// The client certificate of a kubeconfig.
pub(crate) enum Identity {
    /// It has none.
    None,
    /// It stands in it.
    Inline(CertificatePair),
    /// It names files.
    Files(PathBuf, PathBuf),
}

/// Reads a kubeconfig.
///
/// # Errors
/// [`ConnectError`], naming the file.
pub(crate) async fn load(path: &Path) -> Result<Loaded, ConnectError> {
    let fail = |source| ConnectError::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(excerpt::without(source)),
    };
    let document = Kubeconfig::read_from(path).map_err(fail)?;
    let cluster = current_cluster(&document).unwrap_or_default();
    let mut config =
        Config::from_custom_kubeconfig(document, &KubeConfigOptions::default()).await.map_err(fail)?;
    let user = std::mem::take(&mut config.auth_info);
    // Ours to decide; the library would take the environment's whatever NO_PROXY says.
    config.proxy_url = None;
    if cluster.certificate_authority_data.is_none() {
        // Read again every minute, so that the authority can be replaced.
        config.root_cert_file = cluster.certificate_authority.as_ref().map(PathBuf::from);
    }
    if user.auth_provider.is_some() {
        return Err(ConnectError::AuthProvider { path: path.to_owned() });
    }
    Ok(Loaded { path: path.to_owned(), config, cluster, user })
}

fn current_cluster(document: &Kubeconfig) -> Option<Cluster> {
    let name = document.current_context.as_ref()?;
    let context = document.contexts.iter().find(|one| one.name == *name)?.context.as_ref()?;
    document.clusters.iter().find(|one| one.name == context.cluster)?.cluster.clone()
}

impl Loaded {
    /// The client certificate, read from the document but not from files.
    ///
    /// # Errors
    /// If it is half there or damaged.
    pub(crate) fn identity(&self) -> Result<Identity, IdentityError> {
        let user = &self.user;
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let certificate_data = text(&user.client_certificate_data);
        let key_data = user.client_key_data.as_ref().map(|secret| secret.expose_secret().to_owned());
        let key_data = text(&key_data);
        let (certificate, key) = (text(&user.client_certificate), text(&user.client_key));
        match (&certificate_data, &key_data, &certificate, &key) {
            (None, None, None, None) => return Ok(Identity::None),
            (None, None, Some(certificate), Some(key)) => {
                return Ok(Identity::Files(certificate.into(), key.into()));
            }
            _ => {}
        }
        // Data goes before files, each for itself.
        let chain_pem = part("client-certificate-data", certificate_data, certificate)?;
        let key_pem = part("client-key-data", key_data, key)?;
        CertificatePair::parse(&chain_pem, &key_pem).map(Identity::Inline).map_err(IdentityError::Inline)
    }

    /// What requests carry. A token goes before a password, both and a certificate before a plugin.
    ///
    /// # Errors
    /// [`ConnectError::Credentials`].
    pub(crate) fn credentials(
        &self,
        identity: &Arc<ShownIdentity>,
        renewals: &Renewals,
        observer: &Observer<IdentityNews>,
    ) -> Result<Credentials, ConnectError> {
        let user = &self.user;
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| ConnectError::Credentials {
            path: self.path.clone(),
            source,
        };
        if let Some(file) = user.token_file.as_ref().filter(|file| !file.is_empty()) {
            let file = TokenFile::open(Path::new(file)).map_err(|error| fail(error.into()))?;
            return Ok(Credentials::File(file));
        }
        if let Some(token) = user.token.as_ref().map(|token| token.expose_secret()).filter(|t| !t.is_empty())
        {
            return bearer(token).map(Credentials::Fixed).map_err(|error| fail(error.into()));
        }
        if let Some(name) = user.username.as_ref().filter(|name| !name.is_empty()) {
            let password = user.password.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
            return basic(name, password).map(Credentials::Fixed).map_err(|error| fail(error.into()));
        }
        let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
        match &user.exec {
            Some(exec) if !has_certificate => {
                let plugin = ExecPlugin::new(exec, identity.clone(), renewals.clone(), observer.clone());
                plugin.map(Credentials::Exec).map_err(|error| fail(error.into()))
            }
            _ => Ok(Credentials::None),
        }
    }

    /// Opens the files of an identity.
    pub(crate) fn open_files(&self, certificate: &Path, key: &Path) -> Result<FileIdentity, ConnectError> {
        FileIdentity::open(certificate, key, FILE_CHECK)
            .map_err(|source| ConnectError::Identity { path: self.path.clone(), source })
    }
}

fn part(field: &'static str, data: Option<String>, file: Option<String>) -> Result<Vec<u8>, IdentityError> {
    match (data, file) {
        (Some(data), _) => base64::engine::general_purpose::STANDARD
            .decode(data.trim())
            .map_err(|source| IdentityError::Base64 { field, source }),
        (None, Some(file)) => {
            std::fs::read(&file).map_err(|source| IdentityError::Read { path: file.into(), source })
        }
        (None, None) => Err(IdentityError::Half),
    }
}

/// The kubeconfig of a node whose certificate is in its folder of certificates, for the server
/// another kubeconfig names. Laid out as upstream writes it, so that tools which edit it find what
/// they expect; upstream forgets the proxy and the server's TLS name, which are kept here.
pub(crate) fn for_certificate(cluster: &Cluster, pair: &Path) -> String {
    let mut text = String::from("apiVersion: v1\nclusters:\n- cluster:\n");
    let mut field = |name: &str, value: &Option<String>| {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            text.push_str(&format!("    {name}: {}\n", scalar(value)));
        }
    };
    match &cluster.certificate_authority {
        file @ Some(_) => field("certificate-authority", file),
        None => field("certificate-authority-data", &cluster.certificate_authority_data),
    }
    if cluster.insecure_skip_tls_verify == Some(true) {
        field("insecure-skip-tls-verify", &Some("true".to_owned()));
    }
    field("proxy-url", &cluster.proxy_url);
    field("server", &cluster.server);
    field("tls-server-name", &cluster.tls_server_name);
    let pair = scalar(&pair.to_string_lossy());
    text.push_str(&format!(
        "  name: default-cluster\n\
         contexts:\n\
         - context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n  name: default-context\n\
         current-context: default-context\n\
         kind: Config\n\
         users:\n\
         - name: default-auth\n  user:\n    client-certificate: {pair}\n    client-key: {pair}\n"
    ));
    text
}

/// A string in YAML: plain where that is safe, else quoted as JSON is.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+=:@".contains(c))
        && !text.ends_with(':');
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_written_kubeconfig_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let cluster = Cluster {
            server: Some("https://[fd00::1]:6443".into()),
            certificate_authority_data: Some("Y2E=".into()),
            tls_server_name: Some("kubernetes".into()),
            ..Cluster::default()
        };
        std::fs::write(&path, for_certificate(&cluster, Path::new("/pki/with: space.pem"))).unwrap();
        let read = Kubeconfig::read_from(&path).unwrap();
        let found = current_cluster(&read).unwrap();
        assert_eq!(found.server, cluster.server);
        assert_eq!(found.certificate_authority_data, cluster.certificate_authority_data);
        assert_eq!(found.tls_server_name, cluster.tls_server_name);
        let user = read.auth_infos[0].auth_info.clone().unwrap();
        assert_eq!(user.client_certificate.as_deref(), Some("/pki/with: space.pem"));
        assert_eq!(user.client_key.as_deref(), Some("/pki/with: space.pem"));
    }

    #[test]
    fn the_written_kubeconfig_is_upstreams() {
        let cluster = Cluster {
            server: Some("https://127.0.0.1:6443".into()),
            certificate_authority: Some("/etc/ca.crt".into()),
            ..Cluster::default()
        };
        let text = for_certificate(&cluster, Path::new("/var/lib/kubelet/pki/kubelet-client-current.pem"));
        // What the Go kubelet v1.37 wrote for the same input.
        let upstream = "apiVersion: v1\n\
            clusters:\n\
            - cluster:\n    certificate-authority: /etc/ca.crt\n    server: https://127.0.0.1:6443\n  name: default-cluster\n\
            contexts:\n\
            - context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n  name: default-context\n\
            current-context: default-context\n\
            kind: Config\n\
            users:\n\
            - name: default-auth\n  user:\n    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem\n";
        assert_eq!(text, upstream);
    }
}
