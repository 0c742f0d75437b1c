//! The manifests on disk and the pods read from them. No waiting here: [`crate::files`] says when.
//!
//! A file that turns bad keeps its pod until the next full look at the folder, which lets go of
//! it, as upstream does: a manifest saved half done does not stop a pod at once, one that stays
//! broken does.
//!
//! A name without a leading dot is enough to make a file a manifest: a backup copy is one, too, and
//! two of them may describe one pod. Only one of those counts, and it is said which.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use model::{Pod, PodKey, pod};

use crate::files::FileSettings;
use crate::manifest::{ManifestError, ManifestGates, Origin, Place, parse};

/// Largest manifest, bytes.
const MAX_MANIFEST: u64 = 10 << 20;

/// All static pods of the node, and what stands in the way of more.
#[derive(Clone, Debug, Default)]
pub struct StaticPodSet {
    /// Pods, in the order of their files' names.
    pub pods: Vec<Arc<Pod>>,
    /// Files that are no pod, with the reason on one line.
    pub problems: Vec<(PathBuf, String)>,
}

/// The folder (or the one file) and what is known of it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    node_name: String,
    gates: ManifestGates,
    files: BTreeMap<PathBuf, Manifest>,
    /// Why the folder itself cannot be read.
    trouble: Option<String>,
    /// Whether the folder was not there at the last look.
    is_absent: bool,
}

#[derive(Debug, Default)]
struct Manifest {
    stamp: Option<Stamp>,
    pod: Option<Arc<Pod>>,
    problem: Option<String>,
}

/// Tells whether a file is the one read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Folder {
    pub(crate) fn new(path: PathBuf, settings: &FileSettings) -> Self {
        Self {
            path,
            node_name: settings.node_name.clone(),
            gates: settings.gates,
            files: BTreeMap::new(),
            trouble: None,
            is_absent: false,
        }
    }

    /// Looks at everything. Only files that changed are read.
    pub(crate) fn rescan(&mut self) {
        let found = match self.list() {
            Ok(found) => found,
            // A folder that is not there is an empty one; one that cannot be read says nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.set_trouble(None);
                if !std::mem::replace(&mut self.is_absent, true) {
                    // As on every node that joins a cluster.
                    tracing::info!(v = 2, path = %self.path.display(), "Static pod path does not exist");
                }
                self.files.clear();
                return;
            }
            Err(error) => {
                self.set_trouble(Some(error.to_string()));
                return;
            }
        };
        self.set_trouble(None);
        self.is_absent = false;
        self.files.retain(|path, _| found.contains(path));
        for path in found {
            self.read(&path, true);
        }
    }

    /// Looks at one file that may have changed or gone.
    pub(crate) fn touched(&mut self, path: &Path) {
        if self.is_ours(path) {
            self.read(path, false);
        }
    }

    /// Forgets a file that was removed, whether or not there is another one in its place by now.
    pub(crate) fn removed(&mut self, path: &Path) {
        if self.is_ours(path) {
            self.files.remove(path);
        }
    }

    fn is_ours(&self, path: &Path) -> bool {
        (path == self.path || path.parent() == Some(&self.path)) && !is_hidden(path)
    }

    /// One pod for each name. Of several files with a pod of one name the last counts, which is what
    /// a full look of upstream's comes to; what upstream does between two of those, and so twice as
    /// many restarts, is not followed.
    pub(crate) fn set(&self) -> StaticPodSet {
        let mut set = StaticPodSet::default();
        if let Some(trouble) = &self.trouble {
            set.problems.push((self.path.clone(), trouble.clone()));
        }
        let with_pods = || self.files.iter().filter_map(|(path, file)| Some((path, file.pod.as_ref()?)));
        let chosen: BTreeMap<PodKey, &PathBuf> =
            with_pods().map(|(path, pod)| (pod::key(pod), path)).collect();
        for (path, pod) in with_pods() {
            let key = pod::key(pod);
            match chosen.get(&key) {
                Some(other) if *other != path => {
                    let other = other.display();
                    let problem = format!("describes the pod {key}, and so does {other}, which is used");
                    set.problems.push((path.clone(), problem));
                }
                _ => set.pods.push(pod.clone()),
            }
        }
        for (path, manifest) in &self.files {
            set.problems.extend(manifest.problem.clone().map(|problem| (path.clone(), problem)));
        }
        set
    }

    /// How upstream would call a file, which is part of the pod's uid: in a folder by the shortest way, on its own as it
    /// is configured.
    fn place_of(&self, path: &Path) -> PathBuf {
        if path == self.path { path.to_owned() } else { shortest(path) }
    }

    fn list(&self) -> io::Result<Vec<PathBuf>> {
        if !std::fs::metadata(&self.path)?.is_dir() {
            return Ok(vec![self.path.clone()]);
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if !is_hidden(&path) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn read(&mut self, path: &Path, is_rescan: bool) {
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(_) if std::fs::symlink_metadata(path).is_err() => {
                self.files.remove(path);
                return;
            }
            Err(error) => return self.problem(path, None, error.to_string(), is_rescan),
        };
        if meta.is_dir() {
            return self.problem(
                path,
                None,
                "is a folder; folders in here are not looked into".to_owned(),
                is_rescan,
            );
        }
        if !meta.is_file() {
            return self.problem(path, None, "is not a regular file".to_owned(), is_rescan);
        }
        let stamp = Stamp::of(&meta);
        let known = self.files.get(path);
        if known.is_some_and(|known| {
            known.stamp == Some(stamp) && (known.problem.is_none() || known.pod.is_none())
        }) {
            return;
        }
        let seen = known.and_then(|known| known.pod.clone());
        match self.load(path) {
            Ok(pod) => {
                let pod = match seen {
                    // The same pod, differently written: not a change, and seen when it was.
                    Some(old) if old.metadata.uid == pod.metadata.uid => old,
                    _ => Arc::new(pod),
                };
                self.files
                    .insert(path.to_owned(), Manifest { stamp: Some(stamp), pod: Some(pod), problem: None });
            }
            Err(error) => self.problem(path, Some(stamp), error, is_rescan),
        }
    }

    fn load(&self, path: &Path) -> Result<Pod, String> {
        let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
        let mut bytes = Vec::new();
        file.take(MAX_MANIFEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(format!("is larger than {MAX_MANIFEST} bytes"));
        }
        let origin = Origin {
            place: Place::File(&self.place_of(path)),
            node_name: &self.node_name,
            seen: Timestamp::now(),
            gates: self.gates,
        };
        parse(&bytes, origin).map_err(|error| one_line(&error))
    }

    fn problem(&mut self, path: &Path, stamp: Option<Stamp>, problem: String, is_rescan: bool) {
        let manifest = self.files.entry(path.to_owned()).or_default();
        manifest.stamp = stamp;
        manifest.problem = Some(problem);
        if is_rescan {
            manifest.pod = None;
        }
    }

    fn set_trouble(&mut self, trouble: Option<String>) {
        // The trouble itself is told by whoever gets the set.
        if self.trouble.is_some() && trouble.is_none() {
            tracing::info!(path = %self.path.display(), "Reading static pods succeeded after failures");
        }
        self.trouble = trouble;
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The same path without empty parts, `.` and `..`, whatever links there may be.
fn shortest(path: &Path) -> PathBuf {
    let mut short = PathBuf::new();
    for part in path.components() {
        match (part, short.components().next_back()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                short.pop();
            }
            _ => short.push(part),
        }
    }
    short
}

fn one_line(error: &ManifestError) -> String {
    match error {
        ManifestError::Shape(source) => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
