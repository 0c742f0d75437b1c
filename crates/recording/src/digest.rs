//! The hash of what a step decided: the same on every machine and for every build of the same decisions.

use node::Effect;
use ring::digest::{SHA256, digest};

/// Bytes of the hash that are kept: as many as tell apart what no one makes equal on purpose.
const KEPT_BYTES: usize = 8;

/// The hash, in hexadecimal digits; empty for a step that decided nothing.
///
/// # Errors
/// Effects cannot be put in words.
pub(crate) fn of(effects: &[Effect]) -> serde_json::Result<String> {
    if effects.is_empty() {
        return Ok(String::new());
    }
    // Not into the hash's context: a serializer for another writer is the code of all types once more.
    let text = serde_json::to_vec(effects)?;
    Ok(hex(digest(&SHA256, &text).as_ref()))
}

/// The first bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    golang::hex::encode(&bytes[..bytes.len().min(KEPT_BYTES)])
}
