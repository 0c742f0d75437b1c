//! Looks the API server's name up, and tells how long that takes. Addresses are not looked up.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use tokio::time::Instant;
use tower::Service;

use crate::observer::{Observer, RequestEvent};

/// The system's resolver, listened to.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    inner: GaiResolver,
    observer: Observer<RequestEvent>,
}

impl Resolver {
    pub(crate) fn new(observer: Observer<RequestEvent>) -> Self {
        Self { inner: GaiResolver::new(), observer }
    }
}

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (host, observer, begun) = (name.as_str().to_owned(), self.observer.clone(), Instant::now());
        let looking = self.inner.call(name);
        Box::pin(async move {
            let found = looking.await;
            observer.tell(RequestEvent::Resolved { host, took: begun.elapsed() });
            found
        })
    }
}
