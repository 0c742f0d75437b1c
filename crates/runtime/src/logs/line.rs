//! One record of a log file.

use bytes::Bytes;
use jiff::Timestamp;

/// Which of its two output streams a container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A record: when, where, and what. The text ends with a newline unless the container's line goes
/// on in the next record of the same stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) time: Timestamp,
    /// The time as written, RFC 3339.
    pub(crate) time_text: Bytes,
    pub(crate) stream: StreamKind,
    pub(crate) text: Bytes,
}

/// Reads a record in either format; `None` when it is neither.
pub(crate) fn parse(line: &Bytes) -> Option<Record> {
    if line.first() == Some(&b'{') { parse_docker(line) } else { parse_cri(line) }
}

/// `2016-10-06T00:17:09.669794202Z stdout F text`. Of the tags, separated by colons, only the first
/// is defined: `P` for a line that goes on.
fn parse_cri(line: &Bytes) -> Option<Record> {
    let space = |from: usize| line.get(from..)?.iter().position(|b| *b == b' ').map(|at| from + at);
    let time_end = space(0)?;
    let stream_end = space(time_end + 1)?;
    let tag_end = space(stream_end + 1)?;
    let stream = stream_kind(&line[time_end + 1..stream_end])?;
    let is_partial = line[stream_end + 1..tag_end].split(|b| *b == b':').next() == Some(b"P".as_slice());
    let mut text = line.slice(tag_end + 1..);
    if is_partial && text.last() == Some(&b'\n') {
        text.truncate(text.len() - 1);
    }
    let time_text = line.slice(..time_end);
    Some(Record { time: parse_time(&time_text)?, time_text, stream, text })
}

#[derive(serde::Deserialize)]
struct DockerLine {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
}

/// `{"log":"text\n","stream":"stdout","time":"…"}`.
fn parse_docker(line: &Bytes) -> Option<Record> {
    let read: DockerLine = serde_json::from_slice(line).ok()?;
    let time_text = Bytes::from(read.time);
    Some(Record {
        time: parse_time(&time_text)?,
        time_text,
        stream: stream_kind(read.stream.as_bytes())?,
        text: Bytes::from(read.log),
    })
}

fn stream_kind(name: &[u8]) -> Option<StreamKind> {
    match name {
        b"stdout" => Some(StreamKind::Stdout),
        b"stderr" => Some(StreamKind::Stderr),
        _ => None,
    }
}

fn parse_time(text: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The time with exactly nine digits of a second, in the zone it was written in.
pub(crate) fn fixed_width(time_text: &[u8]) -> Vec<u8> {
    // The zone starts after `hh:mm:ss`, with a sign or a Z.
    let is_zone = |b: &u8| matches!(b, b'Z' | b'z' | b'+' | b'-');
    let clock = time_text.iter().position(|b| matches!(b, b'T' | b't')).unwrap_or(0);
    let zone = time_text.iter().skip(clock).position(is_zone).map_or(time_text.len(), |at| clock + at);
    let (seconds, zone) = time_text.split_at(zone);
    let (whole, fraction) = match seconds.iter().position(|b| *b == b'.') {
        Some(dot) => (&seconds[..dot], &seconds[dot + 1..]),
        None => (seconds, &[][..]),
    };
    let mut out = Vec::with_capacity(36);
    out.extend_from_slice(whole);
    out.push(b'.');
    out.extend(fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9));
    out.extend_from_slice(zone);
    out
}
