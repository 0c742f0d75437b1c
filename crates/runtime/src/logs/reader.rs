//! From a log file to the bytes a client sees.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::Stream;
use memchr::memchr;
use tokio::sync::watch::Receiver;

use super::line::{self, StreamKind};
use super::open::{self, LogPath};
use super::watch::{FolderWatch, LogWatches};
use super::{LogError, LogOptions, tail};

/// How much of a file is read at once, bytes: little from a log that is short or followed, more as long as there is
/// more, for each block takes a thread's turn.
const LEAST_BLOCK_BYTES: usize = 16 * 1024;
const MOST_BLOCK_BYTES: usize = 256 * 1024;
/// The longest record that is read whole, bytes; what goes beyond is dropped. Runtimes split the
/// lines of containers at 16 KiB, so only a file damaged or forged has longer ones.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// How much output is collected before it is handed on, bytes. Lines that are there already share
/// a chunk; nothing waits for a chunk to fill.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads one log file. Holds a block, a line and a chunk in memory, however long the file is.
pub struct LogReader {
    path: LogPath,
    file: Arc<File>,
    /// Where in `file` the next block begins.
    offset: u64,
    /// Read and not yet taken as lines.
    buffer: BytesMut,
    /// How large the next block is, bytes.
    block_bytes: usize,
    /// Dropping the rest of a line that was too long.
    is_skipping: bool,
    shown: Shown,
    /// Whether to go on reading until the container has ended.
    is_follow: bool,
    /// Set while following.
    watch: Option<FolderWatch>,
    /// True while the container runs.
    running: Receiver<bool>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// More may be written.
    Open,
    /// Nothing more will be written; what is there is still to be read.
    Ending,
    /// All was given.
    Done,
}

enum Next {
    /// The buffer begins with a line of this length, bytes, of which more may follow that is too much.
    Line { length: usize, is_cut: bool },
    /// The file holds no further complete line (yet).
    End,
}

impl LogReader {
    /// Opens a log and finds where to begin. `running` says whether the container still runs; it
    /// matters only when following, and a dropped sender means that it does not.
    pub async fn open(
        path: LogPath,
        options: LogOptions,
        running: Receiver<bool>,
        watches: &LogWatches,
    ) -> Result<Self, LogError> {
        // Watching starts before the file is looked at, so that no write falls in between.
        let watch = options.follow.then(|| watches.watch(&path)).transpose();
        let watch = watch.map_err(|source| LogError::Watch { path: path.full(), source })?;
        let (for_file, tail_lines) = (path.clone(), options.tail_lines);
        let opening = move || {
            let file = open::file(&for_file)?;
            let offset = tail_lines.map_or(Ok(0), |lines| tail::start(&file, lines))?;
            Ok((file, offset))
        };
        let opened = blocking(opening).await;
        let (file, offset) = opened.map_err(|source| LogError::Open { path: path.full(), source })?;
        Ok(Self {
            file: Arc::new(file),
            offset,
            buffer: BytesMut::new(),
            block_bytes: LEAST_BLOCK_BYTES,
            is_skipping: false,
            is_follow: options.follow,
            shown: Shown::new(options),
            watch,
            running,
            state: State::Open,
            path,
        })
    }

    /// The next piece of output, all of one stream; `None` at the end. Cancel-safe, except that
    /// lines taken for a piece that was not handed on are lost: poll one call to its end or drop
    /// the reader.
    pub async fn next(&mut self) -> Result<Option<(StreamKind, Bytes)>, LogError> {
        let bytes = Vec::with_capacity(self.buffer.len().min(CHUNK_BYTES));
        let mut chunk = Chunk { stream: StreamKind::Stdout, bytes };
        while self.state != State::Done && chunk.bytes.len() < CHUNK_BYTES {
            if self.shown.is_over() {
                self.state = State::Done;
                break;
            }
            let found = memchr(b'\n', &self.buffer).filter(|_| !self.is_skipping);
            let next = match found {
                Some(at) => Next::Line { length: at + 1, is_cut: false },
                // Hand on what is there rather than read or wait for more of it.
                None if !chunk.bytes.is_empty() => break,
                None => self.next_line().await?,
            };
            let Next::Line { length, is_cut } = next else {
                self.wait_at_end().await?;
                continue;
            };
            if !chunk.bytes.is_empty() && chunk.bytes.len() + length > CHUNK_BYTES {
                break;
            }
            match self.shown.append(&self.buffer[..length], &mut chunk) {
                Appended::Done => {}
                Appended::OtherStream => break,
                Appended::NoRecord if self.shown.has_parsed => {
                    tracing::debug!(path = %self.path.full().display(), "Skipping a malformed log line");
                }
                Appended::NoRecord => return Err(LogError::Format { path: self.path.full() }),
            }
            self.buffer.advance(length);
            self.is_skipping = is_cut;
        }
        Ok((!chunk.bytes.is_empty()).then(|| (chunk.stream, chunk.bytes.into())))
    }

    /// The same as a stream. It ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<(StreamKind, Bytes), LogError>> + Send {
        futures::stream::try_unfold(self, async |mut reader| {
            Ok(reader.next().await?.map(|piece| (piece, reader)))
        })
    }

    /// Finds the next complete line with its newline; at the end of a log that is finished, also one
    /// without.
    async fn next_line(&mut self) -> Result<Next, LogError> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[searched..]) {
                let length = searched + at + 1;
                if std::mem::take(&mut self.is_skipping) {
                    self.buffer.advance(length);
                    searched = 0;
                    continue;
                }
                return Ok(Next::Line { length, is_cut: false });
            }
            if self.is_skipping {
                self.buffer.clear();
            } else if self.buffer.len() >= MAX_LINE_BYTES {
                return Ok(Next::Line { length: MAX_LINE_BYTES, is_cut: true });
            }
            searched = self.buffer.len();
            if self.fill().await? > 0 {
                continue;
            }
            let is_final = self.state == State::Ending || !self.is_follow;
            if is_final && !self.buffer.is_empty() {
                return Ok(Next::Line { length: self.buffer.len(), is_cut: false });
            }
            return Ok(Next::End);
        }
    }

    /// Reads a block; 0 at the end of the file.
    async fn fill(&mut self) -> Result<usize, LogError> {
        let (file, offset, block_bytes) = (self.file.clone(), self.offset, self.block_bytes);
        let mut buffer = std::mem::take(&mut self.buffer);
        let reading = move || {
            let before = buffer.len();
            buffer.resize(before + block_bytes, 0);
            let read = file.read_at(&mut buffer[before..], offset)?;
            buffer.truncate(before + read);
            Ok((buffer, read))
        };
        let (buffer, read) = blocking(reading).await.map_err(|source| self.read_error(source))?;
        self.buffer = buffer;
        self.offset += read as u64;
        if read == self.block_bytes {
            self.block_bytes = MOST_BLOCK_BYTES.min(read * 2);
        }
        Ok(read)
    }

    /// At the end of the file: ends, moves on to the file that took its place, or waits.
    async fn wait_at_end(&mut self) -> Result<(), LogError> {
        if self.watch.is_none() {
            self.state = State::Done;
            return Ok(());
        }
        if self.reopen_if_replaced().await? {
            return Ok(());
        }
        if self.state == State::Ending {
            self.state = State::Done;
            return Ok(());
        }
        if !*self.running.borrow_and_update() {
            // The last lines may have been written between the read and the end.
            self.state = State::Ending;
            return Ok(());
        }
        // There may be thousands of readers, most of which wait.
        self.buffer = BytesMut::from(&self.buffer[..]);
        self.block_bytes = LEAST_BLOCK_BYTES;
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let waited = tokio::select! {
            // Cancel-safe: what has happened is remembered.
            changed = watch.changed() => changed,
            // Cancel-safe: the receiver keeps the version it has seen. An error means that nobody
            // keeps the container any more, which the next round finds in `borrow`.
            gone = self.running.changed() => {
                if gone.is_err() {
                    self.state = State::Ending;
                }
                Ok(())
            }
        };
        waited.map_err(|source| LogError::Watch { path: self.path.full(), source })
    }

    /// Whether another file stands at the path now, which is read from its beginning from here on.
    /// The old one was read to its end, after the new one appeared: runtimes write to the old one
    /// until they have made the new one.
    async fn reopen_if_replaced(&mut self) -> Result<bool, LogError> {
        let (path, file) = (self.path.clone(), self.file.clone());
        let (offset, pending) = (self.offset, self.buffer.len());
        let looking = move || {
            let current = file.metadata()?;
            let at_path = match open::file(&path) {
                Ok(at_path) => at_path,
                // Between the two steps of a rotation there is none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Same),
                Err(error) => return Err(error),
            };
            let new = at_path.metadata()?;
            if (new.dev(), new.ino()) == (current.dev(), current.ino()) {
                return Ok(if new.len() < offset { Found::Cut } else { Found::Same });
            }
            let has_more = current.len() > offset;
            Ok(if has_more { Found::MoreInOld } else { Found::New(at_path) })
        };
        let found = blocking(looking).await.map_err(|source| self.read_error(source))?;
        match found {
            Found::Same => return Ok(false),
            Found::MoreInOld => {}
            Found::Cut => self.restart(None),
            Found::New(file) => self.restart(Some(file)),
        }
        if pending > 0 && self.buffer.is_empty() {
            tracing::debug!(path = %self.path.full().display(), bytes = pending, "Log file ends within a line");
        }
        Ok(true)
    }

    fn restart(&mut self, file: Option<File>) {
        if let Some(file) = file {
            self.file = Arc::new(file);
        }
        self.offset = 0;
        self.buffer.clear();
        self.is_skipping = false;
    }

    fn read_error(&self, source: io::Error) -> LogError {
        LogError::Read { path: self.path.full(), source }
    }
}

/// What stands at the path of the file being read.
enum Found {
    /// The same file, or for the moment none.
    Same,
    /// The same file, shorter than what was read of it.
    Cut,
    /// Another one, but the old one has grown since it was read.
    MoreInOld,
    /// Another one, and the old one is read to its end.
    New(File),
}

/// Output of one stream that is being collected.
struct Chunk {
    stream: StreamKind,
    bytes: Vec<u8>,
}

/// What became of a line.
enum Appended {
    /// It is in the chunk, or is not wanted.
    Done,
    /// It has to wait for a chunk of its own.
    OtherStream,
    /// It is no record of a log.
    NoRecord,
}

/// Which records are shown, and how.
struct Shown {
    options: LogOptions,
    has_parsed: bool,
    /// Lines still to be given, when only a tail is wanted.
    lines_left: Option<u64>,
    /// Bytes still to be given.
    bytes_left: u64,
    /// Whether the next record of stdout, stderr begins a line of the container.
    begins_line: [bool; 2],
}

impl Shown {
    fn new(options: LogOptions) -> Self {
        Self {
            has_parsed: false,
            lines_left: options.tail_lines.filter(|_| !options.follow),
            bytes_left: options.limit_bytes.unwrap_or(u64::MAX),
            begins_line: [true; 2],
            options,
        }
    }

    /// Whether all that was wanted was given.
    fn is_over(&self) -> bool {
        self.bytes_left == 0 || self.lines_left == Some(0)
    }

    /// Adds to a chunk what a line becomes.
    fn append(&mut self, line: &[u8], chunk: &mut Chunk) -> Appended {
        let record = line::parse(line);
        let is_of = |stream| record.as_ref().is_some_and(|record| record.stream == stream);
        let other = if chunk.stream == StreamKind::Stdout { StreamKind::Stderr } else { StreamKind::Stdout };
        if !chunk.bytes.is_empty() && is_of(other) && self.options.stream.includes(other) {
            return Appended::OtherStream;
        }
        if let Some(left) = &mut self.lines_left {
            *left -= 1;
        }
        let Some(record) = record else { return Appended::NoRecord };
        self.has_parsed = true;
        let begins_line = &mut self.begins_line[usize::from(record.stream == StreamKind::Stderr)];
        let has_prefix = std::mem::replace(begins_line, record.text.last().is_none_or(|b| *b == b'\n'));
        let is_older = |since| record.time().is_none_or(|time| time < since);
        if !self.options.stream.includes(record.stream) || self.options.since.is_some_and(is_older) {
            return Appended::Done;
        }
        let start = chunk.bytes.len();
        if self.options.timestamps && has_prefix {
            line::append_fixed_width(&record.time_text, &mut chunk.bytes);
            chunk.bytes.push(b' ');
        }
        chunk.bytes.extend_from_slice(&record.text);
        let room = usize::try_from(self.bytes_left).unwrap_or(usize::MAX);
        chunk.bytes.truncate(start.saturating_add(room));
        self.bytes_left -= (chunk.bytes.len() - start) as u64;
        chunk.stream = record.stream;
        Appended::Done
    }
}

/// Runs what blocks on the disk where that may be done.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}
