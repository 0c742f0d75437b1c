//! What a pod or the node waits for: a value, from which explanations, conditions and metrics are made.
//!
//! What is waited for is found out anew in each round, beside what is decided in it. Since when, follows: a wait that was
//! there in the round before goes on.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::reason::waiting;
use model::storage::MounterName;
use model::{ImageUse, Now, PodKey, PodUid, Signal};
use serde::{Deserialize, Serialize};

use crate::effect::StateFile;
use crate::input::Source;
use crate::pods::backoff::Retry;

/// Something that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What.
    pub on: WaitOn,
    /// Since when, monotonic.
    pub since: Duration,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// What users see of it: the CamelCase reason of a container that waits.
    pub reason: Option<Cow<'static, str>>,
    /// The last error.
    pub error: Option<String>,
    /// When it is tried again or given up, monotonic; `None` while it is under way, or up to others.
    pub next_try: Option<Duration>,
}

/// What may be waited for. Names are those of containers, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WaitOn {
    /// What earlier processes have left on the node.
    Restoring,
    /// The first list of all that the runtime holds.
    FirstRelist,
    /// What the node has, which admission is about.
    Measurement,
    /// The runtime's word on what it can do.
    RuntimeStatus,
    /// The first list of the cluster's RuntimeClasses.
    RuntimeClasses,
    /// The first list of these sources.
    Sources(Vec<Source>),
    /// The end of the pod that had the name before.
    Predecessor(PodUid),
    /// A reading of the pod in the runtime.
    Read,
    /// The pod's cgroup.
    Cgroup,
    /// The pod's volumes.
    Volumes,
    /// A volume that is mounted by itself, by a driver or by the kubelet.
    DriverVolume {
        /// Its name in the pod, or its folder there, or, where no pod uses it, its name on the node.
        volume: String,
        /// What is missing.
        step: VolumeStep,
    },
    /// The network of the runtime.
    Network,
    /// A write of a state file: what a pod has is to be in it.
    StateFile(StateFile),
    /// The sandbox.
    Sandbox,
    /// The end of an earlier sandbox, or of the last one.
    SandboxStop,
    /// The end of all containers, which are to begin anew.
    RestartAll,
    /// A look whether an image is there.
    ImageInspection(ImageUse),
    /// An image.
    Image(ImageUse),
    /// The start of a container.
    Start(String),
    /// The time until a container that keeps ending is started again.
    BackOff(String),
    /// The end of an init container.
    InitContainer(String),
    /// A postStart hook.
    PostStart(String),
    /// Success of a startup probe.
    StartupProbe(String),
    /// Success of a readiness probe.
    ReadinessProbe(String),
    /// A condition of this type, which somebody else sets.
    ReadinessGate(String),
    /// A preStop hook.
    PreStop(String),
    /// The end of a container.
    Stop(String),
    /// The unmounting of the pod's volumes.
    Unmount,
    /// The removal of the pod's cgroup.
    CgroupRemoval,
    /// The removal of sandboxes and containers from the runtime.
    Cleanup,
    /// The removal of the pod's folder.
    Folder,
    /// The removal of the pod's logs.
    Logs,
    /// The mirror of a static pod.
    Mirror,
    /// A write of the status.
    StatusWrite,
    /// The removal of the pod's object.
    ObjectDeletion,
    /// An answer of the runtime that it is ready.
    Runtime,
    /// The registration of the node.
    Registration,
    /// A Node object that others make.
    NodeObject,
    /// The runtime's word that it knows the ranges of its pods' addresses.
    PodCidr,
    /// Weight and limits of the cgroups of QoS classes.
    QosCgroups,
    /// The registration of the plugin behind this socket.
    Plugin(String),
    /// What the Node and CSINode objects say of CSI drivers.
    CsiNode,
    /// The removal of this image, which nobody uses.
    ImageRemoval(String),
    /// Space for images, which removing those that nobody uses has not made.
    ImageSpace,
    /// More of what a signal tells of, which is below a threshold.
    Shortage(Signal),
    /// The removal of a mirror that no static pod stands behind.
    StrayMirror(PodKey),
}

/// What is missing of a volume that is mounted by itself. Names are those of drivers, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VolumeStep {
    /// This claim has to have a volume.
    Claim(String),
    /// It has to be attached to the node.
    Attach(String),
    /// The driver has to register.
    Driver(String),
    /// The node has to be one of those that may have it.
    Placement,
    /// It has to be made ready for the node.
    Stage(MounterName),
    /// It has to be made available to the pod.
    Publish(MounterName),
    /// It has to grow before the pod can have it; by the driver's name.
    Grow(String),
    /// It has to be taken from the pod.
    Unpublish(MounterName),
    /// It has to be taken from the node.
    Unstage(MounterName),
}

/// Who has to do something, so that the wait ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responsible {
    /// The container runtime.
    Runtime,
    /// The registry of an image, through the runtime.
    Registry,
    /// The API server.
    Api,
    /// The file or URL with static pods, or the API server.
    Source,
    /// The kernel: cgroups, mounts, disks.
    Host,
    /// The disk with the kubelet's root folder.
    Disk,
    /// Whoever fills the disk with the images.
    ImageDisk,
    /// Whoever uses what the node runs short of.
    Load,
    /// The objects that volumes are made from, or the kernel.
    Volumes,
    /// Whoever uses what is mounted.
    Mounts,
    /// The plugin of the runtime's network.
    Network,
    /// The program in a container.
    Program,
    /// The program in a container as long as its grace period lasts, then the runtime.
    Ending,
    /// A plugin on this node.
    Plugin,
    /// A driver of volumes on this node.
    VolumeDriver,
    /// The kernel of this node, its programs, and the disk or server that a volume is on.
    HostVolume,
    /// Whoever says which nodes may have a volume.
    VolumeNodes,
    /// Whoever makes volumes for claims.
    Provisioner,
    /// Whoever attaches volumes to nodes.
    Attacher,
    /// Another pod.
    OtherPod,
    /// Whoever sets a condition.
    Controller,
    /// Whoever makes Node objects where kubelets do not.
    NodeMaker,
    /// Whoever makes what the pod refers to.
    References,
    /// Whoever writes the pod's manifest.
    Manifest,
    /// Nobody: it is a matter of time.
    Time,
}

impl Responsible {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "the container runtime",
            Self::Registry => "the image's registry, asked by the container runtime",
            Self::Api => "the API server",
            Self::Source => "the source of pods",
            Self::Host => "the kernel of this node",
            Self::Disk => "the disk with the kubelet's root folder",
            Self::ImageDisk => {
                "whoever fills the disk with the images: images in use, logs, volumes or other data"
            }
            Self::Load => "whoever uses it: pods, or other programs of this node",
            Self::Volumes => "what the volumes are made from, or the kernel of this node",
            Self::Mounts => {
                "the kernel of this node, or whoever still uses what is mounted (fuser -vm shows whom)"
            }
            Self::Ending => {
                "the program in the container until its grace period is over, then the container runtime"
            }
            Self::Network => "the network plugin of the container runtime",
            Self::Program => "the program in the container",
            Self::Plugin => "the plugin behind that socket, or the API server it is to be told of",
            Self::VolumeDriver => "the driver's program on this node",
            Self::HostVolume => {
                "the disk, folder or server that the volume is on, or the kernel of this node"
            }
            Self::VolumeNodes => "whoever wrote the PersistentVolume, or the labels of this node",
            Self::Provisioner => "whoever makes volumes for claims of that class, or the API server",
            Self::Attacher => {
                "the attach/detach controller of the cluster, the driver's attacher, or the API server"
            }
            Self::OtherPod => "the pod that had the name before",
            Self::Controller => "whoever sets that condition",
            Self::NodeMaker => "whoever makes Node objects: the kubelet does not, or its own was deleted",
            Self::References => "what the pod refers to: its ConfigMaps, Secrets and the image's user",
            Self::Manifest => "the pod's manifest: as it is, it cannot go on",
            Self::Time => "nobody: the time has to pass",
        }
    }
}

impl Wait {
    /// On whom, by what has gone wrong where that tells more than what is waited for.
    pub fn responsible(&self) -> Responsible {
        match self.reason.as_deref() {
            Some(waiting::CREATE_CONTAINER_CONFIG_ERROR) => Responsible::References,
            Some(waiting::INVALID_IMAGE_NAME | waiting::ERR_IMAGE_NEVER_PULL) => Responsible::Manifest,
            _ => self.on.responsible(),
        }
    }
}

impl WaitOn {
    /// Its kind, as labels of metrics have it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Restoring => "restoring",
            Self::FirstRelist => "first_relist",
            Self::Measurement => "measurement",
            Self::RuntimeStatus => "runtime_status",
            Self::RuntimeClasses => "runtime_classes",
            Self::Sources(_) => "sources",
            Self::Predecessor(_) => "predecessor",
            Self::Read => "read",
            Self::Cgroup => "cgroup",
            Self::Volumes => "volumes",
            Self::DriverVolume { step, .. } => step.label(),
            Self::Network => "network",
            Self::StateFile(_) => "state_file",
            Self::Sandbox => "sandbox",
            Self::SandboxStop => "sandbox_stop",
            Self::RestartAll => "restart_all",
            Self::ImageInspection(_) => "image_inspection",
            Self::Image(_) => "image",
            Self::Start(_) => "start",
            Self::BackOff(_) => "back_off",
            Self::InitContainer(_) => "init_container",
            Self::PostStart(_) => "post_start",
            Self::StartupProbe(_) => "startup_probe",
            Self::ReadinessProbe(_) => "readiness_probe",
            Self::ReadinessGate(_) => "readiness_gate",
            Self::PreStop(_) => "pre_stop",
            Self::Stop(_) => "stop",
            Self::Unmount => "unmount",
            Self::CgroupRemoval => "cgroup_removal",
            Self::Cleanup => "cleanup",
            Self::Folder => "folder",
            Self::Logs => "logs",
            Self::Mirror => "mirror",
            Self::StatusWrite => "status_write",
            Self::ObjectDeletion => "object_deletion",
            Self::Runtime => "runtime",
            Self::Registration => "registration",
            Self::NodeObject => "node_object",
            Self::PodCidr => "pod_cidr",
            Self::QosCgroups => "qos_cgroups",
            Self::Plugin(_) => "plugin",
            Self::CsiNode => "csi_node",
            Self::StrayMirror(_) => "stray_mirror",
            Self::ImageRemoval(_) => "image_removal",
            Self::ImageSpace => "image_space",
            Self::Shortage(_) => "shortage",
        }
    }

    /// On whom.
    fn responsible(&self) -> Responsible {
        match self {
            Self::FirstRelist
            | Self::RuntimeStatus
            | Self::Read
            | Self::Sandbox
            | Self::SandboxStop
            | Self::Start(_)
            | Self::Cleanup
            | Self::Runtime
            | Self::PodCidr
            | Self::ImageRemoval(_)
            | Self::ImageInspection(_) => Responsible::Runtime,
            Self::ImageSpace => Responsible::ImageDisk,
            Self::Shortage(_) => Responsible::Load,
            Self::Stop(_) | Self::RestartAll => Responsible::Ending,
            Self::Unmount => Responsible::Mounts,
            Self::Image(_) => Responsible::Registry,
            Self::Sources(_) => Responsible::Source,
            Self::Predecessor(_) => Responsible::OtherPod,
            Self::Restoring
            | Self::Measurement
            | Self::Cgroup
            | Self::QosCgroups
            | Self::CgroupRemoval
            | Self::Folder
            | Self::Logs => Responsible::Host,
            Self::StateFile(_) => Responsible::Disk,
            Self::Volumes => Responsible::Volumes,
            Self::DriverVolume { step, .. } => step.responsible(),
            Self::Network => Responsible::Network,
            Self::BackOff(_) => Responsible::Time,
            Self::InitContainer(_)
            | Self::PostStart(_)
            | Self::PreStop(_)
            | Self::StartupProbe(_)
            | Self::ReadinessProbe(_) => Responsible::Program,
            Self::ReadinessGate(_) => Responsible::Controller,
            Self::NodeObject => Responsible::NodeMaker,
            Self::Plugin(_) => Responsible::Plugin,
            Self::RuntimeClasses
            | Self::Mirror
            | Self::StrayMirror(_)
            | Self::StatusWrite
            | Self::ObjectDeletion
            | Self::CsiNode
            | Self::Registration => Responsible::Api,
        }
    }
}

impl VolumeStep {
    fn label(&self) -> &'static str {
        match self {
            Self::Claim(_) => "volume_claim",
            Self::Attach(_) => "volume_attach",
            Self::Driver(_) => "volume_driver",
            Self::Placement => "volume_placement",
            Self::Stage(_) => "volume_stage",
            Self::Publish(_) => "volume_publish",
            Self::Grow(_) => "volume_grow",
            Self::Unpublish(_) => "volume_unpublish",
            Self::Unstage(_) => "volume_unstage",
        }
    }

    fn responsible(&self) -> Responsible {
        match self {
            Self::Claim(_) => Responsible::Provisioner,
            Self::Attach(_) => Responsible::Attacher,
            Self::Placement => Responsible::VolumeNodes,
            Self::Driver(_) | Self::Grow(_) => Responsible::VolumeDriver,
            Self::Stage(mounter)
            | Self::Publish(mounter)
            | Self::Unpublish(mounter)
            | Self::Unstage(mounter) => match mounter {
                MounterName::Csi(_) => Responsible::VolumeDriver,
                MounterName::Host(_) => Responsible::HostVolume,
            },
        }
    }
}

/// What is missing, as it stands after the volume's name.
impl fmt::Display for VolumeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(claim) => write!(f, "of claim {claim} to be there"),
            Self::Attach(driver) => write!(f, "of driver {driver} to be attached to the node"),
            Self::Driver(driver) => write!(f, "which needs CSI driver {driver} to register"),
            Self::Placement => f.write_str("to be one that this node may have (its nodeAffinity)"),
            Self::Stage(mounter) => write!(f, "to be made ready for the node by {mounter}"),
            Self::Publish(mounter) => write!(f, "to be mounted for the pod by {mounter}"),
            Self::Grow(driver) => write!(f, "to grow, which CSI driver {driver} sees to"),
            Self::Unpublish(mounter) => write!(f, "to be unmounted for the pod by {mounter}"),
            Self::Unstage(mounter) => write!(f, "to be taken from the node by {mounter}"),
        }
    }
}

/// What is waited for, as it stands after "waits for".
impl fmt::Display for WaitOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restoring => f.write_str("what earlier processes have left on this node to be found"),
            Self::FirstRelist => f.write_str("the first list of the container runtime"),
            Self::Measurement => f.write_str("the node to be measured"),
            Self::RuntimeStatus => f.write_str("the container runtime to say what it can do"),
            Self::RuntimeClasses => f.write_str("the cluster's RuntimeClasses to be listed"),
            Self::Sources(sources) => {
                let names: Vec<&str> = sources.iter().map(|source| source.as_str()).collect();
                write!(f, "the first list of pods from: {}", names.join(", "))
            }
            Self::Predecessor(uid) => write!(f, "the end of the pod that had its name before ({uid})"),
            Self::Read => f.write_str("a look at what the container runtime holds of it"),
            Self::Cgroup => f.write_str("its cgroup"),
            Self::Volumes => f.write_str("its volumes"),
            Self::DriverVolume { volume, step } => write!(f, "volume {volume} {step}"),
            Self::Network => f.write_str("the network of the node"),
            Self::StateFile(file) => write!(f, "state file {} to be written", file.name()),
            Self::Sandbox => f.write_str("its sandbox"),
            Self::SandboxStop => f.write_str("its sandbox to stop"),
            Self::RestartAll => f.write_str("the end of all its containers, which are then started anew"),
            Self::ImageInspection(used_by) => write!(f, "a look for the image of {used_by}"),
            Self::Image(used_by) => write!(f, "the image of {used_by}"),
            Self::Start(name) => write!(f, "the start of container {name}"),
            Self::BackOff(name) => write!(f, "the back-off of container {name} to pass"),
            Self::InitContainer(name) => write!(f, "init container {name} to end"),
            Self::PostStart(name) => write!(f, "the postStart hook of container {name}"),
            Self::StartupProbe(name) => write!(f, "the startup probe of container {name} to succeed"),
            Self::ReadinessProbe(name) => write!(f, "the readiness probe of container {name} to succeed"),
            Self::ReadinessGate(kind) => write!(f, "condition {kind} to be true"),
            Self::PreStop(name) => write!(f, "the preStop hook of container {name}"),
            Self::Stop(name) => write!(f, "container {name} to stop"),
            Self::Unmount => f.write_str("its volumes to be unmounted"),
            Self::CgroupRemoval => f.write_str("its cgroup to be removed"),
            Self::Cleanup => f.write_str("its containers and sandboxes to be removed"),
            Self::Folder => f.write_str("its directory to be removed"),
            Self::Logs => f.write_str("its logs to be removed"),
            Self::Mirror => f.write_str("its mirror pod"),
            Self::StatusWrite => f.write_str("its status to be written"),
            Self::ObjectDeletion => f.write_str("its object to be removed"),
            Self::Runtime => f.write_str("the container runtime to be ready"),
            Self::Registration => f.write_str("its registration"),
            Self::NodeObject => f.write_str("its Node object"),
            Self::PodCidr => f.write_str("the container runtime to be told the pod CIDR"),
            Self::QosCgroups => f.write_str("the cgroups of QoS classes to be updated"),
            Self::Plugin(socket) => write!(f, "the plugin at {socket} to be registered"),
            Self::CsiNode => f.write_str("its CSINode object"),
            Self::ImageRemoval(image) => write!(f, "image {image}, which nobody uses, to be removed"),
            Self::ImageSpace => f.write_str("space on the disk with the images"),
            Self::Shortage(signal) => write!(f, "more of {signal}"),
            Self::StrayMirror(key) => write!(f, "mirror pod {key}, which has no manifest, to be removed"),
        }
    }
}

/// All that one pod, or the node, waits for; shared with the picture of it as long as nothing changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Waits(Arc<Vec<Wait>>);

impl Waits {
    /// What is waited for now. What was before goes on.
    pub(crate) fn update(&mut self, found: Found, now: Now) {
        let mut waits = found.0;
        for wait in &mut waits {
            let before = self.0.iter().find(|before| before.on == wait.on);
            // Some begin before they are found.
            let known = if wait.since.is_zero() { now.mono } else { wait.since.min(now.mono) };
            wait.since = before.map_or(known, |before| before.since.min(now.mono));
        }
        if *self.0 != waits {
            self.0 = Arc::new(waits);
        }
    }

    pub(crate) fn all(&self) -> &Arc<Vec<Wait>> {
        &self.0
    }
}

/// What a round finds that is waited for, what holds up the others first.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<Wait>);

impl Found {
    /// It is under way, or up to others.
    pub(crate) fn add(&mut self, on: WaitOn) -> &mut Wait {
        let known = self.0.iter().position(|wait| wait.on == on);
        let index = known.unwrap_or_else(|| {
            let wait =
                Wait { on, since: Duration::ZERO, attempts: 0, reason: None, error: None, next_try: None };
            self.0.push(wait);
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// It is under way, or was tried in vain.
    pub(crate) fn retrying(&mut self, on: WaitOn, retry: Option<&Retry>) {
        let wait = self.add(on);
        if let Some(retry) = retry {
            wait.attempts = retry.failures;
            wait.error = Some(retry.error.clone());
            wait.next_try = Some(retry.next_at);
        }
    }

    /// It was tried in vain, and is tried again; nothing as long as it was not.
    pub(crate) fn failing(&mut self, on: WaitOn, retry: Option<&Retry>) {
        if retry.is_some() {
            self.retrying(on, retry);
        }
    }

    /// What another part has found comes after what is here.
    pub(crate) fn append(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether that was found.
    pub(crate) fn has(&self, on: &WaitOn) -> bool {
        self.0.iter().any(|wait| wait.on == *on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Now {
        Now { wall: jiff::Timestamp::UNIX_EPOCH, mono: Duration::from_secs(second) }
    }

    fn image(container: &str) -> WaitOn {
        WaitOn::Image(ImageUse::Container(container.to_owned()))
    }

    fn found(all: &[WaitOn]) -> Found {
        let mut found = Found::default();
        for on in all {
            found.add(on.clone());
        }
        found
    }

    #[test]
    fn nobody_is_blamed_for_what_the_pod_asks_for() {
        for (on, reason, who) in [
            (WaitOn::Start("a".into()), None, Responsible::Runtime),
            (WaitOn::Start("a".into()), Some(waiting::RUN_CONTAINER_ERROR), Responsible::Runtime),
            (
                WaitOn::Start("a".into()),
                Some(waiting::CREATE_CONTAINER_CONFIG_ERROR),
                Responsible::References,
            ),
            (image("a"), Some(waiting::ERR_IMAGE_PULL), Responsible::Registry),
            (image("a"), Some(waiting::INVALID_IMAGE_NAME), Responsible::Manifest),
            (image("a"), Some(waiting::ERR_IMAGE_NEVER_PULL), Responsible::Manifest),
        ] {
            let mut found = found(&[]);
            let wait = found.add(on);
            wait.reason = reason.map(Cow::Borrowed);
            assert_eq!(wait.responsible(), who, "{reason:?}");
        }
    }

    #[test]
    fn a_wait_goes_on_until_it_is_found_no_more() {
        let mut waits = Waits::default();
        let seen = |waits: &Waits| -> Vec<(String, u64)> {
            waits.all().iter().map(|wait| (wait.on.to_string(), wait.since.as_secs())).collect()
        };
        waits.update(found(&[WaitOn::Cgroup, image("a")]), at(1));
        waits.update(found(&[image("a"), image("b")]), at(5));
        assert_eq!(
            seen(&waits),
            [("the image of container a".to_owned(), 1), ("the image of container b".to_owned(), 5)]
        );
        let before = waits.all().clone();
        waits.update(found(&[image("a"), image("b")]), at(9));
        assert!(Arc::ptr_eq(&before, waits.all()), "nothing is new");
        waits.update(found(&[]), at(10));
        waits.update(found(&[image("a")]), at(11));
        assert_eq!(seen(&waits), [("the image of container a".to_owned(), 11)]);
    }
}
