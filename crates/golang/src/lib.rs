//! What programs in Go write, byte for byte: other programs compare it, hash it or parse it.
//!
//! Nothing here knows what the texts are for, and nothing here does I/O.
//!
//! - [`duration`]: spans of time, as `time.Duration` prints them.
//! - [`fnv`]: the hashes of `hash/fnv`.
//! - [`hex`]: bytes as digits.
//! - [`json`]: documents as `encoding/json` writes them.
//! - [`path_match`]: patterns of `path.Match`.
//! - [`quantity`]: Kubernetes' amounts, which keep or lose the text they were read from.
//! - [`quote`]: texts as `strconv.Quote` quotes them.
//! - [`spew`]: values as the library `spew` dumps them to be hashed.

pub mod duration;
pub mod fnv;
pub mod hex;
pub mod json;
pub mod path_match;
pub mod quantity;
pub mod quote;
pub mod spew;
