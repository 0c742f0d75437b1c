//! JSON as Go's encoder writes it.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The document, without a line break at its end. Maps have to be sorted by the bytes of their keys, as Go sorts them.
///
/// # Errors
/// When it has keys that are no strings.
pub fn to_string(document: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut text = Vec::new();
    document.serialize(&mut Serializer::with_formatter(&mut text, SafeInHtml))?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Go keeps its documents safe to be put into HTML and JavaScript.
struct SafeInHtml;

impl Formatter for SafeInHtml {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = 0;
        for (at, letter) in fragment.char_indices() {
            if matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
                out.write_all(&fragment.as_bytes()[plain..at])?;
                write!(out, "\\u{:04x}", u32::from(letter))?;
                plain = at + letter.len_utf8();
            }
        }
        out.write_all(&fragment.as_bytes()[plain..])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("a\"b\\c/d", r#""a\"b\\c/d""#),
            ("<&>", r#""\u003c\u0026\u003e""#),
            ("é<\u{2028}\u{2029}é", r#""é\u003c\u2028\u2029é""#),
            ("\u{8}\u{c}\n\r\t\u{1}\u{7f}", "\"\\b\\f\\n\\r\\t\\u0001\u{7f}\""),
        ] {
            assert_eq!(to_string(&text).unwrap(), expected);
        }
        assert_eq!(to_string(&BTreeMap::from([("<", [1, 2])])).unwrap(), r#"{"\u003c":[1,2]}"#);
    }
}
