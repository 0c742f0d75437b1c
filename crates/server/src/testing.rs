//! What meets bytes of strangers, for fuzzing: routes, authorization headers, parameters of streams, logs and queries, the
//! heads of upgrades, and the frames and messages of sessions. Nothing is checked but that each comes to an end.

use std::future::Future;

use futures::StreamExt as _;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::endpoint::{self, ServerKind};
use crate::ports::Streams;
use crate::service::Query;
use crate::settings::EndpointSettings;
use crate::{attributes, auth, logs, nodelogs, spdy, streaming, translate, tunnel, websocket};

/// Every endpoint there can be.
const ALL: EndpointSettings = EndpointSettings {
    has_debugging: true,
    has_system_logs: true,
    has_profiling: true,
    has_debug_flags: true,
    has_allocated_pods: true,
    has_log_streams: true,
    translates_websockets: true,
    has_checkpoint: true,
    has_flags: true,
    has_status: true,
    has_device_plugins: true,
};

/// Takes text apart as a request: its first line is a method, the second a path with its parameters, the others
/// headers.
pub fn read_request(text: &[u8]) {
    let mut lines = text.split(|byte| *byte == b'\n');
    let method = Method::from_bytes(lines.next().unwrap_or_default()).unwrap_or(Method::GET);
    let target = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
        let name = HeaderName::from_bytes(name).unwrap_or(AUTHORIZATION);
        if let Ok(value) = HeaderValue::from_bytes(value.get(1..).unwrap_or_default()) {
            headers.append(name, value);
        }
    }
    for server in [ServerKind::Main, ServerKind::ReadOnly, ServerKind::Healthz] {
        let _ = endpoint::route(server, &ALL, &method, path);
    }
    let _ = (endpoint::metrics_bucket(path), attributes::verb(&method), attributes::subresources(path));
    let _ = auth::bearer(&headers);
    let _ = nodelogs::query::parse(query);
    let query = Query::parse(query);
    let _ = logs::parse(&query, true, Timestamp::UNIX_EPOCH);
    let _ = logs::parse(&query, false, Timestamp::UNIX_EPOCH);
    let _ = (streaming::streams(&query), streaming::forwarded_ports(&query, &headers));
    let _ = (
        tunnel::is_upgrade(&headers),
        tunnel::onward_headers(&headers),
        websocket::accept(&method, &headers).is_ok(),
    );
}

/// Reads frames of SPDY until the bytes end or are none.
pub fn read_spdy(bytes: &[u8]) {
    block_on(async {
        let mut reader = spdy::Reader::new(bytes);
        while let Ok(Some(_)) = reader.next().await {}
    });
}

/// Holds a session over WebSocket: what the client sends, and what the runtime does. The first byte says which
/// streams there are.
pub fn hold_session(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    let Some((client, runtime)) = halves(rest) else { return };
    let wanted = Streams {
        has_stdin: which & 1 != 0,
        has_stdout: which & 2 != 0,
        has_stderr: which & 4 != 0,
        is_tty: which & 8 != 0,
    };
    block_on(async {
        let (mut sink, mut source) = websocket::over(scripted(client)).await.split();
        translate::translate(&mut sink, &mut source, scripted(runtime), wanted).await;
    });
}

/// Forwards ports over WebSocket: what the client sends, until it ends or is broken.
pub fn forward_ports(bytes: &[u8]) {
    block_on(async {
        let mut client = websocket::into_bytes(websocket::over(scripted(bytes)).await);
        let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
    });
}

/// The other end of a connection, which says this and takes whatever it is told.
fn scripted(bytes: &[u8]) -> tokio::io::Join<&[u8], tokio::io::Sink> {
    tokio::io::join(bytes, tokio::io::sink())
}

/// Two parts, as a length in two bytes says.
fn halves(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)).min(rest.len()))
}

fn block_on(work: impl Future<Output = ()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    runtime.block_on(work);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parts of requests, so that more than the first comparison is reached.
    fn part() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "GET",
            "POST",
            "\n",
            "\n",
            "/",
            "/exec",
            "/portForward",
            "/containerLogs",
            "/metrics",
            "/logs/",
            "?",
            "&",
            "=",
            ",",
            "%",
            "%2f",
            "%zz",
            "port",
            "command",
            "input=1",
            "tailLines",
            "sinceTime",
            "sinceSeconds",
            "limitBytes",
            "stream",
            "-1",
            "0",
            "65536",
            "99999999999999999999",
            "9223372036854775807",
            "-9999-12-31T23:59:59Z",
            "authorization:",
            "Bearer",
            " ",
            "upgrade:",
            "connection:",
            "websocket",
            "SPDY/3.1",
            "sec-websocket-protocol:",
            "portforward.k8s.io",
            "\u{0}",
            "\u{fffd}",
            "é",
        ]);
        prop_oneof![4 => words.prop_map(str::to_owned), 1 => any::<String>()]
    }

    proptest! {
        #[test]
        fn any_request_can_be_read(parts in prop::collection::vec(part(), 0..40)) {
            read_request(parts.concat().as_bytes());
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            read_request(&bytes);
            read_spdy(&bytes);
            hold_session(&bytes);
            forward_ports(&bytes);
        }

        /// A client's frames, masked as they have to be, beside whatever the runtime says.
        #[test]
        fn any_message_can_be_taken(
            which: u8, kind in 0_u8..16, channel: u8, text: Vec<u8>, last: bool, runtime: Vec<u8>,
        ) {
            let mut message = vec![channel];
            message.extend(text.iter().take(100));
            let mut client = vec![u8::from(last) << 7 | kind, 0x80 | message.len() as u8, 0, 0, 0, 0];
            client.extend(message);
            let length = (client.len() as u16).to_be_bytes();
            hold_session(&[&[which][..], &length, &client, &runtime].concat());
            forward_ports(&client);
        }

        /// Control frames of the protocol's version, whatever they hold.
        #[test]
        fn any_frame_can_be_read(kind in 0_u8..12, flags: u8, length in 0_u8..40, rest: Vec<u8>) {
            let head = [0x80, 3, 0, kind, flags, 0, 0, length];
            read_spdy(&[&head[..], &rest[..]].concat());
        }
    }
}
