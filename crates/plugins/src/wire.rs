//! What is made of `proto/`. It stays inside this crate, except for the `fake` feature, which gives `fake-csi` the plugins'
//! side.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "made; tests are the client of the Pods API"
)]

tonic::include_proto!("v1alpha1");

/// Plugin registration v1.
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

/// CSI v1.13.
pub mod csi {
    use std::fmt;

    tonic::include_proto!("csi.v1");

    /// Shows which volume it is about and nothing else: it has secrets.
    impl fmt::Debug for NodeStageVolumeRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("NodeStageVolumeRequest")
                .field("volume_id", &self.volume_id)
                .finish_non_exhaustive()
        }
    }

    /// Likewise.
    impl fmt::Debug for NodePublishVolumeRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("NodePublishVolumeRequest")
                .field("volume_id", &self.volume_id)
                .finish_non_exhaustive()
        }
    }

    /// Likewise.
    impl fmt::Debug for NodeExpandVolumeRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("NodeExpandVolumeRequest")
                .field("volume_id", &self.volume_id)
                .finish_non_exhaustive()
        }
    }
}
