//! klog's text form: `I1124 08:21:40.123456   12345 file.rs:42] "message" key="value"`.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use tracing::Level;

use super::format::{Fields, Line, Value, folder_and_name, is_faceless};

/// Appends one event, with its line break. Writing to a string does not fail.
pub(super) fn line(out: &mut String, line: &Line<'_>, fields: &Fields, zone: &TimeZone, process: u32) {
    let severity = match line.level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        _ => 'I',
    };
    let time = zone.to_datetime(line.time);
    let (folder, file) = folder_and_name(line.file);
    // klog has the name only, which for a mod.rs says nothing.
    let (folder, slash) = if is_faceless(file) && !folder.is_empty() { (folder, "/") } else { ("", "") };
    let _ = write!(
        out,
        "{severity}{:02}{:02} {:02}:{:02}:{:02}.{:06} {process:>7} {folder}{slash}{file}:{}] ",
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond() / 1000,
        line.line,
    );
    quote(out, &fields.message);
    if let Some(error) = &fields.error {
        out.push_str(" err");
        value_text(out, error);
    }
    for (name, value) in &fields.pairs {
        let _ = write!(out, " {name}");
        match value {
            Value::Int(number) => drop(write!(out, "={number}")),
            Value::Float(number) => drop(write!(out, "={number}")),
            Value::Bool(value) => drop(write!(out, "={value}")),
            Value::Text(text) => value_text(out, text),
        }
    }
    out.push('\n');
}

/// A text of one line is quoted; one of several lines is shown as it is, indented.
fn value_text(out: &mut String, text: &str) {
    if !text.contains('\n') {
        out.push('=');
        quote(out, text);
        return;
    }
    out.push_str("=<\n");
    for part in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let _ = writeln!(out, "\t{part}");
    }
    out.push_str(" >");
}

/// Go's `strconv.Quote`.
pub(super) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            control if u32::from(control) < 0x80 && control.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(control));
            }
            control if control.is_control() || is_invisible(control) => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

/// Characters that show nothing, or change how others are shown.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{feff}')
}
