//! Files and folders of the log folder: listings, whole files and parts of files.
//!
//! Containers write below this folder, links included. Everything is opened beneath it by the
//! kernel: a link that leads out of it is refused, whatever its kind, and so is all that is no
//! plain file, which might never end.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures::stream::StreamExt;
use host::beneath::{self, BeneathError, Root};
use http::StatusCode;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::answer::{self, Answer};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GZIP: HeaderValue = HeaderValue::from_static("application/x-gzip");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// How much of a file is read at a time, bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// By how many bytes a file's kind is told.
const SNIFF_BYTES: usize = 512;
/// What stands in a link to a file as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'@')
    .remove(b'+');

/// Something below the log folder, opened.
pub(super) enum Opened {
    File(OpenFile),
    Folder(Folder),
}

/// A folder to be listed.
pub(super) struct Folder {
    /// In order, folders with a slash at their end.
    entries: Vec<Vec<u8>>,
    modified: Option<SystemTime>,
}

/// A file to be read.
pub(super) struct OpenFile {
    pub(super) file: File,
    size: u64,
    modified: Option<SystemTime>,
    kind: HeaderValue,
}

/// Opens a path below the log folder.
pub(super) async fn open(root: &Path, path: &str) -> Result<Opened, BeneathError> {
    let (root, relative) = (root.to_owned(), clean(path));
    let failed = |source| BeneathError { operation: "open", path: root.join(&relative), source };
    match tokio::task::spawn_blocking({
        let (root, relative) = (root.clone(), relative.clone());
        move || open_now(&root, &relative)
    })
    .await
    {
        Ok(opened) => opened,
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

fn open_now(root: &Path, relative: &Path) -> Result<Opened, BeneathError> {
    let path = root.join(relative);
    let failed = |operation, source| BeneathError { operation, path: path.clone(), source };
    let handle = beneath::open_inside(root, relative)?;
    let opened = beneath::reopen(&handle).map_err(|source| failed("open", source))?;
    let metadata = opened.metadata().map_err(|source| failed("stat", source))?;
    if metadata.is_dir() {
        let modified = metadata.modified().ok();
        let entries = entries(&Root::from_handle(opened.into(), &path))?;
        return Ok(Opened::Folder(Folder { entries, modified }));
    }
    let size = metadata.len();
    let mut start = vec![0; SNIFF_BYTES];
    let read = rustix::io::pread(&opened, &mut start, 0).map_err(|errno| failed("read", errno.into()))?;
    start.truncate(read);
    Ok(Opened::File(OpenFile { file: opened, size, modified: metadata.modified().ok(), kind: kind(&start) }))
}

fn entries(folder: &Root) -> Result<Vec<Vec<u8>>, BeneathError> {
    let mut names = folder.names()?;
    names.sort_unstable();
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        // What has gone meanwhile is not listed.
        let Ok(stat) = folder.stat(&name) else { continue };
        let mut entry = name.into_os_string().into_encoded_bytes();
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            entry.push(b'/');
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The path without what leads back up; what leads further up than the root leads nowhere.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// What a file holds, from its beginning: never more than text, so that no browser runs a log.
fn kind(start: &[u8]) -> HeaderValue {
    let is_control = |byte: &u8| *byte < b' ' && !b"\t\n\r\x0c\x1b".contains(byte);
    if start.starts_with(&[0x1f, 0x8b]) {
        GZIP
    } else if start.iter().any(is_control) {
        BINARY
    } else {
        TEXT
    }
}

/// Answers with what is at a path, as a browser and `kubectl get --raw` expect it.
pub(super) async fn answer(root: &Path, path: &str, headers: &HeaderMap) -> Answer {
    let has_slash = path.is_empty() || path.ends_with('/');
    let last = || clean(path).file_name().map(|name| percent(name.as_encoded_bytes())).unwrap_or_default();
    match open(root, path).await {
        Ok(Opened::Folder(_)) if !has_slash => moved(&format!("{}/", last())),
        Ok(Opened::Folder(folder)) => listing(&folder),
        Ok(Opened::File(_)) if has_slash => moved(&format!("../{}", last())),
        Ok(Opened::File(file)) => content(file, headers),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "log file not served");
            refusal(&error)
        }
    }
}

fn refusal(error: &BeneathError) -> Answer {
    if error.is_not_found() || error.source.kind() == io::ErrorKind::NotADirectory {
        answer::error(StatusCode::NOT_FOUND, "404 page not found")
    } else if error.is_escape() || error.source.kind() == io::ErrorKind::PermissionDenied {
        answer::error(StatusCode::FORBIDDEN, "403 Forbidden")
    } else {
        answer::error(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error")
    }
}

fn moved(to: &str) -> Answer {
    let mut answer = answer::untyped(answer::text(StatusCode::MOVED_PERMANENTLY, Bytes::new()));
    if let Ok(to) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(LOCATION, to);
    }
    answer
}

fn percent(name: &[u8]) -> String {
    percent_encode(name, PLAIN).to_string()
}

fn listing(folder: &Folder) -> Answer {
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for entry in &folder.entries {
        let name = String::from_utf8_lossy(entry);
        page += &format!("<a href=\"{}\">{}</a>\n", percent(entry), escape(&name));
    }
    page += "</pre>\n";
    let mut answer = answer::with_type(StatusCode::OK, HTML, answer::body(page));
    let modified = folder.modified.map(httpdate::fmt_http_date);
    if let Some(modified) = modified.and_then(|date| HeaderValue::from_str(&date).ok()) {
        answer.headers_mut().insert(LAST_MODIFIED, modified);
    }
    answer
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

fn content(file: OpenFile, headers: &HeaderMap) -> Answer {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let modified = file.modified.map(seconds);
    let date = |text: &str| httpdate::parse_http_date(text).ok().map(seconds);
    if let (Some(since), Some(modified)) = (header(IF_MODIFIED_SINCE).and_then(date), modified)
        && modified <= since
    {
        return answer::untyped(answer::text(StatusCode::NOT_MODIFIED, Bytes::new()));
    }
    // A condition that is no date, or another one, asks for all of it.
    let is_same = header(IF_RANGE).is_none_or(|condition| date(condition) == modified && modified.is_some());
    let wanted = match header(RANGE).filter(|_| is_same) {
        None => Wanted::All,
        Some(range) => wanted(range, file.size),
    };
    let (status, part) = match wanted {
        Wanted::All => (StatusCode::OK, 0..file.size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing(reason) => {
            let mut answer = answer::error(StatusCode::RANGE_NOT_SATISFIABLE, reason);
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{}", file.size)) {
                answer.headers_mut().insert(CONTENT_RANGE, value);
            }
            return answer;
        }
    };
    let mut answer = answer::stream_with(status, file.kind.clone(), read(file.file, part.clone()));
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(name, value);
        }
    };
    set(CONTENT_LENGTH, (part.end - part.start).to_string());
    set(ACCEPT_RANGES, "bytes".to_owned());
    set(X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned());
    if let Some(modified) = file.modified {
        set(LAST_MODIFIED, httpdate::fmt_http_date(modified));
    }
    if status == StatusCode::PARTIAL_CONTENT {
        set(CONTENT_RANGE, format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), file.size));
    }
    answer
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    Nothing(&'static str),
}

/// What a `Range` header asks for. Several parts at once are answered with all of it, which the
/// protocol allows and nobody who reads logs is hurt by.
fn wanted(header: &str, size: u64) -> Wanted {
    const INVALID: Wanted = Wanted::Nothing("invalid range");
    let Some(list) = header.strip_prefix("bytes=") else { return INVALID };
    let mut parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (Some(part), None) = (parts.next(), parts.next()) else { return Wanted::All };
    let Some((start, end)) = part.split_once('-') else { return INVALID };
    let digits = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let range = match (start.trim(), end.trim()) {
        ("", last) => match digits(last) {
            Some(last) => size.saturating_sub(last)..size,
            None => return INVALID,
        },
        (start, end) => {
            let Some(start) = digits(start) else { return INVALID };
            let end = match end {
                "" => size,
                end => match digits(end) {
                    Some(end) if end >= start => size.min(end.saturating_add(1)),
                    _ => return INVALID,
                },
            };
            start..end
        }
    };
    match range {
        range if range.start < size => Wanted::Part(range),
        _ if size == 0 => Wanted::All,
        _ => Wanted::Nothing("invalid range: failed to overlap"),
    }
}

/// A part of a file, piece by piece. A file that got shorter meanwhile ends the connection.
fn read(file: File, part: Range<u64>) -> futures::stream::BoxStream<'static, io::Result<Bytes>> {
    let file = tokio::fs::File::from_std(file);
    let left = part.end - part.start;
    futures::stream::try_unfold(
        (file, part.start, left, part.start > 0),
        async |(mut file, start, left, is_far)| {
            if left == 0 {
                return Ok(None);
            }
            if is_far {
                file.seek(io::SeekFrom::Start(start)).await?;
            }
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let mut buffer = BytesMut::with_capacity(wanted);
            let read = (&mut file).take(left).read_buf(&mut buffer).await?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file got shorter"));
            }
            Ok(Some((buffer.freeze(), (file, start, left.saturating_sub(read as u64), false))))
        },
    )
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, want) in [
            ("bytes=0-3", Wanted::Part(0..4)),
            ("bytes=4-", Wanted::Part(4..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=5-500", Wanted::Part(5..10)),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=", Wanted::All),
            ("bytes=10-", Wanted::Nothing("invalid range: failed to overlap")),
            ("bytes=-0", Wanted::Nothing("invalid range: failed to overlap")),
            ("bytes=5-4", Wanted::Nothing("invalid range")),
            ("bytes=x-4", Wanted::Nothing("invalid range")),
            ("bytes=-", Wanted::Nothing("invalid range")),
            ("bytes=+1-4", Wanted::Nothing("invalid range")),
            ("lines=0-3", Wanted::Nothing("invalid range")),
        ] {
            assert_eq!(wanted(header, 10), want, "{header}");
        }
        assert_eq!(wanted("bytes=0-3", 0), Wanted::All);
    }

    #[test]
    fn paths_stay_below() {
        for (path, want) in
            [("", ""), ("a/b", "a/b"), ("/a", "a"), ("a/../b", "b"), ("../../etc", "etc"), ("./a/", "a")]
        {
            assert_eq!(clean(path), Path::new(want), "{path}");
        }
    }

    #[test]
    fn kinds_of_files() {
        for (start, want) in [
            (&b"line\n"[..], TEXT),
            (b"", TEXT),
            (b"<html><script>", TEXT),
            (b"\x1b[31mred", TEXT),
            (b"\x1f\x8b\x08", GZIP),
            (b"a\0b", BINARY),
        ] {
            assert_eq!(kind(start), want);
        }
    }
}
