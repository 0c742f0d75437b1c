//! Numbers in requests, read as Go reads them, with Go's words for what is wrong with one.

use std::str::FromStr;

/// Reads a number without a sign.
pub(crate) fn unsigned<T: FromStr>(text: &str) -> Result<T, String> {
    let wrong = |what: &str| format!("strconv.ParseUint: parsing {text:?}: {what}");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    text.parse().map_err(|_| wrong("value out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_reads_them() {
        for (text, want) in [
            ("0", Ok(0)),
            ("007", Ok(7)),
            ("65535", Ok(65_535)),
            ("65536", Err("strconv.ParseUint: parsing \"65536\": value out of range")),
            ("", Err("strconv.ParseUint: parsing \"\": invalid syntax")),
            ("+1", Err("strconv.ParseUint: parsing \"+1\": invalid syntax")),
            ("4\n", Err("strconv.ParseUint: parsing \"4\\n\": invalid syntax")),
        ] {
            assert_eq!(unsigned::<u16>(text), want.map_err(str::to_owned), "{text}");
        }
    }
}
