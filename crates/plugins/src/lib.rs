//! What agents on the node ask of the kubelet over gRPC on sockets of its own: the Pods API.
//!
//! ```text
//! View ──► PodsService ──► <root>/pods-api/pods-api.sock
//!              ▲ one task for each watch, which compares pictures of the node
//! ```

mod limit;
mod pods;
mod socket;

pub use pods::{PodsPorts, PodsService};
pub use socket::{SocketError, bind};

/// What is made of `proto/pods.proto`.
pub mod wire {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("v1alpha1");
}
