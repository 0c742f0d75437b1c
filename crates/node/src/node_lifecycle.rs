//! The lifecycle of the Node object: the runtime's health, registration, and the status that is reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus};
use model::{Now, RuntimeHealth};
use serde::{Deserialize, Serialize};

use crate::csi::StorageState;
use crate::cx::NodeState;
use crate::effect::{ApiAction, ApiOutcome, EventObject, EventRecord, Outcome};
use crate::input::Source;
use crate::jitter::Jitter;
use crate::machine::Machine;
use crate::node_status::{self, NodeDescription, NodeHealth, NodeImage, Readings};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::pressure::{PressureGauge, Sample};
use crate::schedule::earliest;
use crate::settings::{RELIST_SILENCE_LIMIT, RUNTIME_SILENCE_LIMIT, Settings};
use crate::startup::Startup;
use crate::tasks::{NodeTask, Owner};
use crate::wait::{Found, Wait, WaitOn, Waits};

const REGISTER: Owner = Owner::Node(NodeTask::Register);
const STATUS: Owner = Owner::Node(NodeTask::Status);

/// The runtime is asked every five seconds. After this long without an answer, people may know.
const RUNTIME_SLOW: Duration = Duration::from_secs(12);

/// Status is computed a little later than every so often, by this part of the time at most, in percent.
const UPDATE_JITTER_PERCENT: u32 = 4;

/// Everything about the node that is not about a pod.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct NodeLifecycle {
    jitter: Jitter,
    /// `None` before the core was told of it.
    machine: Option<Machine>,
    readings: Readings,
    gauge: PressureGauge,
    runtime: Runtime,
    /// The handlers that RuntimeClasses name, by the names of the classes; `None` before they were listed.
    runtime_classes: Option<BTreeMap<String, String>>,
    object: Option<Arc<ApiNode>>,
    /// The node's addresses as its pods see them, primary first.
    host_ips: Arc<Vec<String>>,
    /// Whether they have changed and no pod knows it yet.
    has_moved: bool,
    registration: Registration,
    report: NodeReport,
    /// Whether the node's storage lets it be ready.
    #[serde(default)]
    storage: StorageState,
    recorded: RecordedEvents,
    waits: Waits,
}

/// How the node comes by the Node object that it reports to.
#[derive(Debug, Serialize, Deserialize)]
enum Registration {
    /// It is to be made or looked up, or that is under way; what came of the attempt before.
    Pending(Option<Retry>),
    /// It is there.
    Made,
    /// Others make it, or have deleted it. Deleting a Node is how people and autoscalers take a machine out of the
    /// cluster: it does not come back by itself before the kubelet starts anew.
    Awaited,
}

/// Nothing was done for it yet.
impl Default for Registration {
    fn default() -> Self {
        Self::Pending(None)
    }
}

/// What events have told of the node.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RecordedEvents {
    /// Once is enough: what is known of the object may be older than the write that would end it.
    reboot: bool,
    is_unschedulable: bool,
}

/// What is known of the runtime's health.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Runtime {
    health: Option<RuntimeHealth>,
    /// Why the last question had no answer.
    error: Option<String>,
    /// Monotonic time of the last answer that said ready.
    last_ready: Option<Duration>,
    /// Monotonic time of the last answer, whatever it said.
    answered: Option<Duration>,
    /// Monotonic time of the last successful relist.
    last_relist: Option<Duration>,
    /// Why the network is not ready, as shown to users.
    network_wait: Option<String>,
}

/// What the API server has of the node's status, and what it should have.
#[derive(Debug, Default, Serialize, Deserialize)]
struct NodeReport {
    written: Option<Arc<NodeStatus>>,
    current: Arc<NodeStatus>,
    /// What the last write has carried, or the one under way.
    sent: Arc<NodeStatus>,
    retry: Option<Retry>,
    /// Monotonic; `None` before this process has written any.
    written_at: Option<Duration>,
    /// How long after a write an unchanged status is written.
    write_after: Duration,
    /// Monotonic time at which status is computed again.
    next_at: Duration,
    /// Monotonic time from which status is written whatever is known; see [`NodeLifecycle::may_report`].
    speak_at: Option<Duration>,
    is_dirty: bool,
}

impl NodeLifecycle {
    /// A node of which nothing is known; jitter follows from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { jitter: Jitter::new(seed), ..Self::default() }
    }

    // ---- what is known ----

    /// The machine is known.
    pub(crate) fn machine_found(&mut self, machine: Machine, settings: &Settings) {
        self.machine = Some(machine);
        self.report.is_dirty = true;
        self.judge_sample(settings);
    }

    /// What the node has left was measured. Returns whether that matters to pods that are to be let in: what the node has, or
    /// what it is short of, is something else than before.
    pub(crate) fn sampled(&mut self, sample: Sample, settings: &Settings) -> bool {
        let before = self.readings.sample.as_ref().map(|_| self.readings.storage_bytes());
        self.readings.sample = Some(sample);
        let has_changed = before != Some(self.readings.storage_bytes());
        self.report.is_dirty |= has_changed;
        if before.is_none() {
            self.refresh_network();
        }
        self.judge_sample(settings) || has_changed
    }

    /// Finds out what the node is short of. Returns whether that is something else than before.
    fn judge_sample(&mut self, settings: &Settings) -> bool {
        let (Some(machine), Some(sample)) = (&self.machine, &self.readings.sample) else { return false };
        let is_left_out = settings.leaves_huge_pages_out;
        let huge_pages = machine.huge_pages.values().filter(|_| is_left_out).sum();
        let sample = sample.clone().without_memory(huge_pages);
        let has_changed = self.gauge.observe(&sample, &settings.thresholds, settings.pressure_transition);
        self.report.is_dirty |= has_changed;
        has_changed
    }

    /// The node's addresses were looked for.
    pub(crate) fn addresses_found(&mut self, addresses: Option<Vec<String>>) {
        self.report.is_dirty |= self.readings.addresses != addresses;
        self.readings.addresses = addresses;
        self.refresh_host_ips();
    }

    /// The runtime said what it is. Returns whether its name is new, which the ids of containers have in them.
    pub(crate) fn runtime_named(&mut self, name: String, version: String) -> bool {
        let readings = &mut self.readings;
        let is_new = readings.runtime_name != name;
        self.report.is_dirty |= is_new || readings.runtime_version != version;
        (readings.runtime_name, readings.runtime_version) = (name, version);
        is_new
    }

    /// The RuntimeClasses of the cluster were listed, or have changed.
    pub(crate) fn runtime_classes_listed(&mut self, classes: BTreeMap<String, String>) {
        self.runtime_classes = Some(classes);
    }

    /// These volumes must not be detached from the node.
    pub(crate) fn volumes_in_use_are(&mut self, names: Vec<String>) {
        self.report.is_dirty |= self.readings.volumes_in_use != names;
        self.readings.volumes_in_use = names;
    }

    /// The runtime said which images it has.
    pub(crate) fn images_listed(&mut self, images: Vec<NodeImage>) {
        self.report.is_dirty |= self.readings.images != images;
        self.readings.images = images;
    }

    /// Addresses are those of the object, whoever wrote them, and before there is one those it will have.
    fn refresh_host_ips(&mut self) {
        let host_ips = match self.object.as_ref() {
            Some(node) => {
                let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref());
                node_status::host_ips(addresses.unwrap_or_default())
            }
            None => match &self.readings.addresses {
                Some(ips) => ips.clone(),
                // They are a cloud provider's to tell, and stay what it told before somebody deleted the object.
                None => return,
            },
        };
        if *self.host_ips != host_ips {
            self.host_ips = Arc::new(host_ips);
            self.has_moved = true;
        }
    }

    /// Whether the addresses have changed since this was asked last.
    pub(crate) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// What the other parts may know of the node.
    pub(crate) fn state<'a>(&'a self, settings: &'a Settings) -> NodeState<'a> {
        NodeState {
            settings,
            machine: self.machine.as_ref(),
            readings: &self.readings,
            runtime_classes: self.runtime_classes.as_ref(),
            object: self.object.as_deref(),
            reported: self.report.written.as_deref(),
            // Taken when the API server has it.
            reporting: Some(&*self.report.sent).filter(|sent| **sent != NodeStatus::default()),
            host_ips: &self.host_ips,
            runtime: self.runtime.health.as_ref(),
            network_wait: self.runtime.network_wait.as_deref(),
            pressures: self.gauge.current(),
            gauge: &self.gauge,
        }
    }

    /// Whether the Node object has a uid by which others can refer to it.
    pub(crate) fn has_object_uid(&self) -> bool {
        self.object.as_ref().is_some_and(|node| node.metadata.uid.is_some())
    }

    /// The API server's version of the node. Others write to it, too: what they changed of its
    /// status (say, Ready to Unknown) is compared with from now on, and so put right at once.
    pub(crate) fn node_seen(&mut self, node: Arc<ApiNode>, out: &Outbox) {
        if matches!(self.registration, Registration::Awaited) {
            return self.adopt(node);
        }
        if matches!(self.registration, Registration::Made)
            && !out.is_open(&STATUS)
            && let Some(status) = &node.status
        {
            let mut status = status.clone();
            // The watch leaves the images out.
            status.images = self.report.written.as_ref().and_then(|w| w.images.clone());
            let has_changed = self.report.written.as_deref() != Some(&status);
            self.report.written = Some(Arc::new(status));
            self.report.is_dirty |= has_changed;
        }
        self.report.is_dirty |= is_unschedulable(&node) != self.recorded.is_unschedulable;
        self.object = Some(node);
        self.refresh_host_ips();
    }

    /// The same of the version that a write of this node has made, unless the watch has told of a later one meanwhile.
    pub(crate) fn node_written(&mut self, node: Arc<ApiNode>, out: &Outbox) {
        let is_newer = self.object.as_ref().is_none_or(|known| version(known) <= version(&node));
        if is_newer && matches!(self.registration, Registration::Made) {
            self.node_seen(node, out);
        }
    }

    /// Whether the node's storage lets it be ready is known, or known anew.
    pub(crate) fn storage_is(&mut self, storage: StorageState) {
        if self.storage != storage {
            self.report.is_dirty = true;
            self.storage = storage;
        }
    }

    /// Takes in the runtime's answer. Returns whether it became usable, or its network did.
    pub(crate) fn runtime_answered(&mut self, now: Now, answer: Result<RuntimeHealth, String>) -> bool {
        let was_down = self.runtime.error.is_some() || self.runtime.network_wait.is_some();
        let before = (self.runtime.health.clone(), self.runtime.error.is_some());
        self.runtime.answered = Some(now.mono);
        match answer {
            Ok(health) => {
                if health.runtime.is_met {
                    self.runtime.last_ready = Some(now.mono);
                }
                self.runtime.error = None;
                self.runtime.health = Some(health);
            }
            Err(error) => self.runtime.error = Some(error),
        }
        self.refresh_network();
        if before != (self.runtime.health.clone(), self.runtime.error.is_some()) {
            self.report.is_dirty = true;
        }
        was_down && self.runtime.error.is_none() && self.runtime.network_wait.is_none()
    }

    fn refresh_network(&mut self) {
        self.runtime.network_wait = match &self.runtime.health {
            None => Some("container runtime status check may not have completed yet".to_owned()),
            Some(health) if !health.network.is_met => Some(format!(
                "container runtime network not ready: NetworkReady=false reason:{} message:{}",
                health.network.reason, health.network.message
            )),
            Some(_) => None,
        };
    }

    pub(crate) fn relisted(&mut self, now: Now) {
        let was_silent = self.runtime.last_relist.is_none();
        self.runtime.last_relist = Some(now.mono);
        self.report.is_dirty |= was_silent;
    }

    /// What the node waits for, as of the last round.
    pub(crate) fn waits(&self) -> &Arc<Vec<Wait>> {
        self.waits.all()
    }

    /// The node's status as last computed.
    pub(crate) fn status(&self) -> &Arc<NodeStatus> {
        &self.report.current
    }

    // ---- what is done about it ----

    pub(crate) fn drive(&mut self, now: Now, settings: &Settings, out: &mut Outbox) {
        self.drive_report(now, settings, out);
    }

    /// Takes note of what the node waits for; `unsynced` are the sources that have not named their pods yet, and `others`
    /// what its other parts wait for.
    pub(crate) fn note_waits(
        &mut self,
        now: Now,
        startup: Startup,
        unsynced: Vec<Source>,
        others: Found,
        settings: &Settings,
        out: &Outbox,
    ) {
        let mut found = self.find_waits(now, startup, settings, out);
        if !unsynced.is_empty() {
            found.add(WaitOn::Sources(unsynced));
        }
        found.append(others);
        self.waits.update(found, now);
    }

    /// What the round has left open.
    fn find_waits(&self, now: Now, startup: Startup, settings: &Settings, out: &Outbox) -> Found {
        let mut found = Found::default();
        if !startup.is_over() {
            found.add(WaitOn::Restoring);
        }
        let not_ready = self.runtime.health.as_ref().map(|health| &health.runtime).filter(|met| !met.is_met);
        if let Some(error) = &self.runtime.error {
            found.add(WaitOn::Runtime).error = Some(error.clone());
        } else if let Some(condition) = not_ready {
            found.add(WaitOn::Runtime).error = Some(format!("{}: {}", condition.reason, condition.message));
        } else if let Some(since) = self.runtime.answered.filter(|at| now.mono > *at + RUNTIME_SLOW) {
            let wait = found.add(WaitOn::Runtime);
            wait.since = since;
            wait.error = Some("it does not answer the question how it is".to_owned());
        } else if self.runtime.health.is_none() {
            found.add(WaitOn::Runtime);
        } else if let Some(text) = &self.runtime.network_wait {
            found.add(WaitOn::Network).error = Some(text.clone());
        }
        if self.runtime.last_relist.is_none() {
            found.add(WaitOn::FirstRelist);
        }
        if self.readings.sample.is_none() {
            found.add(WaitOn::Measurement);
        }
        match &self.registration {
            _ if !settings.has_api => {}
            Registration::Pending(retry) => {
                found.retrying(WaitOn::Registration, retry.as_ref());
                if let Some(since) = out.since(&REGISTER) {
                    let wait = found.add(WaitOn::Registration);
                    (wait.next_try, wait.since) = (None, since);
                }
            }
            Registration::Awaited => found.retrying(WaitOn::NodeObject, None),
            Registration::Made if out.is_open(&STATUS) || self.report.retry.is_some() => {
                found.retrying(WaitOn::StatusWrite, self.report.retry.as_ref());
                found.add(WaitOn::StatusWrite).since = out.since(&STATUS).unwrap_or_default();
            }
            Registration::Made => {}
        }
        found
    }

    fn drive_report(&mut self, now: Now, settings: &Settings, out: &mut Outbox) {
        if !settings.has_api || self.state(settings).description().is_none() {
            return;
        }
        match &self.registration {
            Registration::Pending(_) if out.is_open(&REGISTER) => {}
            Registration::Pending(None) if !settings.is_registering => {
                self.registration = Registration::Awaited;
                if let Some(node) = self.object.clone() {
                    self.adopt(node);
                }
            }
            Registration::Pending(retry) if retry.as_ref().is_none_or(|retry| retry.next_at <= now.mono) => {
                let is_first = retry.is_none();
                self.register(now, is_first, settings, out);
            }
            Registration::Pending(_) | Registration::Made | Registration::Awaited => {}
        }
        if matches!(self.registration, Registration::Made) {
            self.drive_status(now, settings, out);
        }
    }

    fn register(&mut self, now: Now, is_first: bool, settings: &Settings, out: &mut Outbox) {
        let Some(description) = self.state(settings).description() else { return };
        let mut node = node_status::initial_node(description);
        let unknown = NodeStatus::default();
        let status = self.compute(now, description, &unknown);
        if is_first {
            record(node_status::transition_events(&unknown, &status, &settings.node_name), false, out);
        }
        node.status = Some(status);
        out.start(REGISTER, ApiAction::RegisterNode { node: Box::new(node) });
    }

    /// Reports to this object from now on.
    fn adopt(&mut self, node: Arc<ApiNode>) {
        self.registration = Registration::Made;
        self.report.written = Some(Arc::new(node.status.clone().unwrap_or_default()));
        self.report.is_dirty = true;
        self.object = Some(node);
        self.refresh_host_ips();
    }

    /// Whether enough is known of the runtime and the storage to speak of them. Until then what an earlier process
    /// said stands, for as long as a silence would be tolerated at any other time: otherwise each
    /// restart would make the node not ready for a moment.
    fn may_report(&self, now: Now) -> bool {
        let runtime = &self.runtime;
        let is_known = match &runtime.health {
            Some(health) if !health.runtime.is_met => true,
            Some(_) => runtime.last_relist.is_some() && self.storage != StorageState::Pending,
            None => false,
        };
        let has_spoken = !self.report.next_at.is_zero();
        has_spoken || is_known || self.report.speak_at.is_some_and(|at| at <= now.mono)
    }

    fn drive_status(&mut self, now: Now, settings: &Settings, out: &mut Outbox) {
        self.report.speak_at.get_or_insert(now.after(RUNTIME_SILENCE_LIMIT));
        if !self.may_report(now) {
            return;
        }
        let report = &self.report;
        let is_retry_due = report.retry.as_ref().is_none_or(|r| r.next_at <= now.mono);
        if out.is_open(&STATUS) || !is_retry_due || !(report.is_dirty || report.next_at <= now.mono) {
            return;
        }
        let Some(written) = report.written.clone() else { return };
        let Some(description) = self.state(settings).description() else { return };
        let status = self.compute(now, description, &written);
        let metadata = self
            .object
            .as_ref()
            .map(|node| node_status::metadata_change(description, node))
            .unwrap_or_default();
        if self.report.retry.is_none() {
            record(node_status::transition_events(&written, &status, &settings.node_name), false, out);
        }
        self.tell(&written, &status, &settings.node_name, out);
        self.report.is_dirty = false;
        let every = settings.node_status_update_every;
        self.report.next_at = now.after(every + self.jitter.part_of(every * UPDATE_JITTER_PERCENT / 100));
        self.report.current = Arc::new(status);
        let has_changed = node_status::has_changed(&written, &self.report.current) || !metadata.is_empty();
        if has_changed || self.is_write_due(now) {
            self.plan_next_write(has_changed, settings.node_status_report_every);
            let new = self.report.current.clone();
            self.report.sent = new.clone();
            out.start(STATUS, ApiAction::WriteNodeStatus { old: written, new, metadata });
        } else {
            // What could not be written is no longer to be.
            self.report.retry = None;
        }
    }

    /// Whether the API server has not heard of the node for so long that it has to, news or not.
    fn is_write_due(&self, now: Now) -> bool {
        let report = &self.report;
        report.written_at.is_none_or(|at| now.mono.saturating_sub(at) >= report.write_after)
    }

    /// After news, and at first, the time to the next write is anything from half to one and a half of the usual, so that the
    /// nodes of a cluster that changed together do not write together for ever. Then it is the usual one.
    fn plan_next_write(&mut self, has_changed: bool, every: Duration) {
        let is_first = self.report.written_at.is_none();
        self.report.write_after =
            if has_changed || is_first { every / 2 + self.jitter.part_of(every) } else { every };
    }

    /// Events about what is no condition: that the machine was booted, and whether pods may come.
    fn tell(&mut self, written: &NodeStatus, status: &NodeStatus, name: &str, out: &mut Outbox) {
        if !self.recorded.reboot
            && let Some(event) = node_status::reboot_event(written, status, name)
        {
            self.recorded.reboot = true;
            record(vec![event], true, out);
        }
        let is_unschedulable = self.object.as_deref().is_some_and(is_unschedulable);
        if self.recorded.is_unschedulable != is_unschedulable {
            self.recorded.is_unschedulable = is_unschedulable;
            record(vec![node_status::schedulable_event(is_unschedulable, name)], false, out);
        }
    }

    fn compute(&self, now: Now, node: NodeDescription<'_>, previous: &NodeStatus) -> NodeStatus {
        let errors = self.runtime_errors(now);
        let network_error = self.runtime.network_wait.as_deref().filter(|_| self.runtime.health.is_some());
        let storage_error = self.storage.error();
        let health = NodeHealth {
            runtime_errors: &errors,
            network_error,
            storage_error: storage_error.as_deref(),
            runtime: self.runtime.health.as_ref(),
            pressures: self.gauge.current(),
            is_shutting_down: false,
        };
        node_status::status(node, &health, previous, now)
    }

    /// Why the runtime cannot be used, in upstream's words.
    fn runtime_errors(&self, now: Now) -> Vec<String> {
        let mut errors = Vec::new();
        let runtime = &self.runtime;
        match runtime.last_ready {
            None => errors.push("container runtime status check may not have completed yet".to_owned()),
            Some(at) if now.mono.saturating_sub(at) > RUNTIME_SILENCE_LIMIT => {
                errors.push("container runtime is down".to_owned());
            }
            Some(_) => {}
        }
        if let Some(health) = runtime.health.as_ref().filter(|h| !h.runtime.is_met) {
            errors.push(format!(
                "container runtime not ready: RuntimeReady=false reason:{} message:{}",
                health.runtime.reason, health.runtime.message
            ));
        }
        match runtime.last_relist {
            None => errors.push("PLEG is not healthy: pleg has yet to be successful".to_owned()),
            Some(at) => {
                let silence = now.mono.saturating_sub(at);
                if silence > RELIST_SILENCE_LIMIT {
                    errors.push(format!(
                        "PLEG is not healthy: pleg was last seen active {} ago; threshold is {}",
                        golang::duration::text(silence),
                        golang::duration::text(RELIST_SILENCE_LIMIT)
                    ));
                }
            }
        }
        errors
    }

    pub(crate) fn registered(&mut self, now: Now, outcome: Outcome) {
        match outcome {
            Outcome::Api(ApiOutcome::Registered(node)) => self.adopt(node),
            Outcome::Failed(failure) => {
                let pauses = Pauses { initial: Duration::from_millis(100), max: Duration::from_secs(7) };
                let before = match &self.registration {
                    Registration::Pending(before) => before.as_ref(),
                    Registration::Made | Registration::Awaited => None,
                };
                let retry = Retry::after(before, failure.message, pauses, now);
                self.registration = Registration::Pending(Some(retry));
            }
            _ => {}
        }
    }

    pub(crate) fn status_written(&mut self, now: Now, outcome: Outcome) {
        match outcome {
            Outcome::Api(ApiOutcome::Written { .. }) => {
                self.report.written = Some(std::mem::take(&mut self.report.sent));
                self.report.written_at = Some(now.mono);
                self.report.retry = None;
            }
            Outcome::Gone => {
                self.registration = Registration::Awaited;
                self.object = None;
                self.report.retry = None;
            }
            Outcome::Failed(failure) => {
                let retry = Retry::after(self.report.retry.as_ref(), failure.message, Pauses::CALLS, now);
                self.report.retry = Some(retry);
                self.report.is_dirty = true;
            }
            _ => self.report.is_dirty = true,
        }
    }

    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        if self.machine.is_none() || self.readings.sample.is_none() {
            return None;
        }
        match &self.registration {
            Registration::Pending(Some(retry)) if !out.is_open(&REGISTER) => Some(retry.next_at),
            Registration::Made if !out.is_open(&STATUS) => {
                if self.report.next_at.is_zero() {
                    // Still silent: what ends that sooner comes as an input.
                    return self.report.speak_at;
                }
                let retry = self.report.retry.as_ref().map(|r| r.next_at);
                let runtime =
                    self.runtime.last_ready.map(|at| at + RUNTIME_SILENCE_LIMIT + Duration::from_secs(1));
                let silent = runtime.filter(|at| *at > self.report.next_at);
                retry.or_else(|| earliest(Some(self.report.next_at), silent))
            }
            _ => None,
        }
    }
}

/// Versions of one object can be compared (KEP-5504). That of a Node made anew is a later one, too.
fn version(node: &ApiNode) -> u64 {
    node.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Whether new pods are kept away (`kubectl cordon`).
fn is_unschedulable(node: &ApiNode) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

fn record(events: Vec<(&'static str, String)>, is_warning: bool, out: &mut Outbox) {
    for (reason, message) in events {
        let about = EventObject::Node;
        out.record(EventRecord { about, is_warning, reason: reason.into(), message });
    }
}

#[cfg(test)]
mod tests;
