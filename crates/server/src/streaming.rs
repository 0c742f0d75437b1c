//! `/exec`, `/attach`, `/portForward`: which streams and ports, then the runtime's URL, then the
//! tunnel. And `/run`, which needs none.

use std::sync::Arc;

use futures::FutureExt as _;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use model::PodKey;

use crate::answer::{self, Answer};
use crate::endpoint::{ContainerPath, PodPath};
use crate::input::FreeInput;
use crate::number;
use crate::ports::{ContainerTarget, PodPorts, StreamError, StreamPorts, Streams};
use crate::service::Query;
use crate::translate;
use crate::tunnel::{self, TunnelContext};

/// SPDY within a WebSocket (KEP-4006).
const PORT_FORWARD_WITHIN: &str = "SPDY/3.1+portforward.k8s.io";

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    Exec,
    Attach,
}

/// Opens an exec or attach session.
pub(crate) async fn session<P: PodPorts + StreamPorts>(
    ports: &P,
    session: Session,
    path: ContainerPath,
    query: &Query,
    request: Request<Incoming>,
    mut context: TunnelContext,
) -> Answer {
    let Some(streams) = streams(query) else {
        return answer::text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    };
    let Some(target) = target(ports, path) else { return no_pod() };
    if !tunnel::is_upgrade(request.headers()) {
        return tunnel::upgrade_required();
    }
    let url = match session {
        Session::Exec => {
            let command = query.all("command").map(str::to_owned).collect();
            ports.exec_url(&target, command, streams).await
        }
        Session::Attach => ports.attach_url(&target, streams).await,
    };
    // A terminal goes with its program, and nobody waits for what is left in it.
    if streams.has_stdin && !streams.is_tty {
        context.free_input = Some(free_input(ports.clone(), target));
    }
    match url {
        Ok(url) if context.translates && offers(request.headers(), translate::PROTOCOL) => {
            ports.websocket_session(if session == Session::Exec { "exec" } else { "attach" });
            translate::open(request, url, streams, context)
        }
        Ok(url) => tunnel::open(request, &url, context).await,
        Err(error) => stream_error(&error),
    }
}

fn free_input<P: StreamPorts>(ports: P, target: ContainerTarget) -> FreeInput {
    let shared = Arc::new((ports, target));
    Box::new(move || {
        let shared = shared.clone();
        async move { shared.0.free_input(&shared.1).await }.boxed()
    })
}

/// Opens a port-forward session.
pub(crate) async fn port_forward<P: PodPorts + StreamPorts>(
    ports: &P,
    path: &PodPath,
    query: &Query,
    request: Request<Incoming>,
    context: TunnelContext,
) -> Answer {
    let is_within = context.translates && offers(request.headers(), PORT_FORWARD_WITHIN);
    let numbers = match if is_within { Ok(Vec::new()) } else { forwarded_ports(query, request.headers()) } {
        Ok(numbers) => numbers,
        Err(text) => return answer::text(StatusCode::BAD_REQUEST, text),
    };
    let Some(pod) = ports.pod(&PodKey::new(&path.namespace, &path.name)) else { return no_pod() };
    if path.uid.is_some() && path.uid != pod.metadata.uid {
        return answer::text(StatusCode::NOT_FOUND, "pod not found");
    }
    if !tunnel::is_upgrade(request.headers()) {
        return tunnel::upgrade_required();
    }
    match ports.port_forward_url(&pod, numbers).await {
        Ok(url) if is_within => {
            ports.websocket_session("portforward");
            let protocols = (PORT_FORWARD_WITHIN, "portforward.k8s.io");
            tunnel::open_within(request, &url, protocols, context).await
        }
        Ok(url) => tunnel::open(request, &url, context).await,
        Err(error) => stream_error(&error),
    }
}

/// Whether a client offers a protocol for a WebSocket.
fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    tunnel::is_websocket(headers) && tunnel::has_protocol(headers, protocol)
}

/// Runs a command and answers with what it wrote.
pub(crate) async fn run<P: PodPorts + StreamPorts>(ports: &P, path: ContainerPath, query: &Query) -> Answer {
    let Some(target) = target(ports, path) else { return no_pod() };
    let command = query.first("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
    match ports.exec_sync(&target, command).await {
        // Nothing has no type, as upstream.
        Ok(output) if output.is_empty() => answer::untyped(answer::json(output)),
        Ok(output) => answer::json(output),
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// Writes what is in a container to a file.
pub(crate) async fn checkpoint<P: PodPorts + StreamPorts>(
    ports: &P,
    path: ContainerPath,
    query: &Query,
) -> Answer {
    let not_found = |text: &str| answer::text(StatusCode::NOT_FOUND, text.to_owned());
    let Some(target) = target(ports, path) else { return no_pod() };
    if model::pod::container(&target.pod, &target.container).is_none() {
        return not_found(&format!("container {} does not exist", target.container));
    }
    // The last one counts.
    let timeout = query.all("timeout").last().map_or(Ok(0), str::parse);
    let Ok(timeout) = timeout else { return not_found("cannot parse value of timeout parameter") };
    match ports.checkpoint(&target, timeout).await {
        Ok(location) => answer::json(serde_json::json!({ "items": [location] }).to_string()),
        Err(error) => {
            let pod = model::pod::key(&target.pod);
            let text = format!(
                "checkpointing of {}/{}/{} failed ({error})",
                pod.namespace, pod.name, target.container
            );
            answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

fn stream_error(error: &StreamError) -> Answer {
    let status = match error {
        StreamError::NotFound(_) => StatusCode::NOT_FOUND,
        StreamError::Exhausted(_) => StatusCode::TOO_MANY_REQUESTS,
        StreamError::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut answer = answer::text(status, error.to_string());
    if status == StatusCode::TOO_MANY_REQUESTS {
        // As long as the runtime keeps an unused session.
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    }
    answer
}

fn no_pod() -> Answer {
    answer::text(StatusCode::NOT_FOUND, "pod does not exist")
}

fn target<P: PodPorts>(ports: &P, path: ContainerPath) -> Option<ContainerTarget> {
    let pod: Arc<_> = ports.pod(&PodKey::new(&path.pod.namespace, &path.pod.name))?;
    Some(ContainerTarget { pod, uid: path.pod.uid, container: path.container })
}

pub(crate) fn streams(query: &Query) -> Option<Streams> {
    let is_set = |name| query.first(name) == Some("1");
    let is_tty = is_set("tty");
    let streams = Streams {
        has_stdin: is_set("input"),
        has_stdout: is_set("output"),
        // A terminal has only one output.
        has_stderr: is_set("error") && !is_tty,
        is_tty,
    };
    (streams.has_stdin || streams.has_stdout || streams.has_stderr).then_some(streams)
}

/// The ports named in the query, which the older WebSocket protocol needs; SPDY names them later.
pub(crate) fn forwarded_ports(query: &Query, headers: &HeaderMap) -> Result<Vec<u16>, String> {
    if !tunnel::is_websocket(headers) {
        return Ok(Vec::new());
    }
    let mut ports = Vec::new();
    for list in query.all("port") {
        if list.is_empty() {
            return Err("query parameter \"port\" cannot be empty".into());
        }
        for port in list.split(',') {
            match number::unsigned::<u16>(port) {
                Ok(0) => return Err(format!("port {list:?} must be > 0")),
                Ok(port) => ports.push(port),
                Err(error) => return Err(format!("unable to parse {list:?} as a port: {error}")),
            }
        }
    }
    if ports.is_empty() { Err("query parameter \"port\" is required".into()) } else { Ok(ports) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_follow_the_query() {
        for (text, want) in [
            ("", None),
            ("tty=1", None),
            ("output=true", None),
            ("tty=1&error=1", None),
            ("input=1", Some(Streams { has_stdin: true, ..Streams::default() })),
            (
                "output=1&error=1&tty=1",
                Some(Streams { has_stdout: true, is_tty: true, ..Streams::default() }),
            ),
        ] {
            assert_eq!(streams(&Query::parse(Some(text))), want, "{text}");
        }
    }

    #[test]
    fn ports_are_needed_by_plain_websockets_only() {
        let headers = |protocol: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert("upgrade", HeaderValue::from_static("websocket"));
            if let Some(protocol) = protocol {
                headers.insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
            }
            headers
        };
        let of = |text: &str, headers: &HeaderMap| forwarded_ports(&Query::parse(Some(text)), headers);
        assert_eq!(of("", &HeaderMap::new()), Ok(vec![]));
        assert!(offers(&headers(Some(PORT_FORWARD_WITHIN)), PORT_FORWARD_WITHIN));
        assert!(!offers(&headers(None), PORT_FORWARD_WITHIN));
        assert_eq!(of("port=1,2&port=3", &headers(None)), Ok(vec![1, 2, 3]));
        for (text, part) in
            [("", "required"), ("port=", "empty"), ("port=0", "> 0"), ("port=70000", "unable to parse")]
        {
            assert!(of(text, &headers(None)).unwrap_err().contains(part), "{text}");
        }
    }
}
