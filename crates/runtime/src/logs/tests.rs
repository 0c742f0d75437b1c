//! Tables for the format and the options; real files, rotations and events for following.

use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::TempDir;
use tokio::sync::watch::{self, Sender};

use super::*;

struct Log {
    folder: TempDir,
    running: Sender<bool>,
}

const FILE: &str = "ns_pod_uid/main/0.log";

impl Log {
    fn new(content: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let log = Self { folder, running: watch::channel(true).0 };
        fs::create_dir_all(log.path().parent().unwrap()).unwrap();
        fs::write(log.path(), content).unwrap();
        log
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    fn append(&self, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    async fn open(&self, options: LogOptions) -> Result<LogReader, LogError> {
        let path = LogPath { root: self.folder.path().into(), relative: FILE.into() };
        LogReader::open(path, options, self.running.subscribe(), &LogWatches::default()).await
    }

    async fn read(&self, options: LogOptions) -> String {
        text_to_end(&mut self.open(options).await.unwrap()).await
    }
}

async fn text_to_end(reader: &mut LogReader) -> String {
    let mut text = Vec::new();
    while let Some((_, bytes)) = reader.next().await.unwrap() {
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).unwrap()
}

async fn piece(reader: &mut LogReader) -> String {
    let (_, bytes) = reader.next().await.unwrap().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

const THREE: &str = "2026-01-01T00:00:01.5Z stdout F one\n\
    2026-01-01T00:00:02.25+01:00 stderr F two\n\
    2026-01-01T00:00:03Z stdout F three\n";

#[tokio::test]
async fn options_select_and_decorate() {
    let all = LogOptions::default;
    let tail = |lines| LogOptions { tail_lines: Some(lines), ..all() };
    let since = Some("2026-01-01T00:00:01.5Z".parse().unwrap());
    for (options, want) in [
        (all(), "one\ntwo\nthree\n"),
        (tail(0), ""),
        (tail(1), "three\n"),
        (tail(2), "two\nthree\n"),
        (tail(3), "one\ntwo\nthree\n"),
        (tail(9), "one\ntwo\nthree\n"),
        (LogOptions { since, ..all() }, "one\nthree\n"),
        (LogOptions { limit_bytes: Some(5), ..all() }, "one\nt"),
        (LogOptions { limit_bytes: Some(4), ..all() }, "one\n"),
        (LogOptions { stream: StreamSelection::Stdout, ..all() }, "one\nthree\n"),
        (LogOptions { stream: StreamSelection::Stderr, ..all() }, "two\n"),
        (
            LogOptions { timestamps: true, ..all() },
            "2026-01-01T00:00:01.500000000Z one\n\
             2026-01-01T00:00:02.250000000+01:00 two\n\
             2026-01-01T00:00:03.000000000Z three\n",
        ),
    ] {
        assert_eq!(Log::new(THREE).read(options.clone()).await, want, "{options:?}");
    }
}

#[tokio::test]
async fn both_formats_are_read_and_parts_joined() {
    let part = |stream: &str, tag: &str, text: &str| format!("2026-01-01T00:00:01Z {stream} {tag} {text}\n");
    let docker = "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:01.1Z\"}\n";
    let timestamps = LogOptions { timestamps: true, ..LogOptions::default() };
    for (content, want) in [
        (String::new(), ""),
        (docker.to_owned(), "2026-01-01T00:00:01.100000000Z a\n"),
        (part("stdout", "F", ""), "2026-01-01T00:00:01.000000000Z \n"),
        (part("stdout", "P", "a") + &part("stdout", "F:new", "b"), "2026-01-01T00:00:01.000000000Z ab\n"),
        (part("stdout", "F", "a") + "no record\n" + "\n", "2026-01-01T00:00:01.000000000Z a\n"),
        ("2026-01-01T00:00:01Z stdout F unfinished".to_owned(), "2026-01-01T00:00:01.000000000Z unfinished"),
    ] {
        assert_eq!(Log::new(&content).read(timestamps.clone()).await, want, "{content}");
    }
}

#[tokio::test]
async fn a_file_of_another_format_is_refused_without_showing_it() {
    for content in ["secret\n", "{}\n", "2026-01-01T00:00:01Z nowhere F x\n", "x stdout F x\n", "  \n"] {
        let error = Log::new(content).open(LogOptions::default()).await.unwrap().next().await.unwrap_err();
        assert!(matches!(error, LogError::Format { .. }), "{error}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn long_files_are_tailed_and_read_across_blocks() {
    let lines: Vec<String> = (0..5000)
        .map(|n| format!("2026-01-01T00:00:01Z stdout F {n:04} {}\n", "x".repeat(n % 200)))
        .collect();
    let log = Log::new(&lines.concat());
    for tail in [1, 7, 999, 4999, 5000, 6000] {
        let text = log.read(LogOptions { tail_lines: Some(tail), ..LogOptions::default() }).await;
        let want = usize::try_from(tail).unwrap().min(5000);
        assert_eq!(text.lines().count(), want);
        assert!(text.starts_with(&format!("{:04} ", 5000 - want)));
    }
    assert_eq!(log.read(LogOptions::default()).await.lines().count(), 5000);
}

#[tokio::test]
async fn a_line_without_end_takes_bounded_memory() {
    let log = Log::new(&format!("2026-01-01T00:00:01Z stdout F {}", "y".repeat(3 << 20)));
    log.append("\n2026-01-01T00:00:02Z stdout F next\n");
    let mut reader = log.open(LogOptions::default()).await.unwrap();
    let text = text_to_end(&mut reader).await;
    assert!(text.len() < (1 << 20) + (128 << 10), "{}", text.len());
    assert!(text.ends_with("next\n"));
}

fn follow() -> LogOptions {
    LogOptions { follow: true, ..LogOptions::default() }
}

#[tokio::test]
async fn following_sees_appends_through_a_rotation_until_the_container_ends() {
    let log = Log::new("2026-01-01T00:00:01Z stdout F before\n");
    let mut reader = log.open(follow()).await.unwrap();
    assert_eq!(piece(&mut reader).await, "before\n");

    let waiting = tokio::spawn(async move {
        let text = piece(&mut reader).await;
        (reader, text)
    });
    log.append("2026-01-01T00:00:02Z stdout F half");
    log.append(" a line\n");
    let (mut reader, text) = waiting.await.unwrap();
    assert_eq!(text, "half a line\n");

    // As a rotation does it: away with the old one, last words to it, then a new one.
    let rotated = log.path().with_extension("log.20260101-000000");
    fs::rename(log.path(), &rotated).unwrap();
    let mut old = fs::OpenOptions::new().append(true).open(&rotated).unwrap();
    old.write_all(b"2026-01-01T00:00:03Z stdout F to the old\n").unwrap();
    log.append("2026-01-01T00:00:04Z stdout F to the new\n");
    assert_eq!(piece(&mut reader).await, "to the old\n");
    assert_eq!(piece(&mut reader).await, "to the new\n");

    log.append("2026-01-01T00:00:05Z stdout F last\n");
    log.running.send(false).unwrap();
    assert_eq!(text_to_end(&mut reader).await, "last\n");
}

#[tokio::test]
async fn following_survives_a_cut_file() {
    let log = Log::new(THREE);
    let mut reader = log.open(LogOptions { tail_lines: Some(1), ..follow() }).await.unwrap();
    assert_eq!(piece(&mut reader).await, "three\n");
    fs::write(log.path(), "2026-01-01T00:00:09Z stdout F anew\n").unwrap();
    assert_eq!(piece(&mut reader).await, "anew\n");
}

#[tokio::test]
async fn following_ends_when_the_container_is_forgotten() {
    let log = Log::new(THREE);
    let mut reader = log.open(follow()).await.unwrap();
    let reading = tokio::spawn(async move { text_to_end(&mut reader).await });
    let Log { folder, running } = log;
    drop(running);
    assert_eq!(reading.await.unwrap(), "one\ntwo\nthree\n");
    drop(folder);
}

/// A pod that may write to the host's `/var/log` must not read other files through `kubectl logs`
/// (<https://avd.aquasec.com/misconfig/kubernetes/khv047>).
#[tokio::test]
async fn links_and_special_files_are_not_followed() {
    let secret = TempDir::new().unwrap();
    fs::write(secret.path().join("0.log"), THREE).unwrap();
    let log = Log::new("");
    fs::remove_file(log.path()).unwrap();
    let refused = async |what: &str| {
        for options in [LogOptions::default(), follow()] {
            assert!(log.open(options).await.is_err(), "{what}");
        }
    };
    refused("missing file").await;
    std::os::unix::fs::symlink(secret.path().join("0.log"), log.path()).unwrap();
    refused("linked file").await;
    fs::remove_file(log.path()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, log.path(), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    refused("fifo").await;
    let folder = log.path().parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(secret.path(), &folder).unwrap();
    refused("linked folder").await;
    let outside = LogPath { root: folder.parent().unwrap().into(), relative: "../../0.log".into() };
    assert!(
        LogReader::open(outside, LogOptions::default(), log.running.subscribe(), &LogWatches::default())
            .await
            .is_err()
    );
    assert_eq!(LogPath::below(Path::new("/var/log/pods"), Path::new("/etc/passwd")), None);
}

const POLICY: RotationPolicy = RotationPolicy { max_bytes: 10, max_files: 3 };

impl Log {
    fn log_path(&self) -> LogPath {
        LogPath { root: self.folder.path().into(), relative: FILE.into() }
    }

    /// One rotation at that second, with a runtime that opens the new file as told.
    async fn rotate(&self, second: u32) -> Rotation {
        let now = format!("2026-01-01T00:00:{second:02}").parse().unwrap();
        rotate(&self.log_path(), POLICY, now, async || fs::write(self.path(), "")).await.unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().parent().unwrap()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn rotation_dates_compresses_and_forgets() {
    let log = Log::new("short");
    assert_eq!(log.rotate(1).await, Rotation::NotDue);
    log.append(" no longer");
    assert_eq!(log.rotate(2).await, Rotation::Done);
    assert_eq!(log.names(), ["0.log", "0.log.20260101-000002"]);
    log.append("second file");
    assert_eq!(log.rotate(3).await, Rotation::Done);
    assert_eq!(log.names(), ["0.log", "0.log.20260101-000002.gz", "0.log.20260101-000003"]);
    let zipped = fs::read(log.path().with_file_name("0.log.20260101-000002.gz")).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&zipped[..]), &mut text).unwrap();
    assert_eq!(text, "short no longer");
    // What a crash leaves: half a compressed file, and a source that was not removed.
    fs::write(log.path().with_file_name("0.log.20260101-000003.tmp"), "").unwrap();
    fs::write(log.path().with_file_name("0.log.20260101-000002"), "").unwrap();
    log.append("third file");
    assert_eq!(log.rotate(4).await, Rotation::Done);
    assert_eq!(log.names(), ["0.log", "0.log.20260101-000003.gz", "0.log.20260101-000004"]);
    fs::remove_file(log.path()).unwrap();
    assert_eq!(log.rotate(5).await, Rotation::Recreated);
    assert_eq!(log.names()[0], "0.log");
}

#[tokio::test]
async fn a_runtime_that_does_not_reopen_keeps_its_file() {
    let log = Log::new("long enough to rotate");
    let now = "2026-01-01T00:00:00".parse().unwrap();
    let result = rotate(&log.log_path(), POLICY, now, async || Err(io::Error::other("busy"))).await;
    assert!(matches!(result, Err(RotateError::Reopen { .. })));
    assert_eq!(log.names(), ["0.log"]);
    assert_eq!(fs::read_to_string(log.path()).unwrap(), "long enough to rotate");
}
