//! The JSON form: `{"ts":1606206100123.456,"caller":"src/file.rs:42","msg":"message","v":0}`.

use std::fmt::Write as _;

use tracing::Level;

use super::format::{Fields, Line, Value};

/// Appends one event, with its line break. Writing to a string does not fail.
pub(super) fn line(out: &mut String, line: &Line<'_>, fields: &Fields) {
    let micros = line.time.as_microsecond();
    let _ = write!(out, "{{\"ts\":{}.{:03},\"caller\":", micros / 1000, micros % 1000);
    quote(out, &format!("{}:{}", short(line.file), line.line));
    out.push_str(",\"msg\":");
    quote(out, &fields.message);
    // Errors have no level; what is no error and has none is at level 0.
    if line.level != Level::ERROR {
        let _ = write!(out, ",\"v\":{}", line.verbosity);
    }
    for (name, value) in &fields.pairs {
        out.push(',');
        quote(out, name);
        out.push(':');
        match value {
            Value::Int(number) => drop(write!(out, "{number}")),
            Value::Float(number) if number.is_finite() => drop(write!(out, "{number}")),
            Value::Float(number) => quote(out, &number.to_string()),
            Value::Bool(value) => drop(write!(out, "{value}")),
            Value::Text(text) => quote(out, text),
        }
    }
    out.push_str("}\n");
}

/// The folder and the name of a file.
fn short(file: &str) -> &str {
    let mut slashes = file.rmatch_indices('/');
    slashes.next();
    slashes.next().map_or(file, |(at, _)| &file[at + 1..])
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 || matches!(control, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}
