//! What the core was told, written down so that its decisions can be looked at again.
//!
//! ```text
//! driver ──► Recorder ──► thread ──► DIR/20261130T041108Z-0000.jsonl      the first line: what the core starts from
//!                                                                         each other: time, input, hash of the effects
//! Replay ◄── those lines
//! ```
//!
//! - [`line`]: the lines. [`cut`]: what is left out of them. [`digest`]: effects as a hash.
//! - [`recorder`]: writes them beside the core. [`folder`]: files of bounded size. [`replay`]: steps a core through them.
//!
//! Equal inputs give equal effects, and what is cut is nothing the core reads; so a replay makes the decisions again that
//! were made, and where it does not, the hashes name the input.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod cut;
mod digest;
mod folder;
mod line;
mod recorder;
mod replay;

pub use cut::Cutter;
pub use folder::{FolderError, Limits};
pub use line::{SegmentWriter, Snapshot};
pub use recorder::{Begun, Progress, Recorder, Recording};
pub use replay::{Replay, ReplayError, Step};
