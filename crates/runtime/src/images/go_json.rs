//! JSON to the byte as Go's encoder writes it: digests of it are compared with those another kubelet has written.

use serde::Serialize;

/// The document, without a line break at its end.
///
/// # Errors
/// When it has keys that are no strings.
pub(super) fn to_string(document: &impl Serialize) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(document)?;
    // Go keeps its documents safe to be put into HTML and JavaScript. None of these can be outside of strings.
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => escaped.push(other),
        }
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("a\"b\\c/d", r#""a\"b\\c/d""#),
            ("<&>", r#""\u003c\u0026\u003e""#),
            ("\u{2028}\u{2029}é", r#""\u2028\u2029é""#),
            ("\u{8}\u{c}\n\r\t\u{1}\u{7f}", "\"\\b\\f\\n\\r\\t\\u0001\u{7f}\""),
        ] {
            assert_eq!(to_string(&text).unwrap(), expected);
        }
    }
}
