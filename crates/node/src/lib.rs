//! The core: every decision about pods and the node, as a value without I/O.

pub mod admission;
pub mod node_status;
pub mod status;
