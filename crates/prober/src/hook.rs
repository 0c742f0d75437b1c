//! `postStart` and `preStop` hooks.
//!
//! A hook has no timeout of its own: whoever runs it drops the future once the container has had all
//! its time.

use std::time::Duration;

use golang::quote::quoted;
use k8s_openapi::api::core::v1::{HTTPGetAction, LifecycleHandler};

use crate::ProbeTarget;
use crate::exec::{ExecError, ExecOutput, combined};
use crate::get::{self, BuildError, GetError, Progress, Purpose};
use crate::tls::TlsError;

/// What is worth telling of a hook that worked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookReport {
    /// An HTTPS hook was answered in plain HTTP and repeated that way. The text is the message of
    /// upstream's `LifecycleHTTPFallback` event.
    pub http_fallback: Option<String>,
}

/// A hook that did not work. [`std::fmt::Display`] gives the cause; [`HookError::status_message`]
/// what users see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The command failed or could not be run.
    #[error("{cause}")]
    Exec {
        /// As the spec has it.
        command: Vec<String>,
        /// What it ended with; `None` when it could not be run.
        exit_code: Option<i32>,
        /// What the runtime said, or the exit status with what was written to standard error.
        cause: String,
        /// Both outputs of the command, cut.
        output: String,
    },
    /// The request got no answer. Any answer at all counts as success, as upstream.
    #[error("{cause}")]
    Http {
        /// As the spec has it.
        path: String,
        /// The network's reason.
        cause: String,
        /// The same without anything that was sent or said.
        reason: String,
    },
    /// The hook names nothing that can be run.
    #[error("invalid handler: none of exec, httpGet and sleep is set")]
    Invalid,
}

impl HookError {
    /// Why it failed, without anything that the command or the server said, or that the spec has them
    /// told: for logs.
    pub fn without_output(&self) -> String {
        match self {
            Self::Exec { exit_code: Some(code), .. } => format!("the command ended with exit code {code}"),
            Self::Exec { exit_code: None, .. } => "the command could not be run".to_owned(),
            Self::Http { reason, .. } => format!("the request got no answer: {reason}"),
            Self::Invalid => self.to_string(),
        }
    }

    /// The message of the status of a container that waits because of this, as upstream has it. `pod`
    /// is `name_namespace(uid)`. Never for events or logs: it holds what the command printed.
    pub fn status_message(&self, container: &str, pod: &str) -> String {
        let about = format!("for Container {} in Pod {} failed", quoted(container), quoted(pod));
        match self {
            Self::Exec { command, cause, output, .. } => format!(
                "Exec lifecycle hook ([{}]) {about} - error: {cause}, message: {}",
                command.join(" "),
                quoted(output)
            ),
            Self::Http { path, cause, .. } => {
                format!("HTTP lifecycle hook ({path}) {about} - error: {cause}")
            }
            Self::Invalid => format!("Cannot run handler: {self}"),
        }
    }
}

/// Runs a hook to its end. `exec` runs a command in the container without a timeout.
pub async fn run<F, R>(
    handler: &LifecycleHandler,
    target: &ProbeTarget<'_>,
    exec: F,
) -> Result<HookReport, HookError>
where
    F: FnOnce(Vec<String>) -> R,
    R: Future<Output = Result<ExecOutput, ExecError>>,
{
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let result = Box::pin(exec(command.clone())).await;
        return exec_report(result, command);
    }
    if let Some(action) = &handler.http_get {
        return Box::pin(http_get(action, target)).await;
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        return Ok(HookReport::default());
    }
    Err(HookError::Invalid)
}

fn exec_report(result: Result<ExecOutput, ExecError>, command: Vec<String>) -> Result<HookReport, HookError> {
    match result {
        Ok(output) if output.exit_code == 0 => Ok(HookReport::default()),
        Ok(output) => {
            let cause = format!(
                "command '{}' exited with {}: {}",
                command.join(" "),
                output.exit_code,
                String::from_utf8_lossy(&output.stderr)
            );
            let exit_code = Some(output.exit_code);
            Err(HookError::Exec { command, exit_code, cause, output: combined(output) })
        }
        Err(error) => {
            let cause = error.to_string();
            Err(HookError::Exec { command, exit_code: None, cause, output: String::new() })
        }
    }
}

async fn http_get(action: &HTTPGetAction, target: &ProbeTarget<'_>) -> Result<HookReport, HookError> {
    let path = action.path.clone().unwrap_or_default();
    let request = match get::build(action, target, Purpose::Lifecycle) {
        Ok(request) => request,
        Err(BuildError::Target(error)) => {
            let cause = error.to_string();
            return Err(HookError::Http { path, reason: cause.clone(), cause });
        }
        Err(BuildError::Header { url, name }) => {
            return Err(no_answer(path, &url, &GetError::Header(name)));
        }
    };
    let mut progress = Progress::default();
    let error = match get::fetch(request.clone(), &mut progress).await {
        // The head is the answer; what becomes of the body is of no interest.
        Ok(_) | Err(GetError::Body(_)) => return Ok(HookReport::default()),
        Err(error) => error,
    };
    if matches!(error, GetError::Tls(TlsError::PlainHttp)) {
        let host = request.url.authority();
        let plain = get::fetch(get::as_plain_http(request), &mut Progress::default()).await;
        if matches!(plain, Ok(_) | Err(GetError::Body(_))) {
            let text = format!(
                "request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
            );
            return Ok(HookReport { http_fallback: Some(text) });
        }
    }
    Err(no_answer(path, &progress.url, &error))
}

fn no_answer(path: String, url: &str, error: &GetError) -> HookError {
    HookError::Http { path, cause: get::failed(url, error), reason: error.without_content() }
}
