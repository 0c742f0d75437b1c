//! The innermost layer of a client: names the node in each request, spaces requests out, gives up
//! on answers that do not come, and tells how each one went.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use thiserror::Error;
use tokio::time::Instant;
use tower::{BoxError, Service};

use crate::observer::{AnsweredRequest, Observer, RequestEvent};

/// A limit of `qps` requests a second with bursts of `burst`, as one number: the time at which
/// the bucket would be full again (the generic cell rate algorithm). Callers are served in the
/// order in which they asked.
#[derive(Debug)]
pub(crate) struct RateLimit {
    start: Instant,
    interval_nanos: u64,
    burst_nanos: u64,
    full_at_nanos: AtomicU64,
}

impl RateLimit {
    /// `None` when `qps` is zero or below: no limit, as the kubelet's flags mean it.
    pub(crate) fn new(qps: f64, burst: u32) -> Option<Arc<Self>> {
        if qps <= 0.0 || !qps.is_finite() {
            return None;
        }
        let interval_nanos = (1e9 / qps).clamp(1.0, 3.6e12) as u64;
        Some(Arc::new(Self {
            start: Instant::now(),
            interval_nanos,
            burst_nanos: interval_nanos.saturating_mul(u64::from(burst.max(1)) - 1),
            full_at_nanos: AtomicU64::new(0),
        }))
    }

    /// Takes a place and returns when it is due.
    fn reserve(&self, now: Instant) -> Instant {
        let now_nanos = u64::try_from(now.duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        let take = |full: u64| Some(full.max(now_nanos).saturating_add(self.interval_nanos));
        let before = self.full_at_nanos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let full = before.unwrap_or_else(|same| same).max(now_nanos);
        now + Duration::from_nanos(full.saturating_sub(self.burst_nanos).saturating_sub(now_nanos))
    }

    /// Waits for a place and returns for how long.
    async fn wait(&self) -> Duration {
        let now = Instant::now();
        let due = self.reserve(now);
        if due > now {
            tokio::time::sleep_until(due).await;
        }
        due - now
    }
}

/// The head of an answer did not come in time.
#[derive(Debug, Error)]
#[error("no answer from {host} within {limit:?}")]
pub(crate) struct NoAnswer {
    host: String,
    limit: Duration,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Throttle<S> {
    pub(crate) inner: S,
    pub(crate) user_agent: HeaderValue,
    pub(crate) limit: Option<Arc<RateLimit>>,
    /// From sending the request to the head of its answer; bodies (watches) may take longer.
    pub(crate) head_timeout: Duration,
    pub(crate) observer: Observer<RequestEvent>,
}

impl<S, B, R> Service<Request<B>> for Throttle<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: hyper::body::Body + Send + 'static,
    R: 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.headers_mut().insert(http::header::USER_AGENT, self.user_agent.clone());
        let mut inner = self.inner.clone();
        let (limit, head_timeout, observer) = (self.limit.clone(), self.head_timeout, self.observer.clone());
        let method = request.method().clone();
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let sent_bytes = request.body().size_hint().exact().filter(|bytes| *bytes > 0);
        Box::pin(async move {
            let held_back = match limit {
                Some(limit) => limit.wait().await,
                None => Duration::ZERO,
            };
            let sent = Instant::now();
            let answer = match tokio::time::timeout(head_timeout, inner.call(request)).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(NoAnswer { host: host.clone(), limit: head_timeout }.into()),
            };
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            let took = sent.elapsed();
            observer.tell(RequestEvent::Answered(AnsweredRequest {
                method,
                host,
                code,
                sent_bytes,
                held_back,
                took,
            }));
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_is_spaced_out() {
        let limit = RateLimit::new(50.0, 3).unwrap();
        let now = Instant::now();
        let waits: Vec<u128> = (0..6).map(|_| (limit.reserve(now) - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 20, 40, 60]);
        let later = now + Duration::from_secs(10);
        let waits: Vec<u128> = (0..4).map(|_| (limit.reserve(later) - later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 20], "an idle bucket fills up to its burst and no further");
    }

    #[test]
    fn zero_means_no_limit() {
        assert!(RateLimit::new(0.0, 10).is_none());
        assert!(RateLimit::new(-1.0, 10).is_none());
    }
}
