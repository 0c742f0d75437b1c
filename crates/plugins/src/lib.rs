//! gRPC on sockets of the node: what agents ask of the kubelet (the Pods API), and what the kubelet asks of plugins (their
//! registration, CSI).
//!
//! ```text
//! View ──► PodsService ──► <root>/pods-api/pods-api.sock
//!              ▲ one task for each watch, which compares pictures of the node
//!
//! <root>/plugins_registry/**/*.sock ──► watch_sockets ──► the core
//! the core ──► get_info, notify, node_get_info ──► plugins
//! ```
//!
//! Which plugin is taken, and when one is asked again, is the core's to decide: nothing is kept here but which sockets there
//! are.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod call;
pub mod csi;
mod limit;
mod pods;
pub mod registration;
mod socket;
#[cfg(feature = "fake")]
pub mod wire;
#[cfg(not(feature = "fake"))]
mod wire;

pub use call::{CallError, CallFailure};
pub use pods::{PodsPorts, PodsService};
pub use socket::SocketError;
pub use tonic::Code;
