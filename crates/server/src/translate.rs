//! Exec and attach over WebSocket in the protocol `v5.channel.k8s.io`, which runtimes do not speak:
//! the client's channels are translated to the streams of the runtime's SPDY server and back
//! (KEP-4006).
//!
//! Each WebSocket message begins with the number of its channel. What the client can say only since
//! version 5 is that a channel is at its end; `kubectl cp` and pipes into `kubectl exec -i` need it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::Request;
use hyper::body::Incoming;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::activity::Activity;
use crate::answer::Answer;
use crate::input;
use crate::ports::Streams;
use crate::pump::LINGER;
use crate::spdy::{Event, Reader, Writer};
use crate::tunnel::{self, Head, TunnelContext};
use crate::websocket::{self, UpgradeRequest};

/// The protocol's name.
pub(crate) const PROTOCOL: &str = "v5.channel.k8s.io";
/// The newest one runtimes speak.
const RUNTIME_PROTOCOL: &str = "v4.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Longest report of how a command ended that is passed on, bytes.
const MAX_STATUS: usize = 64 * 1024;
/// How long the last bytes of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Things the reading half asks the writing half for: pongs, and the end of standard input. Both are
/// rare; when the writer hangs, the reader waits for it.
const ASKED: usize = 4;

/// Answers the client and starts a session with the runtime. What goes wrong from here on is told
/// over the WebSocket, as upstream does.
pub(crate) fn open(
    mut request: Request<Incoming>,
    url: String,
    wanted: Streams,
    context: TunnelContext,
) -> Answer {
    let offer = match UpgradeRequest::of(&mut request) {
        Ok(offer) => offer,
        Err(refusal) => return refusal,
    };
    let answer = offer.take(PROTOCOL);
    #[expect(clippy::disallowed_methods, reason = "ends with the session, of which it holds the slot")]
    tokio::spawn(async move {
        let TunnelContext { idle_timeout, mut shutdown, slot, served, free_input, .. } = context;
        let activity = Activity::new();
        tokio::select! {
            // Every arm ends the session: what the others were about to do no longer matters.
            () = session(offer, &url, wanted, &activity) => {}
            () = activity.idle_for(idle_timeout) => tracing::info!("Closing an idle streaming session"),
            () = input::look_after(&activity, free_input.as_ref()) => {}
            _ = shutdown.wait_for(|is_shutdown| *is_shutdown) => {}
        }
        drop((slot, served));
    });
    answer
}

async fn session(offer: UpgradeRequest, url: &str, wanted: Streams, activity: &Activity) {
    let socket = match offer.connect().await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "WebSocket upgrade failed");
            return;
        }
    };
    let (mut sink, mut source) = socket.split();
    hold(&mut sink, &mut source, url, wanted, activity).await;
    if let Ok(mut socket) = sink.reunite(source) {
        // A client that takes nothing any more does not hear of it.
        let _ = tokio::time::timeout(FAREWELL, socket.get_mut().shutdown()).await;
    }
}

async fn hold<K, S>(sink: &mut K, source: &mut S, url: &str, wanted: Streams, activity: &Activity)
where
    K: Sink<Message, Error = Error> + Unpin,
    S: Stream<Item = Result<Message, Error>> + Unpin,
{
    // The client learns with the first message that it is connected.
    let first = match wanted {
        Streams { has_stdout: true, .. } => STDOUT,
        Streams { has_stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    if sink.send(message(first, &[])).await.is_err() {
        return;
    }
    match tunnel::dial(url, &Head::spdy(RUNTIME_PROTOCOL)).await {
        Ok(runtime) => translate(sink, source, activity.watch_runtime(runtime), wanted).await,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Failed to open a streaming session with the runtime"
            );
            end(sink, source, &internal_error(&error.to_string())).await;
        }
    }
}

/// The streams of a session, by the numbers they got; 0 for one that was not asked for.
#[derive(Clone, Copy, Default)]
struct Numbers {
    error: u32,
    stdin: u32,
    stdout: u32,
    stderr: u32,
    resize: u32,
}

impl Numbers {
    async fn open<W: AsyncWrite + Unpin>(writer: &mut Writer<W>, wanted: Streams) -> io::Result<Self> {
        let mut numbers = Self::default();
        let all = [
            ("error", true, &mut numbers.error),
            ("stdin", wanted.has_stdin, &mut numbers.stdin),
            ("stdout", wanted.has_stdout, &mut numbers.stdout),
            ("stderr", wanted.has_stderr, &mut numbers.stderr),
            ("resize", wanted.is_tty, &mut numbers.resize),
        ];
        for (name, is_wanted, number) in all {
            if is_wanted {
                *number = writer.open(&[("streamtype", name)]).await?;
            }
        }
        Ok(numbers)
    }
}

/// What the reading half wants written.
enum Asked {
    Pong(u32),
    EndInput,
}

pub(crate) async fn translate<S, R>(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    source: &mut S,
    runtime: R,
    wanted: Streams,
) where
    S: Stream<Item = Result<Message, Error>> + Unpin,
    R: AsyncRead + AsyncWrite,
{
    let (from_runtime, to_runtime) = tokio::io::split(runtime);
    let mut writer = Writer::new(to_runtime);
    let numbers = match Numbers::open(&mut writer, wanted).await {
        Ok(numbers) => numbers,
        Err(error) => return end(sink, source, &internal_error(&error.to_string())).await,
    };
    let (ask, asked) = mpsc::channel(ASKED);
    let down = async {
        match outputs(sink, Reader::new(from_runtime), numbers, &ask).await {
            Ok(status) => tell(sink, &status).await,
            Err(Lost::Client) => false,
            Err(Lost::Runtime(error)) => tell(sink, &internal_error(&error.to_string())).await,
        }
    };
    let is_told = tokio::select! {
        // When the outputs are at their end the session is; when the client is gone, too.
        is_told = down => is_told,
        () = inputs(&mut *source, writer, numbers, asked) => false,
    };
    if is_told {
        linger(source).await;
    }
}

/// Who is gone.
enum Lost {
    Client,
    Runtime(io::Error),
}

/// Passes on what the runtime sends, until all of it is at its end. Returns how the command ended, as
/// the client is told.
async fn outputs<R: AsyncRead + Unpin>(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    mut reader: Reader<R>,
    numbers: Numbers,
    ask: &mpsc::Sender<Asked>,
) -> Result<String, Lost> {
    let mut open: Vec<u32> =
        [numbers.error, numbers.stdout, numbers.stderr].into_iter().filter(|number| *number != 0).collect();
    let mut status = Vec::new();
    while !open.is_empty() {
        let lost = || io::Error::other("the container runtime closed the connection");
        let event = match reader.next().await.and_then(|event| event.ok_or_else(lost)) {
            Ok(event) => event,
            // A runtime that is still being sent input resets the connection once it has said all this.
            Err(_) if !open.contains(&numbers.error) || is_report(&status) => break,
            Err(error) => return Err(Lost::Runtime(error)),
        };
        let ended = match event {
            Event::Data { stream, bytes, is_last } => {
                if stream == numbers.error {
                    let room = MAX_STATUS.saturating_sub(status.len());
                    status.extend_from_slice(&bytes[..bytes.len().min(room)]);
                } else if !bytes.is_empty()
                    && let Some(channel) = numbers.channel(stream)
                {
                    sink.send(message(channel, &bytes)).await.map_err(|_| Lost::Client)?;
                }
                is_last.then_some(stream)
            }
            Event::Reset { stream } => Some(stream),
            // Even numbers are the server's own pings; others would be answers to ours.
            Event::Ping(number) if number % 2 == 0 => {
                // The writer is gone only when the session is.
                let _ = ask.send(Asked::Pong(number)).await;
                None
            }
            Event::Ping(_) | Event::GoAway => None,
        };
        if let Some(stream) = ended {
            open.retain(|number| *number != stream);
            if stream == numbers.stdin && stream != 0 {
                let _ = ask.send(Asked::EndInput).await;
            }
        }
    }
    Ok(verdict(&status))
}

impl Numbers {
    fn channel(&self, stream: u32) -> Option<u8> {
        [(self.stdout, STDOUT), (self.stderr, STDERR)].into_iter().find(|(n, _)| *n == stream).map(|(_, c)| c)
    }
}

/// Passes on what the client sends, until it is gone.
async fn inputs<W: AsyncWrite + Unpin>(
    source: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    mut writer: Writer<W>,
    numbers: Numbers,
    mut asked: mpsc::Receiver<Asked>,
) {
    let mut is_input_open = numbers.stdin != 0;
    loop {
        // Both arms are cancel-safe: a stream and a channel receiver.
        let written = tokio::select! {
            asked = asked.recv() => match asked {
                Some(Asked::Pong(number)) => writer.pong(number).await,
                Some(Asked::EndInput) if std::mem::take(&mut is_input_open) => {
                    writer.data(numbers.stdin, &[], true).await
                }
                Some(Asked::EndInput) => Ok(()),
                None => return,
            },
            message = source.next() => match message {
                Some(Ok(Message::Binary(bytes))) => match parse(&bytes) {
                    Some((STDIN, data)) if is_input_open => writer.data(numbers.stdin, data, false).await,
                    Some((RESIZE, data)) if numbers.resize != 0 => writer.data(numbers.resize, data, false).await,
                    Some((CLOSE, [STDIN])) if std::mem::take(&mut is_input_open) => {
                        writer.data(numbers.stdin, &[], true).await
                    }
                    _ => Ok(()),
                },
                // Pings are answered by the library.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => Ok(()),
            },
        };
        if let Err(error) = written {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "Runtime takes no more input of a streaming session"
            );
            // What it has to say may still come.
            is_input_open = false;
        }
    }
}

/// A message's channel and what it carries.
fn parse(message: &[u8]) -> Option<(u8, &[u8])> {
    message.split_first().map(|(channel, data)| (*channel, data))
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(data.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(data);
    Message::Binary(Bytes::from(bytes))
}

/// The runtime says nothing of success, and `metav1.Status` otherwise.
fn verdict(status: &[u8]) -> String {
    if status.is_empty() {
        return json!({ "metadata": {}, "status": "Success" }).to_string();
    }
    match serde_json::from_slice::<serde_json::Value>(status) {
        Ok(value) if is_metav1(&value) => value.to_string(),
        _ => internal_error(&format!("error stream protocol error: {}", String::from_utf8_lossy(status))),
    }
}

fn is_metav1(value: &serde_json::Value) -> bool {
    value["status"].is_string()
}

/// Whether these bytes are all of how the command ended.
fn is_report(status: &[u8]) -> bool {
    serde_json::from_slice(status).is_ok_and(|value| is_metav1(&value))
}

fn internal_error(reason: &str) -> String {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {reason}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": reason }] },
        "code": 500,
    })
    .to_string()
}

/// Says how it ended and closes. A client that is gone does not hear it.
async fn end(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    source: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    status: &str,
) {
    if tell(sink, status).await {
        linger(source).await;
    }
}

/// Whether the client was told.
async fn tell(sink: &mut (impl Sink<Message, Error = Error> + Unpin), status: &str) -> bool {
    sink.send(message(ERROR, status.as_bytes())).await.is_ok()
        && sink.send(websocket::normal_close()).await.is_ok()
}

/// Drops what the client still sends until it has closed its side, too: with something in it that nobody read, the
/// connection would be reset, and what was just said be lost.
async fn linger(source: &mut (impl Stream<Item = Result<Message, Error>> + Unpin)) {
    let rest = async { while let Some(Ok(_)) = source.next().await {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests;
