//! Whether a peer has greeted in HTTP/2: a gRPC client counts as connected once the server's first frame has come, and
//! takes everything else for a server that is not up yet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a frame's head: length (3), type (1), flags (1), stream (4).
const HEAD: usize = 9;
/// The type of the frame that a peer begins with.
const SETTINGS: u8 = 4;

/// Whether the preface has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerPreface(Arc<AtomicBool>);

impl ServerPreface {
    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A stream whose first bytes are looked at on their way.
    pub(crate) fn watch<S>(&self, stream: S) -> PrefaceStream<S> {
        PrefaceStream { stream, preface: self.clone(), head: Vec::with_capacity(HEAD) }
    }
}

/// A stream on which a preface is expected.
pub(crate) struct PrefaceStream<S> {
    stream: S,
    preface: ServerPreface,
    /// What of the first frame's head has come.
    head: Vec<u8>,
}

impl<S> PrefaceStream<S> {
    fn take(&mut self, bytes: &[u8]) {
        if self.head.len() < HEAD {
            let missing = HEAD - self.head.len();
            self.head.extend(bytes.iter().take(missing));
            if let [_, _, _, kind, _, 0, 0, 0, 0] = self.head[..] {
                self.preface.0.store(kind == SETTINGS, Ordering::Relaxed);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefaceStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        self.take(bytes);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PrefaceStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
