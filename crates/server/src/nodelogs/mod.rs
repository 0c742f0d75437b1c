//! `/logs/`: the machine's own logs, as files below the log folder or as a query for services.

mod files;
mod journal;
mod pattern;
pub mod query;

use std::path::Path;

use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};

use crate::answer::{self, Answer};
use crate::settings::SystemLogSettings;
use query::{LogSource, QueryError};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=UTF-8");

/// Answers a request for the machine's logs. `path` is what comes after `/logs/`, decoded.
pub(crate) async fn answer(
    settings: &SystemLogSettings,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Answer {
    let asked = match settings.has_query {
        true => query::parse(query),
        false => Ok(None),
    };
    let root = &settings.root;
    match asked {
        Err(error @ QueryError::Malformed(_)) => answer::error(StatusCode::BAD_REQUEST, &error.to_string()),
        Ok(Some(_)) if !path.is_empty() && path != "/" => {
            answer::error(StatusCode::NOT_ACCEPTABLE, "path not allowed in query mode")
        }
        Err(error @ QueryError::Refused(_)) => answer::error(StatusCode::NOT_ACCEPTABLE, &error.to_string()),
        Ok(None) => files::answer(root, path, headers).await,
        Ok(Some(query)) => match query.source {
            LogSource::File(file) => match fault(root, &file).await {
                Some(fault) => answer::error(StatusCode::NOT_ACCEPTABLE, &fault),
                None => files::answer(root, &file, headers).await,
            },
            LogSource::Services(services) => {
                // Nothing but this very word, as upstream.
                let is_compressed = headers.get(ACCEPT_ENCODING).is_some_and(|value| value == "gzip");
                let stream = journal::stream(journal::ServiceQuery {
                    journalctl: settings.journalctl.clone(),
                    root: root.clone(),
                    services,
                    options: query.options,
                    is_compressed,
                });
                let mut answer = answer::stream_with(StatusCode::OK, TEXT, stream);
                if is_compressed {
                    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
                answer
            }
        },
    }
}

/// Why a file that was asked for by name cannot be had.
async fn fault(root: &Path, file: &str) -> Option<String> {
    let reason = if Path::new(file).components().any(|part| part == std::path::Component::ParentDir) {
        "path escapes from parent".to_owned()
    } else {
        match files::open(root, file).await {
            Ok(_) => return None,
            Err(error) if error.is_not_found() => "no such file or directory".to_owned(),
            Err(error) if error.is_escape() => "path escapes from parent".to_owned(),
            Err(error) => error.source.to_string(),
        }
    };
    Some(format!("query: Invalid value: [{file:?}]: statat {file}: {reason}"))
}
