//! Calls that stage and publish volumes, and take that back.

use std::collections::BTreeMap;
use std::fmt;

use super::{VolumeUse, call};
use crate::call::CallError;
use crate::wire::csi::node_client::NodeClient;
use crate::wire::csi::{
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};

/// A volume to stage.
#[derive(Clone)]
pub struct StageRequest {
    /// The driver's name of it.
    pub handle: String,
    /// Where: a folder that is there.
    pub staging_path: String,
    /// How it is to be used.
    pub volume_use: VolumeUse,
    /// What attaching it has told.
    pub publish_context: BTreeMap<String, String>,
    /// Secret.
    pub secrets: BTreeMap<String, String>,
    /// What creating it has told.
    pub attributes: BTreeMap<String, String>,
}

/// A volume to publish.
#[derive(Clone)]
pub struct PublishRequest {
    /// The driver's name of it.
    pub handle: String,
    /// Where it was staged; empty when the driver stages none.
    pub staging_path: String,
    /// Where: a path in a folder that is there.
    pub target_path: String,
    /// How it is to be used.
    pub volume_use: VolumeUse,
    /// Whether only to be read.
    pub is_read_only: bool,
    /// What attaching it has told.
    pub publish_context: BTreeMap<String, String>,
    /// Secret.
    pub secrets: BTreeMap<String, String>,
    /// What creating it has told, and for whom it is; tokens of the pod's service account may be among it.
    pub attributes: BTreeMap<String, String>,
}

/// Without secrets, and without attributes, which may hold tokens.
impl fmt::Debug for StageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, staging_path, volume_use, .. } = self;
        let mut shown = f.debug_struct("StageRequest");
        shown.field("handle", handle).field("staging_path", staging_path).field("volume_use", volume_use);
        shown.finish_non_exhaustive()
    }
}

/// Likewise.
impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, target_path, volume_use, .. } = self;
        let mut shown = f.debug_struct("PublishRequest");
        shown.field("handle", handle).field("target_path", target_path).field("volume_use", volume_use);
        shown.finish_non_exhaustive()
    }
}

/// Prepares a volume for all who use it on the node.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_stage_volume(endpoint: &str, request: StageRequest) -> Result<(), CallError> {
    let request = NodeStageVolumeRequest {
        volume_id: request.handle,
        publish_context: request.publish_context,
        staging_target_path: request.staging_path,
        volume_capability: Some(request.volume_use.wire()),
        secrets: request.secrets,
        volume_context: request.attributes,
    };
    let ask = |channel| async move { NodeClient::new(channel).node_stage_volume(request).await };
    call("NodeStageVolume", endpoint).ask(ask).await.map(drop)
}

/// Takes back what staging a volume has done. One that is not staged is fine.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_unstage_volume(endpoint: &str, handle: &str, staging_path: &str) -> Result<(), CallError> {
    let request = NodeUnstageVolumeRequest {
        volume_id: handle.to_owned(),
        staging_target_path: staging_path.to_owned(),
    };
    let ask = |channel| async move { NodeClient::new(channel).node_unstage_volume(request).await };
    call("NodeUnstageVolume", endpoint).ask(ask).await.map(drop)
}

/// Makes a volume available to one pod.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_publish_volume(endpoint: &str, request: PublishRequest) -> Result<(), CallError> {
    let request = NodePublishVolumeRequest {
        volume_id: request.handle,
        publish_context: request.publish_context,
        staging_target_path: request.staging_path,
        target_path: request.target_path,
        volume_capability: Some(request.volume_use.wire()),
        readonly: request.is_read_only,
        secrets: request.secrets,
        volume_context: request.attributes,
    };
    let ask = |channel| async move { NodeClient::new(channel).node_publish_volume(request).await };
    call("NodePublishVolume", endpoint).ask(ask).await.map(drop)
}

/// Takes back what publishing a volume has done. One that is not published is fine.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_unpublish_volume(endpoint: &str, handle: &str, target_path: &str) -> Result<(), CallError> {
    let request =
        NodeUnpublishVolumeRequest { volume_id: handle.to_owned(), target_path: target_path.to_owned() };
    let ask = |channel| async move { NodeClient::new(channel).node_unpublish_volume(request).await };
    call("NodeUnpublishVolume", endpoint).ask(ask).await.map(drop)
}
