//! Writes a recording beside the core. Whoever drives the core hands over what it is told and what it decides, and never
//! waits for the disk: putting it in words, hashing and writing are the work of a thread, which is there as long as
//! something is recorded.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use model::Now;
use node::{Effect, Input};

use crate::cut::Cutter;
use crate::folder::{self, FolderError, Limits};
use crate::line::{SegmentWriter, Start};

/// Halves of steps that wait to be written: seconds of a node on which hundreds of pods start.
const QUEUE: usize = 8192;

/// What is handed over: the first half of a step before it is taken, so that it is known what the core was told last
/// should it not come to an end, and the second after that.
enum Half {
    Told(Now, Input),
    Decided(Vec<Effect>),
}

/// The recording end, for whoever drives the core. Ends the recording when it is dropped.
#[derive(Debug)]
pub struct Recorder {
    queue: Option<SyncSender<Half>>,
    recording: Recording,
    thread: Option<JoinHandle<()>>,
}

/// A recording, for whoever asks about it.
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    since: Timestamp,
    progress: Arc<Mutex<Progress>>,
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
struct Progress {
    bytes: u64,
    steps: u64,
    ended: Option<String>,
}

impl Recording {
    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When it began.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.progress().bytes
    }

    /// Steps written so far.
    pub fn steps(&self) -> u64 {
        self.progress().steps
    }

    /// Why it has ended; `None` while it goes on.
    pub fn ended(&self) -> Option<String> {
        self.progress().ended
    }

    fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    /// Begins a recording of a core that starts from there. `on_end` is told why when it ends by itself.
    ///
    /// # Errors
    /// The folder cannot take it.
    pub fn begin(
        folder: &Path,
        limits: Limits,
        kubelet: &str,
        start: Start,
        on_end: impl FnOnce(&str) + Send + 'static,
    ) -> Result<Self, FolderError> {
        let since = Timestamp::now();
        let cutter = Cutter::new().ok_or(FolderError::NoKey)?;
        let (path, file) = folder::create(folder, since)?;
        let failed = |source| FolderError::Write { path: path.clone(), source };
        folder::make_room(folder, &path, limits.total_bytes / 2).map_err(failed)?;
        let out = Counted { out: BufWriter::new(file), bytes: 0 };
        let mut writer = SegmentWriter::begin(out, kubelet, start, cutter).map_err(failed)?;
        writer.out().flush().map_err(failed)?;
        let recording = Recording { path: path.clone(), since, progress: Arc::default() };
        let (queue, halves) = sync_channel(QUEUE);
        let desk = Desk { writer, recording: recording.clone(), most_bytes: limits.total_bytes / 2 };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || desk.work(&halves, on_end))
            .map_err(FolderError::Thread)?;
        Ok(Self { queue: Some(queue), recording, thread: Some(thread) })
    }

    /// What others may ask.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The core is about to be told this.
    pub fn told(&mut self, now: Now, input: &Input) {
        self.hand_over(|| Half::Told(now, input.clone()));
    }

    /// That is what it decided.
    pub fn decided(&mut self, effects: &[Effect]) {
        self.hand_over(|| Half::Decided(effects.to_vec()));
    }

    fn hand_over(&mut self, half: impl FnOnce() -> Half) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(half()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                // A step left out would make a lie of all that follow.
                self.recording.end("the disk does not keep up with what happens");
                self.queue = None;
            }
            Err(TrySendError::Disconnected(_)) => self.queue = None,
        }
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
struct Desk {
    writer: SegmentWriter<Counted>,
    recording: Recording,
    most_bytes: u64,
}

impl Desk {
    fn work(mut self, halves: &Receiver<Half>, on_end: impl FnOnce(&str)) {
        let why = match self.write_all(halves) {
            Ok(None) => self.recording.ended(),
            Ok(Some(why)) => Some(why),
            Err(error) => Some(format!("it cannot be written: {error}")),
        };
        if let Some(why) = why {
            self.recording.end(&why);
            on_end(&why);
        }
        self.recording.end("it was stopped");
    }

    /// Returns why no more is written, unless nothing more comes.
    fn write_all(&mut self, halves: &Receiver<Half>) -> io::Result<Option<String>> {
        let mut told: Option<(Now, Input)> = None;
        loop {
            let half = match halves.try_recv() {
                Ok(half) => half,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    // Quiet: what there is is complete, should the process be killed now.
                    self.writer.out().flush()?;
                    let Ok(half) = halves.recv() else { break };
                    half
                }
            };
            match half {
                Half::Told(now, input) => told = Some((now, input)),
                Half::Decided(effects) => {
                    let Some((now, input)) = told.take() else { continue };
                    self.writer.step(now, input, Some(&effects))?;
                    let bytes = self.writer.out().bytes;
                    self.recording.update(|progress| {
                        progress.bytes = bytes;
                        progress.steps += 1;
                    });
                    if bytes >= self.most_bytes {
                        self.writer.out().flush()?;
                        return Ok(Some(format!("it has reached {} bytes", self.most_bytes)));
                    }
                }
            }
        }
        if let Some((now, input)) = told {
            self.writer.step(now, input, None)?;
        }
        self.writer.out().flush()?;
        Ok(None)
    }
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
