//! Writes a recording beside the core. Whoever drives the core hands over what it is told and what it decides, and never
//! waits for the disk: putting it in words, hashing and writing are the work of a thread, which is there as long as
//! something is recorded.
//!
//! A recording is a ring of segments, each with what the core knew when it began, so that the oldest can go. The thread says
//! when the next is due, and the driver, who alone has the core, hands over what it knows.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use model::Now;
use node::{Effect, Input, Node};

use crate::cut::Cutter;
use crate::folder::{self, FolderError, Limits};
use crate::line::{SegmentWriter, Snapshot};

/// Halves of steps that wait to be written: seconds of a node on which hundreds of pods start.
const QUEUE: usize = 8192;

/// How long the thread lets things gather before it writes them. Each step hands over two halves, often within microseconds of
/// the last; to be woken for each costs more than to write it. Whoever kills the process loses that much.
const GATHERING: Duration = Duration::from_millis(50);

/// What is handed over: the first half of a step before it is taken, so that it is known what the core was told last
/// should it not come to an end, and the second after that.
enum QueueItem {
    Snapshot(Snapshot),
    Told(Now, Input),
    Decided(Vec<Effect>),
}

/// The recording end, for whoever drives the core. Ends the recording when it is dropped.
#[derive(Debug)]
pub struct Recorder {
    queue: Option<SyncSender<QueueItem>>,
    recording: Recording,
    thread: Option<JoinHandle<()>>,
}

/// Whether a recording has begun.
#[derive(Debug)]
pub struct Begun(Receiver<Result<(), FolderError>>);

impl Begun {
    /// Waits for the disk.
    ///
    /// # Errors
    /// The folder cannot take it.
    pub fn wait(self) -> Result<(), FolderError> {
        // A thread that has panicked tells nothing.
        self.0.recv().unwrap_or(Ok(()))
    }
}

/// A recording, for whoever asks about it.
#[derive(Clone, Debug)]
pub struct Recording {
    folder: PathBuf,
    since: Timestamp,
    progress: Arc<Mutex<Progress>>,
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The segment that is written.
    pub path: PathBuf,
    /// Steps written so far, in all segments.
    pub steps: u64,
    /// Why it has ended; `None` while it goes on.
    pub ended: Option<String>,
    /// The segment is full.
    is_full: bool,
}

impl Recording {
    /// Where its segments are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// When it began.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).ended.is_some()
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn end(&self, why: &str) {
        self.update(|progress| {
            progress.ended.get_or_insert_with(|| why.to_owned());
        });
    }
}

impl Recorder {
    /// Begins a recording of a core that starts from there. `on_end` is told why when it ends by itself. Whether the folder
    /// can take it, the second value tells in time.
    ///
    /// # Errors
    /// There are no random numbers or no thread to be had.
    pub fn begin(
        folder: &Path,
        limits: Limits,
        kubelet: &str,
        snapshot: Snapshot,
        on_end: impl FnOnce(&str) + Send + 'static,
    ) -> Result<(Self, Begun), FolderError> {
        let since = Timestamp::now();
        let recording = Recording { folder: folder.to_owned(), since, progress: Arc::default() };
        let mut desk = WriterThread {
            writer: None,
            recording: recording.clone(),
            limits,
            kubelet: kubelet.to_owned(),
            cutter: Cutter::new().ok_or(FolderError::NoKey)?,
            snapshot_bytes: 0,
        };
        let (queue, halves) = sync_channel(QUEUE);
        let (tell, begun) = sync_channel(1);
        let work = move || match desk.begin_segment(snapshot) {
            Ok(()) => {
                // Nobody has to ask.
                let _ = tell.send(Ok(()));
                desk.work(&halves, on_end);
            }
            Err(error) => {
                desk.recording.end(&model::chain(&error));
                let _ = tell.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(work);
        let thread = thread.map_err(FolderError::Thread)?;
        Ok((Self { queue: Some(queue), recording, thread: Some(thread) }, Begun(begun)))
    }

    /// What others may ask.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The core is about to be told this.
    pub fn told(&mut self, now: Now, input: &Input) {
        self.hand_over(|| QueueItem::Told(now, input.clone()));
    }

    /// That is what it decided, and what it is now.
    pub fn decided(&mut self, effects: &[Effect], node: &Node) {
        self.hand_over(|| QueueItem::Decided(effects.to_vec()));
        if self.is_segment_full() {
            match Snapshot::of_node(node) {
                Ok(snapshot) => self.hand_over(|| QueueItem::Snapshot(snapshot)),
                Err(error) => self.give_up(&format!("what the core knows cannot be put in words: {error}")),
            }
        }
    }

    fn is_segment_full(&self) -> bool {
        let mut progress = self.recording.progress.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut progress.is_full)
    }

    fn hand_over(&mut self, half: impl FnOnce() -> QueueItem) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(half()) {
            Ok(()) => {}
            // A step left out would make a lie of all that follow.
            Err(TrySendError::Full(_)) => self.give_up("the disk does not keep up with what happens"),
            Err(TrySendError::Disconnected(_)) => self.queue = None,
        }
    }

    fn give_up(&mut self, why: &str) {
        self.recording.end(why);
        self.queue = None;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has left what it had written.
            let _ = thread.join();
        }
    }
}

/// Where the thread works.
struct WriterThread {
    writer: Option<SegmentWriter<Counted>>,
    recording: Recording,
    limits: Limits,
    kubelet: String,
    cutter: Cutter,
    /// Bytes of what the segment begins with.
    snapshot_bytes: u64,
}

impl WriterThread {
    fn begin_segment(&mut self, snapshot: Snapshot) -> Result<(), FolderError> {
        if let Some(mut before) = self.writer.take() {
            let path = self.recording.progress().path;
            before.out().flush().map_err(|source| FolderError::Write { path, source })?;
        }
        let folder = &self.recording.folder;
        let (path, file) = folder::create(folder, Timestamp::now())?;
        let failed = |source| FolderError::Write { path: path.clone(), source };
        let for_others = self.limits.total_bytes.saturating_sub(self.limits.segment_bytes);
        folder::make_room(folder, &path, for_others).map_err(failed)?;
        let out = Counted { out: BufWriter::new(file), bytes: 0 };
        let mut writer =
            SegmentWriter::begin(out, &self.kubelet, snapshot, self.cutter.clone()).map_err(failed)?;
        writer.out().flush().map_err(failed)?;
        self.snapshot_bytes = writer.out().bytes;
        self.writer = Some(writer);
        self.recording.update(|progress| progress.path = path);
        Ok(())
    }

    fn work(mut self, halves: &Receiver<QueueItem>, on_end: impl FnOnce(&str)) {
        let why = match self.write_all(halves) {
            Ok(()) => self.recording.progress().ended,
            Err(error) => Some(model::chain(&error)),
        };
        if let Some(why) = why {
            self.recording.end(&why);
            on_end(&why);
        }
        self.recording.end("it was stopped");
    }

    fn write_all(&mut self, halves: &Receiver<QueueItem>) -> Result<(), FolderError> {
        let mut told: Option<(Now, Input)> = None;
        let mut is_asked = false;
        loop {
            let half = match halves.try_recv() {
                Ok(half) => half,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush()?;
                    let Ok(half) = halves.recv() else { break };
                    gather();
                    half
                }
            };
            match half {
                QueueItem::Snapshot(snapshot) => {
                    is_asked = false;
                    self.begin_segment(snapshot)?;
                }
                QueueItem::Told(now, input) => told = Some((now, input)),
                QueueItem::Decided(effects) => {
                    let Some((now, input)) = told.take() else { continue };
                    let bytes = self.step(now, input, Some(&effects))?;
                    let is_full = !is_asked && self.is_full(bytes);
                    is_asked |= is_full;
                    self.recording.update(|progress| {
                        progress.steps += 1;
                        progress.is_full |= is_full;
                    });
                }
            }
        }
        if let Some((now, input)) = told {
            self.step(now, input, None)?;
        }
        self.flush()
    }

    /// Whether steps take so much of a segment that another may begin: not before they take as much as what the core knows
    /// does, however much that is.
    fn is_full(&self, bytes: u64) -> bool {
        bytes.saturating_sub(self.snapshot_bytes) >= self.limits.segment_bytes.max(self.snapshot_bytes)
    }

    /// Writes one step. Returns how much is in the segment.
    fn step(&mut self, now: Now, input: Input, effects: Option<&[Effect]>) -> Result<u64, FolderError> {
        let Some(writer) = &mut self.writer else { return Ok(0) };
        let written = writer.step(now, input, effects).map(|()| writer.out().bytes);
        written.map_err(|source| self.failed(source))
    }

    fn flush(&mut self) -> Result<(), FolderError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.out().flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> FolderError {
        FolderError::Write { path: self.recording.progress().path, source }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which nobody waits for but who ends it")]
fn gather() {
    std::thread::sleep(GATHERING);
}

/// A file, and how much was written to it.
#[derive(Debug)]
struct Counted {
    out: BufWriter<std::fs::File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
