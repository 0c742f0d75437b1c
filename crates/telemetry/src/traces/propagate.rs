//! Telling the other end of a call which trace it is part of: the W3C headers `traceparent`,
//! `tracestate` and `baggage`, in gRPC metadata and in HTTP requests.

use std::future::Future;
use std::pin::Pin;
use std::task::{Poll, ready};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use tower::Service;

use super::{Span, Tracer};

/// A gRPC interceptor that adds the trace the call is made in.
#[derive(Clone, Copy, Debug, Default)]
pub struct PropagateContext;

impl tonic::service::Interceptor for PropagateContext {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let mut headers = HeaderMap::new();
        inject(&Context::current(), &mut headers);
        if !headers.is_empty() {
            request.metadata_mut().as_mut().extend(headers);
        }
        Ok(request)
    }
}

/// An HTTP client that makes a span of every request, from sending it to the head of its answer, and
/// tells the server.
#[derive(Clone, Debug)]
pub struct TracedClient<S> {
    inner: S,
    tracer: Tracer,
}

impl<S> TracedClient<S> {
    /// Wraps a client.
    pub fn new(inner: S, tracer: Tracer) -> Self {
        Self { inner, tracer }
    }
}

impl<S, B, R> Service<Request<B>> for TracedClient<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: std::fmt::Display,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TracedRequest<S::Future>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (method, uri) = (request.method(), request.uri());
        let span = self.tracer.call(
            || format!("HTTP {method}").into(),
            || {
                [
                    ("http.request.method", Value::from(method.to_string())),
                    ("url.full", uri.to_string().into()),
                    ("server.address", uri.host().unwrap_or_default().to_owned().into()),
                    ("server.port", uri.port_u16().map_or(443, i64::from).into()),
                ]
            },
        );
        if let Some(context) = &span.0 {
            inject(context, request.headers_mut());
        }
        TracedRequest { inner: Box::pin(self.inner.call(request)), span: Some(span) }
    }
}

/// The answer to come.
#[derive(Debug)]
pub struct TracedRequest<F> {
    inner: Pin<Box<F>>,
    span: Option<Span>,
}

impl<F, R, E> Future for TracedRequest<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: std::fmt::Display,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.inner.as_mut().poll(cx));
        if let Some(span) = self.span.take() {
            match &result {
                Ok(answer) => {
                    span.set("http.response.status_code", i64::from(answer.status().as_u16()));
                    if answer.status().is_client_error() || answer.status().is_server_error() {
                        span.set("error.type", answer.status().as_str().to_owned());
                        span.fail("");
                    }
                }
                Err(error) => span.fail(error.to_string()),
            }
        }
        Poll::Ready(result)
    }
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        let (name, value) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(&value));
        // An empty `tracestate` says nothing.
        if let (Ok(name), Ok(value)) = (name, value)
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

struct Received<'a>(&'a HeaderMap);

impl Extractor for Received<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

fn inject(context: &Context, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(context, &mut Headers(headers));
    BaggagePropagator::new().inject_context(context, &mut Headers(headers));
}

/// The trace a request says it is part of.
pub(super) fn extract(headers: &HeaderMap) -> Context {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Received(headers));
    BaggagePropagator::new().extract_with_context(&context, &Received(headers))
}
