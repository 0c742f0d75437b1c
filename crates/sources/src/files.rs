//! Follows the folder of static pods: at once through inotify, and again every so often in case
//! an event was lost or never came (network file systems have none).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use host::inotify::{Event, Inotify, ReadFlags, WatchFlags};
use tokio::time::Instant;

use crate::folder::{Folder, StaticPodSet};
use crate::manifest::ManifestGates;

/// How often a folder is tried again that could not be watched, usually because it does not exist.
const RETRY: Duration = Duration::from_secs(1);

/// Where static pods are.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// `staticPodPath`: a folder, or one file.
    pub path: PathBuf,
    /// The node's name.
    pub node_name: String,
    /// `fileCheckFrequency`, 20 s by default: time between full looks.
    pub check_every: Duration,
    /// What feature gates say about manifests.
    pub gates: ManifestGates,
}

/// Follows static pods, for ever. The first item comes at once, an empty folder included; further
/// ones when pods or problems changed. Every file whose name does not begin with a dot is a
/// manifest, whatever its name ends with.
pub fn watch_files(settings: FileSettings) -> impl Stream<Item = StaticPodSet> + Send + use<> {
    // A path with a trailing slash would differ from the paths made from it.
    let path: PathBuf = settings.path.components().collect();
    let follower = Follower {
        folder: Some(Folder::new(path.clone(), &settings)),
        path,
        settings,
        watch: None,
        next_scan: Instant::now(),
        sent: None,
        touched_next: Vec::new(),
    };
    futures::stream::unfold(follower, |mut follower| async {
        let set = follower.next().await;
        Some((set, follower))
    })
}

struct Follower {
    settings: FileSettings,
    path: PathBuf,
    /// Away only while a blocking task has it.
    folder: Option<Folder>,
    watch: Option<FolderWatch>,
    next_scan: Instant,
    sent: Option<Shape>,
    /// What is looked at once it was told what went.
    touched_next: Vec<PathBuf>,
}

/// What a consumer can tell sets apart by.
type Shape = (Vec<Option<String>>, Vec<(PathBuf, String)>);

fn shape(set: &StaticPodSet) -> Shape {
    (set.pods.iter().map(|pod| pod.metadata.uid.clone()).collect(), set.problems.clone())
}

enum Work {
    Rescan,
    Touched(Vec<PathBuf>),
    /// These went, and the others are to be looked at after that has been told.
    Removed(Vec<PathBuf>),
}

impl Follower {
    async fn next(&mut self) -> StaticPodSet {
        loop {
            let work = self.wait().await;
            let set = self.look(work).await;
            let now = shape(&set);
            if self.sent.as_ref() != Some(&now) {
                self.sent = Some(now);
                return set;
            }
        }
    }

    async fn wait(&mut self) -> Work {
        if !self.touched_next.is_empty() {
            return Work::Touched(std::mem::take(&mut self.touched_next));
        }
        if self.watch.is_none() {
            // Watch first, look second: nothing can happen in between unseen.
            self.watch = FolderWatch::open(&self.path).ok();
            if self.watch.is_some() {
                self.next_scan = Instant::now();
            }
        }
        let Some(watch) = &self.watch else {
            tokio::time::sleep_until(self.next_scan).await;
            self.next_scan = Instant::now() + RETRY.min(self.settings.check_every);
            return Work::Rescan;
        };
        tokio::select! {
            // Cancel-safe: a timer.
            () = tokio::time::sleep_until(self.next_scan) => {
                self.next_scan = Instant::now() + self.settings.check_every;
                Work::Rescan
            }
            // Cancel-safe: events are read in one go after readiness, nothing is held between.
            events = watch.events() => match events {
                // What was removed ends, even if it is back by now: upstream does not look either.
                Ok(Events::Paths(touches)) => {
                    let went = touches.iter().filter(|touch| touch.was_removed);
                    let went: Vec<PathBuf> = went.map(|touch| touch.path.clone()).collect();
                    let touched = touches.into_iter().map(|touch| touch.path).collect();
                    if went.is_empty() {
                        Work::Touched(touched)
                    } else {
                        self.touched_next = touched;
                        Work::Removed(went)
                    }
                }
                // Events were lost, or the folder was moved, removed or unmounted.
                Ok(Events::Lost) | Err(_) => {
                    self.watch = None;
                    self.next_scan = Instant::now();
                    Work::Touched(Vec::new())
                }
            },
        }
    }

    /// Reads files on a thread that may block. Not cancel-safe by itself; dropped only with all of us.
    async fn look(&mut self, work: Work) -> StaticPodSet {
        let fresh = || Folder::new(self.path.clone(), &self.settings);
        let mut folder = self.folder.take().unwrap_or_else(fresh);
        let done = tokio::task::spawn_blocking(move || {
            match work {
                Work::Rescan => folder.rescan(),
                Work::Touched(paths) => paths.iter().for_each(|path| folder.touched(path)),
                Work::Removed(paths) => paths.iter().for_each(|path| folder.removed(path)),
            }
            let set = folder.set();
            (folder, set)
        });
        match done.await {
            Ok((folder, set)) => {
                self.folder = Some(folder);
                set
            }
            // The runtime is shutting down: no more changes.
            Err(_) => std::future::pending().await,
        }
    }
}

/// An inotify watch on the folder, or on the folder of the one file: a file that is replaced by
/// renaming, as editors and tools do, is another file to inotify.
struct FolderWatch {
    inotify: Inotify,
    folder: PathBuf,
    only: Option<PathBuf>,
}

enum Events {
    Paths(Vec<Touch>),
    Lost,
}

/// Something happened to a file.
struct Touch {
    path: PathBuf,
    /// It was removed, or moved away, at some moment.
    was_removed: bool,
}

impl FolderWatch {
    fn open(path: &Path) -> io::Result<Self> {
        let is_folder = std::fs::metadata(path)?.is_dir();
        let folder = if is_folder { path } else { path.parent().unwrap_or(Path::new("/")) };
        let inotify = Inotify::new()?;
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify.watch(folder, flags)?;
        let only = (!is_folder).then(|| path.to_owned());
        Ok(Self { inotify, folder: folder.to_owned(), only })
    }

    /// Waits for something to happen to a file, or for what may have.
    async fn events(&self) -> io::Result<Events> {
        loop {
            match self.sorted(&self.inotify.all().await?) {
                Events::Paths(paths) if paths.is_empty() => {}
                events => return Ok(events),
            }
        }
    }

    /// What events come to, each path once.
    fn sorted(&self, events: &[Event]) -> Events {
        let lost = ReadFlags::QUEUE_OVERFLOW
            | ReadFlags::DELETE_SELF
            | ReadFlags::MOVE_SELF
            | ReadFlags::IGNORED
            | ReadFlags::UNMOUNT;
        let mut paths: Vec<Touch> = Vec::new();
        for event in events {
            if event.flags.intersects(lost) {
                return Events::Lost;
            }
            let Some(name) = &event.name else { continue };
            let path = self.folder.join(name);
            if event.flags.contains(ReadFlags::CREATE) && is_being_written(&path) {
                continue;
            }
            if self.only.as_ref().is_some_and(|only| *only != path) {
                continue;
            }
            let was_removed = event.flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
            match paths.iter_mut().find(|touch| touch.path == path) {
                Some(touch) => touch.was_removed |= was_removed,
                None => paths.push(Touch { path, was_removed }),
            }
        }
        Events::Paths(paths)
    }
}

/// A new plain file is followed by the end of its writing; a new link is complete at once.
fn is_being_written(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.nlink() == 1)
}

#[cfg(test)]
mod tests;
