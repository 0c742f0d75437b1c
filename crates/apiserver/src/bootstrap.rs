//! How a node comes to its first client certificate, and to the connection that uses it.
//!
//! | rotation | the kubeconfig's certificate | what happens |
//! |---|---|---|
//! | off | valid, or nothing to bootstrap with | it is used |
//! | off | missing or expired | one is asked for and waited for; then the kubeconfig is written |
//! | on | valid, or nothing to bootstrap with | it is used until the rotation has another one |
//! | on | missing or expired | the kubeconfig is written; the rotation asks with the bootstrap credentials |

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use model::chain;
use thiserror::Error;
use tokio::sync::watch;

use crate::call::{Cause, Purpose, call_bytes};
use crate::certificates::{
    Asked, CertificatePair, CertificateRequestError, CertificateStore, Question, RequestKey, Requester,
    RotationEvent, RotationTask, SigningError, StoreError, Template, Use, ask, certificate_of, digested_name,
};
use crate::connect::{ClientSettings, ConnectError, Connection, Initial, connect, connect_rotating};
use crate::kubeconfig::{self, Identity, Loaded};
use crate::observer::{CredentialEvent, Observer};
use crate::watch::retry_pause;

/// The prefix of the client certificate's files.
const PREFIX: &str = "kubelet-client";
/// The key of a request under way, so that a kubelet which is started again takes it up.
const KEY_FILE: &str = "kubelet-client.key.tmp";
/// How long the first certificate is waited for before the kubelet gives up.
const APPROVAL_LIMIT: Duration = Duration::from_secs(3600);
/// Time for one question whether the server is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Pauses between them.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Who the node is, and where its credentials are.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// The Node's name.
    pub node_name: String,
    /// `--cert-dir`.
    pub certificate_folder: PathBuf,
    /// `--kubeconfig`.
    pub kubeconfig: PathBuf,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// `rotateCertificates`.
    pub is_rotating: bool,
}

/// The node has no credentials to begin with.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// A kubeconfig or what it names is of no use.
    #[error("use the node's credentials")]
    Connect(#[source] ConnectError),
    /// The same of the bootstrap kubeconfig, which is needed.
    #[error("use the bootstrap credentials")]
    Initial(#[source] ConnectError),
    /// The kubeconfig is there and cannot be looked at, or cannot be written.
    #[error("{operation} kubeconfig {path}")]
    Kubeconfig {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder of certificates.
    #[error("keep the client certificate")]
    Store(#[source] StoreError),
    /// The key of the request.
    #[error("keep the key of the certificate request in {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No key could be made.
    #[error("make a key for the client certificate")]
    Key(#[source] CertificateRequestError),
    /// The request was refused, denied or deleted.
    #[error("ask for a client certificate")]
    Signing(#[source] SigningError),
    /// Nobody approved it.
    #[error("certificate request {name} was not approved within {limit:?}")]
    NotApproved {
        /// The request.
        name: String,
        /// How long was waited.
        limit: Duration,
    },
}

/// Connects a node under its own name. Without rotation, this waits until there is a certificate;
/// with it, the connection may have none yet, and the task sees to it that it gets one.
///
/// # Errors
/// [`BootstrapError`].
pub async fn connect_node(
    identity: &NodeIdentity,
    settings: ClientSettings,
) -> Result<(Connection, Option<RotationTask>), BootstrapError> {
    crate::connect::install_crypto();
    if identity.is_rotating {
        let (connection, task) = rotating(identity, settings).await?;
        return Ok((connection, Some(task)));
    }
    if let Some(bootstrap) = &identity.bootstrap_kubeconfig
        && !is_still_valid(&identity.kubeconfig).await?
    {
        first_certificate(identity, bootstrap, &settings).await?;
    }
    let connection = connect(&identity.kubeconfig, settings).await.map_err(BootstrapError::Connect)?;
    Ok((connection, None))
}

/// Whether a kubeconfig has a client certificate that holds. Whatever else is wrong with it is told
/// and means that it has not; an error is only that nobody can know.
async fn is_still_valid(path: &Path) -> Result<bool, BootstrapError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(BootstrapError::Kubeconfig { operation: "look at", path: path.to_owned(), source });
        }
        Ok(_) => {}
    }
    let reason = match kubeconfig::load(path).await {
        Ok(loaded) => match certificate_in(&loaded) {
            Ok(Some(pair)) if !pair.is_expired(Timestamp::now()) => return Ok(true),
            Ok(Some(pair)) => format!("its client certificate has expired on {}", pair.leaf().not_after),
            Ok(None) => "it has no client certificate".to_owned(),
            Err(error) => chain(&error),
        },
        Err(error) => chain(&error),
    };
    tracing::info!(kubeconfig = %path.display(), reason, "Bootstrapping a new client certificate");
    Ok(false)
}

fn certificate_in(loaded: &Loaded) -> Result<Option<CertificatePair>, ConnectError> {
    let fail = |source| ConnectError::Identity { path: loaded.path.clone(), source };
    match loaded.identity().map_err(fail)? {
        Identity::None => Ok(None),
        Identity::Inline(pair) => Ok(Some(pair)),
        Identity::Files(certificate, key) => {
            let read = |path: &Path| {
                std::fs::read(path).map_err(|source| {
                    fail(crate::identity::IdentityError::Read { path: path.to_owned(), source })
                })
            };
            let pair = CertificatePair::parse(&read(&certificate)?, &read(&key)?);
            pair.map(Some)
                .map_err(|source| fail(crate::identity::IdentityError::Pair { path: certificate, source }))
        }
    }
}

/// The connection of a node whose certificate is rotated, and the task that rotates it.
async fn rotating(
    identity: &NodeIdentity,
    settings: ClientSettings,
) -> Result<(Connection, RotationTask), BootstrapError> {
    let own =
        CertificateStore::open(&identity.certificate_folder, PREFIX, None).map_err(BootstrapError::Store)?;
    let initial = match &identity.bootstrap_kubeconfig {
        Some(bootstrap) if !is_still_valid(&identity.kubeconfig).await? => {
            let loaded = kubeconfig::load(bootstrap).await.map_err(BootstrapError::Initial)?;
            write_kubeconfig(&identity.kubeconfig, &loaded, &own.current_path())?;
            bootstrap
        }
        Some(bootstrap) => bootstrap,
        // The kubeconfig itself may have a token or a plugin beside its certificate.
        None => &identity.kubeconfig,
    };
    let loaded = kubeconfig::load(&identity.kubeconfig).await.map_err(BootstrapError::Connect)?;
    let fail = |source| BootstrapError::Connect(ConnectError::Identity { path: loaded.path.clone(), source });
    let (files, inline) = match loaded.identity() {
        Ok(Identity::None) => (None, None),
        Ok(Identity::Files(certificate, key)) => (Some((certificate, key)), None),
        Ok(Identity::Inline(pair)) => (None, Some(pair)),
        Err(error) => return Err(fail(error)),
    };
    let store = CertificateStore::open(&identity.certificate_folder, PREFIX, files);
    let store = store.map_err(BootstrapError::Store)?;
    let (connection, shown, renewals) =
        connect_rotating(loaded, settings.clone()).map_err(BootstrapError::Connect)?;
    let observer: Observer<CredentialEvent> = settings.observer.clone();
    let listener = Arc::new(move |event: RotationEvent| {
        if let RotationEvent::Current(pair) = &event {
            shown.show(pair);
            renewals.renew();
        }
        observer.tell(CredentialEvent::Client(event));
    });
    // What is asked for never changes.
    let (_, template) = watch::channel(Some(Template::for_client(&identity.node_name)));
    let requester = Requester::Starting {
        node: connection.unlimited().map_err(BootstrapError::Connect)?,
        initial: Initial { kubeconfig: initial.clone(), settings },
    };
    let mut task = RotationTask::new(Use::Client, store.clone(), template, requester, listener);
    if let Some(pair) = inline.filter(|pair| !pair.is_expired(Timestamp::now())) {
        // kubeadm hands over a certificate of many rights this way: kept as upstream keeps it, used
        // for the first request, and replaced at once.
        task.begin_with(Arc::new(pair));
    }
    Ok((connection, task))
}

/// Asks for the first certificate, waits for it, and writes it and the kubeconfig.
async fn first_certificate(
    identity: &NodeIdentity,
    bootstrap: &Path,
    settings: &ClientSettings,
) -> Result<(), BootstrapError> {
    let folder = &identity.certificate_folder;
    let store = CertificateStore::open(folder, PREFIX, None).map_err(BootstrapError::Store)?;
    let loaded = kubeconfig::load(bootstrap).await.map_err(BootstrapError::Initial)?;
    let initial = Initial { kubeconfig: bootstrap.to_owned(), settings: settings.clone() };
    let client = initial.client().await.map_err(BootstrapError::Initial)?;
    let observer = &settings.observer;
    server_is_there(&client, observer).await;
    let key_file = folder.join(KEY_FILE);
    let mut key = match key_of(&store) {
        Some(key) => key,
        None => kept_key(&key_file)?,
    };
    let template = Template::for_client(&identity.node_name);
    let asked = match submit(&client, &template, &key, observer).await {
        Err(SigningError::Incompatible { name, difference }) => {
            // Upstream gives up here until somebody deletes the request.
            tracing::warn!(
                name,
                difference,
                "Existing certificate signing request does not match; creating another one"
            );
            key = new_key(&key_file)?;
            submit(&client, &template, &key, observer).await
        }
        answer => answer,
    };
    let asked = asked.map_err(BootstrapError::Signing)?;
    tracing::info!(request = asked.name, "Waiting for client certificate to be issued");
    observer.tell(CredentialEvent::First(RotationEvent::Asked { request: asked.name.clone() }));
    let issued = tokio::time::timeout(APPROVAL_LIMIT, certificate_of(&client, &asked)).await;
    let chain_pem = match issued {
        Ok(issued) => issued.map_err(BootstrapError::Signing)?,
        Err(_) => return Err(BootstrapError::NotApproved { name: asked.name, limit: APPROVAL_LIMIT }),
    };
    store.update(&chain_pem, key.pem(), Timestamp::now()).map_err(BootstrapError::Store)?;
    if let Err(error) = std::fs::remove_file(&key_file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::info!(%error, file = %key_file.display(), "Failed to remove the key of the certificate signing request");
    }
    write_kubeconfig(&identity.kubeconfig, &loaded, &store.current_path())
}

/// Submits the request, again while that may help.
async fn submit(
    client: &Client,
    template: &Template,
    key: &RequestKey,
    observer: &Observer<CredentialEvent>,
) -> Result<Asked, SigningError> {
    // In upstream's order for this request: the name depends on it.
    let mut usages = vec!["digital signature", "client auth"];
    if key.is_rsa() {
        usages.push("key encipherment");
    }
    let name = digested_name(key, template, &usages);
    let mut failures = 0;
    loop {
        let question = Question {
            template,
            key,
            signer: Use::Client.signer(),
            usages: usages.clone(),
            name: Some(name.clone()),
        };
        match ask(client, question).await {
            Err(SigningError::Submit(error)) if error.is_retryable() && error.code() != Some(401) => {
                let pause = retry_pause(failures, PAUSE_FIRST, PAUSE_MAX)
                    .max(error.retry_after().unwrap_or_default());
                tracing::warn!(
                    error = chain(&error),
                    "Failed to create certificate signing request; retrying in {pause:?}"
                );
                failed(observer, chain(&error), pause);
                tokio::time::sleep(pause).await;
                failures += 1;
            }
            answer => return answer,
        }
    }
}

fn failed(observer: &Observer<CredentialEvent>, error: String, pause: Duration) {
    let next_try = Timestamp::now() + pause;
    observer.tell(CredentialEvent::First(RotationEvent::Failed { error, next_try }));
}

/// Waits until the server answers anything.
async fn server_is_there(client: &Client, observer: &Observer<CredentialEvent>) {
    let purpose = Purpose::new("get", "/healthz");
    let mut failures = 0;
    loop {
        let request = http::Request::get("/healthz").body(Vec::new());
        let request = request.map_err(kube::core::request::Error::BuildRequest);
        let answer = tokio::time::timeout(ANSWER_LIMIT, call_bytes(client, &purpose, request)).await;
        let reason = match answer {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => match &error.cause {
                Cause::Refused { code, .. } if *code < 500 => return,
                _ => chain(&error),
            },
            Err(_) => format!("no answer within {ANSWER_LIMIT:?}"),
        };
        if failures == 0 {
            tracing::info!(reason, "Waiting for API server to respond");
        }
        let pause = retry_pause(failures, PAUSE_FIRST, PAUSE_MAX);
        failed(observer, reason, pause);
        tokio::time::sleep(pause).await;
        failures += 1;
    }
}

/// The key of an older certificate.
fn key_of(store: &CertificateStore) -> Option<RequestKey> {
    match store.current() {
        Ok(pair) => RequestKey::from_pem(pair?.key_pem()).ok(),
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "Failed to load client certificate; requesting one with a new key"
            );
            None
        }
    }
}

/// The key of a request made earlier, or a new one.
fn kept_key(file: &Path) -> Result<RequestKey, BootstrapError> {
    match std::fs::read_to_string(file) {
        Ok(pem) => match RequestKey::from_pem(&pem) {
            Ok(key) => return Ok(key),
            Err(error) => {
                tracing::warn!(error = chain(&error), file = %file.display(), "Failed to load the key of the certificate signing request; generating a new key")
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "Failed to load the key of the certificate signing request; generating a new key")
        }
    }
    new_key(file)
}

fn new_key(file: &Path) -> Result<RequestKey, BootstrapError> {
    let key = RequestKey::generate().map_err(BootstrapError::Key)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| write_whole(file, key.pem().as_bytes()))
        .map_err(|source| BootstrapError::KeyFile { path: file.to_owned(), source })?;
    Ok(key)
}

fn write_kubeconfig(path: &Path, from: &Loaded, pair: &Path) -> Result<(), BootstrapError> {
    let pair = std::path::absolute(pair).unwrap_or_else(|_| pair.to_owned());
    let text = kubeconfig::for_certificate(&from.cluster, &pair);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| write_whole(path, text.as_bytes()))
        .map_err(|source| BootstrapError::Kubeconfig { operation: "write", path: path.to_owned(), source })
}

/// Writes a file that only its owner reads, under another name first.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    if let Err(error) = std::fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests;
