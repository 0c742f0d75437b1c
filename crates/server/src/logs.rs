//! `/containerLogs`: from a query to [`LogQuery`], and the stream back.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use model::PodKey;

use crate::answer::{self, Answer};
use crate::endpoint::ContainerPath;
use crate::ports::{LogQuery, LogStream, PodPorts};
use crate::service::Query;

/// Answers a request for a container's log.
pub(crate) async fn answer<P: PodPorts>(
    ports: &P,
    path: &ContainerPath,
    query: &Query,
    has_streams: bool,
) -> Answer {
    let query = match parse(query, has_streams, Timestamp::now()) {
        Ok(query) => query,
        Err(error) => return answer::text(error.status, error.text),
    };
    let (name, container) = (&path.pod.name, &path.container);
    let Some(pod) = ports.pod(&PodKey::new(&path.pod.namespace, name)) else {
        return answer::text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    };
    if model::pod::container(&pod, container).is_none() {
        let text = format!("container {container:?} not found in pod {name:?}");
        return answer::text(StatusCode::NOT_FOUND, text);
    }
    match ports.container_log(&pod, container, query).await {
        // Text, where upstream leaves browsers to guess what it is that a container writes.
        Ok(log) => answer::stream(log),
        Err(error) => answer::text(StatusCode::BAD_REQUEST, error),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueryError {
    status: StatusCode,
    text: String,
}

fn undecodable() -> QueryError {
    QueryError { status: StatusCode::BAD_REQUEST, text: r#"{"message": "Unable to decode query."}"#.into() }
}

fn invalid() -> QueryError {
    QueryError { status: StatusCode::UNPROCESSABLE_ENTITY, text: r#"{"message": "Invalid request."}"#.into() }
}

pub(crate) fn parse(query: &Query, has_streams: bool, now: Timestamp) -> Result<LogQuery, QueryError> {
    // The older spelling, in which `all` is no tail at all.
    let tail = match query.first("tail").filter(|tail| !tail.is_empty()) {
        Some("all") => None,
        Some(tail) => Some(number(tail)?),
        None => integer(query, "tailLines")?,
    };
    let limit = integer(query, "limitBytes")?;
    let since_seconds = integer(query, "sinceSeconds")?;
    let since_time = match query.first("sinceTime").filter(|time| !time.is_empty() && *time != "null") {
        Some(time) => Some(time.parse::<Timestamp>().map_err(|_| undecodable())?),
        None => None,
    };
    let stream = match query.first("stream") {
        None | Some("All") => None,
        Some("Stdout") => Some(LogStream::Stdout),
        Some("Stderr") => Some(LogStream::Stderr),
        Some(_) => return Err(invalid()),
    };
    let is_backwards = tail.is_some_and(|n| n < 0);
    let is_empty = limit.is_some_and(|n| n < 1) || since_seconds.is_some_and(|n| n < 1);
    let is_contradictory =
        (since_seconds.is_some() && since_time.is_some()) || (stream.is_some() && tail.is_some());
    if is_backwards || is_empty || is_contradictory {
        return Err(invalid());
    }
    if let Some(stream) = stream.filter(|_| !has_streams) {
        let text = format!(
            "unable to return the given log stream: \"{stream:?}\". \
             Please enable PodLogsQuerySplitStreams feature gate in kubelet"
        );
        return Err(QueryError { status: StatusCode::BAD_REQUEST, text });
    }
    let ago = |seconds| now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN);
    Ok(LogQuery {
        is_previous: flag(query, "previous"),
        is_follow: flag(query, "follow"),
        has_timestamps: flag(query, "timestamps"),
        tail_lines: tail.and_then(|n| u64::try_from(n).ok()),
        limit_bytes: limit.and_then(|n| u64::try_from(n).ok()),
        since: since_time.or(since_seconds.map(ago)),
        stream,
    })
}

/// A parameter that is there is true unless it says otherwise, as the API's own decoding has it.
fn flag(query: &Query, name: &str) -> bool {
    query.first(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

/// A number that is there has to be one, and nothing is none.
fn integer(query: &Query, name: &str) -> Result<Option<i64>, QueryError> {
    query.first(name).map(number).transpose()
}

fn number(text: &str) -> Result<i64, QueryError> {
    text.parse().map_err(|_| undecodable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_decode_as_the_apis() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let default = LogQuery::default;
        let since = |time: &str| LogQuery { since: Some(time.parse().unwrap()), ..default() };
        for (text, has_streams, want) in [
            ("", false, Ok(default())),
            ("follow", false, Ok(LogQuery { is_follow: true, ..default() })),
            ("follow=true&previous=false&timestamps=1", false, {
                Ok(LogQuery { is_follow: true, has_timestamps: true, ..default() })
            }),
            ("tailLines=0", false, Ok(LogQuery { tail_lines: Some(0), ..default() })),
            ("tail=7&tailLines=9", false, Ok(LogQuery { tail_lines: Some(7), ..default() })),
            ("tail=all", false, Ok(default())),
            ("tail=all&tailLines=9", false, Ok(default())),
            ("limitBytes=5", false, Ok(LogQuery { limit_bytes: Some(5), ..default() })),
            ("sinceSeconds=60", false, Ok(since("2026-01-01T00:00:00Z"))),
            ("sinceTime=2025-01-01T00%3A00%3A00Z", false, Ok(since("2025-01-01T00:00:00Z"))),
            ("stream=All", false, Ok(default())),
            ("stream=Stderr", true, Ok(LogQuery { stream: Some(LogStream::Stderr), ..default() })),
            ("tailLines=x", false, Err(undecodable())),
            ("tailLines=", false, Err(undecodable())),
            ("limitBytes", false, Err(undecodable())),
            ("tail=", false, Ok(default())),
            ("stream=", false, Err(invalid())),
            ("sinceTime=yesterday", false, Err(undecodable())),
            ("tailLines=-1", false, Err(invalid())),
            ("limitBytes=0", false, Err(invalid())),
            ("sinceSeconds=0", false, Err(invalid())),
            ("sinceSeconds=1&sinceTime=2025-01-01T00%3A00%3A00Z", false, Err(invalid())),
            ("stream=Nope", true, Err(invalid())),
            ("stream=Stdout&tailLines=1", true, Err(invalid())),
        ] {
            assert_eq!(parse(&Query::parse(Some(text)), has_streams, now), want, "{text}");
        }
        let error = parse(&Query::parse(Some("stream=Stdout")), false, now).unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert!(error.text.contains("log stream: \"Stdout\""));
    }
}
