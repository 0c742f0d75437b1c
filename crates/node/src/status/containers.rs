//! The status of each container: its newest instance, the one before, and why it waits.

use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, ImageVolumeStatus, LinuxContainerUser, PodStatus,
    VolumeMount, VolumeMountStatus, VolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::observed::ContainerExit;
use model::pod::{self, ContainerKind};
use model::reason::waiting;
use model::{ContainerObservation, ContainerState, Pod, time};

use super::resources::of_container as resources;
use super::{Stage, StatusInputs, restarting};

/// Exit code written for a container whose real one nobody knows: that of SIGKILL.
const LOST_EXIT_CODE: i32 = 137;

/// Bytes that the messages of a pod's ended containers may take together.
const MAX_TERMINATION_MESSAGES_BYTES: usize = 12 * 1024;

/// Fills in the three lists.
pub(super) fn fill(inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let StatusInputs { rules, pod, observed, previous, stage, .. } = *inputs;
    // Nothing of a pod that ends begins anew.
    let is_restarting = stage == Stage::Running && restarting::is_under_way(rules, pod, observed, previous);
    let has_init = pod::containers(inputs.pod).any(|c| c.kind < ContainerKind::Regular);
    let mut regular = Vec::new();
    let mut init = Vec::new();
    let mut ephemeral = Vec::new();
    for c in pod::containers(inputs.pod) {
        let (list, previous) = match c.kind {
            ContainerKind::Init | ContainerKind::Sidecar => {
                (&mut init, &inputs.previous.init_container_statuses)
            }
            ContainerKind::Regular => (&mut regular, &inputs.previous.container_statuses),
            ContainerKind::Ephemeral => (&mut ephemeral, &inputs.previous.ephemeral_container_statuses),
        };
        let before = previous.iter().flatten().find(|s| s.name == c.spec.name);
        // Room for what there is and no more: statuses are kept for as long as their pods.
        list.reserve_exact(1);
        list.push(One { inputs, spec: &c.spec, kind: c.kind, before, has_init, is_restarting }.status());
    }
    let limit = MAX_TERMINATION_MESSAGES_BYTES / (regular.len() + init.len() + ephemeral.len()).max(1);
    for status in regular.iter_mut().chain(&mut init).chain(&mut ephemeral) {
        let states = [&mut status.state, &mut status.last_state];
        for end in states.into_iter().flatten().filter_map(|s| s.terminated.as_mut()) {
            end.message = end.message.take().map(|text| cut(text, limit));
        }
    }
    // Upstream sorts these by name and keeps init containers in the order of the spec.
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    ephemeral.sort_by(|a, b| a.name.cmp(&b.name));
    status.container_statuses = Some(regular);
    status.init_container_statuses = Some(init).filter(|l| !l.is_empty());
    status.ephemeral_container_statuses = Some(ephemeral).filter(|l| !l.is_empty());
}

/// The last word on a pod that has ended: none of its containers runs, or waits for a next run.
/// One that is not known to have ended counts as lost, unless the pod never got as far as it.
pub(super) fn end_all(pod: &Pod, status: &mut PodStatus) {
    let is_initialized = is_initialized(pod, status);
    let init = status.init_container_statuses.as_deref_mut().unwrap_or_default();
    // The first always counts as tried.
    let tried = init.iter().rposition(has_ended_or_runs).unwrap_or(0) + 1;
    for container in init.iter_mut() {
        keep_last_end(container);
    }
    init.iter_mut().take(tried).for_each(end);
    for container in status.container_statuses.iter_mut().flatten() {
        keep_last_end(container);
        if is_initialized {
            end(container);
        }
    }
    let lists = [&mut status.init_container_statuses, &mut status.container_statuses];
    for container in lists.into_iter().flatten().flatten() {
        container.ready &= ended_with(container) == Some(0);
        container.started = Some(false);
    }
    for container in status.ephemeral_container_statuses.iter_mut().flatten() {
        if container.state.as_ref().is_some_and(|s| s.running.is_some()) {
            end(container);
        }
    }
}

/// Sidecars end when there is nothing left that they are there for.
pub(super) fn end_sidecars(pod: &Pod, status: &mut PodStatus) {
    for sidecar in pod::containers(pod).filter(|c| c.kind == ContainerKind::Sidecar) {
        let all = status.init_container_statuses.iter_mut().flatten();
        all.filter(|said| said.name == sidecar.spec.name).for_each(end);
    }
}

/// A container that waited to be started again will not be: its last end is its end.
fn keep_last_end(container: &mut ContainerStatus) {
    let is_waiting = container.state.as_ref().is_none_or(|s| s.running.is_none() && s.terminated.is_none());
    if is_waiting && container.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        container.state = container.last_state.take();
    }
}

fn end(container: &mut ContainerStatus) {
    if ended_with(container).is_none() {
        container.state =
            Some(terminated(lost("The container could not be located when the pod was terminated")));
    }
}

fn has_ended_or_runs(status: &ContainerStatus) -> bool {
    let has_ended = |s: &Option<ApiState>| s.as_ref().is_some_and(|s| s.terminated.is_some());
    has_ended(&status.state)
        || has_ended(&status.last_state)
        || status.state.as_ref().is_some_and(|s| s.running.is_some())
}

/// Whether there is any sign that the regular containers' turn had come.
fn is_initialized(pod: &Pod, status: &PodStatus) -> bool {
    let init = || pod::containers(pod).filter(|c| c.kind < ContainerKind::Regular);
    let Some(last) = init().last() else { return true };
    if status.container_statuses.iter().flatten().any(has_ended_or_runs) {
        return true;
    }
    let found = status.init_container_statuses.iter().flatten().find(|s| s.name == last.spec.name);
    found.is_some_and(|s| match last.kind {
        ContainerKind::Sidecar => s.started == Some(true),
        _ => ended_with(s) == Some(0),
    })
}

/// Whether a status is about this instance. Ids differ; the runtime's name before them says nothing, and is not known
/// as long as the runtime has not told it.
fn is_of(status: &ContainerStatus, container: &ContainerObservation) -> bool {
    is_id_of(status.container_id.as_deref(), container)
}

fn is_id_of(text: Option<&str>, container: &ContainerObservation) -> bool {
    let id = text.and_then(|text| text.rsplit_once("://"));
    id.is_some_and(|(_, id)| id == container.id.as_str())
}

/// Whether a state is the end of this instance.
fn is_end_of(state: &ApiState, container: &ContainerObservation) -> bool {
    state.terminated.as_ref().is_some_and(|end| is_id_of(end.container_id.as_deref(), container))
}

struct One<'a> {
    inputs: &'a StatusInputs<'a>,
    spec: &'a Container,
    kind: ContainerKind,
    /// Its status before.
    before: Option<&'a ContainerStatus>,
    has_init: bool,
    /// All containers are being restarted.
    is_restarting: bool,
}

impl One<'_> {
    fn status(&self) -> ContainerStatus {
        let note = self.inputs.notes.get(&self.spec.name);
        // While a pod ends, what runs is shown, whatever its hook came to.
        let is_hidden = self.inputs.stage == Stage::Running && note.is_some_and(|note| note.is_in_post_start);
        let instances = self.inputs.observed.containers.iter().filter(|c| c.name == self.spec.name);
        let mut instances = instances.skip(usize::from(is_hidden));
        let newest = instances.next();
        let mut status = match newest {
            Some(newest) => self.observed(newest, instances.next()),
            None => self.unobserved(),
        };
        self.apply_waiting(newest, is_hidden, &mut status);
        let is_running = status.state.as_ref().is_some_and(|s| s.running.is_some());
        // Nobody waits for an ephemeral container, so it has no such state.
        status.started =
            (self.kind != ContainerKind::Ephemeral).then(|| is_running && note.is_some_and(|n| n.is_started));
        status.ready = match self.kind {
            ContainerKind::Init => ended_with(&status) == Some(0),
            ContainerKind::Ephemeral => false,
            ContainerKind::Sidecar | ContainerKind::Regular => is_running && note.is_some_and(|n| n.is_ready),
        };
        status
    }

    /// A container of which the runtime has an instance.
    fn observed(
        &self,
        newest: &ContainerObservation,
        older: Option<&ContainerObservation>,
    ) -> ContainerStatus {
        let id = self.id_text(newest);
        let mut status = ContainerStatus {
            name: self.spec.name.clone(),
            restart_count: self.restart_count(newest),
            image: or_spec(&newest.image, self.spec),
            image_id: newest.image_id.clone(),
            container_id: Some(id),
            state: Some(self.state(newest)),
            last_state: None,
            volume_mounts: self.volume_mounts(Some(newest)),
            resources: Some(resources(self.spec, newest)),
            allocated_resources: self.spec.resources.as_ref().and_then(|r| r.requests.clone()),
            user: newest.user.as_ref().map(user),
            stop_signal: newest.stop_signal.clone(),
            ..ContainerStatus::default()
        };
        status.last_state = match older {
            Some(older) => Some(self.state(older)).filter(|s| s.terminated.is_some()),
            // The older instance may have been removed since: what was known of it stays known.
            None => self.before.and_then(|b| match &b.state {
                Some(s) if s.terminated.is_some() && !is_of(b, newest) => b.state.clone(),
                _ => b.last_state.clone().filter(|s| !is_end_of(s, newest)),
            }),
        };
        if status.last_state.is_none() {
            status.last_state = Some(ApiState::default());
        }
        status
    }

    /// How often the container was started anew. The runtime counts by what it still has, so the
    /// number known before is kept, and goes up when a successor began to count from the start.
    fn restart_count(&self, newest: &ContainerObservation) -> i32 {
        let counted = i32::try_from(newest.attempt).unwrap_or(i32::MAX);
        let Some(before) = self.before else { return counted };
        let is_successor = newest.state.is_running()
            && ended_with(before).is_some()
            && before.container_id.is_some()
            && !is_of(before, newest);
        match is_successor && before.restart_count >= counted {
            true => before.restart_count.saturating_add(1),
            false => counted.max(before.restart_count),
        }
    }

    /// A container of which the runtime has nothing.
    fn unobserved(&self) -> ContainerStatus {
        if let Some(removed) = self.removed_for_restart() {
            return removed;
        }
        if let Some(before) = self.before
            && before.state.as_ref().is_some_and(|s| s.terminated.is_some())
        {
            return before.clone();
        }
        let mut status = ContainerStatus {
            last_state: Some(self.before.and_then(|b| b.last_state.clone()).unwrap_or_default()),
            restart_count: self.before.map_or(0, |b| b.restart_count),
            ..self.blank()
        };
        let was_running = self.before.is_some_and(|b| b.state.as_ref().is_some_and(|s| s.running.is_some()));
        if was_running && status.last_state.as_ref().is_none_or(|s| s.terminated.is_none()) {
            // It ran and is gone without a trace: that it ended is all that is known.
            let text = "The container could not be located when the pod was deleted.  The container used to be Running";
            status.last_state = Some(terminated(lost(text)));
            if self.inputs.pod.metadata.deletion_timestamp.is_none() {
                status.restart_count = status.restart_count.saturating_add(1);
            }
        }
        let is_initialized = self.inputs.observed.is_initialized(self.inputs.pod, None);
        if self.kind == ContainerKind::Init && is_initialized {
            let text = "Unable to get init container status from container runtime and pod has been initialized, \
                        treat it as exited normally";
            let exit = ContainerStateTerminated {
                reason: Some("Completed".to_owned()),
                message: Some(text.to_owned()),
                ..ContainerStateTerminated::default()
            };
            status.state = Some(terminated(exit));
        }
        status
    }

    /// A container that was removed because all are being restarted.
    fn removed_for_restart(&self) -> Option<ContainerStatus> {
        let before = self.before.filter(|_| self.is_restarting && self.kind != ContainerKind::Ephemeral)?;
        if restarting::is_removed(before) {
            return Some(before.clone());
        }
        let was_waiting = before.state.as_ref().is_some_and(|s| s.waiting.is_some());
        let (reason, message) = restarting::waits();
        (!was_waiting).then(|| ContainerStatus {
            restart_count: before.restart_count.saturating_add(1),
            state: Some(waiting(reason, Some(message))),
            last_state: Some(restarting::removed()),
            ..self.blank()
        })
    }

    /// A container that was never started.
    fn blank(&self) -> ContainerStatus {
        ContainerStatus {
            name: self.spec.name.clone(),
            image: self.spec.image.clone().unwrap_or_default(),
            state: Some(waiting(self.default_reason(), None)),
            last_state: Some(ApiState::default()),
            volume_mounts: self.volume_mounts(None),
            ..ContainerStatus::default()
        }
    }

    /// Shows why a container that is to run does not.
    ///
    /// `is_hidden`: a newer instance runs that is not shown yet.
    fn apply_waiting(
        &self,
        newest: Option<&ContainerObservation>,
        is_hidden: bool,
        status: &mut ContainerStatus,
    ) {
        let is_settled =
            newest.is_none() && self.kind == ContainerKind::Init && ended_with(status) == Some(0);
        if self.inputs.stage != Stage::Running || is_settled || newest.is_some_and(|c| c.state.is_running()) {
            return;
        }
        let note = self.inputs.notes.get(&self.spec.name);
        let restarts = |code| self.inputs.rules.restarts_after(self.inputs.pod, self.spec, self.kind, code);
        let is_to_start = match newest.map(|c| &c.state) {
            // What ended for good stays that when the runtime holds nothing of it any more.
            None => ended_with(status).is_none_or(restarts),
            Some(ContainerState::Created) => true,
            Some(ContainerState::Exited(exit)) => restarts(exit.exit_code),
            Some(_) => restarts(LOST_EXIT_CODE),
        };
        let is_replaced = note.is_some_and(|n| n.is_replaced);
        let why = note.and_then(|n| n.waiting.clone()).filter(|_| is_to_start || is_replaced);
        // To the API server, an end that the policy does not answer by a start would be the last word.
        let is_between = (is_replaced || is_hidden) && !is_to_start;
        let why = why.or_else(|| is_between.then(|| (self.default_reason(), String::new())));
        let Some((reason, message)) = why else { return };
        if let Some(state) = status.state.take().filter(|s| s.terminated.is_some()) {
            status.last_state = Some(state);
        }
        if newest.is_none() {
            // Nothing is left of the instance that this described.
            *status = ContainerStatus {
                restart_count: status.restart_count,
                last_state: status.last_state.take(),
                ..self.blank()
            };
        }
        status.state = Some(waiting(reason, Some(message).filter(|m| !m.is_empty())));
    }

    fn default_reason(&self) -> &'static str {
        if self.has_init { waiting::POD_INITIALIZING } else { waiting::CONTAINER_CREATING }
    }

    fn id_text(&self, container: &ContainerObservation) -> String {
        format!("{}://{}", self.inputs.runtime_name, container.id)
    }

    fn state(&self, container: &ContainerObservation) -> ApiState {
        match &container.state {
            ContainerState::Running { started_at } => ApiState {
                running: Some(ContainerStateRunning { started_at: started_at.map(api_time) }),
                ..ApiState::default()
            },
            ContainerState::Exited(exit) => terminated(exit_status(exit, self.id_text(container))),
            ContainerState::Created => waiting(self.default_reason(), None),
            ContainerState::Unknown => {
                let before = self.before.and_then(|b| b.state.as_ref());
                let is_known = self.before.is_some_and(|b| is_of(b, container));
                if let Some(ended) = before.filter(|s| is_known && s.terminated.is_some()) {
                    // Said once, it stays said.
                    ended.clone()
                } else if before.is_some_and(|s| s.running.is_some()) {
                    terminated(lost("The container could not be located when the pod was terminated"))
                } else {
                    waiting(self.default_reason(), None)
                }
            }
        }
    }

    /// How volumes are mounted: whether recursively read-only, as the runtime tells. Before there is a
    /// container only what leaves no choice is known.
    fn volume_mounts(&self, container: Option<&ContainerObservation>) -> Option<Vec<VolumeMountStatus>> {
        let mounts = self.spec.volume_mounts.as_ref()?;
        // A relative path is one below the container's root.
        let below = |path: &str| path.trim_start_matches('/').to_owned();
        // Upstream's 1.37 looks for the volume by a name that CRI does not tell, and so never finds it.
        let volume_status = |m: &VolumeMount| {
            let mounted = container?
                .image_mounts
                .iter()
                .find(|mounted| below(&mounted.container_path) == below(&m.mount_path));
            let image_ref = mounted.filter(|_| self.inputs.gates.names_volume_images)?.image.to_string();
            Some(VolumeStatus { image: Some(ImageVolumeStatus { image_ref }) })
        };
        let is_made =
            |path: &str| container.map(|c| c.recursive_read_only.iter().any(|m| below(m) == below(path)));
        let status = |m: &VolumeMount| {
            let is_recursive = match m.recursive_read_only.as_deref() {
                Some("Enabled") => is_made(&m.mount_path).or(Some(true)),
                Some("IfPossible") => is_made(&m.mount_path),
                _ => Some(false),
            };
            let word = |is_recursive: bool| if is_recursive { "Enabled" } else { "Disabled" }.to_owned();
            VolumeMountStatus {
                name: m.name.clone(),
                mount_path: m.mount_path.clone(),
                read_only: m.read_only,
                recursive_read_only: is_recursive.filter(|_| m.read_only == Some(true)).map(word),
                volume_status: volume_status(m),
            }
        };
        Some(mounts.iter().map(status).collect()).filter(|l: &Vec<_>| !l.is_empty())
    }
}

fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

fn or_spec(image: &str, spec: &Container) -> String {
    if image.is_empty() { spec.image.clone().unwrap_or_default() } else { image.to_owned() }
}

fn user(user: &model::observed::ContainerUser) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid,
            gid: user.gid,
            supplemental_groups: Some(user.supplemental_groups.clone()).filter(|g| !g.is_empty()),
        }),
    }
}

fn exit_status(exit: &ContainerExit, id: String) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: Some(id),
        exit_code: exit.exit_code,
        reason: Some(exit.reason.clone()).filter(|r| !r.is_empty()),
        message: Some(exit.message.clone()).filter(|m| !m.is_empty()),
        signal: Some(exit.signal).filter(|s| *s != 0),
        started_at: exit.started_at.map(api_time),
        finished_at: exit.finished_at.map(api_time),
    }
}

fn lost(message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: LOST_EXIT_CODE,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some(message.to_owned()),
        ..ContainerStateTerminated::default()
    }
}

fn terminated(exit: ContainerStateTerminated) -> ApiState {
    ApiState { terminated: Some(exit), ..ApiState::default() }
}

fn waiting(reason: &str, message: Option<String>) -> ApiState {
    ApiState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ApiState::default()
    }
}

fn ended_with(status: &ContainerStatus) -> Option<i32> {
    status.state.as_ref()?.terminated.as_ref().map(|t| t.exit_code)
}

fn api_time(at: jiff::Timestamp) -> Time {
    Time(time::to_seconds(at))
}
