//! `/healthz`: the list of checks, or one of them.

use http::StatusCode;
use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::answer::{self, Answer};
use crate::endpoint::{HealthCheck, ServerKind};
use crate::ports::ProcessPorts;
use crate::service::Query;
use crate::settings::EndpointSettings;

/// All checks of a server. Reasons are withheld: this may be asked by many.
pub(crate) fn all<P: ProcessPorts>(
    ports: &P,
    server: ServerKind,
    settings: &EndpointSettings,
    query: &Query,
) -> Answer {
    let checks: Vec<HealthCheck> = HealthCheck::of(server, settings).collect();
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut list = String::new();
    let mut is_healthy = true;
    for check in &checks {
        let name = check.as_str();
        if excluded.contains(&name) {
            list += &format!("[+]{name} excluded: ok\n");
            continue;
        }
        let result = run(ports, *check);
        ports.observe_health(*check, result.is_ok());
        match result {
            Ok(()) => list += &format!("[+]{name} ok\n"),
            Err(reason) => {
                tracing::info!(check = name, reason, "Health check failed");
                list += &format!("[-]{name} failed: reason withheld\n");
                is_healthy = false;
            }
        }
    }
    let mut unknown: Vec<_> =
        excluded.into_iter().filter(|name| !checks.iter().any(|check| check.as_str() == *name)).collect();
    if !unknown.is_empty() {
        unknown.sort_unstable();
        unknown.dedup();
        let names = unknown.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
        list += &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
    }
    let mut answer = if !is_healthy {
        answer::text(StatusCode::INTERNAL_SERVER_ERROR, list + "healthz check failed\n")
    } else if query.first("verbose").is_some() {
        answer::text(StatusCode::OK, list + "healthz check passed\n")
    } else {
        answer::text(StatusCode::OK, "ok")
    };
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// One check, with its reason.
pub(crate) fn one<P: ProcessPorts>(ports: &P, check: HealthCheck) -> Answer {
    match run(ports, check) {
        Ok(()) => answer::text(StatusCode::OK, "ok"),
        Err(reason) => {
            answer::error(StatusCode::INTERNAL_SERVER_ERROR, &format!("internal server error: {reason}"))
        }
    }
}

fn run<P: ProcessPorts>(ports: &P, check: HealthCheck) -> Result<(), String> {
    match check {
        // This very answer is the proof.
        HealthCheck::Ping => Ok(()),
        other => ports.check_health(other),
    }
}
