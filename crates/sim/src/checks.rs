//! Rules that hold at every moment, whatever happens.
//!
//! Most compare a decision of the core with what it was *told* ([`Knowledge`]), since it cannot be
//! blamed for what it cannot know; some with what is *true* ([`GroundTruth`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use model::pod::{self, ContainerKind};
use model::probe::ProbeKind;
use model::{
    ContainerId, ContainerState, ImageRef, ImageUse, Pod, PodObservation, PodUid, SandboxId, mounted_images,
};
use node::{
    Action, ApiAction, CheckpointAction, ContainerStart, EffectId, HostAction, ImageAction, Input, Outcome,
    ProbeAction, RuntimeAction, RuntimeOutcome, Source, StateFile, VolumeAction, VolumeOutcome,
};

use crate::api::is_terminal;
use crate::grants::{Granted, Written, written};
use crate::process::wall;
use crate::storage::StorageKnowledge;
use crate::world::World;

/// Slack of a shortened grace: what a container gets at least, and rounding.
const GRACE_SLACK: Duration = Duration::from_secs(4);

/// What the present process was told.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// It knows what earlier ones have left.
    pub(crate) is_restored: bool,
    running: BTreeMap<ContainerId, PodUid>,
    ready: BTreeMap<SandboxId, PodUid>,
    volumes: BTreeSet<PodUid>,
    cgroups: BTreeSet<PodUid>,
    /// Pods that are to end, or have.
    ending: BTreeSet<PodUid>,
    /// Objects whose status is known to be terminal. What an earlier process writes late is not.
    over: BTreeSet<PodUid>,
    deadlines: BTreeMap<ContainerId, Duration>,
    /// Pods of which the runtime was found to hold something.
    pub(crate) found: BTreeSet<PodUid>,
    /// What an earlier one has written down that pods were granted.
    pub(crate) written: Written,
    /// What pods were granted.
    pub(crate) granted: Granted,
    /// What it knows of volumes of drivers.
    pub(crate) storage: StorageKnowledge,
    /// State files of which the last write has failed.
    pub(crate) unwritten: BTreeSet<StateFile>,
}

/// What is true and not to be seen in the fakes.
#[derive(Debug, Default)]
pub(crate) struct GroundTruth {
    /// Containers that have ended with code 0, by sandbox and name.
    pub(crate) passed: BTreeSet<(SandboxId, String)>,
    /// Containers that have been started, by sandbox and name.
    pub(crate) started: BTreeSet<(SandboxId, String)>,
    /// The highest attempt of a container, and the process that made it.
    attempts: BTreeMap<(PodUid, String), (u32, u32)>,
    /// Images that went after their removal had been given up.
    pub(crate) removed_late: BTreeSet<String>,
    /// Pods whose folders were removed, and whose logs were not yet.
    pub(crate) keeps_logs: BTreeSet<PodUid>,
    pub(crate) past_deadlines: u32,
    /// Which static manifests this world has.
    pub(crate) flavour: u32,
}

impl World {
    /// Takes note of what the core is about to be told.
    pub(crate) fn learn(&mut self, input: &Input) {
        match input {
            Input::Restored(restored) => {
                self.process.knows.is_restored = true;
                self.process.knows.written = written(restored);
            }
            Input::PodsListed { source, pods } => {
                let listed: BTreeSet<PodUid> = pods.iter().map(|p| pod::uid(p)).collect();
                let is_of = |uid: &PodUid| uid.as_str().starts_with("static-") == (*source == Source::File);
                let gone: Vec<PodUid> = self
                    .process
                    .knows
                    .known()
                    .filter(|u| is_of(u) && !listed.contains(*u))
                    .cloned()
                    .collect();
                self.process.knows.written.retain(|uid, _| !is_of(uid) || listed.contains(uid));
                self.process.knows.ending.extend(gone);
                pods.iter().for_each(|p| self.learn_pod(*source, p));
            }
            Input::PodApplied { source, pod } => self.learn_pod(*source, pod),
            Input::PodDeleted { uid, .. } => {
                self.process.knows.written.remove(uid);
                self.process.knows.ending.insert(uid.clone());
            }
            Input::Sample(sample) => self.learn_sample(sample),
            Input::NodeObject(node) => self.learn_node(node),
            Input::Finished { id, outcome } => {
                let Some(pending) = self.in_flight.remove(&(self.process.number, *id)) else { return };
                self.learn_result(&pending.action, outcome);
                if !pending.has_taken_effect {
                    // It may still take effect.
                    self.in_flight.insert((self.process.number, *id), pending);
                }
            }
            _ => {}
        }
    }

    fn learn_pod(&mut self, source: Source, pod: &Pod) {
        let uid = pod::uid(pod);
        if pod.status.as_ref().is_some_and(is_terminal) {
            self.process.knows.over.insert(uid.clone());
        }
        let is_over =
            pod.metadata.deletion_timestamp.is_some() || pod.status.as_ref().is_some_and(is_terminal);
        if is_over {
            self.process.knows.ending.insert(uid);
        } else if source == Source::File {
            // The same manifest is back: its pod runs again.
            self.process.knows.ending.remove(&uid);
        }
    }

    fn learn_result(&mut self, action: &Action, outcome: &Outcome) {
        self.learn_storage(action, outcome);
        let uid = action.subject().uid;
        let knows = &mut self.process.knows;
        if let Action::Checkpoint(action) = action {
            match (action, outcome) {
                (_, Outcome::Failed(_)) => knows.unwritten.insert(action.file()),
                (CheckpointAction::Write(_), _) => knows.unwritten.remove(&action.file()),
                (CheckpointAction::Sync(_), _) => false,
            };
        }
        if let Outcome::Sampled(sample) = outcome {
            self.learn_sample(sample);
        }
        self.learn_reclaimed(action, outcome);
        let knows = &mut self.process.knows;
        match outcome {
            Outcome::Runtime(RuntimeOutcome::Relisted(pods)) => {
                knows.found.extend(pods.iter().map(|pod| pod.uid.clone()));
            }
            Outcome::Runtime(RuntimeOutcome::Observed(pod)) => self.learn_observation(pod),
            Outcome::Runtime(RuntimeOutcome::SandboxStarted(s)) => {
                if let Some(uid) = uid {
                    knows.ready.insert(s.id.clone(), uid);
                }
            }
            Outcome::Runtime(RuntimeOutcome::ContainerStarted(c)) => {
                if let Some(uid) = uid {
                    knows.running.insert(c.id.clone(), uid);
                }
            }
            Outcome::Runtime(RuntimeOutcome::ContainerStopped(c)) => {
                let Action::Runtime(RuntimeAction::StopContainer { id, .. }) = action else { return };
                if c.as_ref().is_none_or(|c| !c.state.is_running()) {
                    knows.running.remove(id);
                }
            }
            Outcome::Volume(VolumeOutcome::Synced { .. }) => knows.volumes.extend(uid),
            Outcome::Cgroup(_) => knows.cgroups.extend(uid),
            Outcome::Done => match action {
                Action::Runtime(RuntimeAction::StopSandbox { id, .. })
                | Action::Runtime(RuntimeAction::RemoveSandbox { id, .. }) => {
                    knows.ready.remove(id);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn learn_observation(&mut self, pod: &PodObservation) {
        let knows = &mut self.process.knows;
        knows.running.retain(|_, uid| *uid != pod.uid);
        knows.ready.retain(|_, uid| *uid != pod.uid);
        for c in &pod.containers {
            if c.state.is_running() {
                knows.running.insert(c.id.clone(), pod.uid.clone());
            }
            if let Some(c) = self.runtime.containers.get_mut(&c.id) {
                c.is_ghost = false;
            }
        }
        for s in &pod.sandboxes {
            if s.is_ready {
                knows.ready.insert(s.id.clone(), pod.uid.clone());
            }
            if let Some(s) = self.runtime.sandboxes.get_mut(&s.id) {
                s.is_ghost = false;
            }
        }
    }

    /// Judges an action that the core starts.
    pub(crate) fn check_start(&mut self, id: EffectId, action: &Action) {
        self.check_slot(id, action);
        self.check_grant(action);
        let verdict = match action {
            Action::Runtime(RuntimeAction::Relist | RuntimeAction::Observe { .. }) => Ok(()),
            _ if !self.process.knows.is_restored => {
                Err(format!("it is not known what was left, and this is started: {action}"))
            }
            Action::Runtime(RuntimeAction::RunSandbox { pod, .. }) => self.check_run_sandbox(pod),
            Action::Runtime(RuntimeAction::StartContainer(start)) => {
                let ContainerStart { pod, container, .. } = &**start;
                self.check_start_container(pod, container, &start.sandbox)
                    .and_then(|()| self.check_image(pod, container, start.image.as_str()))
                    .and_then(|()| self.check_image_volumes(pod, container, &start.image_volumes))
                    .and_then(|()| self.check_has_volumes(pod, container, &start.published_volumes))
            }
            Action::Runtime(RuntimeAction::StopContainer { id, sandbox, grace, .. }) => {
                self.check_held(id, sandbox).and_then(|()| self.check_grace(id, *grace))
            }
            Action::Runtime(RuntimeAction::StopSandbox { id, .. }) => self.check_stop_sandbox(id),
            Action::Runtime(RuntimeAction::RemoveContainer { id, .. }) => self.check_remove_container(id),
            Action::Runtime(RuntimeAction::RemoveSandbox { id, .. }) => self.check_stop_sandbox(id),
            Action::Volume(VolumeAction::TearDown { uid, .. }) => {
                self.process.knows.volumes.remove(uid);
                self.check_has_no_mounts(uid, "volumes are torn down")
                    .and_then(|()| self.check_nothing_runs(uid, "volumes are torn down"))
            }
            Action::Volume(VolumeAction::RemoveFolder { uid, .. }) => self.check_remove_folder(uid),
            Action::Host(HostAction::RemoveCgroup { uid, .. }) => {
                self.process.knows.cgroups.remove(uid);
                self.check_nothing_runs(uid, "the cgroup is removed")
            }
            Action::Probe(ProbeAction::Attempt { pod, container, id, kind, .. }) => {
                self.check_initial_delay(pod, container, id, *kind)
            }
            Action::Storage(action) => self.check_storage(action),
            Action::Image(ImageAction::Remove { image, .. }) => self.check_remove_image(image),
            Action::Api(ApiAction::WriteNodeStatus { new, .. }) => {
                self.check_in_use(new.volumes_in_use.as_deref().unwrap_or_default())
            }
            Action::Api(ApiAction::DeletePod { uid, .. }) => self.check_delete(uid),
            Action::Api(ApiAction::WriteStatus { uid, new, .. }) => self.check_status(uid, new),
            _ => Ok(()),
        };
        if let Err(rule) = verdict {
            self.broke(rule);
        }
    }

    fn check_slot(&mut self, id: EffectId, action: &Action) {
        let number = self.process.number;
        if self.in_flight.contains_key(&(number, id)) {
            self.broke(format!("the name #{} is given twice", id.0));
        }
        let same = |other: &Action| match (other, action) {
            (
                Action::Api(ApiAction::WriteStatus { uid: a, .. }),
                Action::Api(ApiAction::WriteStatus { uid: b, .. }),
            ) => a == b,
            (
                Action::Runtime(RuntimeAction::StopContainer { id: a, .. }),
                Action::Runtime(RuntimeAction::StopContainer { id: b, .. }),
            ) => a == b,
            (
                Action::Runtime(RuntimeAction::StartContainer(a)),
                Action::Runtime(RuntimeAction::StartContainer(b)),
            ) => pod::uid(&a.pod) == pod::uid(&b.pod) && a.container == b.container,
            (
                Action::Runtime(RuntimeAction::RunSandbox { pod: a, .. }),
                Action::Runtime(RuntimeAction::RunSandbox { pod: b, .. }),
            )
            | (
                Action::Volume(VolumeAction::Sync { pod: a, .. }),
                Action::Volume(VolumeAction::Sync { pod: b, .. }),
            ) => pod::uid(a) == pod::uid(b),
            (Action::Runtime(RuntimeAction::Relist), Action::Runtime(RuntimeAction::Relist)) => true,
            // Two manifests that follow each other may both find the mirror of a third in the way.
            (Action::Api(ApiAction::DeletePod { uid, .. }), Action::Api(ApiAction::DeletePod { .. }))
                if uid.as_str().starts_with("mirror-") =>
            {
                false
            }
            (a, b) => a == b,
        };
        let is_doubled =
            self.in_flight.iter().any(|((p, _), f)| *p == number && !f.is_told && same(&f.action));
        if is_doubled {
            self.broke(format!("started while it is under way: {}", action));
        }
    }

    /// What stops a container reads it back, and has nobody to ask in which sandbox it is.
    fn check_held(&self, id: &ContainerId, sandbox: &SandboxId) -> Result<(), String> {
        match self.runtime.containers.get(id) {
            Some(held) if held.seen.sandbox_id != *sandbox => {
                Err(format!("{id} is stopped in {sandbox}, and is in {}", held.seen.sandbox_id))
            }
            _ => Ok(()),
        }
    }

    fn check_run_sandbox(&self, pod: &Pod) -> Result<(), String> {
        let uid = pod::uid(pod);
        let knows = &self.process.knows;
        if knows.ending.contains(&uid) {
            return Err(format!("a sandbox is made for {uid}, which is to end"));
        }
        if let Some((id, _)) = knows.ready.iter().find(|(id, u)| **u == uid && self.is_ready(id)) {
            return Err(format!("a sandbox is made for {uid} beside {id}"));
        }
        if let Some(s) = self.runtime.networks(&uid).find(|s| !s.is_ghost) {
            return Err(format!("a sandbox is made for {uid}, and {} was never stopped", s.seen.id));
        }
        self.check_allocation_is_safe(&uid)?;
        self.check_prepared(&uid)
    }

    fn check_prepared(&self, uid: &PodUid) -> Result<(), String> {
        let knows = &self.process.knows;
        // What an earlier process mounted may be used while a look at it fails.
        let were_mounted = self.process.number > 1 && self.host.volumes.contains(uid);
        if !knows.volumes.contains(uid) && !were_mounted {
            return Err(format!("something is started for {uid} before its volumes are there"));
        }
        if !knows.cgroups.contains(uid) {
            return Err(format!("something is started for {uid} before its cgroup is there"));
        }
        Ok(())
    }

    fn is_ready(&self, id: &SandboxId) -> bool {
        self.runtime.sandboxes.get(id).is_some_and(|s| s.seen.is_ready)
    }

    fn check_start_container(&self, pod: &Pod, name: &str, sandbox: &SandboxId) -> Result<(), String> {
        let uid = pod::uid(pod);
        let knows = &self.process.knows;
        if knows.ending.contains(&uid) {
            return Err(format!("{name} of {uid} is started, and the pod is to end"));
        }
        self.check_prepared(&uid)?;
        self.check_actuation_is_safe(&uid, name)?;
        if knows.ready.get(sandbox) != Some(&uid) {
            return Err(format!("{name} of {uid} is started in {sandbox}, which is not known to be ready"));
        }
        let double = self
            .runtime
            .running(&uid)
            .find(|c| c.seen.name == name && knows.running.contains_key(&c.seen.id));
        if let Some(other) = double {
            return Err(format!("{name} of {uid} is started beside {}", other.seen.id));
        }
        self.check_order(pod, name, sandbox)
    }

    /// What is not everybody's is used by pods only that have pulled it themselves.
    fn check_image(&self, pod: &Pod, name: &str, image: &str) -> Result<(), String> {
        let uid = pod::uid(pod);
        self.check_is_there(&ImageRef::from(image))?;
        if self.runtime.may_use(&uid, image) || self.truth.removed_late.contains(image) {
            return Ok(());
        }
        Err(format!("{name} of {uid} is made from {image}, which the pod may not use"))
    }

    /// A container gets the image of each volume it mounts, and no other.
    fn check_image_volumes(
        &self,
        pod: &Pod,
        name: &str,
        images: &BTreeMap<String, ImageRef>,
    ) -> Result<(), String> {
        let Some(container) = pod::container(pod, name) else { return Ok(()) };
        let wanted = mounted_images(pod, &container.spec).filter_map(|volume| {
            let wanted = ImageUse::Volume(volume.to_owned()).wanted(pod)?;
            Some((volume.to_owned(), ImageRef::from(wanted.reference)))
        });
        let wanted: BTreeMap<String, ImageRef> = wanted.collect();
        if *images != wanted {
            return Err(format!("{name} of {} mounts {images:?} and not {wanted:?}", pod::uid(pod)));
        }
        images.values().try_for_each(|image| self.check_image(pod, name, image.as_str()))
    }

    /// Init containers one after the other, each through before the next, and all before the rest.
    fn check_order(&self, pod: &Pod, name: &str, sandbox: &SandboxId) -> Result<(), String> {
        let has =
            |set: &BTreeSet<(SandboxId, String)>, n: &str| set.contains(&(sandbox.clone(), n.to_owned()));
        let was_initialized = pod::containers(pod)
            .any(|c| c.kind == ContainerKind::Regular && has(&self.truth.started, &c.spec.name));
        if was_initialized {
            return Ok(());
        }
        for before in
            pod::containers(pod).take_while(|c| c.spec.name != name && c.kind < ContainerKind::Regular)
        {
            let set =
                if before.kind == ContainerKind::Init { &self.truth.passed } else { &self.truth.started };
            if !has(set, &before.spec.name) {
                return Err(format!("{name} of {} is started before {}", pod::uid(pod), before.spec.name));
            }
        }
        Ok(())
    }

    fn check_grace(&mut self, id: &ContainerId, grace: Duration) -> Result<(), String> {
        let deadline = self.at + grace;
        let earlier = self.process.knows.deadlines.get(id).copied();
        let least = earlier.map_or(deadline, |e| e.min(deadline));
        self.process.knows.deadlines.insert(id.clone(), least);
        match earlier {
            Some(earlier) if deadline > (earlier.max(self.at)) + GRACE_SLACK => {
                Err(format!("the end of {id} is put off from {earlier:?} to {deadline:?}"))
            }
            _ => Ok(()),
        }
    }

    fn check_stop_sandbox(&self, id: &SandboxId) -> Result<(), String> {
        let inside = self.runtime.containers.values().find(|c| {
            c.seen.sandbox_id == *id
                && c.seen.state.is_running()
                && self.process.knows.running.contains_key(&c.seen.id)
        });
        match inside {
            Some(c) => Err(format!("{id} is stopped or removed while {} runs in it", c.seen.id)),
            None => Ok(()),
        }
    }

    fn check_remove_container(&self, id: &ContainerId) -> Result<(), String> {
        match self.runtime.containers.get(id) {
            Some(c) if c.seen.state.is_running() => Err(format!("{id} is removed while it runs")),
            _ => Ok(()),
        }
    }

    /// No folder goes below which something is mounted.
    fn check_has_no_mounts(&self, uid: &PodUid, what: &str) -> Result<(), String> {
        match self.storage.has_published(uid) {
            true => Err(format!("{what} of {uid}, which has volumes of drivers")),
            false => Ok(()),
        }
    }

    /// What a container has left in its pod's folder can be read for as long as the pod can be seen.
    fn check_remove_folder(&self, uid: &PodUid) -> Result<(), String> {
        if self.host.volumes.contains(uid) {
            return Err(format!("the folder of {uid} is removed with volumes in it"));
        }
        if self.api.pods.contains_key(uid) {
            return Err(format!("the folder of {uid} is removed before its object"));
        }
        self.check_has_no_mounts(uid, "the folder is removed")?;
        self.check_nothing_runs(uid, "the folder is removed")
    }

    pub(crate) fn check_nothing_runs(&self, uid: &PodUid, what: &str) -> Result<(), String> {
        match self.runtime.running(uid).find(|c| !c.is_ghost) {
            Some(c) => Err(format!("{what} of {uid} while {} runs", c.seen.id)),
            None => Ok(()),
        }
    }

    /// A probe's initial delay counts from the container's start, not from that of the process. A process that did not see
    /// the start has but the time by the clock, which may have been set since.
    fn check_initial_delay(
        &self,
        pod: &Pod,
        name: &str,
        id: &ContainerId,
        kind: ProbeKind,
    ) -> Result<(), String> {
        let Some(container) = pod::container(pod, name) else { return Ok(()) };
        let spec = match kind {
            ProbeKind::Startup => &container.spec.startup_probe,
            ProbeKind::Liveness => &container.spec.liveness_probe,
            ProbeKind::Readiness => &container.spec.readiness_probe,
        };
        let delay = spec.as_ref().and_then(|p| p.initial_delay_seconds).unwrap_or(0);
        let Some(held) = self.runtime.containers.get(id) else { return Ok(()) };
        let ContainerState::Running { started_at: Some(at) } = &held.seen.state else { return Ok(()) };
        // Its age may have been taken while the clock was ahead.
        let by_clock = (wall(self.at) + self.most_ahead).duration_since(*at);
        let truly = jiff::SignedDuration::try_from(self.at.saturating_sub(held.began)).unwrap_or_default();
        if by_clock.max(truly) < jiff::SignedDuration::from_secs(i64::from(delay)) {
            return Err(format!("{id} is probed {truly:#} after its start, within the delay of {delay} s"));
        }
        Ok(())
    }

    fn check_delete(&self, uid: &PodUid) -> Result<(), String> {
        if self.api.pods.get(uid).is_some_and(|p| pod::is_mirror(p)) {
            return Ok(());
        }
        self.check_nothing_runs(uid, "the object is deleted")?;
        self.check_has_no_mounts(uid, "the object is deleted")?;
        if let Some(s) = self.runtime.ready(uid).find(|s| !s.is_ghost) {
            return Err(format!("the object of {uid} is deleted while {} is ready", s.seen.id));
        }
        if let Some(s) = self.runtime.networks(uid).find(|s| !s.is_ghost) {
            return Err(format!("the object of {uid} is deleted, and {} was never stopped", s.seen.id));
        }
        if self.host.volumes.contains(uid) || self.host.cgroups.contains_key(uid) {
            return Err(format!("the object of {uid} is deleted before its volumes and cgroup are gone"));
        }
        Ok(())
    }

    fn check_status(&mut self, uid: &PodUid, new: &PodStatus) -> Result<(), String> {
        let Some(object) = self.api.pods.get(uid) else { return Ok(()) };
        let old = object.status.clone().unwrap_or_default();
        let is_mirror = pod::is_mirror(object);
        let is_known = self.process.knows.over.contains(uid);
        if is_terminal(&old) && is_known && old.phase != new.phase && !is_mirror {
            return Err(format!("the phase of {uid} goes from {:?} to {:?}", old.phase, new.phase));
        }
        for (before, after) in [
            (&old.container_statuses, &new.container_statuses),
            (&old.init_container_statuses, &new.init_container_statuses),
        ] {
            for before in before.iter().flatten() {
                let after = after.iter().flatten().find(|s| s.name == before.name);
                let goes_back = after.is_none_or(|a| a.restart_count < before.restart_count);
                if goes_back && !is_mirror && !is_turned_away(new) {
                    return Err(format!("the restart count of {} of {uid} goes back", before.name));
                }
            }
        }
        if is_terminal(new) && !is_mirror {
            let runs =
                self.runtime.running(uid).find(|c| self.process.knows.running.contains_key(&c.seen.id));
            if let Some(c) = runs {
                return Err(format!("{uid} is said to be over while {} runs", c.seen.id));
            }
            self.process.knows.ending.insert(uid.clone());
            self.process.knows.over.insert(uid.clone());
        }
        Ok(())
    }

    /// A sandbox that holds no container any more begins anew, init containers first.
    pub(crate) fn begins_anew(&mut self, sandbox: &SandboxId) {
        if !self.runtime.containers.values().any(|c| c.seen.sandbox_id == *sandbox) {
            self.truth.passed.retain(|(of, _)| of != sandbox);
            self.truth.started.retain(|(of, _)| of != sandbox);
        }
    }

    /// Judges what has come to be.
    pub(crate) fn check_sandboxes(&mut self, uid: &PodUid) {
        if self.runtime.ready(uid).filter(|s| !s.is_ghost).count() > 1 {
            self.broke(format!("{uid} has two sandboxes"));
        }
    }

    /// Judges what has come to be.
    pub(crate) fn check_containers(&mut self, uid: &PodUid, name: &str) {
        if self.runtime.running(uid).filter(|c| c.seen.name == name && !c.is_ghost).count() > 1 {
            self.broke(format!("{name} of {uid} runs twice"));
        }
    }

    /// Judges what has come to be.
    pub(crate) fn check_attempt(&mut self, uid: &PodUid, name: &str, attempt: u32, is_ghost: bool) {
        let key = (uid.clone(), name.to_owned());
        let process = self.process.number;
        let last =
            self.truth.attempts.get(&key).copied().filter(|(_, by)| *by == process).map(|(last, _)| last);
        let held = self.runtime.containers.values().filter(|c| c.uid == *uid && c.seen.name == name);
        // What is gone from the runtime, and no status tells of, a new process cannot know.
        let last = held.map(|c| c.seen.attempt).max().max(last);
        // A static pod has no status of its own to remember them by.
        if !is_ghost
            && !uid.as_str().starts_with("static-")
            && let Some(last) = last.filter(|last| attempt < *last)
        {
            self.broke(format!("the attempt of {name} of {uid} goes back from {last} to {attempt}"));
        }
        self.truth.attempts.insert(key, (attempt.max(last.unwrap_or(0)), process));
    }
}

impl Knowledge {
    /// Whether a pod is to end, or has.
    pub(crate) fn is_ending(&self, uid: &PodUid) -> bool {
        self.ending.contains(uid)
    }

    fn known(&self) -> impl Iterator<Item = &PodUid> {
        self.volumes.iter().chain(&self.cgroups).chain(self.running.values()).chain(self.ready.values())
    }
}

/// Whether a status says of a pod that the node does not let it in, and so nothing of its containers.
fn is_turned_away(status: &PodStatus) -> bool {
    status.message.as_deref().is_some_and(|message| message.starts_with("Pod was rejected: "))
}

/// Whether a container has ended, and how.
pub(crate) fn exit_code(state: &ContainerState) -> Option<i32> {
    match state {
        ContainerState::Exited(exit) => Some(exit.exit_code),
        _ => None,
    }
}
