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
pub fn bytes(bytes: &[u8]) -> String {
    let mut dump = String::from("([]uint8)[");
    for (index, byte) in bytes.iter().enumerate() {
        // Writing to a `String` cannot fail.
        let _ = write!(dump, "{}{byte}", if index == 0 { "" } else { " " });
    }
    dump.push(']');
    dump
}
