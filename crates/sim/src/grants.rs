//! Rules about what pods have of the node: no more is granted than there is, what was granted does not change by what a pod
//! asks for later, and the status says what was granted.

use std::collections::BTreeMap;

use checkpoints::{Entry, PodResources};
use k8s_openapi::api::core::v1::{PodStatus, ResourceRequirements};
use model::{AllocatedPod, Pod, PodUid, Quantity, cpu, pod};
use node::{Action, HostAction, ImageAction, Phase, Restored, RuntimeAction, StateFile, VolumeAction};

use crate::api::is_terminal;
use crate::world::World;

/// What the present process has granted, by what it does with it: the resources of each container.
pub(crate) type Granted = BTreeMap<PodUid, Vec<Option<ResourceRequirements>>>;

/// What an earlier process has written down that pods were granted.
pub(crate) type Written = BTreeMap<PodUid, PodResources>;

/// What the present process was told of that.
pub(crate) fn written(restored: &Restored) -> Written {
    let state = restored.files.get(&StateFile::AllocatedPods).and_then(|state| state.as_ref().ok());
    let pods = state.iter().flat_map(|state| &state.pods);
    pods.map(|(uid, entry)| (uid.clone(), entry.resources())).collect()
}

/// The resources of a pod's containers as they are written down.
fn as_written(pod: &Pod) -> PodResources {
    let containers = pod::containers(pod)
        .filter(|c| c.kind != pod::ContainerKind::Ephemeral)
        .map(|c| (c.spec.name.clone(), c.spec.resources.clone().unwrap_or_default()));
    Entry::new(&PodResources { containers: containers.collect(), ..PodResources::default() }).resources()
}

/// The pod of an action that depends on its resources.
fn pod_of(action: &Action) -> Option<&AllocatedPod> {
    match action {
        Action::Runtime(RuntimeAction::StartContainer(start)) => Some(&start.pod),
        Action::Runtime(RuntimeAction::RunSandbox { pod, .. })
        | Action::Image(ImageAction::Inspect { pod, .. } | ImageAction::Pull { pod, .. })
        | Action::Volume(VolumeAction::Sync { pod, .. })
        | Action::Host(HostAction::EnsureCgroup { pod }) => Some(pod),
        _ => None,
    }
}

impl World {
    /// Judges an action by the resources it is started with.
    pub(crate) fn check_grant(&mut self, action: &Action) {
        let Some(pod) = pod_of(action) else { return };
        let uid = pod::uid(pod);
        let resources: Vec<_> = pod::containers(pod).map(|c| c.spec.resources.clone()).collect();
        if let Some(first) = self.process.knows.granted.get(&uid) {
            if *first != resources {
                self.broke(format!("{uid} was granted {first:?} and has {resources:?} in {action}"));
            }
            return;
        }
        self.process.knows.granted.insert(uid.clone(), resources);
        if let Some(written) = self.process.knows.written.get(&uid) {
            let has = as_written(pod).containers;
            if written.containers != has {
                self.broke(format!("{uid} had {:?} by its state file and has {has:?}", written.containers));
            }
        } else if self.process.knows.found.contains(&uid) {
            self.check_recalled(pod);
        } else {
            self.check_room(pod);
        }
    }

    /// A pod that an earlier process let in: it has what that one has told.
    fn check_recalled(&mut self, pod: &AllocatedPod) {
        let uid = pod::uid(pod);
        let Some(object) = self.api.pods.get(&uid) else { return };
        let version: u64 =
            object.metadata.resource_version.as_deref().unwrap_or_default().parse().unwrap_or(0);
        if version > self.process.listed {
            // Told too late for this process.
            return;
        }
        let said =
            object.status.iter().flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses));
        let wrong = said.flatten().find_map(|said| {
            let has = pod::container(pod, &said.name)?.spec.resources.clone().and_then(|r| r.requests);
            let had = said.allocated_resources.as_ref().filter(|had| has.as_ref() != Some(had))?;
            Some(format!("{} of {uid} had {had:?} and has {has:?}", said.name))
        });
        if let Some(rule) = wrong {
            self.broke(rule);
        }
    }

    /// A pod was let in: with it, no more is granted than there is, to no more pods than may run.
    fn check_room(&mut self, pod: &AllocatedPod) {
        let view = self.process.node.view();
        // What is over takes no room, even while its sandbox is stopped.
        let all =
            view.pods.values().filter(|pod| pod.phase != Phase::Terminated && !is_terminal(&pod.status));
        let all: Vec<_> = all.filter_map(|pod| pod.allocated.as_ref()).collect();
        let granted: i64 = all.iter().copied().map(cpu_millis).sum();
        let (uid, there_is, most) = (pod::uid(pod), self.host.cpu_millis, self.host.max_pods);
        // What asks for nothing has room also where an earlier process has let in more than there is.
        if cpu_millis(pod) > 0 && u64::try_from(granted).is_ok_and(|granted| granted > there_is) {
            self.broke(format!("with {uid}, {granted}m of processors are granted of {there_is}m"));
        } else if u32::try_from(all.len()).is_ok_and(|pods| pods > most) {
            self.broke(format!("with {uid}, {} pods are let in where {most} may run", all.len()));
        }
    }

    /// Whether the next process would find what the pod was granted. No sandbox runs before that.
    pub(crate) fn check_allocation_is_safe(&self, uid: &PodUid) -> Result<(), String> {
        let view = self.process.node.view();
        let held = view.pods.get(uid).and_then(|view| view.allocated.as_ref()).map(|pod| as_written(pod));
        let written = self.host.file(StateFile::AllocatedPods).and_then(|state| state.pods.get(uid));
        let written = written.map(|entry| entry.resources().containers);
        match held {
            Some(held) if written.as_ref() == Some(&held.containers) => Ok(()),
            held => Err(format!("{uid} was granted {held:?}, and on disk is {written:?}")),
        }
    }

    /// The same of what is in effect for a container.
    pub(crate) fn check_actuation_is_safe(&self, uid: &PodUid, name: &str) -> Result<(), String> {
        let written = self.host.file(StateFile::ActuatedPods).and_then(|state| state.pods.get(uid));
        if written.is_some_and(|entry| entry.resources().containers.contains_key(name)) {
            return Ok(());
        }
        Err(format!("{name} of {uid} is started with what is not on disk: {written:?}"))
    }

    /// Whether the status of a pod that runs says what it was granted, and that a wish for something else is pending.
    pub(crate) fn check_granted(&self, pod: &Pod, status: &PodStatus) -> Result<(), String> {
        let uid = pod::uid(pod);
        let view = self.process.node.view();
        let held = view.pods.get(&uid).and_then(|view| view.allocated.as_ref());
        let held = held.ok_or_else(|| format!("{uid} runs and was granted nothing"))?;
        let mut differs = false;
        for container in pod::containers(pod) {
            let name = &container.spec.name;
            let granted = pod::container(held, name).and_then(|c| c.spec.resources.clone()?.requests);
            differs |= granted != container.spec.resources.clone().and_then(|r| r.requests);
            let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
            let said = all.into_iter().find(|said| said.name == *name);
            // Of one that the runtime has nothing of, and that must have ended, nothing is said, as upstream has it.
            if let Some(said) = said.filter(|said| said.container_id.is_some())
                && said.allocated_resources != granted
            {
                let said = &said.allocated_resources;
                return Err(format!("{name} of {uid} has {granted:?}, its status says {said:?}"));
            }
        }
        let is_pending = status.conditions.iter().flatten().any(|c| c.type_ == "PodResizePending");
        if is_pending != differs {
            return Err(format!(
                "{uid} asks for something else: {differs}; its status says so: {is_pending}"
            ));
        }
        Ok(())
    }

    /// Whether the status of a pod that runs says what its cgroup has.
    pub(crate) fn check_in_effect(&self, pod: &Pod, status: &PodStatus) -> Result<(), String> {
        let uid = pod::uid(pod);
        if pod::is_static(pod) {
            return Ok(());
        }
        let shares = self.host.cgroups.get(&uid).and_then(|has| has.cpu_shares);
        let millis = shares.and_then(cpu::millis_of_shares).filter(|millis| *millis > cpu::MIN_CPU_SHARES);
        let said =
            status.resources.as_ref().and_then(|r| Quantity::from_api(r.requests.as_ref()?.get("cpu")?));
        let said = said.and_then(|cpu| u64::try_from(cpu.millis()).ok());
        if said != millis {
            return Err(format!("the cgroup of {uid} has {millis:?} of cpu, its status says {said:?}"));
        }
        Ok(())
    }
}

fn cpu_millis(pod: &AllocatedPod) -> i64 {
    pod.requests().get("cpu").map_or(0, |cpu| cpu.millis())
}
