//! A pool of connections that can be left for new ones.
//!
//! Once the client certificate is another one, what is sent goes over connections made with it.
//! Requests under way on the old connections are answered; watches, which would stay there for
//! minutes, end as if the server had closed them, and go on from their last version. So nothing
//! fails because a certificate was rotated.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::{Builder, Client, Error};
use kube::client::Body;
use tower::Service;

use crate::connect::Connector;
use crate::identity::{FileIdentity, Renewals};
use crate::observer::{Observer, RequestEvent};

type Connections = Client<Connector, Body>;

/// See the module. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Pool {
    builder: Builder,
    connector: Connector,
    renewals: Renewals,
    files: Option<Arc<FileIdentity>>,
    /// Hears how long answers were.
    observer: Observer<RequestEvent>,
    current: Arc<ArcSwap<(u64, Connections)>>,
}

impl Pool {
    pub(crate) fn new(
        builder: Builder,
        connector: Connector,
        renewals: Renewals,
        files: Option<Arc<FileIdentity>>,
        observer: Observer<RequestEvent>,
    ) -> Self {
        let count = *renewals.subscribe().borrow();
        let first = (count, builder.build(connector.clone()));
        let current = Arc::new(ArcSwap::from_pointee(first));
        Self { builder, connector, renewals, files, observer, current }
    }

    fn connections(&self, count: u64) -> Connections {
        let current = self.current.load();
        // Newer than asked for is as good: it was renewed since.
        if current.0 >= count {
            return current.1.clone();
        }
        // Two at the same time make a pool too many, which is dropped when its request is answered.
        let fresh = self.builder.build(self.connector.clone());
        self.current.store(Arc::new((count, fresh.clone())));
        fresh
    }
}

impl Service<Request<Body>> for Pool {
    type Response = Response<Answer>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.files.as_ref().is_some_and(|files| files.has_changed()) {
            tracing::info!("Client certificate files have changed; reconnecting to the API server");
            self.renewals.renew();
        }
        let mut renewed = self.renewals.subscribe();
        let count = *renewed.borrow_and_update();
        let is_watch = is_watch(request.uri());
        let counted = (!is_watch).then(|| Counted {
            observer: self.observer.clone(),
            method: request.method().clone(),
            host: request.uri().authority().map(ToString::to_string).unwrap_or_default(),
            bytes: 0,
        });
        let answer = self.connections(count).request(request);
        Box::pin(async move {
            let (head, inner) = answer.await?.into_parts();
            let end: Option<End> = is_watch.then(|| {
                let end: End = Box::pin(async move {
                    if renewed.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                });
                end
            });
            Ok(Response::from_parts(head, Answer { inner, end, counted }))
        })
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer's body; a watch's ends when its connection is to be left.
pub(crate) struct Answer {
    inner: Incoming,
    end: Option<End>,
    counted: Option<Counted>,
}

/// What is known of an answer that is counted, until all of it is there.
struct Counted {
    observer: Observer<RequestEvent>,
    method: Method,
    host: String,
    bytes: u64,
}

impl Answer {
    fn count(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        match frame {
            Some(Ok(frame)) => {
                if let (Some(counted), Some(data)) = (&mut self.counted, frame.data_ref()) {
                    counted.bytes += data.len() as u64;
                }
            }
            // What broke off has no length.
            Some(Err(_)) => self.counted = None,
            None => {
                if let Some(Counted { observer, method, host, bytes }) = self.counted.take() {
                    observer.tell(RequestEvent::Received { method, host, bytes });
                }
            }
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // What has arrived is handed out first.
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.count(frame.as_ref());
            return Poll::Ready(frame);
        }
        match &mut self.end {
            Some(end) => {
                ready!(end.as_mut().poll(cx));
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
