//! Spans of requests that the kubelet answers.

use http::{HeaderMap, Method, Uri, Version};
use opentelemetry::Value;
use opentelemetry::trace::{Link, SpanBuilder, SpanKind, TraceContextExt as _};

use super::{Span, Tracer, key_value, propagate};

/// A span for a request to one of our routes, without its slash. Asked by somebody unknown (`is_public`), it starts a trace of its own that
/// only refers to theirs; otherwise it continues theirs.
pub fn serve(
    tracer: &Tracer,
    route: &'static str,
    is_public: bool,
    request: (&Method, &Uri, Version, &HeaderMap),
) -> Span {
    let Some(sdk) = &tracer.0 else { return Span::default() };
    let route = format!("/{route}");
    let (method, uri, version, headers) = request;
    let text = |name: http::header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    let attributes = [
        ("http.request.method", Value::from(method.to_string())),
        ("http.route", route.clone().into()),
        ("url.path", uri.path().to_owned().into()),
        ("url.scheme", if is_public { "http" } else { "https" }.into()),
        ("server.address", "kubelet".into()),
        ("network.protocol.version", version.into()),
        ("user_agent.original", text(http::header::USER_AGENT).unwrap_or_default().to_owned().into()),
    ];
    let mut builder = SpanBuilder::from_name(route)
        .with_kind(SpanKind::Server)
        .with_attributes(attributes.into_iter().map(key_value));
    let theirs = propagate::extract(headers);
    if !is_public {
        return Span::within(&theirs, sdk, builder);
    }
    let other = theirs.span().span_context().clone();
    if other.is_valid() {
        builder = builder.with_links(vec![Link::with_context(other)]);
    }
    Span::within(&opentelemetry::Context::new(), sdk, builder)
}
