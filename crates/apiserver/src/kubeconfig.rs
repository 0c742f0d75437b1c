//! A kubeconfig read and taken apart: where the server is, and who we are to it.

mod facts;
mod rules;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use dial::{Proxies, Proxy, is_local};
use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, KubeconfigError};
use secrecy::{ExposeSecret as _, SecretString};

use crate::certificates::CertificatePair;
use crate::connect::ConnectError;
use crate::credentials::{Credentials, ExecPlugin, TokenFile, basic, bearer};
use crate::identity::{FILE_CHECK, FileIdentity, IdentityError, Renewals, ShownIdentity};
use crate::observer::{CredentialEvent, Observer};

pub use facts::{ExecFacts, KubeconfigFacts, examine_kubeconfig};
pub use rules::KubeconfigFinding;

/// What a kubeconfig says, with paths that no longer depend on where it is.
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    /// The server's side. Its user is empty.
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    /// The cluster's, or those of the environment.
    pub(crate) proxies: Proxies,
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
    let fail = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| fail(KubeconfigError::ReadConfig(error, path.to_owned())))?;
    let mut document = parse(&text).map_err(|error| fail(KubeconfigError::Parse(Box::new(error))))?;
    tidy(&mut document, path);
    let cluster = current_cluster(&document).unwrap_or_default();
    let mut findings = rules::of_document(&document);
    findings.extend(rules::of_cluster(&cluster));
    findings.extend(current_user(&document).iter().flat_map(rules::of_user));
    if !findings.is_empty() {
        return Err(ConnectError::Contradictory { path: path.to_owned(), findings });
    }
    let mut config =
        Config::from_custom_kubeconfig(document, &KubeConfigOptions::default()).await.map_err(fail)?;
    let mut user = std::mem::take(&mut config.auth_info);
    // Ours to decide; the library would take the environment's whatever NO_PROXY says.
    config.proxy_url = None;
    let proxies = match cluster.proxy_url.as_deref().map(Proxy::parse).transpose() {
        Ok(chosen) => chosen.map_or_else(Proxies::of_environment, Proxies::always),
        Err(source) => return Err(ConnectError::Proxy { path: path.to_owned(), source }),
    };
    if cluster.certificate_authority_data.is_some() && config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        let findings = vec![rules::no_authority()];
        return Err(ConnectError::Contradictory { path: path.to_owned(), findings });
    }
    if cluster.certificate_authority_data.is_none() {
        // Read again when it changes, so that the authority can be replaced.
        config.root_cert_file = cluster.certificate_authority.as_ref().map(PathBuf::from);
    }
    if user.auth_provider.is_some() {
        return Err(ConnectError::AuthProvider { path: path.to_owned() });
    }
    let is_secure = config.cluster_url.scheme_str() == Some("https");
    let proxy = proxies.for_server(&config.cluster_url).ok().flatten();
    let needs_roots = is_secure || proxy.is_some_and(Proxy::has_tls);
    if !needs_roots || config.accept_invalid_certs {
        // Without any the library demands that the machine has some, and reads them all.
        config.root_cert.get_or_insert_default();
    }
    // Whoever is on the way could read them. Upstream leaves them out even if nobody is.
    if !is_secure && (proxy.is_some() || !is_local(&config.cluster_url)) {
        user = impersonation(user);
    }
    Ok(Loaded { path: path.to_owned(), config, cluster, proxies, user })
}

/// Reads the first document of a text, as upstream. An error shows no lines around a mistake: they may hold a token or
/// a key, and it ends up in the log.
fn parse(text: &str) -> Result<Kubeconfig, serde_saphyr::Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut reader = text.as_bytes();
    let first = serde_saphyr::read_with_options::<_, Kubeconfig>(&mut reader, options).next();
    first.unwrap_or_else(|| Ok(Kubeconfig::default()))
}

fn current_cluster(document: &Kubeconfig) -> Option<Cluster> {
    let context = current_context(document)?;
    document.clusters.iter().find(|one| one.name == context.cluster)?.cluster.clone()
}

fn current_user(document: &Kubeconfig) -> Option<AuthInfo> {
    let name = current_context(document)?.user.as_ref()?;
    document.auth_infos.iter().find(|one| one.name == *name)?.auth_info.clone()
}

fn current_context(document: &Kubeconfig) -> Option<&Context> {
    let name = document.current_context.as_ref()?;
    document.contexts.iter().find(|one| one.name == *name)?.context.as_ref()
}

/// Whom requests are to act for: all that the library still has to know of the user.
pub(crate) fn impersonation(user: AuthInfo) -> AuthInfo {
    AuthInfo {
        impersonate: user.impersonate,
        impersonate_uid: user.impersonate_uid,
        impersonate_groups: user.impersonate_groups,
        impersonate_user_extra: user.impersonate_user_extra,
        ..AuthInfo::default()
    }
}

/// Brings a document into the one form that the rest deals with: no empty texts, paths that do not
/// depend on where the process is, data of one line, a server with its scheme.
fn tidy(document: &mut Kubeconfig, path: &Path) {
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    for cluster in document.clusters.iter_mut().filter_map(|one| one.cluster.as_mut()) {
        drop_empty(&mut cluster.server);
        drop_empty(&mut cluster.certificate_authority);
        drop_empty(&mut cluster.certificate_authority_data);
        drop_empty(&mut cluster.proxy_url);
        drop_empty(&mut cluster.tls_server_name);
        absolute(&folder, &mut cluster.certificate_authority);
        if let Some(data) = &mut cluster.certificate_authority_data {
            *data = one_line(data);
        }
        if let Some(server) = cluster.server.as_mut().filter(|server| !server.contains("://")) {
            // Upstream decides before it has looked at the certificates.
            *server = format!("http://{server}");
        }
    }
    for user in document.auth_infos.iter_mut().filter_map(|one| one.auth_info.as_mut()) {
        let files = [&mut user.token_file, &mut user.client_certificate, &mut user.client_key];
        for file in files {
            drop_empty(file);
            absolute(&folder, file);
        }
        drop_empty(&mut user.username);
        drop_empty(&mut user.client_certificate_data);
        drop_empty(&mut user.impersonate);
        drop_empty(&mut user.impersonate_uid);
        for secret in [&mut user.token, &mut user.password, &mut user.client_key_data] {
            if secret.as_ref().is_some_and(|secret: &SecretString| secret.expose_secret().is_empty()) {
                *secret = None;
            }
        }
        // A bare name is looked for where programs are.
        if let Some(exec) = user.exec.as_mut().filter(|exec| exec.command.iter().any(|c| c.contains('/'))) {
            absolute(&folder, &mut exec.command);
        }
    }
}

fn drop_empty(text: &mut Option<String>) {
    if text.as_ref().is_some_and(String::is_empty) {
        *text = None;
    }
}

fn absolute(folder: &Path, file: &mut Option<String>) {
    if let Some(relative) = file.as_ref().filter(|file| !Path::new(file).is_absolute()) {
        // Without the dots in front of it, as upstream shows it.
        let joined = folder.join(Path::new(relative).components().collect::<PathBuf>());
        *file = Some(std::path::absolute(&joined).unwrap_or(joined).to_string_lossy().into_owned());
    }
}

/// Base64 may be wrapped.
fn one_line(data: &str) -> String {
    data.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect()
}

impl Loaded {
    /// The client certificate, read from the document but not from files.
    ///
    /// # Errors
    /// If it is half there or damaged.
    pub(crate) fn identity(&self) -> Result<Identity, IdentityError> {
        let user = &self.user;
        let (certificate, certificate_data) = (&user.client_certificate, &user.client_certificate_data);
        if certificate.is_none() && certificate_data.is_none() {
            return Ok(Identity::None);
        }
        let key_data = user.client_key_data.as_ref().map(|secret| secret.expose_secret());
        if let (None, None, Some(certificate), Some(key)) =
            (certificate_data, key_data, certificate, &user.client_key)
        {
            return Ok(Identity::Files(certificate.into(), key.into()));
        }
        // Data goes before files, each for itself.
        let chain_pem = part("client-certificate-data", certificate_data.as_deref(), certificate)?;
        let key_pem = part("client-key-data", key_data, &user.client_key)?;
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
        observer: &Observer<CredentialEvent>,
    ) -> Result<Credentials, ConnectError> {
        let user = &self.user;
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| ConnectError::Credentials {
            path: self.path.clone(),
            source,
        };
        let token = user.token.as_ref().map(|token| token.expose_secret());
        // What is wrong with it is told even if it is not asked.
        let plugin = user
            .exec
            .as_ref()
            .map(|exec| ExecPlugin::new(exec, identity.clone(), renewals.clone(), observer.clone()));
        let plugin = plugin.transpose().map_err(|error| fail(error.into()))?;
        if let Some(file) = &user.token_file {
            let file = TokenFile::open(Path::new(file), token).map_err(|error| fail(error.into()))?;
            return Ok(Credentials::File(file));
        }
        if let Some(token) = token {
            return bearer(token).map(Credentials::Fixed).map_err(|error| fail(error.into()));
        }
        if let Some(name) = &user.username {
            let password = user.password.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
            return basic(name, password).map(Credentials::Fixed).map_err(|error| fail(error.into()));
        }
        let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
        Ok(plugin.filter(|_| !has_certificate).map_or(Credentials::None, Credentials::Exec))
    }

    /// Whether what is sent and received is hidden from others.
    fn is_secure(&self) -> bool {
        self.config.cluster_url.scheme_str() == Some("https")
    }

    /// Opens the files of an identity.
    pub(crate) fn open_files(&self, certificate: &Path, key: &Path) -> Result<FileIdentity, ConnectError> {
        FileIdentity::open(certificate, key, FILE_CHECK)
            .map_err(|source| ConnectError::Identity { path: self.path.clone(), source })
    }
}

fn part(field: &'static str, data: Option<&str>, file: &Option<String>) -> Result<Vec<u8>, IdentityError> {
    match (data, file) {
        (Some(data), _) => base64::engine::general_purpose::STANDARD
            .decode(one_line(data))
            .map_err(|source| IdentityError::Base64 { field, source }),
        (None, Some(file)) => {
            std::fs::read(file).map_err(|source| IdentityError::Read { path: file.into(), source })
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
