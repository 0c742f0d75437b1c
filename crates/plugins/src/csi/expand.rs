//! The call that makes the file system of a volume as large as the volume.

use std::collections::BTreeMap;
use std::fmt;

use super::{VolumeUse, call};
use crate::call::CallError;
use crate::wire::csi::node_client::NodeClient;
use crate::wire::csi::{CapacityRange, NodeExpandVolumeRequest};

/// A volume to expand, which is published.
#[derive(Clone)]
pub struct ExpandRequest {
    /// The driver's name of it.
    pub handle: String,
    /// Where it is published.
    pub path: String,
    /// Where it was staged; empty when the driver stages none.
    pub staging_path: String,
    /// How it is used.
    pub volume_use: VolumeUse,
    /// How many bytes it is to have.
    pub size: u64,
    /// Secret.
    pub secrets: BTreeMap<String, String>,
}

/// Without secrets.
impl fmt::Debug for ExpandRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, path, size, .. } = self;
        let mut shown = f.debug_struct("ExpandRequest");
        shown.field("handle", handle).field("path", path).field("size", size);
        shown.finish_non_exhaustive()
    }
}

/// Expands it. One that is as large already is fine.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_expand_volume(endpoint: &str, request: ExpandRequest) -> Result<(), CallError> {
    let required_bytes = i64::try_from(request.size).unwrap_or(i64::MAX);
    let request = NodeExpandVolumeRequest {
        volume_id: request.handle,
        volume_path: request.path,
        capacity_range: Some(CapacityRange { required_bytes, ..CapacityRange::default() }),
        staging_target_path: request.staging_path,
        volume_capability: Some(request.volume_use.wire()),
        secrets: request.secrets,
    };
    let ask = |channel| async move { NodeClient::new(channel).node_expand_volume(request).await };
    call("NodeExpandVolume", endpoint).ask(ask).await.map(drop)
}
