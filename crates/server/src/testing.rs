//! What meets bytes of strangers, for fuzzing: routes, authorization headers, parameters of streams, logs and queries, and the
//! heads of upgrades. Nothing is checked but that each comes to an end.

use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::endpoint::{self, ServerKind};
use crate::service::Query;
use crate::settings::EndpointSettings;
use crate::{attributes, auth, logs, nodelogs, spdy, streaming, tunnel, websocket};

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
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    runtime.block_on(async {
        let mut reader = spdy::Reader::new(bytes);
        while let Ok(Some(_)) = reader.next().await {}
    });
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
        }

        /// Control frames of the protocol's version, whatever they hold.
        #[test]
        fn any_frame_can_be_read(kind in 0_u8..12, flags: u8, length in 0_u8..40, rest: Vec<u8>) {
            let head = [0x80, 3, 0, kind, flags, 0, 0, length];
            read_spdy(&[&head[..], &rest[..]].concat());
        }
    }
}
