//! Metrics, compressed for those who ask (Prometheus does).

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};

use crate::answer::{self, Answer};

/// The text format; a scraper that would rather have OpenMetrics or protobuf takes this too.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Metrics in the Prometheus text format.
pub(crate) fn answer(result: Result<Bytes, String>, request: &HeaderMap) -> Answer {
    let text = match result {
        Ok(text) => text,
        Err(error) => return answer::text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let compressed = takes_gzip(request).then(|| gzip(&text)).flatten();
    let is_compressed = compressed.is_some();
    let body = answer::body(compressed.map_or(text, Bytes::from));
    let mut answer = answer::with_type(StatusCode::OK, CONTENT_TYPE, body);
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if is_compressed {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

fn takes_gzip(request: &HeaderMap) -> bool {
    let Some(accepted) = request.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()) else { return false };
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|p| p == "q=0" || p == "q=0.0")
    })
}

fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text).ok()?;
    encoder.finish().ok()
}
