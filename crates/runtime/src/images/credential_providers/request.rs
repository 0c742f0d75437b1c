//! One run of a program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use config::{CredentialProvider, GoDuration};
use serde::Deserialize;
use serde_json::json;
use telemetry::metrics::Metrics;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::super::keyring::Credentials;
use super::answers::Scope;

/// For an answer; upstream's number.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest answer, bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// How much of what a program complains goes into the log, bytes.
const MAX_COMPLAINT: u64 = 4 << 10;

/// How to ask a program.
pub(super) struct Program {
    name: String,
    path: PathBuf,
    version: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    metrics: Arc<Metrics>,
}

/// Without its variables, which may be secret.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a program said.
pub(super) struct Answer {
    pub(super) auth: BTreeMap<String, Credentials>,
    pub(super) scope: Scope,
    /// How long it holds; `None` leaves that to the configuration.
    pub(super) lasts: Option<Duration>,
}

/// A program that gave no credentials. Its answer is never shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    #[error("get service account {namespace}/{name} for credential provider {program}: {problem}")]
    Account { program: String, namespace: String, name: String, problem: String },
    #[error("run credential provider {program}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("credential provider {program} gave no answer within {LIMIT:?}")]
    Slow { program: String },
    #[error("credential provider {program} ended with {status}: {complaint}")]
    Ended { program: String, status: ExitStatus, complaint: String },
    #[error("answer of credential provider {program}: {problem}")]
    Answer { program: String, problem: &'static str },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Response {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    cache_key_type: String,
    #[serde(default)]
    cache_duration: Option<String>,
    #[serde(default)]
    auth: Option<BTreeMap<String, Auth>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Program {
    pub(super) fn new(settings: &CredentialProvider, folder: &Path, metrics: Arc<Metrics>) -> Self {
        Self {
            name: settings.name.clone(),
            path: folder.join(&settings.name),
            version: settings.api_version.clone(),
            arguments: settings.args.items().to_vec(),
            variables: settings.env.items().iter().map(|v| (v.name.clone(), v.value.0.clone())).collect(),
            metrics,
        }
    }

    /// Runs it. Cancel-safe: dropped, it takes the process with it.
    pub(super) async fn ask(
        &self,
        image: &str,
        token: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Answer, ProgramError> {
        let start = Instant::now();
        let done = match tokio::time::timeout(LIMIT, self.run(self.request(image, token, annotations))).await
        {
            Ok(done) => done,
            Err(_) => Err(ProgramError::Slow { program: self.name.clone() }),
        };
        self.metrics.credential_provider_duration.with([&self.name]).observe_duration(start.elapsed());
        if done.is_err() {
            self.metrics.credential_provider_errors.with([&self.name]).increment();
        }
        self.read(&done?)
    }

    pub(super) fn answered(&self, problem: &'static str) -> ProgramError {
        ProgramError::Answer { program: self.name.clone(), problem }
    }

    pub(super) fn no_account(&self, namespace: &str, name: &str, problem: String) -> ProgramError {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        ProgramError::Account { program: self.name.clone(), namespace, name, problem }
    }

    fn request(&self, image: &str, token: &str, annotations: &BTreeMap<String, String>) -> Vec<u8> {
        let mut request =
            json!({ "kind": "CredentialProviderRequest", "apiVersion": self.version, "image": image });
        if !token.is_empty() {
            request["serviceAccountToken"] = json!(token);
        }
        if !annotations.is_empty() {
            request["serviceAccountAnnotations"] = json!(annotations);
        }
        format!("{request}\n").into_bytes()
    }

    async fn run(&self, request: Vec<u8>) -> Result<Vec<u8>, ProgramError> {
        let failed = |source| ProgramError::Run { program: self.name.clone(), source };
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ask = async {
            if let Some(mut stdin) = stdin {
                // One that does not read its input may still have an answer.
                let _ = stdin.write_all(&request).await;
            }
        };
        let ((), answer, complaint, status) =
            tokio::join!(ask, all(stdout, MAX_ANSWER), all(stderr, MAX_COMPLAINT), child.wait());
        let status = status.map_err(failed)?;
        if status.success() {
            return answer.map_err(failed);
        }
        let complaint = String::from_utf8_lossy(&complaint.unwrap_or_default()).trim().to_owned();
        Err(ProgramError::Ended { program: self.name.clone(), status, complaint })
    }

    pub(super) fn read(&self, text: &[u8]) -> Result<Answer, ProgramError> {
        // The parser's error may quote what it read.
        let response: Response = serde_json::from_slice(text)
            .map_err(|_| self.answered("it is no CredentialProviderResponse in JSON"))?;
        if response.api_version != self.version {
            return Err(self.answered("its apiVersion is not the one in the configuration"));
        }
        if response.kind != "CredentialProviderResponse" {
            return Err(self.answered("its kind is not CredentialProviderResponse"));
        }
        let scope = Scope::parse(&response.cache_key_type)
            .ok_or_else(|| self.answered("its cacheKeyType is not Image, Registry or Global"))?;
        let lasts = response.cache_duration.as_deref().map(str::parse::<GoDuration>).transpose();
        let lasts = lasts.map_err(|_| self.answered("its cacheDuration is no duration"))?;
        let credentials = |auth: Auth| Credentials {
            username: auth.username,
            password: auth.password,
            ..Credentials::default()
        };
        let auth = response.auth.unwrap_or_default().into_iter();
        Ok(Answer {
            auth: auth.map(|(pattern, auth)| (pattern, credentials(auth))).collect(),
            scope,
            lasts: lasts.map(GoDuration::to_std),
        })
    }
}

/// All of a stream, of which only so much is kept: a program must not wait for us to read on.
async fn all(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(limit).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}
