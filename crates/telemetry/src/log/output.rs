//! Where lines go: standard error, or, with split streams, messages to standard output and problems to
//! standard error.
//!
//! Messages may be buffered, problems never are. A thread writes out what has been in the buffer for
//! long enough; it sleeps while there is nothing.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where a line is written to, whole.
pub(super) type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The largest buffer, upstream's.
const MAX_BUFFER_BYTES: usize = 2 << 30;

/// One write that takes longer than this, with nothing written meanwhile, means that nobody reads the log any
/// more; upstream's number.
const LONGEST_WRITE: Duration = Duration::from_secs(120);

/// Why the log is ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("logging blocked: a line has not been taken for {0:?}")]
pub struct LogBlocked(Duration);

/// A sink, and how it fares. A line that is not taken holds up whoever logs.
struct Stream {
    sink: Sink,
    begun: Instant,
    /// Lines being written.
    writers: AtomicU32,
    /// When something went on last, in milliseconds since `begun`. No other memory is published with these.
    since: AtomicU64,
}

impl Stream {
    fn new(sink: Sink) -> Self {
        Self { sink, begun: Instant::now(), writers: AtomicU32::new(0), since: AtomicU64::new(0) }
    }

    fn write(&self, lines: &[u8]) {
        // The time first: nobody is to see a writer with the time of the one before.
        if self.writers.load(Ordering::Relaxed) == 0 {
            self.goes_on();
        }
        self.writers.fetch_add(1, Ordering::Release);
        (self.sink)(lines);
        self.goes_on();
        self.writers.fetch_sub(1, Ordering::Release);
    }

    fn goes_on(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn check_at(&self, now: u64) -> Result<(), LogBlocked> {
        if self.writers.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let held = Duration::from_millis(now.saturating_sub(self.since.load(Ordering::Relaxed)));
        if held < LONGEST_WRITE { Ok(()) } else { Err(LogBlocked(held)) }
    }
}

/// Standard error. It is not buffered: this is one write.
pub(super) fn stderr() -> Sink {
    // If it fails there is nobody to tell.
    Box::new(|line| drop(io::stderr().lock().write_all(line)))
}

/// Standard output. What ends with a line break is written at once.
pub(super) fn stdout() -> Sink {
    Box::new(|lines| {
        let mut stdout = io::stdout().lock();
        drop(stdout.write_all(lines).and_then(|()| stdout.flush()));
    })
}

/// One stream or two.
pub(super) struct Output {
    problems: Stream,
    messages: Option<Messages>,
}

struct Messages {
    stream: Stream,
    capacity: usize,
    buffer: Mutex<Vec<u8>>,
    has_filled: Condvar,
}

impl Output {
    /// Everything to one place.
    pub(super) fn single(sink: Sink) -> Self {
        Self { problems: Stream::new(sink), messages: None }
    }

    /// Problems to one place, and all else to another by way of a buffer of this many bytes; 0 is none.
    pub(super) fn split(problems: Sink, messages: Sink, buffer_bytes: u64) -> Self {
        let capacity = usize::try_from(buffer_bytes).unwrap_or(MAX_BUFFER_BYTES).min(MAX_BUFFER_BYTES);
        let messages = Messages {
            stream: Stream::new(messages),
            capacity,
            buffer: Mutex::new(Vec::new()),
            has_filled: Condvar::new(),
        };
        Self { problems: Stream::new(problems), messages: Some(messages) }
    }

    /// Writes a line.
    pub(super) fn write(&self, is_problem: bool, line: &[u8]) {
        match &self.messages {
            Some(messages) if !is_problem => messages.write(line),
            _ => self.problems.write(line),
        }
    }

    /// Whether lines are taken.
    pub(super) fn check(&self) -> Result<(), LogBlocked> {
        let messages = self.messages.as_ref().map(|messages| &messages.stream);
        [Some(&self.problems), messages]
            .into_iter()
            .flatten()
            .try_for_each(|stream| stream.check_at(stream.now()))
    }

    /// Writes out what is buffered.
    pub(super) fn flush(&self) {
        if let Some(messages) = &self.messages {
            messages.write_out(&mut messages.buffered());
        }
    }

    /// Starts to write out at least this often what is buffered.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub(super) fn flush_every(self: &Arc<Self>, interval: Duration) -> io::Result<()> {
        if self.messages.as_ref().is_none_or(|messages| messages.capacity == 0) {
            return Ok(());
        }
        let output = Arc::clone(self);
        let flush = move || {
            while let Some(messages) = &output.messages {
                let mut buffer = messages.buffered();
                while buffer.is_empty() {
                    buffer = messages.has_filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
                }
                drop(buffer);
                #[expect(clippy::disallowed_methods, reason = "the thread is there for this")]
                std::thread::sleep(interval);
                output.flush();
            }
        };
        std::thread::Builder::new().name("log-flush".to_owned()).spawn(flush).map(drop)
    }
}

impl Messages {
    fn buffered(&self) -> MutexGuard<'_, Vec<u8>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never splits a line between two writes.
    fn write(&self, line: &[u8]) {
        if self.capacity == 0 {
            return self.stream.write(line);
        }
        let mut buffer = self.buffered();
        if buffer.len() + line.len() > self.capacity {
            self.write_out(&mut buffer);
        }
        if line.len() > self.capacity {
            return self.stream.write(line);
        }
        if buffer.is_empty() {
            self.has_filled.notify_one();
        }
        buffer.extend_from_slice(line);
    }

    fn write_out(&self, buffer: &mut Vec<u8>) {
        if !buffer.is_empty() {
            self.stream.write(buffer);
            buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A sink, and what it was given, write by write.
    fn sink() -> (Sink, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel();
        let sink = move |bytes: &[u8]| sender.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
        (Box::new(sink), receiver)
    }

    fn all(receiver: &mpsc::Receiver<String>) -> Vec<String> {
        receiver.try_iter().collect()
    }

    #[test]
    fn one_stream_gets_everything() {
        let (to, written) = sink();
        let output = Output::single(to);
        output.write(false, b"a\n");
        output.write(true, b"b\n");
        assert_eq!(all(&written), ["a\n", "b\n"]);
    }

    #[test]
    fn problems_do_not_wait_for_messages() {
        let ((problems, failed), (messages, said)) = (sink(), sink());
        let output = Output::split(problems, messages, 8);
        output.write(false, b"one\n");
        output.write(true, b"bad\n");
        output.write(false, b"two\n");
        assert_eq!((all(&said).len(), all(&failed)), (0, vec!["bad\n".to_owned()]));
        // Does not fit beside the others any more.
        output.write(false, b"3\n");
        assert_eq!(all(&said), ["one\ntwo\n"]);
        // Never fits.
        output.write(false, b"far too long\n");
        assert_eq!(all(&said), ["3\n", "far too long\n"]);
        output.write(false, b"4\n");
        output.flush();
        output.flush();
        assert_eq!(all(&said), ["4\n"]);
    }

    #[test]
    fn without_a_buffer_nothing_waits() {
        let ((problems, _failed), (messages, said)) = (sink(), sink());
        let output = Output::split(problems, messages, 0);
        output.write(false, b"a\n");
        assert_eq!(all(&said), ["a\n"]);
    }

    /// Where nobody takes the lines of one stream, the log is ill for as long as that lasts; the other
    /// stream's lines change nothing about it.
    #[test]
    fn a_line_that_is_not_taken_is_seen() {
        let (enter, entered) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let hang = move |_: &[u8]| {
            enter.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        };
        let (problems, _failed) = sink();
        let output = Arc::new(Output::split(problems, Box::new(hang), 0));
        let stream = &output.messages.as_ref().unwrap().stream;
        let late = || stream.now() + u64::try_from(LONGEST_WRITE.as_millis()).unwrap();
        assert_eq!(stream.check_at(u64::MAX), Ok(()), "nothing is being written");
        let writer = std::thread::spawn({
            let output = Arc::clone(&output);
            move || output.write(false, b"a\n")
        });
        entered.recv().unwrap();
        assert_eq!(stream.check_at(stream.now()), Ok(()), "it may take a moment");
        output.write(true, b"bad\n");
        let ill = stream.check_at(late()).unwrap_err();
        assert!(ill.to_string().starts_with("logging blocked"), "{ill}");
        assert_eq!(output.problems.check_at(u64::MAX), Ok(()));
        assert_eq!(output.check(), Ok(()), "not for long enough");
        release.send(()).unwrap();
        writer.join().unwrap();
        assert_eq!(stream.check_at(u64::MAX), Ok(()));
    }

    #[test]
    fn what_is_buffered_is_written_out_in_the_end() {
        let ((problems, _failed), (messages, said)) = (sink(), sink());
        let output = Arc::new(Output::split(problems, messages, 1 << 20));
        output.flush_every(Duration::from_millis(1)).unwrap();
        for round in ["a\n", "b\n"] {
            output.write(false, round.as_bytes());
            assert_eq!(said.recv().unwrap(), round);
        }
    }
}
