//! The one owner of all state: takes inputs, routes them to the pod or the node part they
//! concern, and returns the effects that follow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::references::ObjectName;
use model::{ContainerId, Now, Pod, PodKey, PodUid, pod};
use serde::{Deserialize, Serialize};

use crate::checkpoints::Checkpoints;
use crate::container_gc;
use crate::cx::Cx;
use crate::effect::{ApiOutcome, Effect, EffectId, EventObject, EventRecord, Outcome, StateFile};
use crate::eviction::Eviction;
use crate::image_gc::ImageGc;
use crate::input::{DamagedFile, Input, Restored, RuntimeChange, Source};
use crate::mirrors::Mirrors;
use crate::node_lifecycle::NodeLifecycle;
use crate::outbox::Outbox;
use crate::plugins::Plugins;
use crate::pod_cgroups::PodCgroups;
use crate::pod_cidr::PodCidr;
use crate::pods::admitting::{admission_wait, admit_waiting};
use crate::pods::life::{EndCause, Phase, Step};
use crate::pods::record::{Desired, PodRecord};
use crate::pods::registry::PodRegistry;
use crate::pods::seen::Seen;
use crate::pressure::Sample;
use crate::qos_cgroups::QosCgroups;
use crate::relist::Relist;
use crate::retained_logs::RetainedLogs;
use crate::schedule::{Key, Schedule, earliest};
use crate::settings::Settings;
use crate::startup::Startup;
use crate::tasks::{NodeTask, Owner, PodTask};
use crate::view::{Tallies, View, ViewBuilder};
use crate::volumes::Volumes;
use crate::wait::Found;

/// The context of a step. It borrows some parts of the node and leaves the others free.
macro_rules! cx {
    ($node:ident, $now:expr) => {
        Cx::new(
            $now,
            &$node.settings,
            $node.lifecycle.state(&$node.settings),
            &mut $node.checkpoints,
            &mut $node.volumes,
            $node.image_gc.removals(),
            &mut $node.out,
        )
    };
}

/// A node: everything that is known, and every decision.
///
/// It is driven by [`Node::step`] alone. Equal sequences of `(now, input)` give equal sequences
/// of effects. Written down and read again between two steps, it goes on as if nothing had been.
#[derive(Debug, Serialize, Deserialize)]
pub struct Node {
    pub(crate) settings: Settings,
    startup: Startup,
    pub(crate) pods: PodRegistry,
    pub(crate) synced: BTreeSet<Source>,
    pub(crate) mirrors: Mirrors,
    pub(crate) lifecycle: NodeLifecycle,
    pub(crate) retained_logs: RetainedLogs,
    checkpoints: Checkpoints,
    pub(crate) out: Outbox,
    relist: Relist,
    pod_cidr: PodCidr,
    qos_cgroups: QosCgroups,
    #[serde(default)]
    plugins: Plugins,
    pod_cgroups: PodCgroups,
    volumes: Volumes,
    #[serde(default)]
    image_gc: ImageGc,
    #[serde(default)]
    eviction: Eviction,
    schedule: Schedule,
    /// Made anew from the pods.
    #[serde(skip)]
    view: ViewBuilder,
    tallies: Tallies,
}

impl Node {
    /// A node that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        let mut node = Self {
            qos_cgroups: QosCgroups::new(settings.limits_qos_memory),
            pod_cgroups: PodCgroups::new(&settings),
            lifecycle: NodeLifecycle::new(settings.seed),
            pod_cidr: PodCidr::new(&settings.pod_cidr),
            settings,
            startup: Startup::default(),
            pods: PodRegistry::default(),
            synced: BTreeSet::new(),
            mirrors: Mirrors::default(),
            retained_logs: RetainedLogs::default(),
            checkpoints: Checkpoints::default(),
            out: Outbox::default(),
            relist: Relist::default(),
            plugins: Plugins::default(),
            volumes: Volumes::default(),
            image_gc: ImageGc::default(),
            eviction: Eviction::default(),
            schedule: Schedule::default(),
            view: ViewBuilder::default(),
            tallies: Tallies::default(),
        };
        node.schedule_parts();
        node
    }

    /// One on a host on which no earlier process has left anything, and that knows so, and what the machine is.
    #[cfg(test)]
    pub(crate) fn begun(settings: Settings, machine: crate::machine::Machine) -> Self {
        let plugins = Plugins::initialized();
        let mut node = Self { startup: Startup::Restored, plugins, ..Self::new(settings) };
        node.lifecycle.machine_found(machine, &node.settings);
        node
    }

    /// The same node when it was read from where it had been written: what is published follows from the rest.
    #[must_use]
    pub fn awoken(mut self) -> Self {
        self.pods.iter().for_each(|record| self.view.update(record, &self.volumes));
        self
    }

    /// Takes in one thing that happened at `now` and returns what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.out.begin(now);
        self.take_in(now, input);
        if self.lifecycle.has_moved() {
            // Every pod's status has the node's addresses.
            self.pods.mark_all();
        }
        self.wake(now);
        self.relist.drive(now, &mut self.out);
        match self.startup {
            Startup::Restoring => self.note_restoring(now),
            Startup::Restored => self.drive_parts(now),
        }
        self.schedule_parts();
        self.out.take()
    }

    /// Each part and each pod that has something to do does it.
    fn drive_parts(&mut self, now: Now) {
        let mut cx = cx!(self, now);
        self.plugins.drive(&mut cx);
        self.volumes_may_go_on();
        self.lifecycle.storage_is(self.plugins.csi().state(&self.settings));
        self.lifecycle.drive(now, &self.settings, &mut self.out);
        self.pod_cidr.drive(now, &mut self.out);
        self.retained_logs.drive(&mut self.pods, now);
        self.drive_eviction(now);
        loop {
            let mut cx = cx!(self, now);
            admit_waiting(&mut self.pods, &mut cx);
            let has_made_room = self.drive_dirty(now);
            if !has_made_room {
                break;
            }
        }
        let are_synced = self.are_sources_synced();
        self.volumes.drive(are_synced, now, &mut self.out);
        if let Some(names) = self.volumes.newly_in_use() {
            // Volumes wait until that is written.
            self.lifecycle.volumes_in_use_are(names);
            self.lifecycle.drive(now, &self.settings, &mut self.out);
        }
        let readings = self.lifecycle.state(&self.settings).readings;
        self.image_gc.drive(&self.pods, readings, &self.settings, now, &mut self.out);
        // Images may be through.
        self.drive_eviction(now);
        let mut cx = cx!(self, now);
        container_gc::cap_dead_containers(&mut self.pods, &mut cx);
        self.pod_cgroups.drive(&self.pods, &mut cx);
        if are_synced {
            self.mirrors.remove_strays(&mut self.pods, &mut cx);
            self.qos_cgroups.drive(self.pods.ledger().qos_amounts(), &mut cx);
        }
        self.checkpoints.drive(now, &mut self.out);
        self.note_node_waits(now);
    }

    fn drive_eviction(&mut self, now: Now) {
        // Before that it is not known what pods have.
        if !self.relist.has_succeeded() {
            return;
        }
        let are_images_going = self.image_gc.is_demanded();
        let evicted = self.eviction.drive(&mut self.pods, are_images_going, &mut cx!(self, now));
        if let Some(signal) = evicted {
            *self.tallies.evicted.entry(signal).or_default() += 1;
        }
        if self.eviction.takes_images() {
            self.image_gc.demand();
        }
    }

    /// The node and its pods wait for what earlier processes have left to be found.
    fn note_restoring(&mut self, now: Now) {
        self.note_node_waits(now);
        while let Some(uid) = self.pods.take_dirty() {
            let Some(mut record) = self.pods.get_mut(&uid) else { continue };
            record.note_restoring(now);
            self.view.update(&record, &self.volumes);
        }
    }

    fn note_node_waits(&mut self, now: Now) {
        let mut of_parts = Found::default();
        self.checkpoints.find_waits(&self.out, &mut of_parts);
        self.pod_cidr.find_waits(&mut of_parts);
        self.qos_cgroups.find_waits(self.pods.ledger().qos_amounts(), &mut of_parts);
        self.plugins.find_waits(&self.out, &mut of_parts);
        self.volumes.find_unused(&mut of_parts);
        self.mirrors.find_waits(&mut of_parts);
        self.image_gc.find_waits(&self.settings, &self.out, &mut of_parts);
        self.eviction.find_waits(self.lifecycle.state(&self.settings).gauge, &mut of_parts);
        let unsynced = self.unsynced();
        self.lifecycle.note_waits(now, self.startup, unsynced, of_parts, &self.settings, &self.out);
    }

    /// When [`Node::step`] wants to be called at the latest, with [`Input::Tick`] if nothing else
    /// happened; monotonic.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.schedule.next()
    }

    /// The parts of the node say when they have something to do; pods did when they were driven.
    fn schedule_parts(&mut self) {
        self.schedule.set(Key::Relist, self.relist.next_deadline(&self.out));
        if !self.startup.is_over() {
            return;
        }
        self.schedule.set(Key::NodeLifecycle, self.lifecycle.next_deadline(&self.out));
        self.schedule.set(Key::PodCidr, self.pod_cidr.next_deadline(&self.out));
        let amounts = self.pods.ledger().qos_amounts();
        let qos_cgroups =
            self.qos_cgroups.next_deadline(amounts, &self.out).filter(|_| self.are_sources_synced());
        self.schedule.set(Key::QosCgroups, qos_cgroups);
        self.schedule.set(Key::PodCgroups, self.pod_cgroups.next_deadline(&self.out));
        self.schedule.set(Key::Checkpoints, self.checkpoints.next_deadline(&self.out));
        self.schedule.set(Key::Mirrors, self.mirrors.next_deadline(&self.out));
        self.schedule.set(Key::Plugins, self.plugins.next_deadline(&self.out));
        self.schedule.set(Key::Volumes, self.volumes.next_deadline());
        self.schedule.set(Key::ImageGc, self.image_gc.next_deadline(&self.settings));
        self.schedule.set(Key::Eviction, self.eviction.next_deadline());
        self.schedule.set(Key::RetainedLogs, self.retained_logs.next_deadline());
    }

    /// What is published: an immutable picture, cheap to make since unchanged pods are shared
    /// with the last one.
    pub fn view(&self) -> Arc<View> {
        let are_synced = self.are_sources_synced();
        let (mirrors, tallies) = (self.mirrors.len(), self.tallies.clone());
        self.view.build(&self.lifecycle, &self.plugins, are_synced, mirrors, tallies)
    }

    /// How many actions are under way.
    pub fn in_flight(&self) -> usize {
        self.out.in_flight()
    }

    fn take_in(&mut self, now: Now, input: Input) {
        match input {
            Input::Restored(restored) => self.restored(*restored),
            Input::PodsListed { source, pods } => self.pods_listed(now, source, pods),
            Input::PodApplied { source, pod } => self.pod_applied(now, source, pod),
            Input::PodDeleted { source, uid } => self.pod_deleted(now, source, &uid),
            Input::RuntimeHint { uid, container, change } => self.runtime_hint(&uid, &container, change),
            Input::EventStream { is_connected } => self.relist.event_stream(is_connected, &self.out),
            Input::RuntimeHealth(health) => {
                if self.lifecycle.runtime_answered(now, health) {
                    // Back, or its network came up: whatever waited for that goes on.
                    self.relist.want(&self.out);
                    self.pods.mark_all();
                }
                self.pods.mark_admitting();
            }
            Input::Finished { id, outcome } => self.finished(now, id, outcome),
            Input::NodeObject(node) => {
                let was_known = self.lifecycle.has_object_uid();
                self.pod_cidr.of_node(&node);
                self.lifecycle.node_seen(node, &self.out);
                self.pods.mark_admitting();
                self.attachments_may_have_changed();
                self.mirrors_may_be_made(was_known);
            }
            Input::NodeAddresses(addresses) => self.lifecycle.addresses_found(addresses),
            Input::RuntimeVersion { name, version } => {
                if self.lifecycle.runtime_named(name, version) {
                    self.pods.mark_all();
                }
            }
            Input::RuntimeClasses(classes) => {
                self.lifecycle.runtime_classes_listed(classes);
                self.pods.mark_where(|pod| pod.runtime_classes_changed(now));
            }
            Input::PluginSockets(sockets) => self.plugins.sockets_found(&sockets, &mut self.out),
            Input::CsiDrivers(objects) => self.plugins.csi_mut().objects_listed(objects, now),
            Input::Images(images) => {
                self.image_gc.listed(&images, now);
                self.lifecycle.images_listed(images);
            }
            Input::Sample(sample) => self.sampled(sample),
            Input::ObjectChanged(object) => self.object_changed(now, &object),
            Input::ManyObjectsChanged => {
                self.pods.mark_where(|pod| {
                    pod.refresh_volumes(now);
                    true
                });
            }
            // They are the cluster's, and change seldom.
            Input::TrustBundlesChanged(sources) => {
                self.pods.mark_where(|pod| pod.trust_bundles_changed(&sources, now));
            }
            Input::PodCertificateChanged(uid) => {
                if let Some(mut pod) = self.pods.get_mut(&uid) {
                    pod.refresh_volumes(now);
                }
                self.pods.mark(uid);
            }
            Input::Tick => {}
        }
    }

    /// What was measured for an eviction, the node or its pods.
    fn measured(&mut self, outcome: Outcome) {
        if let Some(sample) = self.eviction.finished(outcome) {
            self.sampled(sample);
        }
    }

    /// What the node has left was measured; not before what was measured last, which others may have asked for.
    fn sampled(&mut self, sample: Sample) {
        let last = &self.lifecycle.state(&self.settings).readings.sample;
        if last.as_ref().is_some_and(|last| last.at > sample.at) {
            return;
        }
        self.image_gc.sampled(&sample, &self.settings);
        if self.lifecycle.sampled(sample, &self.settings) {
            self.pods.mark_admitting();
        }
    }

    /// Mirrors name the Node object as their owner: none is made before it is known.
    fn mirrors_may_be_made(&mut self, was_known: bool) {
        if !was_known && self.lifecycle.has_object_uid() {
            self.pods.mark_where(|pod| pod.desired.is_static());
        }
    }

    // ---- desired ----

    fn pods_listed(&mut self, now: Now, source: Source, mut pods: Vec<Arc<Pod>>) {
        self.drop_namesakes(source, &mut pods);
        let listed: BTreeSet<PodUid> = pods.iter().map(|p| pod::uid(p)).collect();
        let known = self
            .pods
            .iter()
            .filter(|p| matches!(&p.desired, Desired::Present { source: s, .. } if *s == source));
        let mut gone: Vec<PodUid> = known.map(|p| p.uid.clone()).collect();
        if source == Source::Api {
            gone.extend(self.mirrors.uids());
        }
        gone.retain(|uid| !listed.contains(uid));
        for uid in gone {
            self.pod_deleted(now, source, &uid);
        }
        for pod in pods {
            self.pod_applied(now, source, pod);
        }
        if self.synced.insert(source) {
            // What no source knows can be told from now on.
            self.pods.mark_all();
            self.forget_entries();
        }
    }

    /// Of several pods of one name in one list only the first counts, as upstream has it.
    fn drop_namesakes(&mut self, source: Source, pods: &mut Vec<Arc<Pod>>) {
        if source == Source::Api {
            return;
        }
        let mut names = BTreeSet::new();
        pods.retain(|pod| {
            let (key, uid) = (pod::key(pod), pod::uid(pod));
            if names.insert(key.clone()) {
                return true;
            }
            let message = format!(
                "Error validating pod {}_{}({uid}) from {} due to duplicate pod name {:?}, ignoring",
                key.name,
                key.namespace,
                source.as_str(),
                key.name
            );
            self.out.record(EventRecord {
                about: EventObject::Pod { key, uid, field_path: None },
                is_warning: true,
                reason: model::reason::event::FAILED_VALIDATION.into(),
                message,
            });
            false
        });
    }

    fn pod_applied(&mut self, now: Now, source: Source, pod: Arc<Pod>) {
        let (uid, key) = (pod::uid(&pod), pod::key(&pod));
        if source == Source::Api && pod::is_mirror(&pod) {
            self.mirrors.applied(pod);
            self.pods.mark_named(&key);
            return;
        }
        self.pods.mark(uid.clone());
        let mut cx = cx!(self, now);
        let known = self.pods.get(&uid).and_then(|record| record.desired.pod());
        let pod = if source == Source::Api { with_origin(pod, known, now) } else { pod };
        let Some(mut record) = self.pods.get_mut(&uid) else {
            let mut record = PodRecord::new(uid.clone(), key, Desired::Present { source, pod });
            if self.relist.has_succeeded() {
                record.seen = Seen::nothing(uid.clone(), record.key.clone());
            }
            self.retained_logs.returned(&uid);
            self.pods.insert(record);
            return;
        };
        record.pod_changed(source, pod, &mut cx);
    }

    fn pod_deleted(&mut self, now: Now, source: Source, uid: &PodUid) {
        if let Some(key) = self.mirrors.deleted(uid) {
            let statics: Vec<PodUid> =
                self.pods.named(&key).filter(|p| p.desired.is_static()).map(|p| p.uid.clone()).collect();
            for uid in statics {
                let Some(mut record) = self.pods.get_mut(&uid) else { continue };
                record.mirror = Step::Todo;
                record.report.api_uid = None;
                record.report.version = 0;
            }
            self.pods.mark_named(&key);
            return;
        }
        let mut cx = cx!(self, now);
        let Some(mut record) = self.pods.get_mut(uid) else { return };
        let Desired::Present { pod, .. } = &record.desired else { return };
        record.desired = Desired::Removed { source, pod: pod.clone() };
        record.report.is_gone |= source == Source::Api;
        cx.checkpoints.remove(StateFile::AllocatedPods, uid);
        record.begin_end(EndCause::Deleted, &mut cx);
        drop(record);
        self.pods.mark(uid.clone());
    }

    fn object_changed(&mut self, now: Now, object: &ObjectName) {
        for uid in self.pods.referring_to(object) {
            let Some(mut record) = self.pods.get_mut(&uid) else { continue };
            let is_concerned = record.object_changed(object, now);
            drop(record);
            if is_concerned {
                self.pods.mark(uid);
            }
        }
    }

    /// Whatever was heard of until now has its turn.
    fn restored(&mut self, restored: Restored) {
        self.startup = Startup::Restored;
        self.lifecycle.machine_found(restored.machine, &self.settings);
        for (file, content) in restored.files {
            match content {
                Ok(content) => self.checkpoints.restored(file, content),
                Err(damaged) => self.tell_damaged(file, &damaged),
            }
        }
        let with_volumes = self.volumes.found(&restored.volumes);
        for uid in restored.pods.into_iter().chain(with_volumes) {
            if !self.pods.contains(&uid) {
                self.insert_orphan(uid.clone(), PodKey::new("", ""));
            }
            if let Some(mut record) = self.pods.get_mut(&uid) {
                record.life.found_on_host();
            }
        }
        self.pods.mark_all();
        self.forget_entries();
    }

    fn tell_damaged(&mut self, file: StateFile, damaged: &DamagedFile) {
        let DamagedFile { error, kept_as } = damaged;
        let place = kept_as.as_ref().map_or_else(
            || "and cannot be set aside".to_owned(),
            |path| format!("and was set aside as {path}"),
        );
        let message = format!(
            "State file {} cannot be used ({error}) {place}; the kubelet goes on from what pods are seen to have",
            file.name(),
        );
        let reason = model::reason::event::STATE_FILE_DAMAGED.into();
        self.out.record(EventRecord { about: EventObject::Node, is_warning: true, reason, message });
    }

    /// Leaves out of the state files what no source knows, once all have named their pods.
    fn forget_entries(&mut self) {
        if !self.startup.is_over() || !self.are_sources_synced() {
            return;
        }
        let pods = &self.pods;
        let is_wanted = |uid: &PodUid| pods.get(uid).is_some_and(|pod| pod.desired.is_present());
        self.checkpoints.retain(StateFile::AllocatedPods, is_wanted);
        self.checkpoints.retain(StateFile::ActuatedPods, |uid| pods.contains(uid));
    }

    fn insert_orphan(&mut self, uid: PodUid, key: PodKey) {
        let mut record = PodRecord::new(uid.clone(), key, Desired::Orphan);
        if self.relist.has_succeeded() {
            record.seen = Seen::nothing(uid.clone(), record.key.clone());
        }
        self.pods.insert(record);
    }

    // ---- observed ----

    fn relisted(&mut self, now: Now, outcome: Outcome) {
        if self.relist.finished(outcome, &mut self.pods, now, &mut self.out) {
            self.lifecycle.relisted(now);
            self.image_gc.relisted();
        }
    }

    fn runtime_hint(&mut self, uid: &PodUid, container: &ContainerId, change: RuntimeChange) {
        let Some(mut record) = self.pods.get_mut(uid) else {
            // A pod nobody knows: the relist will find it if it is still there.
            return;
        };
        if record.hints_at_change(container, change) {
            record.seen.outdate();
            drop(record);
            self.pods.mark(uid.clone());
        }
    }

    // ---- results ----

    fn finished(&mut self, now: Now, id: EffectId, outcome: Outcome) {
        let Some(owner) = self.out.finish(id) else { return };
        match owner {
            Owner::Node(NodeTask::Relist) => self.relisted(now, outcome),
            Owner::Node(NodeTask::Register) => {
                let was_known = self.lifecycle.has_object_uid();
                if let Outcome::Api(ApiOutcome::Registered(node)) = &outcome {
                    self.pod_cidr.of_node(node);
                }
                self.lifecycle.registered(now, outcome);
                self.pods.mark_admitting();
                self.attachments_may_have_changed();
                self.mirrors_may_be_made(was_known);
            }
            Owner::Node(NodeTask::Status) => {
                self.lifecycle.status_written(now, outcome);
                self.attachments_may_have_changed();
            }
            Owner::Node(NodeTask::PodCidr) => self.pod_cidr.finished(now, outcome),
            Owner::Node(NodeTask::QosCgroups) => self.qos_cgroups.finished(outcome, now),
            Owner::Node(NodeTask::CsiNode) => {
                if let Outcome::Api(ApiOutcome::Node(node)) = &outcome {
                    self.lifecycle.node_written(node.clone(), &self.out);
                }
                self.plugins.csi_mut().finished(outcome, now);
            }
            Owner::Node(NodeTask::ImageGc) => self.image_gc.finished(outcome, now, &mut self.out),
            Owner::Node(NodeTask::Eviction) => self.measured(outcome),
            Owner::Plugin(socket) => self.plugins.finished(&socket, outcome, &mut cx!(self, now)),
            Owner::CsiDriver(name) => self.plugins.csi_mut().asked_again(&name, outcome),
            Owner::Node(NodeTask::PodCgroups) => PodCgroups::finished(outcome, &mut self.pods),
            Owner::Claim(claim) => {
                let concerned = self.volumes.claim_read(&claim, outcome, now);
                self.mark_all_of(concerned);
            }
            Owner::Volume(name) => {
                let concerned = self.volumes.volume_done(&name, &outcome, now);
                self.mark_all_of(concerned);
            }
            Owner::Publication(uid, name) => {
                let concerned = self.volumes.publication_done(&uid, &name, &outcome, now);
                self.mark_all_of(concerned);
            }
            Owner::Checkpoint(file) => {
                let concerned = self.checkpoints.finished(file, outcome, now);
                concerned.into_iter().for_each(|uid| self.pods.mark(uid));
            }
            Owner::CheckpointSync(file) => self.checkpoints.synced(file, outcome, now),
            Owner::StrayMirror(uid) => {
                self.mirrors.removal_done(&uid, &outcome, now);
                // A static pod that came meanwhile takes over from here.
                if let Some(key) = self.mirrors.key_of(&uid) {
                    self.pods.mark_named(&key);
                }
            }
            Owner::Pod(uid, task) => {
                if task.is_change() || task == PodTask::Observe {
                    self.relist.touched(uid.clone());
                }
                self.image_gc.pod_task_ended(&outcome, now);
                let mut cx = cx!(self, now);
                let Some(mut record) = self.pods.get_mut(&uid) else { return };
                record.finished(task, outcome, &mut cx);
                drop(record);
                self.pods.mark(uid);
            }
        }
    }

    // ---- volumes of drivers ----

    /// Drivers may have come, gone or changed, which pods wait for.
    fn volumes_may_go_on(&mut self) {
        let concerned = self.volumes.drivers_are(self.plugins.csi().callable());
        self.mark_all_of(concerned);
    }

    /// What the Node object says of attached volumes may be something else.
    fn attachments_may_have_changed(&mut self) {
        let concerned = self.volumes.node_changed();
        self.mark_all_of(concerned);
    }

    fn mark_all_of(&mut self, uids: BTreeSet<PodUid>) {
        uids.into_iter().for_each(|uid| self.pods.mark(uid));
    }

    // ---- decisions ----

    /// Pods whose time has come are looked at; the parts are in every step.
    fn wake(&mut self, now: Now) {
        while let Some(key) = self.schedule.take_due(now.mono) {
            if let Key::Pod(uid) = key {
                self.pods.mark(uid);
            }
        }
    }

    /// The sources that have not named their pods yet.
    fn unsynced(&self) -> Vec<Source> {
        self.settings.sources.iter().copied().filter(|s| !self.synced.contains(s)).collect()
    }

    fn are_sources_synced(&self) -> bool {
        self.settings.sources.iter().all(|s| self.synced.contains(s))
    }

    /// Returns whether a pod's end lets successors of the same name in.
    fn drive_dirty(&mut self, now: Now) -> bool {
        let mut ended: BTreeSet<PodKey> = BTreeSet::new();
        while let Some(uid) = self.pods.take_dirty() {
            self.end_orphan(now, &uid);
            ended.extend(self.drive_pod(now, &uid));
            ended.extend(self.forget(now, &uid));
        }
        for key in &ended {
            self.pods.mark_waiting_for(key);
        }
        self.pods.has_dirty()
    }

    /// A pod that no source knows, now that all have named theirs, is to end.
    fn end_orphan(&mut self, now: Now, uid: &PodUid) {
        if !self.are_sources_synced() {
            return;
        }
        let mut cx = cx!(self, now);
        let Some(mut record) = self.pods.get_mut(uid) else { return };
        let is_orphan = matches!(record.desired, Desired::Orphan) && record.life.is_admitting();
        if is_orphan && let Some(observed) = record.seen.last() {
            let is_in_runtime = !observed.sandboxes.is_empty() || !observed.containers.is_empty();
            self.tallies.orphans += u64::from(is_in_runtime);
            record.begin_end(EndCause::Orphaned, &mut cx);
        }
    }

    /// One round of one pod. Returns its name when it has ended in it.
    fn drive_pod(&mut self, now: Now, uid: &PodUid) -> Option<PodKey> {
        let has_mirror = self.has_mirror(uid);
        let state = self.lifecycle.state(&self.settings);
        let admission = admission_wait(&self.pods, uid, self.unsynced(), state);
        let mut cx = cx!(self, now);
        let mut held = self.pods.get_mut(uid)?;
        let record = &mut *held;
        let had_ended = record.life.has_ended();
        let mut next = record.drive(&mut cx);
        let has_ended = !had_ended && record.life.has_ended();
        if has_mirror {
            next = earliest(next, self.mirrors.drive(record, &mut cx));
        }
        record.note_progress(admission, &cx);
        self.schedule.set(Key::Pod(uid.clone()), next);
        has_ended.then(|| record.key.clone())
    }

    /// Shows the pod as it is now, or forgets it when nothing of it is left. Returns the name of a static pod that begins
    /// anew.
    fn forget(&mut self, now: Now, uid: &PodUid) -> Option<PodKey> {
        let record = self.pods.get(uid)?;
        if !record.is_forgettable() {
            self.view.update(record, &self.volumes);
            return None;
        }
        let (key, desired) = (record.key.clone(), record.desired.clone());
        let (leaves_logs, attempts) = (record.leaves_logs(), record.attempts());
        self.pods.remove(uid);
        self.schedule.set(Key::Pod(uid.clone()), None);
        self.view.remove(uid);
        self.checkpoints.remove(StateFile::ActuatedPods, uid);
        if desired.is_present() {
            // The same static pod again.
            self.tallies.restarted_static += 1;
            let mut again = PodRecord::new(uid.clone(), key.clone(), desired);
            again.seen = Seen::nothing(uid.clone(), key.clone());
            again.count_on_from(&attempts);
            self.pods.insert(again);
            return Some(key);
        }
        if leaves_logs {
            self.retained_logs.keep(uid.clone(), key, now);
        }
        None
    }

    /// Whether the mirror of that name is this pod's to keep. One that waits for its predecessor leaves
    /// it to that one, whose end the mirror shows.
    fn has_mirror(&self, uid: &PodUid) -> bool {
        let Some(record) = self.pods.get(uid) else { return false };
        let is_before = |other: &PodRecord| {
            other.uid != record.uid && other.desired.is_static() && other.life.is_active()
        };
        record.desired.is_static()
            && record.desired.is_present()
            && self.synced.contains(&Source::Api)
            && match record.life.phase() {
                Phase::Admitting => false,
                Phase::Running | Phase::Terminating => true,
                Phase::Terminated => !self.pods.named(&record.key).any(is_before),
            }
    }
}

/// A pod of the API server with what a kubelet adds to each pod it takes in, whatever the object has
/// there: whence it came, and when it was first seen. Static pods have that from their source.
fn with_origin(mut pod: Arc<Pod>, known: Option<&Arc<Pod>>, now: Now) -> Arc<Pod> {
    let seen = known.and_then(|known| pod::annotation(known, pod::ANNOTATION_CONFIG_SEEN));
    let seen = seen.map_or_else(|| format!("{:.9}", now.wall), str::to_owned);
    let annotations = Arc::make_mut(&mut pod).metadata.annotations.get_or_insert_default();
    annotations.insert(pod::ANNOTATION_CONFIG_SEEN.to_owned(), seen);
    annotations.insert(pod::ANNOTATION_CONFIG_SOURCE.to_owned(), Source::Api.as_str().to_owned());
    pod
}
