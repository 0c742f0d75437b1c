//! One gRPC call to a plugin, over a connection of its own, with a deadline.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};

/// Pauses between two attempts to connect to a socket that is there while nobody listens yet: a plugin that starts makes it
/// first. As gRPC's.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);
const CONNECT_AGAIN_AT_MOST: Duration = Duration::from_secs(1);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} at socket {socket}")]
pub struct CallError {
    /// The call, such as `GetInfo`.
    pub call: &'static str,
    /// The plugin's socket.
    pub socket: String,
    /// Why.
    pub source: CallFailure,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallFailure {
    /// Nobody can be reached at the socket.
    Connect(#[source] io::Error),
    /// The plugin does not answer.
    Silent,
    /// The plugin's answer, or what broke the call.
    Refused(#[source] Status),
}

impl CallFailure {
    /// The code of gRPC's, in the spelling of Go's library.
    pub fn code(&self) -> String {
        let code = match self {
            Self::Connect(_) => Code::Unavailable,
            Self::Silent => Code::DeadlineExceeded,
            Self::Refused(status) => status.code(),
        };
        match code {
            Code::Ok => "OK".to_owned(),
            Code::Cancelled => "Canceled".to_owned(),
            code => format!("{code:?}"),
        }
    }
}

/// As Go's library has it, which people know from upstream's log and from what drivers are told.
impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => {
                write!(f, "rpc error: code = Unavailable desc = connection error: desc = \"{error}\"")
            }
            Self::Silent => {
                f.write_str("rpc error: code = DeadlineExceeded desc = context deadline exceeded")
            }
            Self::Refused(status) => {
                write!(f, "rpc error: code = {} desc = {}", self.code(), status.message())
            }
        }
    }
}

/// A call to one plugin.
pub(crate) struct Call<'a> {
    pub(crate) name: &'static str,
    pub(crate) socket: &'a str,
    /// For how long it is tried to connect to a socket at which nobody listens yet; zero for once.
    pub(crate) patience: Duration,
    /// For the answer.
    pub(crate) deadline: Duration,
}

impl Call<'_> {
    /// Connects and asks. Dropped, it gives up.
    pub(crate) async fn ask<T, F>(&self, ask: impl FnOnce(Channel) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let failed = |source| CallError { call: self.name, socket: self.socket.to_owned(), source };
        let channel = self.connect().await.map_err(failed)?;
        match tokio::time::timeout(self.deadline, ask(channel)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(failed(CallFailure::Refused(status))),
            Err(_) => Err(failed(CallFailure::Silent)),
        }
    }

    async fn connect(&self) -> Result<Channel, CallFailure> {
        let until = Instant::now() + self.patience;
        let mut pause = CONNECT_AGAIN;
        let stream = loop {
            match UnixStream::connect(Path::new(self.socket)).await {
                Ok(stream) => break stream,
                Err(error) if is_temporary(&error) && Instant::now() + pause < until => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(CONNECT_AGAIN_AT_MOST);
                }
                Err(error) => return Err(CallFailure::Connect(error)),
            }
        };
        let mut once = Some(stream);
        // The address is none: it becomes the authority of the calls, which is upstream's.
        let endpoint = Endpoint::from_static("http://localhost");
        let connector = tower::service_fn(move |_: Uri| {
            let stream = once.take().map(TokioIo::new);
            async { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let connected = tokio::time::timeout(self.deadline, endpoint.connect_with_connector(connector));
        match connected.await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(CallFailure::Connect(io::Error::other(error))),
            Err(_) => Err(CallFailure::Silent),
        }
    }
}

/// Whether somebody may listen there in a moment.
fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock)
}
