//! What pods take of the node's disks. Adding up files can take minutes, so it never happens in a
//! request: a request says which pods it is about and is shown what was measured last.
//!
//! One task ([`DiskTask`]) measures. It works only while somebody asks, one pod after the other,
//! each again after an interval. Drivers are asked about their volumes beside that (`drivers`).

mod drivers;
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

pub use drivers::AskDriver;
use drivers::DriverTask;
use task::PodTask;

/// What there is to be known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) pods: Arc<PodDisks>,
    pub(crate) drivers: Arc<DriverUsages>,
}

/// What drivers say of their volumes, by pod and by the volume's name in it.
pub(crate) type DriverUsages = BTreeMap<PodUid, BTreeMap<String, VolumeStats>>;

/// Measures what was asked for.
pub struct DiskTask {
    pods: PodTask,
    drivers: DriverTask,
}

impl DiskTask {
    /// Runs until the asking side is gone.
    pub async fn run(self) {
        tokio::join!(self.pods.run(), self.drivers.run());
    }
}

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

/// Measures these pods now, one after the other. Blocks for as long as that takes.
pub(crate) fn measure_all(pods: &[PodTarget], clock: &Clock, metrics: &Metrics) -> Measured {
    let of = |pod: &PodTarget| (pod.uid.clone(), Arc::new(measure::measure(pod, true, clock, metrics)));
    Measured { pods: Arc::new(pods.iter().map(of).collect()), ..Measured::default() }
}

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
    told: watch::Receiver<Arc<DriverUsages>>,
}

impl Disk {
    /// Both sides. Volumes are measured every `volume_interval`, or never.
    pub(crate) fn new(
        volume_interval: Option<Duration>,
        ask: AskDriver,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> (Self, DiskTask) {
        let (asked, asking) = watch::channel(Asked::default());
        let (showing, shown) = watch::channel(Arc::default());
        let (telling, told) = watch::channel(Arc::default());
        let task = DiskTask {
            drivers: DriverTask::new(
                asking.clone(),
                telling,
                volume_interval,
                ask,
                clock.clone(),
                metrics.clone(),
            ),
            pods: PodTask::new(asking, showing, volume_interval, clock, metrics),
        };
        (Self { asked, shown, told }, task)
    }

    /// Has these pods measured, unless they were a moment ago, and returns what is known by now.
    pub(crate) fn ask(&self, pods: Arc<Vec<PodTarget>>, mono: Duration) -> Measured {
        self.asked.send_replace(Asked { pods, mono });
        Measured { pods: Arc::clone(&self.shown.borrow()), drivers: Arc::clone(&self.told.borrow()) }
    }
}
