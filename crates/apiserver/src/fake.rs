//! A server on loopback that speaks real HTTP, keeps what it was asked and answers by a script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::{ClientSettings, Connection, connect};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    pub(crate) authorization: String,
    pub(crate) body: Value,
}

/// What the server does with a request.
pub(crate) enum Reply {
    Json(u16, Value),
    /// Raw lines of a watch, then held open.
    Lines(Vec<Value>),
    /// Raw lines of a watch, then closed.
    LinesThenEnd(Vec<Value>),
    /// Raw lines of a watch; when told to, the connection breaks in the middle of the answer.
    LinesThenBreak(Vec<Value>, oneshot::Receiver<()>),
    /// Chunks exactly as they go on the wire, then held open.
    Chunks(Vec<Vec<u8>>),
}

/// What follows the last chunk of an answer.
enum After {
    End,
    Hold,
    Break(oneshot::Receiver<()>),
}

/// A `Status` of failure.
pub(crate) fn refuse(code: u16, reason: &str, message: &str) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message});
    Reply::Json(code, body)
}

pub(crate) fn list(version: &str, items: Value) -> Reply {
    Reply::Json(
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
    )
}

type Answer = Arc<Mutex<dyn FnMut(&Asked) -> Reply + Send>>;

pub(crate) struct Fake {
    pub(crate) connection: Connection,
    pub(crate) asked: mpsc::Receiver<Asked>,
    pub(crate) kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fake {
    /// Answers each request by a function.
    pub(crate) async fn by(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let settings = ClientSettings { user_agent: "kubelet/test".into(), ..ClientSettings::default() };
        Self::with(settings, answer).await
    }

    /// The same with other settings than the default ones.
    pub(crate) async fn with(
        settings: ClientSettings,
        answer: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, seen) = mpsc::channel(1000);
        tokio::spawn(serve(listener, Arc::new(Mutex::new(answer)), asked));
        let folder = tempfile::tempdir().unwrap();
        let path = kubeconfig(&folder, &format!("http://{address}"));
        let connection = connect(&path, settings).await.unwrap();
        Self { connection, asked: seen, kubeconfig: path, _folder: folder }
    }

    /// Answers the requests in their order.
    pub(crate) async fn scripted(replies: Vec<Reply>) -> Self {
        let mut replies = VecDeque::from(replies);
        Self::by(move |asked| replies.pop_front().unwrap_or_else(|| panic!("unexpected {asked:?}"))).await
    }

    pub(crate) async fn next(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }
}

fn kubeconfig(folder: &tempfile::TempDir, server: &str) -> PathBuf {
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
         users: [{{name: u, user: {{token: secret-token}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

async fn serve(listener: TcpListener, answer: Answer, asked: mpsc::Sender<Asked>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (answer, asked) = (Arc::clone(&answer), asked.clone());
        let service = service_fn(move |request| one(request, Arc::clone(&answer), asked.clone()));
        tokio::spawn(async move {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

async fn one(
    request: http::Request<Incoming>,
    answer: Answer,
    asked: mpsc::Sender<Asked>,
) -> Result<http::Response<BoxBody<Bytes, io::Error>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let seen = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: header(http::header::CONTENT_TYPE),
        user_agent: header(http::header::USER_AGENT),
        authorization: header(http::header::AUTHORIZATION),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let reply = {
        let mut answer = answer.lock().unwrap();
        answer(&seen)
    };
    asked.send(seen).await.unwrap();
    let line = |value: &Value| format!("{value}\n").into_bytes();
    let (code, chunks, after) = match reply {
        Reply::Json(code, value) => (code, vec![value.to_string().into_bytes()], After::End),
        Reply::Lines(lines) => (200, lines.iter().map(line).collect(), After::Hold),
        Reply::LinesThenEnd(lines) => (200, lines.iter().map(line).collect(), After::End),
        Reply::LinesThenBreak(lines, told) => (200, lines.iter().map(line).collect(), After::Break(told)),
        Reply::Chunks(chunks) => (200, chunks, After::Hold),
    };
    let chunks = futures::stream::iter(chunks).map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
    let body = match after {
        After::End => BodyExt::boxed(StreamBody::new(chunks)),
        After::Hold => BodyExt::boxed(StreamBody::new(chunks.chain(futures::stream::pending()))),
        After::Break(told) => {
            let broken = futures::stream::once(async {
                let _ = told.await;
                Err(io::ErrorKind::ConnectionReset.into())
            });
            BodyExt::boxed(StreamBody::new(chunks.chain(broken)))
        }
    };
    Ok(http::Response::builder().status(code).body(body).unwrap())
}
