//! Values as the library `spew` dumps them, in the settings of Kubernetes' `dump.ForHash`: types in front, keys
//! sorted, no addresses.

use std::fmt::{self, Write};

/// A text, as it is.
///
/// # Errors
/// Those of the writer.
pub fn text(text: &str, out: &mut impl Write) -> fmt::Result {
    out.write_str("(string)")?;
    out.write_str(text)
}

/// Bytes, as numbers.
///
/// # Errors
/// Those of the writer.
pub fn bytes(bytes: &[u8], out: &mut impl Write) -> fmt::Result {
    out.write_str("([]uint8)[")?;
    let mut digits = itoa::Buffer::new();
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.write_char(' ')?;
        }
        out.write_str(digits.format(*byte))?;
    }
    out.write_char(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_numbers_in_brackets() {
        for (given, dump) in
            [(&b""[..], "([]uint8)[]"), (b"\0", "([]uint8)[0]"), (b"a~\xff", "([]uint8)[97 126 255]")]
        {
            let mut out = String::new();
            bytes(given, &mut out).unwrap();
            assert_eq!(out, dump);
        }
    }
}
