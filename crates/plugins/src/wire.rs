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

    /// Debug of requests that shows which volume they are about and nothing else: they have secrets.
    macro_rules! hidden {
        ($($request:ident: $field:ident),* $(,)?) => {$(
            impl fmt::Debug for $request {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($request))
                        .field(stringify!($field), &self.$field)
                        .finish_non_exhaustive()
                }
            }
        )*};
    }

    hidden! {
        NodeStageVolumeRequest: volume_id,
        NodePublishVolumeRequest: volume_id,
        NodeExpandVolumeRequest: volume_id,
    }

    #[cfg(feature = "fake")]
    hidden! {
        CreateVolumeRequest: name,
        DeleteVolumeRequest: volume_id,
        ControllerPublishVolumeRequest: volume_id,
        ControllerUnpublishVolumeRequest: volume_id,
        ValidateVolumeCapabilitiesRequest: volume_id,
        ControllerExpandVolumeRequest: volume_id,
    }
}
