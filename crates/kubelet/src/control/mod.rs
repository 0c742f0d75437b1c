//! The control socket: what the node waits for, told to root on the node. It needs no API server and no certificates, and
//! is there from before the node connects to either.
//!
//! A connection is one request, a line of JSON ([`document`]), and its answers, a line each.

pub(crate) mod document;
mod explain;
mod stage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apiserver::LeaseState;
use jiff::Timestamp;
use model::Now;
use node::View;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::driver::Clock;
use crate::driver::recording::{RecorderCommand, RecorderReply};
use crate::identity::IdentityMetrics;
use document::{Answer, PodName, RecordOrder, RecordingStatus, Request};

pub(crate) use explain::explain_pod;
pub(crate) use stage::Stage;

/// Its name in the root folder.
pub(crate) const SOCKET: &str = "control.sock";
/// A request is a few words.
const MOST_REQUEST_BYTES: u64 = 4096;
/// For a request to come: whoever connects has it ready.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer to be taken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two answers to one who watches: nobody reads faster.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(1);
/// People at a time.
const CONNECTIONS: usize = 16;

/// A socket that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("make the control socket {}", path.display())]
pub(crate) struct ControlError {
    path: PathBuf,
    source: io::Error,
}

/// What answers are made of.
pub(crate) struct ControlContext {
    pub(crate) node_name: String,
    pub(crate) clock: Clock,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) identity: Arc<IdentityMetrics>,
    /// Set once there is a connection over which a lease is renewed.
    pub(crate) lease: OnceLock<watch::Receiver<LeaseState>>,
    /// To the driver, which has the core.
    pub(crate) recorder_commands: mpsc::Sender<RecorderCommand>,
}

impl ControlContext {
    /// There is a lease, and that is how it fares.
    pub(crate) fn renews(&self, lease: Option<watch::Receiver<LeaseState>>) {
        if let Some(lease) = lease {
            // Set once, by the only connection there is.
            let _ = self.lease.set(lease);
        }
    }
}

/// Serves until `stop` is cancelled.
///
/// # Errors
/// The socket cannot be made.
pub(crate) fn serve(
    root: &Path,
    context: Arc<ControlContext>,
    stop: CancellationToken,
) -> Result<(), ControlError> {
    let path = root.join(SOCKET);
    let listener = bind(&path).map_err(|source| ControlError { path: path.clone(), source })?;
    #[expect(clippy::disallowed_methods, reason = "ends when the node is told to stop")]
    tokio::spawn(async move {
        // Cancel-safe: connections that nobody accepts are closed with the listener.
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept(listener, context) => {}
        }
        // Nobody is to wait at a socket without a process.
        let _ = std::fs::remove_file(path);
    });
    Ok(())
}

/// Root alone may connect, from the first moment on.
fn bind(path: &Path) -> io::Result<UnixListener> {
    UnixListener::from_std(host::unix_socket::bind(path, Some(0o600))?)
}

async fn accept(listener: UnixListener, context: Arc<ControlContext>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let context = context.clone();
                #[expect(
                    clippy::disallowed_methods,
                    reason = "ends with its connection, of which it holds the slot"
                )]
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &context).await {
                        debug!(err = %error, "Failed to answer a request at the control socket");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(err = %error, "Failed to accept connections at the control socket");
                tokio::time::sleep(BETWEEN_ANSWERS).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, context: &ControlContext) -> io::Result<()> {
    // The mode of the socket keeps others out, unless somebody has changed it.
    let peer = stream.peer_cred()?;
    if peer.uid() != 0 && peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {} asks", peer.uid())));
    }
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(MOST_REQUEST_BYTES));
    let mut line = String::new();
    tokio::time::timeout(REQUEST_TIMEOUT, lines.read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Request::Explain { pod, watch: false }) => {
            say(&mut write, &explanation(context, pod.as_ref())).await
        }
        Ok(Request::Explain { pod, watch: true }) => {
            // Cancel-safe: an answer cut off is to somebody who has gone.
            tokio::select! {
                result = watch_on(&mut write, context, pod.as_ref()) => result,
                _ = lines.read_line(&mut line) => Ok(()),
            }
        }
        Ok(Request::Record(what)) => {
            let answer = match command(context, what).await {
                Ok(recording) => Answer::Recording(recording),
                Err(error) => Answer::Error(error),
            };
            say(&mut write, &answer).await
        }
        Err(error) => say(&mut write, &Answer::Error(format!("not understood: {error}"))).await,
    }
}

/// Has the driver do it, and waits for the disk here.
async fn command(context: &ControlContext, what: RecordOrder) -> Result<Option<RecordingStatus>, String> {
    if *context.stage.borrow() != Stage::Started {
        return Err("the node is still starting; kubelet --record DIR records its start".to_owned());
    }
    let is_over = |_| "the node is ending".to_owned();
    let (reply, answer) = oneshot::channel();
    context
        .recorder_commands
        .send(RecorderCommand { what, reply })
        .await
        .map_err(|_| "the node is ending".to_owned())?;
    let RecorderReply { recording, begun } = answer.await.map_err(is_over)??;
    if let Some(begun) = begun {
        let waited = tokio::task::spawn_blocking(move || begun.wait()).await;
        waited.map_err(|error| error.to_string())?.map_err(|error| model::chain(&error))?;
    }
    Ok(recording.map(|recording| {
        let progress = recording.progress();
        let since = recording.since();
        RecordingStatus { path: progress.path, since, steps: progress.steps, ended: progress.ended }
    }))
}

fn explanation(context: &ControlContext, pod: Option<&PodName>) -> Answer {
    Answer::Explanation(Box::new(explain::explain(context, pod, context.clock.now())))
}

/// Clocks that agree from one moment to the next: the two of them are read one after the other, and what has not changed
/// would be told with another time.
struct SteadyClock {
    clock: Clock,
    began: Timestamp,
}

impl SteadyClock {
    /// More than this apart, somebody has set the wall's clock.
    const SET: Duration = Duration::from_secs(1);

    fn new(clock: Clock) -> Self {
        let now = clock.now();
        Self { clock, began: now.wall - now.mono }
    }

    fn now(&mut self) -> Now {
        let now = self.clock.now();
        let apart = (now.wall - now.mono).duration_since(self.began);
        if apart.unsigned_abs() > Self::SET {
            self.began = now.wall - now.mono;
        }
        Now { wall: self.began + now.mono, mono: now.mono }
    }
}

/// Tells it again whenever it is another.
async fn watch_on<W: tokio::io::AsyncWrite + Unpin>(
    write: &mut W,
    context: &ControlContext,
    pod: Option<&PodName>,
) -> io::Result<()> {
    let (mut view, mut stage) = (context.view.clone(), context.stage.clone());
    let mut certificates = context.identity.waits();
    let mut clock = SteadyClock::new(context.clock);
    loop {
        view.mark_unchanged();
        stage.mark_unchanged();
        certificates.mark_unchanged();
        let lease = context.lease.get().cloned();
        let told = explain::explain(context, pod, clock.now());
        say(write, &Answer::Explanation(Box::new(told))).await?;
        tokio::time::sleep(BETWEEN_ANSWERS).await;
        // Cancel-safe: all of them only wait. A node that ends has nothing more to tell.
        let is_over = tokio::select! {
            changed = view.changed() => changed.is_err(),
            changed = stage.changed() => changed.is_err(),
            changed = certificates.changed() => changed.is_err(),
            () = lease_fails_or_recovers(lease) => false,
        };
        if is_over {
            return Ok(());
        }
    }
}

/// A renewal that follows another one is no news.
async fn lease_fails_or_recovers(lease: Option<watch::Receiver<LeaseState>>) {
    let Some(mut lease) = lease else { return std::future::pending().await };
    let mut was_failing = lease.borrow_and_update().failure.is_some();
    while lease.changed().await.is_ok() {
        let is_failing = lease.borrow_and_update().failure.is_some();
        if was_failing || is_failing {
            return;
        }
        was_failing = is_failing;
    }
    std::future::pending().await
}

async fn say<W: tokio::io::AsyncWrite + Unpin>(write: &mut W, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    tokio::time::timeout(ANSWER_TIMEOUT, write.write_all(&line)).await?
}
