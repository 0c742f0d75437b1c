//! Convergence: what must be reached once no more faults are injected.

use k8s_openapi::api::core::v1::{Container, PodStatus};
use model::pod::{self, ContainerKind, ContainerRef, RestartPolicy};
use model::{Pod, PodUid};

use crate::api::is_terminal;
use crate::checks::exit_code;
use crate::runtime::Container as Held;
use crate::specs::FAILED;
use crate::world::World;

impl World {
    /// Whether what is to run runs, what is to be gone is gone, and the API server knows.
    pub(crate) fn is_as_it_should_be(&self) -> Result<(), String> {
        if !self.process.knows.is_restored {
            return Err("it is not known yet what earlier processes have left".to_owned());
        }
        for pod in self.api.pods.values().filter(|p| !pod::is_mirror(p)) {
            if pod.metadata.deletion_timestamp.is_some() {
                return Err(format!("{} is still there", pod::uid(pod)));
            }
            self.check_wanted(pod, pod)?;
        }
        for pod in self.files.values() {
            let uid = pod::uid(pod);
            let mirror = self.api.by_key(&pod::key(pod)).ok_or_else(|| format!("{uid} has no mirror"))?;
            if pod::annotation(mirror, pod::ANNOTATION_CONFIG_MIRROR) != Some(uid.as_str())
                || mirror.metadata.deletion_timestamp.is_some()
            {
                return Err(format!("{uid} has another's mirror"));
            }
            self.check_wanted(pod, mirror)?;
        }
        for mirror in self.api.pods.values().filter(|p| pod::is_mirror(p)) {
            if !self.files.values().any(|p| pod::key(p) == pod::key(mirror)) {
                return Err(format!("{} mirrors nothing", pod::uid(mirror)));
            }
        }
        self.check_plugins()?;
        self.check_storage_remains()?;
        self.check_remains()
    }

    fn check_remains(&self) -> Result<(), String> {
        let uids = self.runtime.sandboxes.values().map(|s| (&s.uid, "a sandbox"));
        let uids = uids.chain(self.runtime.containers.values().map(|c| (&c.uid, "a container")));
        let uids = uids.chain(self.host.volumes.iter().map(|u| (u, "volumes")));
        let uids = uids.chain(self.host.folders.iter().map(|u| (u, "a folder")));
        let uids = uids.chain(self.host.cgroups.keys().map(|u| (u, "a cgroup")));
        let mut uids = uids.chain(self.host.logs.iter().map(|u| (u, "logs")));
        match uids.find(|(uid, _)| self.wanted(uid).is_none()) {
            Some((uid, what)) => Err(format!("{what} of {uid} is left")),
            None => Ok(()),
        }
    }

    /// `object`: where its status is.
    fn check_wanted(&self, pod: &Pod, object: &Pod) -> Result<(), String> {
        let uid = pod::uid(pod);
        let status = object.status.clone().unwrap_or_default();
        if is_terminal(&status) {
            return self.check_over(&uid);
        }
        if pod.spec.as_ref().is_some_and(|s| s.active_deadline_seconds.is_some()) {
            return Err(format!("{uid} has not reached its deadline"));
        }
        if pod::is_static(pod)
            && pod::containers(pod)
                .filter(|c| c.kind == ContainerKind::Regular)
                .all(|c| policy(pod, &c) == RestartPolicy::Never)
            && self.has_lost_sandbox(&uid)
        {
            // It gets no second one, and as a static pod no last word either.
            return self.check_over(&uid);
        }
        if self.runtime.ready(&uid).count() != 1 {
            return Err(format!("{uid} has {} sandboxes", self.runtime.ready(&uid).count()));
        }
        if let Some(s) = self.runtime.networks(&uid).find(|s| !s.seen.is_ready) {
            return Err(format!("{} of {uid} is dead and was never stopped", s.seen.id));
        }
        let is_silenced = |c: &ContainerRef<'_>| {
            is_said_to_be_over(pod, c, &status)
                && self.runtime.running(&uid).any(|held| held.seen.name == c.spec.name)
        };
        if pod::containers(pod).any(|c| is_silenced(&c)) {
            // What else there is to say of the pod cannot be told either.
            return Ok(());
        }
        let mut are_all_up = true;
        let mut is_any_up = false;
        for c in pod::containers(pod) {
            let is_up = self.check_container(pod, &c, &status)?;
            if c.kind == ContainerKind::Regular {
                are_all_up &= is_up;
                is_any_up |= is_up;
            }
        }
        self.check_granted(pod, &status)?;
        self.check_allocation_is_safe(&uid)?;
        if !is_any_up {
            return Err(format!("{uid} should be over"));
        }
        if status.phase.as_deref() != Some("Running") {
            return Err(format!("the phase of {uid} is {:?}", status.phase));
        }
        let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        if is_ready != are_all_up {
            return Err(format!("{uid} is said to be ready: {is_ready}"));
        }
        if !self.host.volumes.contains(&uid) || !self.host.cgroups.contains_key(&uid) {
            return Err(format!("{uid} lacks volumes or cgroup"));
        }
        self.check_has_published(pod)?;
        self.check_in_effect(pod, &status)
    }

    /// Returns whether it runs.
    fn check_container(&self, pod: &Pod, c: &ContainerRef<'_>, status: &PodStatus) -> Result<bool, String> {
        let (uid, name) = (pod::uid(pod), &c.spec.name);
        let latest = self.runtime.containers.values().filter(|o| o.uid == uid && o.seen.name == *name);
        // Once a regular container was there, init containers have had their turn: also where its start was given up and it
        // came too early, after all others were removed for a restart.
        let is_past = c.kind == ContainerKind::Init && self.has_regular(pod);
        let Some(latest) = latest.max_by_key(|o| o.seen.attempt) else {
            // Lost with all of its pod, and not to be run again.
            if is_past || c.kind == ContainerKind::Regular && has_ended(status, name) {
                return Ok(false);
            }
            return Err(format!("{name} of {uid} is not there"));
        };
        let is_up = latest.seen.state.is_running();
        if is_up && !self.is_ready_sandbox_of(latest) {
            return Err(format!("{name} of {uid} runs in a dead sandbox"));
        }
        if exit_code(&latest.seen.state) == Some(FAILED) && c.spec.restart_policy_rules.is_some() {
            return Err(format!("all containers of {uid} are to be restarted after {name}"));
        }
        let may_be_over = match (c.kind, policy(pod, c)) {
            (ContainerKind::Init, _) => exit_code(&latest.seen.state) == Some(0),
            (ContainerKind::Sidecar, _) | (_, RestartPolicy::Always) => false,
            (_, RestartPolicy::OnFailure) => exit_code(&latest.seen.state) == Some(0),
            (_, RestartPolicy::Never) => exit_code(&latest.seen.state).is_some(),
        };
        if !(is_up || may_be_over || is_past) {
            return Err(format!("{name} of {uid} does not run: {:?}", latest.seen.state));
        }
        if is_up {
            self.check_actuation_is_safe(&uid, name)?;
            check_running(&uid, &c.spec, latest, status)?;
        }
        Ok(is_up)
    }

    fn has_lost_sandbox(&self, uid: &PodUid) -> bool {
        self.runtime.ready(uid).next().is_none() && self.runtime.containers.values().any(|c| c.uid == *uid)
    }

    fn has_regular(&self, pod: &Pod) -> bool {
        let uid = pod::uid(pod);
        pod::containers(pod)
            .filter(|c| c.kind == ContainerKind::Regular)
            .any(|c| self.runtime.containers.values().any(|o| o.uid == uid && o.seen.name == c.spec.name))
    }

    fn is_ready_sandbox_of(&self, container: &Held) -> bool {
        self.runtime.ready(&container.uid).any(|s| s.seen.id == container.seen.sandbox_id)
    }

    fn check_over(&self, uid: &PodUid) -> Result<(), String> {
        if self.runtime.running(uid).next().is_some() || self.runtime.ready(uid).next().is_some() {
            return Err(format!("{uid} is over and still has processes"));
        }
        if let Some(s) = self.runtime.networks(uid).next() {
            return Err(format!("{uid} is over and {} was never stopped", s.seen.id));
        }
        if self.storage.has_published(uid) {
            return Err(format!("{uid} is over and still has volumes of drivers"));
        }
        if self.host.volumes.contains(uid) || self.host.cgroups.contains_key(uid) {
            return Err(format!("{uid} is over and still has volumes or a cgroup"));
        }
        Ok(())
    }
}

/// The restart policy of a container: its own or its pod's.
fn policy(pod: &Pod, container: &ContainerRef<'_>) -> RestartPolicy {
    match container.spec.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        _ => pod::restart_policy(pod),
    }
}

/// A container that took the place of another although its start was said to have failed, after the end of that other was
/// told: an API server refuses that what is never restarted runs again.
fn is_said_to_be_over(pod: &Pod, container: &ContainerRef<'_>, status: &PodStatus) -> bool {
    policy(pod, container) == RestartPolicy::Never && has_ended(status, &container.spec.name)
}

/// Whether a status says of a regular container that it has ended.
fn has_ended(status: &PodStatus, name: &str) -> bool {
    let said = status.container_statuses.iter().flatten().find(|s| s.name == *name);
    said.and_then(|s| s.state.as_ref()).is_some_and(|s| s.terminated.is_some())
}

/// What is said of a container that runs, and which version of it that is.
fn check_running(uid: &PodUid, spec: &Container, held: &Held, status: &PodStatus) -> Result<(), String> {
    let seen = &held.seen;
    let name = &spec.name;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let said =
        all.into_iter().find(|s| s.name == *name).ok_or_else(|| format!("no status of {name} of {uid}"))?;
    // Counts never go back.
    let is_counted = u32::try_from(said.restart_count)
        .is_ok_and(|count| count == seen.attempt || held.is_late && count > seen.attempt);
    let right = said.state.as_ref().is_some_and(|s| s.running.is_some())
        && said.container_id.as_deref() == Some(&format!("containerd://{}", seen.id))
        && is_counted
        && said.ready;
    if !right {
        return Err(format!("the status of {name} of {uid} is wrong: {said:?}"));
    }
    if seen.spec_hash != Some(model::hash::container_hash(spec)) {
        return Err(format!("{name} of {uid} runs an old version"));
    }
    Ok(())
}
