//! A CSI driver for tests of kubelets: it registers as a plugin and says who and where it is, on real sockets, and does each
//! call well, not at all, or wrong, as it is told. It has no volumes yet.
//!
//! * **Hung and failed calls** by command ([`Command`]), over a control socket.
//! * **Records**: how often each call was made, and what the kubelet says of the registration.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod control;
mod driver;
mod gate;
mod server;

pub use control::{Command, CommandError};
pub use server::{Driver, Options, ServeError, Server};
