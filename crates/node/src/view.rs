//! What the core publishes: an immutable picture of the node for the HTTP server, the metrics
//! and whoever asks what a pod waits for.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeStatus, PodStatus};
use model::storage::PublishedVolume;
use model::{AllocatedPod, ContainerId, Pod, PodKey, PodObservation, PodUid, Signal};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::node_lifecycle::NodeLifecycle;
use crate::plugins::Plugins;
use crate::pods::life::{Life, Phase};
use crate::pods::record::PodRecord;
use crate::timeline::Timeline;
use crate::volumes::{Drivers, Volumes};
use crate::wait::Wait;

/// Pods by uid, in a persistent map: a picture shares with the one before all that is the same in both, and costs nothing to
/// take however many pods there are.
pub type PodViews = RedBlackTreeMapSync<PodUid, Arc<PodView>>;

/// The whole picture.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Every pod the node knows, by uid.
    pub pods: PodViews,
    /// Whether every source has named its pods, so that a pod that is not here is none of this node's.
    pub are_sources_synced: bool,
    /// Mirror pods the API server holds for this node.
    pub mirrors: usize,
    /// What happened how often.
    pub tallies: Tallies,
    /// Everything the node itself waits for.
    pub waits: Arc<Vec<Wait>>,
    /// The node's status as it is now, which may be newer than what the API server has; empty before it was computed.
    pub node_status: Arc<NodeStatus>,
    /// The drivers of volumes.
    pub drivers: Arc<Drivers>,
    /// The sockets at which plugins register, by their paths, and whether the plugin behind each is taken.
    pub plugins: Arc<BTreeMap<String, bool>>,
}

/// Counts since the start of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies {
    /// Pods found in the runtime that no source knows, and ended for it.
    pub orphans: u64,
    /// Static pods started again under the same uid.
    pub restarted_static: u64,
    /// Pods evicted, by the signal they went for.
    #[serde(default)]
    pub evicted: BTreeMap<Signal, u64>,
}

/// One pod.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its uid in its source.
    pub uid: PodUid,
    /// Its name.
    pub key: PodKey,
    /// Its object as its source has it; `None` for a pod found in the runtime that no source knows.
    pub pod: Option<Arc<Pod>>,
    /// The same with the resources it was granted, which may be others than its object asks for; `None` as long as that is
    /// nothing.
    pub allocated: Option<AllocatedPod>,
    /// Whether its source still has it.
    pub is_wanted: bool,
    /// Whether it comes from a file or URL.
    pub is_static: bool,
    /// Its status as it is now, which may be newer than what the API server has.
    pub status: Arc<PodStatus>,
    /// What the runtime holds of it.
    pub observed: Option<Arc<PodObservation>>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it has ended and nothing of it is left but its logs and its objects.
    pub is_finished: bool,
    /// Whether all its volumes are there.
    pub are_volumes_made: bool,
    /// The volumes that drivers have made for it, by their names in it.
    pub published: BTreeMap<String, PublishedVolume>,
    /// Everything it waits for, what holds up the others first.
    pub waits: Arc<Vec<Wait>>,
    /// How it came where it is.
    pub timeline: Arc<Timeline>,
}

impl PodView {
    /// The newest container of that name.
    pub fn container(&self, name: &str) -> Option<&model::ContainerObservation> {
        self.observed.as_ref()?.latest(name)
    }

    /// A container by its id.
    pub fn container_by_id(&self, id: &ContainerId) -> Option<&model::ContainerObservation> {
        self.observed.as_ref()?.containers.iter().find(|c| c.id == *id)
    }
}

/// Builds each picture from the last one.
#[derive(Debug, Default)]
pub(crate) struct ViewBuilder {
    pods: PodViews,
}

impl ViewBuilder {
    pub(crate) fn update(&mut self, record: &PodRecord, volumes: &Volumes) {
        let view = PodView {
            uid: record.uid.clone(),
            key: record.key.clone(),
            pod: record.desired.pod().cloned(),
            allocated: record.allocated(),
            is_wanted: record.desired.is_present(),
            is_static: record.desired.is_static(),
            status: record.report.current.clone(),
            observed: record.seen.last().cloned(),
            phase: record.life.phase(),
            is_finished: matches!(&record.life, Life::Terminated(end) if end.is_clean()),
            are_volumes_made: record.life.has_volumes(),
            published: volumes.published(&record.uid),
            waits: record.waits.all().clone(),
            timeline: record.timeline.clone(),
        };
        self.pods.insert_mut(record.uid.clone(), Arc::new(view));
    }

    pub(crate) fn remove(&mut self, uid: &PodUid) {
        self.pods.remove_mut(uid);
    }

    pub(crate) fn build(
        &self,
        lifecycle: &NodeLifecycle,
        plugins: &Plugins,
        are_sources_synced: bool,
        mirrors: usize,
        tallies: Tallies,
    ) -> Arc<View> {
        Arc::new(View {
            are_sources_synced,
            pods: self.pods.clone(),
            mirrors,
            tallies,
            waits: lifecycle.waits().clone(),
            node_status: lifecycle.status().clone(),
            drivers: plugins.csi().callable().clone(),
            plugins: plugins.shown().clone(),
        })
    }
}
