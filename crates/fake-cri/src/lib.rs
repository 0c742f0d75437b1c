//! A container runtime without containers: CRI v1 on a real socket, for nodes that are denser or
//! less lucky than a real runtime on one machine allows.
//!
//! A kubelet cannot tell it from a runtime: sandboxes get addresses, containers start, run and
//! end, lists and events follow. Only there is no process behind a container, and every image is
//! present. What a bench or a fault test needs on top:
//!
//! * **Delays** for each kind of call ([`Latencies`]).
//! * **Hung calls**, containers that end by themselves: by annotations of the pod ([`annotation`])
//!   or over the control socket ([`Command`]).
//! * **Records**: when each call for a pod began and ended, and when each container ended, so
//!   that the time which the runtime took can be subtracted from what a kubelet needed.
//!
//! One [`Server`] owns the state: what the runtime holds (`world`) and what calls go through
//! (`gate`). Both are plain values behind a lock that is never held across an await; there is no
//! work besides answering.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

pub mod annotation;
mod control;
mod gate;
mod images;
mod latency;
mod runtime_calls;
mod server;
mod world;

pub use control::{Command, CommandError};
pub use latency::{CALLS, Latencies, LatencyError};
pub use server::{Options, ServeError, Server};
