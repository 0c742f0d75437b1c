//! Spans: what the node does as an OpenTelemetry collector shows it (`tracing:` in the configuration).
//!
//! Spans go by OTLP over gRPC, without TLS, to the endpoint that is configured. Whether a trace is
//! recorded is decided where it starts: by whoever sent a request (W3C `traceparent`), or else by chance
//! at `samplingRatePerMillion`. Within [`Span::run`] every further span becomes a child, on whatever
//! thread the work goes on, and [`PropagateContext`] tells the other end of a gRPC call.
//!
//! While tracing is off, a [`Tracer`] and its spans are empty: no thread, no connection, no allocation.

mod answering;
mod collector;
mod propagate;

use std::borrow::Cow;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use opentelemetry::trace::{
    SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub use answering::serve;
pub use collector::{CollectorError, collect};
pub use propagate::{PropagateContext, TracedClient};

/// For spans to reach the collector when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// Spans say which instrumentation made them: upstream's name for the kubelet's own.
const SCOPE: &str = "k8s.io/kubernetes/pkg/kubelet";

/// What is known about a span: names as in OpenTelemetry's semantic conventions.
pub type Attribute = (&'static str, Value);

/// Starts spans. Cheap to clone; the default one starts none.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<SdkTracer>);

/// Everything about tracing that ends with the process.
#[derive(Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// What spans are started with.
    pub fn tracer(&self) -> Tracer {
        Tracer(self.0.as_ref().map(|provider| provider.tracer(SCOPE)))
    }

    /// Sends what has not been sent. Blocks, for two seconds at most.
    pub fn end(&self) {
        if let Some(provider) = &self.0 {
            // What does not arrive in time is lost, which is what tracing may do.
            let _ = provider.shutdown_with_timeout(LAST_SPANS);
        }
    }
}

impl Tracer {
    /// A span of work inside the kubelet, below the one this code runs in.
    pub fn work<A>(&self, name: &'static str, attributes: impl FnOnce() -> A) -> Span
    where
        A: IntoIterator<Item = Attribute>,
    {
        self.start(SpanKind::Internal, || name.into(), attributes)
    }

    /// A span of a request to another process, below the one this code runs in.
    pub fn call<A>(&self, name: impl FnOnce() -> Cow<'static, str>, attributes: impl FnOnce() -> A) -> Span
    where
        A: IntoIterator<Item = Attribute>,
    {
        self.start(SpanKind::Client, name, attributes)
    }

    fn start<A>(
        &self,
        kind: SpanKind,
        name: impl FnOnce() -> Cow<'static, str>,
        attributes: impl FnOnce() -> A,
    ) -> Span
    where
        A: IntoIterator<Item = Attribute>,
    {
        let Some(tracer) = &self.0 else { return Span::default() };
        let builder = SpanBuilder::from_name(name()).with_kind(kind);
        let builder = builder.with_attributes(attributes().into_iter().map(key_value));
        Span::within(&Context::current(), tracer, builder)
    }
}

/// Work under way. It ends when this is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Context>);

impl Span {
    fn within(parent: &Context, tracer: &SdkTracer, builder: SpanBuilder) -> Self {
        let span = tracer.build_with_context(builder, parent);
        Self(Some(parent.with_span(span)))
    }

    /// Runs the work: spans that start in the course of it are children of this one.
    ///
    /// As cancel-safe as the work is.
    pub fn run<F: Future>(&self, work: F) -> Run<F> {
        Run { context: self.0.clone(), work }
    }

    /// Whether anybody will see it.
    #[cfg(test)]
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.as_ref().is_some_and(|context| context.span().is_recording())
    }

    /// Adds what became known later.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Marks the work as failed.
    pub fn fail(&self, reason: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(reason));
        }
    }
}

pin_project_lite::pin_project! {
    /// Work in the course of a span. Hardly larger than the work, as futures get moved.
    #[derive(Debug)]
    pub struct Run<F> {
        context: Option<Context>,
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Run<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.context.clone().map(Context::attach);
        this.work.poll(cx)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // The context may outlive this in work that was detached.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

fn key_value((name, value): Attribute) -> KeyValue {
    KeyValue::new(name, value)
}

#[cfg(test)]
mod tests;
