//! What the machine, its pods and their containers use: read from control groups, `/proc`, file
//! systems and the runtime when somebody asks, and rendered as the documents that upstream's kubelet
//! serves.
//!
//! This crate answers questions; it decides nothing. It is told which pods there are, and it does not
//! know who asks.
