//! Credentials from a program (`client.authentication.k8s.io`): a token, a client certificate, or
//! both, until they expire or the server refuses them.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use kube::config::{ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::bearer;
use crate::certificates::{CertificatePair, PairError};
use crate::identity::{Renewals, ShownIdentity};
use crate::observer::{CredentialEvent, Observer};

/// How long the program may take. Upstream waits for ever, and with it every request.
const LIMIT: Duration = Duration::from_secs(60);
/// The versions of the protocol.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// Credentials that a plugin did not bring. Never holds what the program printed: it may be a secret.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The kubeconfig's `exec` is not complete.
    #[error("exec plugin: {0}")]
    Settings(&'static str),
    /// The program cannot be started.
    #[error("run exec plugin {command:?}")]
    Start {
        /// The program.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said that it failed.
    #[error("exec plugin {command:?} ended with {status}{hint}")]
    Ended {
        /// The program.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The kubeconfig's `installHint`.
        hint: String,
    },
    /// It takes too long.
    #[error("exec plugin {command:?} did not end within {limit:?}")]
    Slow {
        /// The program.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// What it printed cannot be understood.
    #[error("exec plugin {command:?} printed no credentials: {what}")]
    Answer {
        /// The program.
        command: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The certificate it printed cannot be used.
    #[error("exec plugin {command:?} printed a certificate of no use")]
    Certificate {
        /// The program.
        command: String,
        /// Why.
        #[source]
        source: PairError,
    },
}

/// What a plugin did, for metrics.
#[derive(Clone, Debug)]
pub enum ExecPluginEvent {
    /// It was run: its exit code and, in upstream's words, how that went.
    Called {
        /// The exit code; 1 where there is none.
        code: i32,
        /// `no_error`, `plugin_execution_error`, `plugin_not_found_error` or `client_internal_error`.
        status: &'static str,
    },
    /// It brought a certificate, valid until then.
    Certificate(Timestamp),
    /// It brought another certificate than before; how old that was.
    Replaced(Duration),
}

/// See the module.
pub(crate) struct ExecPlugin {
    command: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    version: String,
    /// `KUBERNETES_EXEC_INFO`.
    info: String,
    hint: String,
    identity: Arc<ShownIdentity>,
    renewals: Renewals,
    observer: Observer<CredentialEvent>,
    // Held while the program runs: the other requests want what it brings.
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    generation: u64,
    issued: Option<Issued>,
    certificate: Option<CertificatePair>,
}

struct Issued {
    header: Option<HeaderValue>,
    expires: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "apiVersion")]
    api_version: String,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    token: String,
    client_certificate_data: String,
    client_key_data: String,
    expiration_timestamp: Option<Timestamp>,
}

impl ExecPlugin {
    /// Nothing is run yet. Certificates are shown through `identity`.
    pub(crate) fn new(
        config: &ExecConfig,
        identity: Arc<ShownIdentity>,
        renewals: Renewals,
        observer: Observer<CredentialEvent>,
    ) -> Result<Self, ExecError> {
        let command = config.command.clone().filter(|command| !command.is_empty());
        let command = command.ok_or(ExecError::Settings("no command"))?;
        let version = config.api_version.clone().unwrap_or_default();
        if !VERSIONS.contains(&version.as_str()) {
            return Err(ExecError::Settings(
                "apiVersion has to be client.authentication.k8s.io/v1 or v1beta1",
            ));
        }
        match config.interactive_mode {
            Some(ExecInteractiveMode::Always) => {
                return Err(ExecError::Settings(
                    "interactiveMode Always needs a terminal, and a node has none",
                ));
            }
            None if version == VERSIONS[0] => {
                return Err(ExecError::Settings(
                    "interactiveMode is required by client.authentication.k8s.io/v1",
                ));
            }
            _ => {}
        }
        let mut spec = json!({ "interactive": false });
        if let Some(cluster) = config.cluster.as_ref().filter(|_| config.provide_cluster_info) {
            spec["cluster"] = cluster_info(cluster);
        }
        let info = json!({ "kind": "ExecCredential", "apiVersion": version, "spec": spec }).to_string();
        let variable = |one: &std::collections::HashMap<String, String>| {
            Some((one.get("name")?.clone(), one.get("value").cloned().unwrap_or_default()))
        };
        Ok(Self {
            command,
            args: config.args.clone().unwrap_or_default(),
            env: config.env.iter().flatten().filter_map(variable).collect(),
            version,
            info,
            hint: config.install_hint.as_ref().map(|hint| format!(": {}", hint.trim())).unwrap_or_default(),
            identity,
            renewals,
            observer,
            last: Mutex::default(),
        })
    }

    /// The credentials, from the last run while they hold.
    pub(super) async fn header(&self) -> Result<(Option<HeaderValue>, u64), ExecError> {
        let mut last = self.last.lock().await;
        let now = Timestamp::now();
        if let Some(issued) = last.issued.as_ref().filter(|one| one.expires.is_none_or(|until| now < until)) {
            return Ok((issued.header.clone(), last.generation));
        }
        let status = self.run().await?;
        let header = match status.token.as_str() {
            "" => None,
            token => Some(bearer(token).map_err(|_| self.answer("the token is not a header value"))?),
        };
        self.show(&mut last, &status)?;
        last.generation += 1;
        last.issued = Some(Issued { header: header.clone(), expires: status.expiration_timestamp });
        Ok((header, last.generation))
    }

    /// Has the program run again, unless it was since.
    pub(super) async fn refused(&self, generation: u64) {
        let mut last = self.last.lock().await;
        if last.generation == generation {
            last.issued = None;
        }
    }

    fn show(&self, last: &mut Last, status: &Status) -> Result<(), ExecError> {
        if status.client_certificate_data.is_empty() {
            if last.certificate.take().is_some() {
                self.identity.hide();
                self.renewals.renew();
            }
            return Ok(());
        }
        let (chain, key) = (status.client_certificate_data.as_bytes(), status.client_key_data.as_bytes());
        let pair = CertificatePair::parse(chain, key)
            .map_err(|source| ExecError::Certificate { command: self.command.clone(), source })?;
        self.tell(ExecPluginEvent::Certificate(pair.leaf().not_after));
        match &last.certificate {
            Some(old) if old.certified().cert == pair.certified().cert => return Ok(()),
            Some(old) => {
                let age = Timestamp::now().duration_since(old.leaf().not_before);
                self.tell(ExecPluginEvent::Replaced(age.try_into().unwrap_or_default()));
            }
            None => {}
        }
        self.identity.show(&pair);
        self.renewals.renew();
        last.certificate = Some(pair);
        Ok(())
    }

    async fn run(&self) -> Result<Status, ExecError> {
        let mut command = Command::new(&self.command);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("KUBERNETES_EXEC_INFO", &self.info);
        // What it has to say goes where the kubelet's own log goes.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let output = match tokio::time::timeout(LIMIT, command.output()).await {
            Ok(output) => output,
            Err(_) => {
                self.tell(ExecPluginEvent::Called { code: 1, status: "plugin_execution_error" });
                return Err(ExecError::Slow { command: self.command.clone(), limit: LIMIT });
            }
        };
        let output = output.map_err(|source| {
            let status = match source.kind() {
                io::ErrorKind::NotFound => "plugin_not_found_error",
                _ => "client_internal_error",
            };
            self.tell(ExecPluginEvent::Called { code: 1, status });
            ExecError::Start { command: self.command.clone(), source }
        })?;
        let code = output.status.code().unwrap_or(1);
        if !output.status.success() {
            self.tell(ExecPluginEvent::Called { code, status: "plugin_execution_error" });
            let (command, hint) = (self.command.clone(), self.hint.clone());
            return Err(ExecError::Ended { command, status: output.status, hint });
        }
        self.tell(ExecPluginEvent::Called { code, status: "no_error" });
        self.parse(&output.stdout)
    }

    fn parse(&self, text: &[u8]) -> Result<Status, ExecError> {
        // YAML, as upstream reads it, of which JSON is a part. The parser's error may quote what it read.
        let answer: Answer =
            serde_saphyr::from_slice(text).map_err(|_| self.answer("it is no ExecCredential"))?;
        if answer.api_version != self.version {
            return Err(self.answer("its apiVersion is not the one in the kubeconfig"));
        }
        let status = answer.status.ok_or_else(|| self.answer("it has no status"))?;
        if status.client_certificate_data.is_empty() != status.client_key_data.is_empty() {
            return Err(self.answer("it has a certificate or a key, not both"));
        }
        if status.token.is_empty() && status.client_key_data.is_empty() {
            return Err(self.answer("it has neither a token nor a certificate"));
        }
        Ok(status)
    }

    fn answer(&self, what: &'static str) -> ExecError {
        ExecError::Answer { command: self.command.clone(), what }
    }

    fn tell(&self, event: ExecPluginEvent) {
        self.observer.tell(CredentialEvent::Plugin(event));
    }
}

/// The cluster in the protocol's spelling, which is not the kubeconfig's.
fn cluster_info(cluster: &kube::config::ExecAuthCluster) -> serde_json::Value {
    use base64::Engine as _;
    let mut info = json!({ "server": cluster.server, "config": cluster.config });
    if let Some(name) = &cluster.tls_server_name {
        info["tls-server-name"] = json!(name);
    }
    if cluster.insecure_skip_tls_verify == Some(true) {
        info["insecure-skip-tls-verify"] = json!(true);
    }
    if let Some(pem) = &cluster.certificate_authority_data {
        info["certificate-authority-data"] = json!(base64::engine::general_purpose::STANDARD.encode(pem));
    }
    if let Some(proxy) = &cluster.proxy_url {
        info["proxy-url"] = json!(proxy);
    }
    info
}

#[cfg(test)]
mod tests;
