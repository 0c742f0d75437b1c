//! Pages of metrics in the form a scraper asks for: as text or as protobuf, compressed or not.
//!
//! Pages are written as text, which is what nearly everybody asks for; protobuf is made from the text.
//! There is no OpenMetrics, as upstream's pages have none; a scraper that would rather have it takes text.

mod protobuf;

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, VARY};

use crate::accept;
use crate::answer::{self, Answer};

/// Seconds since 1970, so that a scraper can tell a restart from a counter that fell.
const PROCESS_START: HeaderName = HeaderName::from_static("process-start-time-unix");

/// A page in the form that the request asks for.
pub(crate) fn answer(page: Result<Bytes, String>, request: &HeaderMap) -> Answer {
    let mut answer = match page {
        Ok(text) => in_form(text, request),
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    if let Ok(seconds) = telemetry::metrics::process_start_seconds() {
        answer.headers_mut().insert(PROCESS_START, HeaderValue::from(seconds as u64));
    }
    answer
}

fn in_form(text: Bytes, request: &HeaderMap) -> Answer {
    let format = Format::negotiate(header(request, &ACCEPT));
    let page = if format.is_protobuf { Bytes::from(protobuf::delimited(&text)) } else { text };
    let compressed = takes_gzip(header(request, &ACCEPT_ENCODING)).then(|| gzip(&page)).flatten();
    let is_compressed = compressed.is_some();
    let body = answer::body(compressed.map_or(page, Bytes::from));
    let mut answer = answer::with_type(StatusCode::OK, format.content_type(), body);
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if is_compressed {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A form of a page, and how it says it would escape names that are none of the classical ones. None of
/// ours needs to be escaped, but a scraper may insist on being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    is_protobuf: bool,
    escaping: &'static str,
}

impl Format {
    const ESCAPINGS: [&'static str; 4] = ["allow-utf-8", "underscores", "dots", "values"];

    fn negotiate(accepted: &str) -> Self {
        let mut format = Self { is_protobuf: false, escaping: "underscores" };
        for clause in accept::clauses(accepted) {
            let wanted = clause.parameter("escaping");
            if let Some(known) = Self::ESCAPINGS.into_iter().find(|known| wanted == Some(known)) {
                format.escaping = known;
            }
            let is = |name, value| clause.parameter(name) == Some(value);
            let is_family = is("proto", "io.prometheus.client.MetricFamily");
            match clause.media {
                "application/vnd.google.protobuf" if is_family && is("encoding", "delimited") => {
                    return Self { is_protobuf: true, ..format };
                }
                "text/plain" if clause.parameter("version").is_none_or(|version| version == "0.0.4") => {
                    return format;
                }
                _ => {}
            }
        }
        format
    }

    fn content_type(self) -> HeaderValue {
        let media = if self.is_protobuf {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        };
        let text = format!("{media}; escaping={}", self.escaping);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("text/plain"))
    }
}

/// Whether a client would rather have a page compressed: not if it likes it as well as it is.
fn takes_gzip(accepted: &str) -> bool {
    let quality = |coding: &str| {
        let named = accepted.split(',').filter_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let name = parts.next()?;
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok()).unwrap_or(1.0);
            (name == coding || name == "*").then_some(quality)
        });
        named.fold(None, |best: Option<f64>, quality| Some(best.map_or(quality, |best| best.max(quality))))
    };
    quality("gzip").is_some_and(|gzip| gzip > 0.0 && quality("identity").is_none_or(|plain| gzip > plain))
}

fn gzip(page: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
    encoder.write_all(page).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_negotiated() {
        let text = |escaping| Format { is_protobuf: false, escaping };
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily";
        let open = "application/openmetrics-text;version=1.0.0";
        for (accepted, want) in [
            ("", text("underscores")),
            ("*/*", text("underscores")),
            ("text/html", text("underscores")),
            (open, text("underscores")),
            (&format!("{open};escaping=allow-utf-8;q=0.6, text/plain;q=0.5"), text("allow-utf-8")),
            ("text/plain;version=1.0.0;escaping=dots", text("dots")),
            ("text/plain;escaping=nonsense", text("underscores")),
            (
                &format!("text/plain;q=0.3, {protobuf};encoding=delimited;q=0.7"),
                Format { is_protobuf: true, escaping: "underscores" },
            ),
            (&format!("text/plain, {protobuf};encoding=delimited;q=0.7"), text("underscores")),
            (&format!("{protobuf};encoding=text"), text("underscores")),
            ("application/vnd.google.protobuf;encoding=delimited", text("underscores")),
        ] {
            assert_eq!(Format::negotiate(accepted), want, "{accepted}");
        }
    }

    #[test]
    fn pages_are_compressed_for_those_who_like_it_better() {
        for (accepted, want) in [
            ("", false),
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("br", false),
            ("*", false),
            ("gzip;q=0", false),
            ("gzip;q=0, identity", false),
            ("identity, gzip", false),
            ("identity;q=0.5, gzip", true),
            ("deflate;q=0.5, gzip;q=1.0", true),
        ] {
            assert_eq!(takes_gzip(accepted), want, "{accepted}");
        }
    }
}
