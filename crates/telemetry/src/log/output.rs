//! Where lines go: standard error, or, with split streams, messages to standard output and problems to
//! standard error.
//!
//! Messages may be buffered, problems never are. A thread writes out what has been in the buffer for
//! long enough; it sleeps while there is nothing.

use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where a line is written to, whole.
pub(super) type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The largest buffer, upstream's.
const MAX_BUFFER_BYTES: usize = 2 << 30;

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
    problems: Sink,
    messages: Option<Messages>,
}

struct Messages {
    sink: Sink,
    capacity: usize,
    buffer: Mutex<Vec<u8>>,
    has_filled: Condvar,
}

impl Output {
    /// Everything to one place.
    pub(super) fn single(sink: Sink) -> Self {
        Self { problems: sink, messages: None }
    }

    /// Problems to one place, and all else to another by way of a buffer of this many bytes; 0 is none.
    pub(super) fn split(problems: Sink, messages: Sink, buffer_bytes: u64) -> Self {
        let capacity = usize::try_from(buffer_bytes).unwrap_or(MAX_BUFFER_BYTES).min(MAX_BUFFER_BYTES);
        let messages =
            Messages { sink: messages, capacity, buffer: Mutex::new(Vec::new()), has_filled: Condvar::new() };
        Self { problems, messages: Some(messages) }
    }

    /// Writes a line.
    pub(super) fn write(&self, is_problem: bool, line: &[u8]) {
        match &self.messages {
            Some(messages) if !is_problem => messages.write(line),
            _ => (self.problems)(line),
        }
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
            return (self.sink)(line);
        }
        let mut buffer = self.buffered();
        if buffer.len() + line.len() > self.capacity {
            self.write_out(&mut buffer);
        }
        if line.len() > self.capacity {
            return (self.sink)(line);
        }
        if buffer.is_empty() {
            self.has_filled.notify_one();
        }
        buffer.extend_from_slice(line);
    }

    fn write_out(&self, buffer: &mut Vec<u8>) {
        if !buffer.is_empty() {
            (self.sink)(buffer);
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
