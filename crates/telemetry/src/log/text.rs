//! klog's text form: `I1124 08:21:40.123456   12345 file.rs:42] "message" key="value"`.

use std::fmt::Write as _;

use golang::quote::push_quoted;
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
    push_quoted(out, &fields.message);
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
        push_quoted(out, text);
        return;
    }
    out.push_str("=<\n");
    for part in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let _ = writeln!(out, "\t{part}");
    }
    out.push_str(" >");
}
