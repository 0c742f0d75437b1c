//! The kubelet as a process: how it starts, what keeps it from starting, how it ends.
//!
//! Each kubelet gets a mount namespace of its own, in which kernel settings, swap and the folder of
//! log links are files of the test. Root is needed for that. The servers are off unless a test is about
//! them, so that no port is taken.

// Clippy knows tests by their attribute only, and not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod dead_containers;
mod exit_codes;
mod explain;
mod fake;
mod features;
mod log_rotation;
mod node_facts;
mod paths;
mod process;
mod pulls;
mod recording;
mod requests;
mod runtime;
mod startup_errors;
mod tls;
mod traces;
mod urls;
