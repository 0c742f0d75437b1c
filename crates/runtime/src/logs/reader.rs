//! From a log file to the bytes a client sees.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::watch::Receiver;

use super::line::{self, Record, StreamKind};
use super::open::{self, LogPath};
use super::watch::FolderWatch;
use super::{LogError, LogOptions, tail};

/// How much of a file is read at once, bytes.
const BLOCK_BYTES: usize = 64 * 1024;
/// The longest record that is read whole, bytes; what goes beyond is dropped. Runtimes split the
/// lines of containers at 16 KiB, so only a file damaged or forged has longer ones.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// How much output is collected before it is handed on, bytes. Lines that are there already share
/// a chunk; nothing waits for a chunk to fill.
const CHUNK_BYTES: usize = 32 * 1024;

/// Reads one log file. Holds a block, a line and a chunk in memory, however long the file is.
pub struct LogReader {
    path: LogPath,
    options: LogOptions,
    file: Arc<File>,
    /// Where in `file` the next block begins.
    offset: u64,
    /// Output of the other stream, found while collecting a piece.
    held_back: Option<(StreamKind, Bytes)>,
    /// Read and not yet taken as lines.
    buffer: BytesMut,
    /// Dropping the rest of a line that was too long.
    is_skipping: bool,
    has_parsed: bool,
    /// Lines still to be given, when only a tail is wanted.
    lines_left: Option<u64>,
    /// Bytes still to be given.
    bytes_left: u64,
    /// Whether the next record of stdout, stderr begins a line of the container.
    begins_line: [bool; 2],
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
    Line(Bytes),
    /// The file holds no further complete line (yet).
    End,
}

impl LogReader {
    /// Opens a log and finds where to begin. `running` says whether the container still runs; it
    /// matters only when following, and a dropped sender means that it does not.
    pub async fn open(path: LogPath, options: LogOptions, running: Receiver<bool>) -> Result<Self, LogError> {
        // Watching starts before the file is looked at, so that no write falls in between.
        let watch = options.follow.then(|| FolderWatch::new(&path)).transpose();
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
            held_back: None,
            buffer: BytesMut::new(),
            is_skipping: false,
            has_parsed: false,
            lines_left: options.tail_lines.filter(|_| !options.follow),
            bytes_left: options.limit_bytes.unwrap_or(u64::MAX),
            begins_line: [true; 2],
            watch,
            running,
            state: State::Open,
            path,
            options,
        })
    }

    /// The next piece of output, all of one stream; `None` at the end. Cancel-safe, except that
    /// lines taken for a piece that was not handed on are lost: poll one call to its end or drop
    /// the reader.
    pub async fn next(&mut self) -> Result<Option<(StreamKind, Bytes)>, LogError> {
        let mut chunk = BytesMut::new();
        let mut stream = StreamKind::Stdout;
        if let Some((first_stream, bytes)) = self.held_back.take() {
            stream = first_stream;
            chunk.extend_from_slice(&bytes);
        }
        while self.state != State::Done && chunk.len() < CHUNK_BYTES {
            if self.bytes_left == 0 || self.lines_left == Some(0) {
                self.state = State::Done;
                break;
            }
            if !chunk.is_empty() && !self.buffer.contains(&b'\n') {
                // Hand on what is there rather than read or wait for more of it.
                break;
            }
            let Next::Line(line) = self.next_line().await? else {
                self.wait_at_end().await?;
                continue;
            };
            match self.render(&line)? {
                Some((other, bytes)) if other != stream && !chunk.is_empty() => {
                    self.held_back = Some((other, bytes));
                    break;
                }
                Some((same, bytes)) => {
                    stream = same;
                    chunk.extend_from_slice(&bytes);
                }
                None => {}
            }
        }
        Ok((!chunk.is_empty()).then(|| (stream, chunk.freeze())))
    }

    /// The same as a stream. It ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<(StreamKind, Bytes), LogError>> + Send {
        futures::stream::try_unfold(self, async |mut reader| {
            Ok(reader.next().await?.map(|piece| (piece, reader)))
        })
    }

    /// The next complete line with its newline; at the end of a log that is finished, also one
    /// without.
    async fn next_line(&mut self) -> Result<Next, LogError> {
        let mut searched = 0;
        loop {
            let found =
                self.buffer.iter().skip(searched).position(|b| *b == b'\n').map(|at| searched + at + 1);
            if let Some(end) = found {
                let line = self.buffer.split_to(end).freeze();
                if std::mem::take(&mut self.is_skipping) {
                    searched = 0;
                    continue;
                }
                return Ok(Next::Line(line));
            }
            if self.buffer.len() >= MAX_LINE_BYTES {
                let line = self.buffer.split().freeze();
                searched = 0;
                if !std::mem::replace(&mut self.is_skipping, true) {
                    return Ok(Next::Line(line));
                }
                continue;
            }
            searched = self.buffer.len();
            if self.fill().await? > 0 {
                continue;
            }
            let is_final = self.state == State::Ending || !self.options.follow;
            if is_final && !self.buffer.is_empty() && !self.is_skipping {
                return Ok(Next::Line(self.buffer.split().freeze()));
            }
            return Ok(Next::End);
        }
    }

    /// Reads a block; 0 at the end of the file.
    async fn fill(&mut self) -> Result<usize, LogError> {
        let (file, offset) = (self.file.clone(), self.offset);
        let reading = move || {
            let mut block = vec![0; BLOCK_BYTES];
            let len = file.read_at(&mut block, offset)?;
            block.truncate(len);
            Ok(block)
        };
        let block = blocking(reading).await.map_err(|source| self.read_error(source))?;
        self.offset += block.len() as u64;
        self.buffer.extend_from_slice(&block);
        Ok(block.len())
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
        let Some(watch) = &self.watch else { return Ok(()) };
        let waited = tokio::select! {
            // Cancel-safe: events stay queued in the kernel.
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
            tracing::debug!(path = %self.path.full().display(), bytes = pending, "log file ended within a line");
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

    /// What a line becomes; `None` when it is not wanted.
    fn render(&mut self, line: &Bytes) -> Result<Option<(StreamKind, Bytes)>, LogError> {
        if let Some(left) = &mut self.lines_left {
            *left -= 1;
        }
        let Some(record) = line::parse(line) else {
            if !self.has_parsed {
                return Err(LogError::Format { path: self.path.full() });
            }
            tracing::debug!(path = %self.path.full().display(), "skipping a line that is no log record");
            return Ok(None);
        };
        self.has_parsed = true;
        let begins_line = &mut self.begins_line[usize::from(record.stream == StreamKind::Stderr)];
        let has_prefix = std::mem::replace(begins_line, record.text.last().is_none_or(|b| *b == b'\n'));
        if self.options.since.is_some_and(|since| record.time < since)
            || !self.options.stream.includes(record.stream)
        {
            return Ok(None);
        }
        let mut bytes = if self.options.timestamps && has_prefix { with_time(&record) } else { record.text };
        bytes.truncate(usize::try_from(self.bytes_left).unwrap_or(usize::MAX));
        self.bytes_left -= bytes.len() as u64;
        Ok(Some((record.stream, bytes)))
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

fn with_time(record: &Record) -> Bytes {
    let mut bytes = line::fixed_width(&record.time_text);
    bytes.push(b' ');
    bytes.extend_from_slice(&record.text);
    Bytes::from(bytes)
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
