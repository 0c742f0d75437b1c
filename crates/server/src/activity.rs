//! When something last moved in a session, and how much input went to the runtime.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Less input than this waits in a pipe without holding anybody up, bytes.
const MUCH_INPUT: u64 = 64 * 1024;

/// What is noted of a session.
#[derive(Clone)]
pub(crate) struct Activity {
    start: Instant,
    marks: Arc<Marks>,
}

#[derive(Default)]
struct Marks {
    /// Milliseconds since the start.
    last: AtomicU64,
    /// Bytes that the runtime took.
    input: AtomicU64,
    has_much_input: Notify,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), marks: Arc::default() }
    }

    /// A client.
    pub(crate) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, activity: self.clone(), counts_input: false }
    }

    /// A runtime: what is written to it is input.
    pub(crate) fn watch_runtime<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, activity: self.clone(), counts_input: true }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.marks.last.store(millis, Ordering::Relaxed);
    }

    fn count(&self, bytes: usize) {
        let before = self.marks.input.fetch_add(bytes as u64, Ordering::Relaxed);
        if before < MUCH_INPUT && before + bytes as u64 >= MUCH_INPUT {
            self.marks.has_much_input.notify_one();
        }
    }

    /// When something last moved.
    pub(crate) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.marks.last.load(Ordering::Relaxed))
    }

    /// Ends once there was more input than a pipe holds.
    pub(crate) async fn much_input(&self) {
        self.marks.has_much_input.notified().await;
    }

    /// Ends when nothing has moved for so long. Zero means never.
    pub(crate) async fn idle_for(&self, timeout: Duration) {
        if timeout.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let last = self.last();
            if Instant::now() >= last + timeout {
                return;
            }
            tokio::time::sleep_until(last + timeout).await;
        }
    }
}

/// A stream that notes when it is read from. Whatever is written to one end was read from the other.
pub(crate) struct Watched<S> {
    stream: S,
    activity: Activity,
    counts_input: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.activity.touch();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        if this.counts_input {
            this.activity.count(written);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
