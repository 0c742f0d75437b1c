//! A web server for what a kubelet fetches.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What is said to a request.
pub(super) type Answer = Response<Full<Bytes>>;

/// A server at a port of 127.0.0.1, until it is dropped.
pub(super) struct Web {
    /// The port.
    pub(super) port: u16,
    task: JoinHandle<()>,
}

impl Web {
    /// Answers every request with what `answer` makes of its head.
    pub(super) async fn serve(
        answer: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for requests")?;
        let port = listener.local_addr().context("listen for requests")?.port();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answer = answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                // How a connection ends is the client's affair.
                connections.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { port, task })
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with nothing but this text.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer
}
