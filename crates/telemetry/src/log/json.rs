//! The JSON form: `{"ts":1606206100123.456,"caller":"src/file.rs:42","msg":"message","v":0}`.

use std::fmt::Write as _;

use tracing::Level;

use super::format::{Fields, Line, Value, folder_and_name};

/// Appends one event, with its line break. Writing to a string does not fail.
pub(super) fn line(out: &mut String, line: &Line<'_>, fields: &Fields) {
    // Milliseconds with a fraction, and no more digits than it takes, as Go writes a float.
    let millis = line.time.as_nanosecond() as f64 / 1e6;
    let _ = write!(out, "{{\"ts\":{millis},\"caller\":");
    let (folder, file) = folder_and_name(line.file);
    let slash = if folder.is_empty() { "" } else { "/" };
    quote(out, &format!("{folder}{slash}{file}:{}", line.line));
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
            Value::Text(text) => match object(name, text) {
                Some((namespace, object)) => reference(out, namespace, object),
                None => quote(out, text),
            },
        }
    }
    if let Some(error) = &fields.error {
        out.push_str(",\"err\":");
        quote(out, error);
    }
    out.push_str("}\n");
}

/// The namespace and name in a field that refers to a pod, which the text form writes as
/// `namespace/name`.
fn object<'a>(field: &str, text: &'a str) -> Option<(&'a str, &'a str)> {
    let (namespace, name) = text.split_once('/')?;
    (field == "pod" && !namespace.is_empty() && !name.is_empty()).then_some((namespace, name))
}

fn reference(out: &mut String, namespace: &str, name: &str) {
    out.push_str("{\"name\":");
    quote(out, name);
    out.push_str(",\"namespace\":");
    quote(out, namespace);
    out.push('}');
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
