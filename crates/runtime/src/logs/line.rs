//! One record of a log file.

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::memchr;

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
pub(crate) struct Record<'a> {
    /// The time as written, RFC 3339.
    pub(crate) time_text: Cow<'a, [u8]>,
    pub(crate) stream: StreamKind,
    pub(crate) text: Cow<'a, [u8]>,
}

impl Record<'_> {
    /// When it was written.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        parse_time(&self.time_text)
    }
}

/// Reads a record in either format; `None` when it is neither.
pub(crate) fn parse(line: &[u8]) -> Option<Record<'_>> {
    if line.first() == Some(&b'{') { parse_docker(line) } else { parse_cri(line) }
}

/// `2016-10-06T00:17:09.669794202Z stdout F text`. Of the tags, separated by colons, only the first
/// is defined: `P` for a line that goes on.
fn parse_cri(line: &[u8]) -> Option<Record<'_>> {
    let (time_text, rest) = split_at_space(line)?;
    let (stream, rest) = split_at_space(rest)?;
    let (tags, mut text) = split_at_space(rest)?;
    let is_partial = tags.split(|b| *b == b':').next() == Some(b"P".as_slice());
    if is_partial && let Some(unended) = text.strip_suffix(b"\n") {
        text = unended;
    }
    if !is_time(time_text) {
        return None;
    }
    Some(Record { time_text: time_text.into(), stream: stream_kind(stream)?, text: text.into() })
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b' ', bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
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
fn parse_docker(line: &[u8]) -> Option<Record<'static>> {
    let read: DockerLine = serde_json::from_slice(line).ok()?;
    parse_time(read.time.as_bytes())?;
    Some(Record {
        time_text: read.time.into_bytes().into(),
        stream: stream_kind(read.stream.as_bytes())?,
        text: read.log.into_bytes().into(),
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

/// Whether this is a time. What it says matters to few readers, so the form in which runtimes write it is looked at
/// only as far as needed: most of the work of reading a log would otherwise be calendar arithmetic.
fn is_time(text: &[u8]) -> bool {
    is_usual_time(text) || parse_time(text).is_some()
}

/// `2016-10-06T00:17:09.669794202Z` or with an offset, of a day that every month has.
fn is_usual_time(text: &[u8]) -> bool {
    let Some((head, tail)) = text.split_at_checked(19) else { return false };
    let number = |bytes: &[u8], at: usize| match bytes.get(at..at + 2) {
        Some([tens @ b'0'..=b'9', ones @ b'0'..=b'9']) => (tens - b'0') * 10 + (ones - b'0'),
        _ => u8::MAX,
    };
    let is_head = number(head, 0) <= 99
        && number(head, 2) <= 99
        && (1..=12).contains(&number(head, 5))
        && (1..=28).contains(&number(head, 8))
        && number(head, 11) <= 23
        && number(head, 14) <= 59
        && number(head, 17) <= 59
        && [head[4], head[7], head[10], head[13], head[16]] == *b"--T::";
    let zone = match tail.strip_prefix(b".") {
        Some(rest) => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &rest[digits..]
        }
        None => tail,
    };
    let is_zone = match zone {
        b"Z" => true,
        [b'+' | b'-', offset @ ..] => {
            offset.len() == 5 && number(offset, 0) <= 23 && offset[2] == b':' && number(offset, 3) <= 59
        }
        _ => false,
    };
    is_head && is_zone
}

/// Appends the time with exactly nine digits of a second, in the zone it was written in.
pub(crate) fn append_fixed_width(time_text: &[u8], out: &mut Vec<u8>) {
    // The zone starts after `hh:mm:ss`, with a sign or a Z.
    let is_zone = |b: &u8| matches!(b, b'Z' | b'z' | b'+' | b'-');
    let clock = time_text.iter().position(|b| matches!(b, b'T' | b't')).unwrap_or(0);
    let zone = time_text.iter().skip(clock).position(is_zone).map_or(time_text.len(), |at| clock + at);
    let (seconds, zone) = time_text.split_at(zone);
    let (whole, fraction) = match seconds.iter().position(|b| *b == b'.') {
        Some(dot) => (&seconds[..dot], &seconds[dot + 1..]),
        None => (seconds, &[][..]),
    };
    out.extend_from_slice(whole);
    out.push(b'.');
    out.extend(fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9));
    out.extend_from_slice(zone);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_times_are_times_and_others_are_looked_at_closely() {
        for (text, is_usual, is_one) in [
            ("2026-01-01T00:00:01Z", true, true),
            ("2016-10-06T00:17:09.669794202Z", true, true),
            ("2016-10-06T23:59:59.1-23:59", true, true),
            ("2016-10-06T00:17:09+02:00", true, true),
            ("2016-10-31T00:17:09Z", false, true),
            ("2016-02-31T00:17:09Z", false, false),
            ("2016-13-01T00:17:09Z", false, false),
            ("2016-01-01T24:17:09Z", false, false),
            ("2016-01-01T00:60:09Z", false, false),
            ("2016-01-00T00:00:09Z", false, false),
            ("2016-01-01T00:00:09.Z", false, false),
            ("2016-01-01T00:00:09.1234567890Z", false, false),
            ("2016-01-01T00:00:09", false, false),
            ("2016-01-01T00:00:0xZ", false, false),
            ("2016-01-01T00:00:09+2:00", false, false),
            ("x", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_usual_time(text.as_bytes()), is_usual, "{text}");
            assert_eq!(is_time(text.as_bytes()), is_one, "{text}");
            if is_usual {
                assert!(parse_time(text.as_bytes()).is_some(), "{text}");
            }
        }
    }
}
