//! A container's last words: the file it wrote them to, or the end of its log
//! (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::labels::{self, text};
use crate::wire;

/// Most of a message file that is used: its last bytes.
const MESSAGE_BYTES: u64 = 4096;
/// Most of a log that stands in for a message.
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;
/// How much of a log's end is read to find them. The runtime splits lines at 16 KiB, so this
/// always holds `LOG_BYTES` of text, whatever the stamps before each line take.
const LOG_WINDOW_BYTES: u64 = 64 * 1024;

/// Where an ended container's last words are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TerminationMessage {
    file: Option<PathBuf>,
    log: Option<PathBuf>,
}

/// Where to look for the last words of an ended container; `None` when there can be none.
pub(crate) fn source(status: &wire::ContainerStatus) -> Option<TerminationMessage> {
    let path = text(&status.annotations, labels::TERMINATION_MESSAGE_PATH);
    // A container that could not be started has no log of its own making.
    let may_use_log = text(&status.annotations, labels::TERMINATION_MESSAGE_POLICY)
        == "FallbackToLogsOnError"
        && status.exit_code != 0
        && status.reason != "ContainerCannotRun";
    let file = (!path.is_empty())
        .then(|| status.mounts.iter().find(|mount| is_same_path(&mount.container_path, path)))
        .flatten()
        .map(|mount| PathBuf::from(&mount.host_path));
    let log = (may_use_log && !status.log_path.is_empty()).then(|| PathBuf::from(&status.log_path));
    (file.is_some() || log.is_some()).then_some(TerminationMessage { file, log })
}

impl TerminationMessage {
    /// Reads them. A failure becomes the message, as upstream does: the reader of the pod's
    /// status is the one who can act on it. Blocks on the disk.
    pub(crate) fn read(&self) -> String {
        if let Some(path) = &self.file {
            match read_tail(path, MESSAGE_BYTES) {
                Ok(tail) if !tail.bytes.is_empty() => {
                    return String::from_utf8_lossy(&tail.bytes).into_owned();
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return format!("Error on reading termination log {}: {error}", path.display()),
            }
        }
        match &self.log {
            None => String::new(),
            Some(path) => match read_tail(path, LOG_WINDOW_BYTES) {
                Ok(tail) => log_text(&tail),
                Err(error) => format!("Error on reading termination message from logs: {error}"),
            },
        }
    }
}

fn is_same_path(mounted: &str, wanted: &str) -> bool {
    mounted.trim_start_matches('/') == wanted.trim_start_matches('/')
}

struct Tail {
    bytes: Vec<u8>,
    /// Whether something precedes `bytes` in the file.
    is_cut: bool,
}

/// The last bytes of a regular file. A volume may be mounted over the message path, so the name
/// may be a container's doing: symbolic links and devices are refused.
fn read_tail(path: &Path, most: u64) -> io::Result<Tail> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let start = metadata.len().saturating_sub(most);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Tail { bytes, is_cut: start > 0 })
}

/// The text of the last lines, without stamps, as a reader of the log would see it.
fn log_text(tail: &Tail) -> String {
    let mut lines: Vec<&[u8]> = tail.bytes.split_inclusive(|byte| *byte == b'\n').collect();
    if tail.is_cut && !lines.is_empty() {
        lines.remove(0);
    }
    let first = lines.len().saturating_sub(LOG_LINES);
    let mut text = Vec::new();
    for line in &lines[first..] {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (_stamp, _stream, tags, content) = (parts.next(), parts.next(), parts.next(), parts.next());
        let Some(content) = content else { continue };
        let is_partial = tags.is_some_and(|tags| tags.first() == Some(&b'P'));
        text.extend_from_slice(if is_partial {
            content.strip_suffix(b"\n").unwrap_or(content)
        } else {
            content
        });
    }
    let start = text.len().saturating_sub(LOG_BYTES);
    String::from_utf8_lossy(&text[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn status(policy: &str, exit_code: i32, file: Option<&Path>, log: &Path) -> wire::ContainerStatus {
        wire::ContainerStatus {
            exit_code,
            log_path: log.display().to_string(),
            annotations: BTreeMap::from([
                (labels::TERMINATION_MESSAGE_PATH.to_owned(), "/dev/termination-log".to_owned()),
                (labels::TERMINATION_MESSAGE_POLICY.to_owned(), policy.to_owned()),
            ]),
            mounts: file
                .map(|path| wire::Mount {
                    container_path: "/dev/termination-log".into(),
                    host_path: path.display().to_string(),
                    ..Default::default()
                })
                .into_iter()
                .collect(),
            ..Default::default()
        }
    }

    fn words(status: &wire::ContainerStatus) -> String {
        source(status).map(|s| s.read()).unwrap_or_default()
    }

    #[test]
    fn prefers_the_file_and_falls_back_to_the_log_on_errors() {
        let dir = tempfile::tempdir().unwrap();
        let (file, empty, log) = (dir.path().join("m"), dir.path().join("e"), dir.path().join("0.log"));
        std::fs::write(&file, "done").unwrap();
        std::fs::write(&empty, "").unwrap();
        std::fs::write(
            &log,
            "2026-01-01T00:00:00.0Z stdout P hel\n2026-01-01T00:00:00.0Z stdout F lo\n\
             2026-01-01T00:00:00.0Z stderr F  world\n",
        )
        .unwrap();
        let absent = dir.path().join("absent");
        for (policy, code, path, expect) in [
            ("File", 1, Some(&*file), "done"),
            ("File", 1, Some(&*empty), ""),
            ("FallbackToLogsOnError", 1, Some(&*file), "done"),
            ("FallbackToLogsOnError", 1, Some(&*empty), "hello\n world\n"),
            ("FallbackToLogsOnError", 1, Some(&*absent), "hello\n world\n"),
            ("FallbackToLogsOnError", 1, None, "hello\n world\n"),
            ("FallbackToLogsOnError", 0, Some(&*empty), ""),
        ] {
            assert_eq!(words(&status(policy, code, path, &log)), expect, "{policy} {code} {path:?}");
        }
    }

    #[test]
    fn keeps_to_the_limits() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("m"), dir.path().join("0.log"));
        std::fs::write(&file, format!("x{}", "y".repeat(4096))).unwrap();
        assert_eq!(words(&status("File", 0, Some(&file), &log)), "y".repeat(4096));

        let line = |n: usize| format!("2026-01-01T00:00:00.0Z stdout F {n:04}\n");
        std::fs::write(&log, (0..5000).map(line).collect::<String>()).unwrap();
        let shown = words(&status("FallbackToLogsOnError", 1, None, &log));
        assert_eq!(shown.lines().count(), 80);
        assert!(shown.starts_with("4920\n") && shown.ends_with("4999\n"));

        std::fs::write(&log, format!("2026-01-01T00:00:00.0Z stdout F {}\n", "z".repeat(10_000))).unwrap();
        assert_eq!(words(&status("FallbackToLogsOnError", 1, None, &log)).len(), 2048);
    }

    #[test]
    fn refuses_links_and_devices() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        for path in [&*link, Path::new("/dev/zero"), dir.path()] {
            let shown = words(&status("File", 0, Some(path), &secret));
            assert!(shown.starts_with("Error on reading termination log"), "{shown}");
        }
    }
}
