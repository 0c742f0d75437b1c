//! Cgroups, made as the driver in use makes them. Either way the folders are [`CgroupTree`]'s business; with the systemd
//! driver systemd is asked first, for the slice and for the limits it knows, so that it does not undo them when it
//! writes its own view of a unit again.

mod node;
mod pods;
mod processes;
mod qos;

use std::sync::Arc;

use config::Config;
use host::cgroup::{CgroupDriver, CgroupError, CgroupLimits, CgroupTree, Group};
use model::{CgroupObservation, PodUid, QosClass};
use systemd::{BusAddress, SystemdError, Units};
use telemetry::metrics::Metrics;

pub(crate) use node::{MachineLimits, prepare};
pub(crate) use processes::keep;

/// Why a cgroup could not be made, limited or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// The kernel or the file system says so.
    #[error(transparent)]
    Files(#[from] CgroupError),
    /// systemd says so.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// systemd is to make cgroups and is not there.
    #[error(
        "the cgroup driver is systemd, but this host was not started by systemd: have the container runtime make cgroups \
         itself (for containerd, SystemdCgroup = false)"
    )]
    NotBooted,
    /// The process is ending.
    #[error("interrupted")]
    Interrupted,
}

/// The cgroups of this node: of single pods, of classes of them, and of all.
#[derive(Clone)]
pub(crate) struct NodeCgroups {
    config: Arc<Config>,
    tree: CgroupTree,
    driver: Driver,
    metrics: Arc<Metrics>,
}

impl NodeCgroups {
    /// Those of a tree, under a configuration.
    pub(crate) fn new(config: Arc<Config>, tree: CgroupTree, metrics: Arc<Metrics>) -> Self {
        Self { driver: Driver::new(tree.clone()), config, tree, metrics }
    }

    /// Where they are.
    pub(crate) fn tree(&self) -> &CgroupTree {
        &self.tree
    }
}

/// Makes, limits and removes cgroups. Holds no state but how that is done.
#[derive(Clone, Debug)]
struct Driver {
    tree: CgroupTree,
    /// With the systemd driver.
    units: Option<Units>,
}

impl Driver {
    /// The driver for a tree named for it.
    fn new(tree: CgroupTree) -> Self {
        let version = tree.mounts().version();
        let units =
            (tree.driver() == CgroupDriver::Systemd).then(|| Units::new(BusAddress::of_node(), version));
        Self { tree, units }
    }

    /// Sees that whoever makes cgroups is there.
    async fn check(&self) -> Result<(), DriverError> {
        match &self.units {
            None => Ok(()),
            Some(_) if !systemd::is_running() => Err(DriverError::NotBooted),
            Some(units) => Ok(units.version().await.map(drop)?),
        }
    }

    /// Makes a group if it is not there, and sets its limits. A group that has them already, such as those of pods that
    /// an earlier kubelet made, costs some reads of files and is left alone.
    async fn ensure(&self, group: Group, limits: CgroupLimits) -> Result<(), DriverError> {
        if let Some(units) = &self.units {
            let Some(slice) = self.missing(&group, &limits).await? else { return Ok(()) };
            units.start(&slice).await?;
            units.limit(&slice.name, &limits).await?;
        }
        self.in_files(move |tree| tree.ensure(&group, &limits)).await
    }

    /// The same, and what the group has then.
    pub(crate) async fn ensure_and_observe(
        &self,
        group: Group,
        limits: CgroupLimits,
    ) -> Result<CgroupObservation, DriverError> {
        self.ensure(group.clone(), limits).await?;
        self.in_files(move |tree| tree.observe(&group)).await
    }

    /// What the groups of pods have, as far as they can be read: one that is going may be gone.
    pub(crate) async fn observe_pods(
        &self,
        pods: Vec<(PodUid, QosClass)>,
    ) -> Result<Vec<(PodUid, CgroupObservation)>, DriverError> {
        self.in_files(move |tree| {
            let read = |(uid, qos): (PodUid, QosClass)| {
                let has = tree.observe(&Group::Pod { uid: uid.clone(), qos }).ok()?;
                (has != CgroupObservation::default()).then_some((uid, has))
            };
            Ok(pods.into_iter().filter_map(read).collect())
        })
        .await
    }

    /// Limits a group that is there.
    async fn set(&self, group: Group, limits: CgroupLimits) -> Result<(), DriverError> {
        if let Some(units) = &self.units {
            let Some(slice) = self.missing(&group, &limits).await? else { return Ok(()) };
            units.limit(&slice.name, &limits).await?;
        }
        self.in_files(move |tree| tree.set(&group, &limits)).await
    }

    /// Bytes of memory that a group has in use.
    async fn memory_usage(&self, group: Group) -> Result<u64, DriverError> {
        self.in_files(move |tree| tree.memory_usage(&group)).await
    }

    /// Removes a pod's group, in whichever class it is, with all that is left in it.
    async fn remove_pod(&self, uid: &PodUid) -> Result<(), DriverError> {
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            if let Some(units) = &self.units {
                let of_pod = uid.clone();
                let is_there = self.in_files(move |tree| {
                    let is_there = tree.has_pod(&of_pod, qos)?;
                    // systemd would give processes time to end. They have had theirs.
                    if is_there { tree.kill_pod(&of_pod, qos).map(|()| true) } else { Ok(false) }
                });
                let slice = self.tree.slice(&Group::Pod { uid: uid.clone(), qos })?;
                if let (true, Some(slice)) = (is_there.await?, slice) {
                    units.stop(&slice.name).await?;
                }
            }
            let uid = uid.clone();
            self.in_files(move |tree| tree.remove_pod(&uid, qos)).await?;
        }
        Ok(())
    }

    /// The slice of a group that is not there with these limits.
    async fn missing(
        &self,
        group: &Group,
        limits: &CgroupLimits,
    ) -> Result<Option<host::cgroup::Slice>, DriverError> {
        let slice = self.tree.slice(group)?;
        let (group, limits) = (group.clone(), limits.clone());
        let is_done = self.in_files(move |tree| Ok(tree.holds(&group, &limits))).await?;
        Ok(slice.filter(|_| !is_done))
    }

    async fn in_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CgroupTree) -> Result<T, CgroupError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let tree = self.tree.clone();
        let done = tokio::task::spawn_blocking(move || work(&tree)).await;
        Ok(done.map_err(|_| DriverError::Interrupted)??)
    }
}
