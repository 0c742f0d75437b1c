//! A CSI driver for tests of kubelets: it registers as a plugin, says who and where it is, and has volumes, on real sockets and
//! in real mounts; and it does each call well, not at all, late, twice or wrong, as it is told.
//!
//! * **Volumes** are folders, bind mounted where they are staged and published. Which are, is on disk: a driver that starts
//!   again goes on. With the service Controller, they are those that it has made and attached; without, whatever is named.
//! * **Hung and failed calls** and the like by command ([`Command`]), over a control socket.
//! * **Records**: how often each call was made, in which order and with what, what the kubelet says of the registration, and
//!   what it did that CSI forbids.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod check;
mod control;
mod controller;
mod driver;
mod expansion;
mod gate;
mod journal;
mod node;
mod provisioned;
mod server;
mod usage;
mod volumes;

pub use control::{Command, CommandError};
pub use server::{Driver, Options, ServeError, Server};
pub use volumes::Capability;
