//! What pods take of the node's disks. Adding up files can take minutes, so it never happens in a
//! request: a request says which pods it is about and is shown what was measured last.
//!
//! One task ([`DiskTask`]) measures. It works only while somebody asks, one pod after the other,
//! each again after an interval.

mod measure;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host::disk_usage::DiskUsage;
use jiff::Timestamp;
use model::PodUid;
use telemetry::metrics::Metrics;
use tokio::sync::watch;

use crate::Clock;
use crate::document::VolumeStats;
use crate::targets::PodTarget;

pub use task::DiskTask;

/// What was measured of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodDisk {
    /// When it was finished.
    pub(crate) at: Timestamp,
    /// The volumes that could be measured: local and ephemeral ones, and the others.
    pub(crate) volumes: [Vec<VolumeStats>; 2],
    /// The logs of each container, by its name.
    pub(crate) logs: BTreeMap<String, DiskUsage>,
    /// Files beside the containers' folders of logs.
    pub(crate) pod_logs: Option<DiskUsage>,
    /// The hosts file.
    pub(crate) hosts_file: Option<DiskUsage>,
}

/// The last measurement of each pod.
pub(crate) type PodDisks = BTreeMap<PodUid, Arc<PodDisk>>;

/// What somebody asked for.
#[derive(Clone, Debug, Default)]
struct Asked {
    pods: Arc<Vec<PodTarget>>,
    /// When, on the monotonic clock.
    mono: Duration,
}

/// The asking side.
#[derive(Debug)]
pub(crate) struct Disk {
    asked: watch::Sender<Asked>,
    shown: watch::Receiver<Arc<PodDisks>>,
}

impl Disk {
    /// Both sides. Volumes are measured every `volume_interval`, or never.
    pub(crate) fn new(
        volume_interval: Option<Duration>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> (Self, DiskTask) {
        let (asked, asking) = watch::channel(Asked::default());
        let (showing, shown) = watch::channel(Arc::default());
        let task = DiskTask::new(asking, showing, volume_interval, clock, metrics);
        (Self { asked, shown }, task)
    }

    /// Has these pods measured, unless they were a moment ago, and returns what is known by now.
    pub(crate) fn ask(&self, pods: Arc<Vec<PodTarget>>, mono: Duration) -> Arc<PodDisks> {
        self.asked.send_replace(Asked { pods, mono });
        Arc::clone(&self.shown.borrow())
    }
}
