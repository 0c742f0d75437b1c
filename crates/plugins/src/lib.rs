//! What agents on the node ask of the kubelet over gRPC on sockets of its own: the Pods API.
//!
//! ```text
//! View ──► PodsService ──► <root>/pods-api/pods-api.sock
//!              ▲ one task for each watch, which compares pictures of the node
//! ```

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod limit;
mod pods;
mod socket;

pub use pods::{PodsPorts, PodsService};
pub use socket::SocketError;

mod wire {
    //! What is made of `proto/pods.proto`.
    #![allow(dead_code, missing_docs, unreachable_pub, clippy::all, reason = "made; tests are the client")]
    tonic::include_proto!("v1alpha1");
}
