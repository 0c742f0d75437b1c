//! The one owner of all state: takes inputs, routes them to the pod or the node part they
//! concern, and returns the effects that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{ContainerId, Now, Pod, PodKey, PodObservation, PodUid, pod};

use crate::classes::{self, ClassLimits};
use crate::effect::{Action, Effect, EffectId, EventObject, EventRecord};
use crate::input::{Input, ObjectName, Outcome, RuntimeChange, Source};
use crate::machine::Machine;
use crate::mirrors::Mirrors;
use crate::old_logs::OldLogs;
use crate::outbox::{Outbox, Place};
use crate::pod_cidr::PodCidr;
use crate::pods::record::{Desired, EndCause, Phase, PodRecord, Step};
use crate::pods::{Context, Slot, probes::earliest};
use crate::settings::Settings;
use crate::view::{Tallies, View, ViewBuilder};

/// A node: everything that is known, and every decision.
///
/// It is driven by [`Node::step`] alone. Equal sequences of `(now, input)` give equal sequences
/// of effects.
#[derive(Debug)]
pub struct Node {
    pub(crate) settings: Settings,
    pub(crate) pods: BTreeMap<PodUid, PodRecord>,
    pub(crate) synced: BTreeSet<Source>,
    pub(crate) mirrors: Mirrors,
    pub(crate) machine: Machine,
    pub(crate) old_logs: OldLogs,
    pub(crate) out: Outbox,
    relist: Relist,
    pod_cidr: PodCidr,
    classes: ClassLimits,
    dirty: BTreeSet<PodUid>,
    wakes: BTreeMap<PodUid, Duration>,
    view: ViewBuilder,
    tallies: Tallies,
}

/// The full relist: what repairs whatever else was lost.
#[derive(Debug, Default)]
struct Relist {
    is_busy: bool,
    /// Monotonic time of the next; zero at start.
    next_at: Duration,
    /// Asked for again while one was under way.
    is_wanted: bool,
    has_succeeded: bool,
    has_events: bool,
    /// Pods read or changed since the relist under way began: for them it is no news.
    touched: BTreeSet<PodUid>,
}

impl Node {
    /// A node that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            classes: ClassLimits::new(settings.limits_class_memory),
            machine: Machine::new(settings.seed),
            settings,
            pods: BTreeMap::new(),
            synced: BTreeSet::new(),
            mirrors: Mirrors::default(),
            old_logs: OldLogs::default(),
            out: Outbox::default(),
            relist: Relist::default(),
            pod_cidr: PodCidr::default(),
            dirty: BTreeSet::new(),
            wakes: BTreeMap::new(),
            view: ViewBuilder::default(),
            tallies: Tallies::default(),
        }
    }

    /// Takes in one thing that happened at `now` and returns what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.take_in(now, input);
        if self.machine.has_moved() {
            // Every pod's status has the node's addresses.
            self.dirty.extend(self.pods.keys().cloned());
        }
        self.wake(now);
        self.drive_relist(now);
        self.machine.drive(now, &self.settings, &mut self.out);
        self.pod_cidr.drive(now, &mut self.out);
        self.remove_old_logs(now);
        loop {
            self.admit_waiting(now);
            let has_made_room = self.drive_dirty(now);
            if !has_made_room {
                break;
            }
        }
        self.remove_stray_mirrors(now);
        if self.are_sources_synced() {
            self.classes.drive(now, self.pods.values(), &mut self.out);
        }
        self.out.take()
    }

    /// When [`Node::step`] wants to be called at the latest, with [`Input::Tick`] if nothing else
    /// happened; monotonic.
    pub fn next_deadline(&self) -> Option<Duration> {
        let relist = (!self.relist.is_busy).then_some(self.relist.next_at);
        let pods = self.wakes.values().min().copied();
        let classes = self.classes.next_deadline().filter(|_| self.are_sources_synced());
        let old_logs = self.old_logs.next_deadline();
        let pod_cidr = self.pod_cidr.next_deadline();
        [
            relist,
            pod_cidr,
            pods,
            self.machine.next_deadline(),
            self.mirrors.next_deadline(),
            classes,
            old_logs,
        ]
        .into_iter()
        .fold(None, earliest)
    }

    /// What is published: an immutable picture, cheap to make since unchanged pods are shared
    /// with the last one.
    pub fn view(&mut self) -> Arc<View> {
        self.view.build(&self.machine, self.mirrors.len(), self.tallies)
    }

    /// How many actions are under way.
    pub fn in_flight(&self) -> usize {
        self.out.in_flight()
    }

    fn take_in(&mut self, now: Now, input: Input) {
        match input {
            Input::PodsListed { source, pods } => self.pods_listed(now, source, pods),
            Input::PodApplied { source, pod } => self.pod_applied(now, source, pod),
            Input::PodDeleted { source, uid } => self.pod_deleted(now, source, &uid),
            Input::RuntimeHint { uid, container, change } => self.runtime_hint(&uid, &container, change),
            Input::EventStream { is_connected } => {
                self.relist.has_events = is_connected;
                self.want_relist();
            }
            Input::RuntimeHealth(health) => {
                if self.machine.runtime_answered(now, health) {
                    // Back, or its network came up: whatever waited for that goes on.
                    self.want_relist();
                    self.dirty.extend(self.pods.keys().cloned());
                }
            }
            Input::Finished { id, outcome } => self.finished(now, id, outcome),
            Input::NodeObject(node) => {
                let was_known = self.machine.node_uid().is_some();
                self.pod_cidr.of_node(&node);
                self.machine.node_seen(node);
                self.mark_admitting();
                self.mirrors_may_be_made(was_known);
            }
            Input::NodeFacts(facts) => {
                self.pod_cidr.configured(&facts.pod_cidr);
                self.machine.measured(now, *facts);
                self.mark_admitting();
            }
            Input::Observations(observed) => {
                if self.machine.observed(now, &observed, &self.settings) {
                    self.mark_admitting();
                }
            }
            Input::ObjectChanged(object) => self.object_changed(now, &object),
            Input::ManyObjectsChanged => {
                self.pods.values_mut().for_each(|p| p.refresh_volumes(now));
                self.dirty.extend(self.pods.keys().cloned());
            }
            Input::FoundOnHost { pods } => self.found_on_host(pods),
            Input::Tick => {}
        }
    }

    fn mark_admitting(&mut self) {
        let waiting = self.pods.values().filter(|p| p.phase == Phase::Admitting).map(|p| p.uid.clone());
        self.dirty.extend(waiting);
    }

    /// Mirrors name the Node object as their owner: there are none before it is known.
    fn mirrors_may_be_made(&mut self, was_known: bool) {
        if !was_known && self.machine.node_uid().is_some() {
            let statics = self.pods.values().filter(|p| p.desired.is_static());
            self.dirty.extend(statics.map(|p| p.uid.clone()));
        }
    }

    // ---- desired ----

    fn pods_listed(&mut self, now: Now, source: Source, mut pods: Vec<Arc<Pod>>) {
        self.drop_namesakes(source, &mut pods);
        let listed: BTreeSet<PodUid> = pods.iter().map(|p| pod::uid(p)).collect();
        let known = self
            .pods
            .values()
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
            self.dirty.extend(self.pods.keys().cloned());
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
                reason: model::reason::event::FAILED_VALIDATION,
                message,
            });
            false
        });
    }

    fn pod_applied(&mut self, now: Now, source: Source, pod: Arc<Pod>) {
        let (uid, key) = (pod::uid(&pod), pod::key(&pod));
        if source == Source::Api && pod::is_mirror(&pod) {
            self.mirrors.applied(pod);
            self.mark_named(&key);
            return;
        }
        self.dirty.insert(uid.clone());
        let ctx = context(now, &self.settings, &self.machine);
        let known = self.pods.get(&uid).and_then(|record| record.desired.pod());
        let pod = if source == Source::Api { with_origin(pod, known, now) } else { pod };
        let Some(record) = self.pods.get_mut(&uid) else {
            let mut record = PodRecord::new(uid.clone(), key, Desired::Present { source, pod });
            if self.relist.has_succeeded {
                // Nobody but this node makes sandboxes, so what the last relist lacked is not there.
                record.observed = Some(PodObservation::empty(uid.clone(), record.key.clone()));
            }
            self.old_logs.returned(&uid);
            self.insert(record);
            return;
        };
        record.pod_changed(source, pod, &ctx, &mut self.out);
    }

    fn pod_deleted(&mut self, now: Now, source: Source, uid: &PodUid) {
        if let Some(key) = self.mirrors.deleted(uid) {
            for record in self.pods.values_mut().filter(|p| p.key == key && p.desired.is_static()) {
                record.mirror = Step::Todo;
                record.report.api_uid = None;
                record.report.version = 0;
            }
            self.mark_named(&key);
            return;
        }
        let ctx = context(now, &self.settings, &self.machine);
        let Some(record) = self.pods.get_mut(uid) else { return };
        if let Desired::Present { pod, .. } = &record.desired {
            record.desired = Desired::Removed { source, pod: pod.clone() };
            record.report.is_gone |= source == Source::Api;
            record.begin_end(EndCause::Removed, &ctx, &mut self.out);
            self.dirty.insert(uid.clone());
        }
    }

    fn mark_named(&mut self, key: &PodKey) {
        self.dirty.extend(self.pods.values().filter(|p| p.key == *key).map(|p| p.uid.clone()));
    }

    fn object_changed(&mut self, now: Now, object: &ObjectName) {
        for record in self.pods.values_mut() {
            if record.object_changed(object, now) {
                self.dirty.insert(record.uid.clone());
            }
        }
    }

    fn found_on_host(&mut self, pods: Vec<PodUid>) {
        for uid in pods {
            if !self.pods.contains_key(&uid) {
                self.insert_unknown(uid, PodKey::new("", ""));
            }
        }
    }

    fn insert_unknown(&mut self, uid: PodUid, key: PodKey) {
        let mut record = PodRecord::new(uid.clone(), key, Desired::Unknown);
        if self.relist.has_succeeded {
            record.observed = Some(PodObservation::empty(uid.clone(), record.key.clone()));
        }
        self.insert(record);
    }

    /// A pod that was not known, or has begun anew.
    pub(crate) fn insert(&mut self, record: PodRecord) {
        self.dirty.insert(record.uid.clone());
        self.pods.insert(record.uid.clone(), record);
    }

    // ---- observed ----

    fn want_relist(&mut self) {
        self.relist.next_at = Duration::ZERO;
        self.relist.is_wanted = self.relist.is_busy;
    }

    fn drive_relist(&mut self, now: Now) {
        if !self.relist.is_busy && self.relist.next_at <= now.mono {
            self.relist.is_busy = true;
            self.relist.touched.clear();
            self.out.start(Place::Relist, Action::Relist);
        }
    }

    fn relisted(&mut self, now: Now, outcome: Outcome) {
        self.relist.is_busy = false;
        let pause = if self.relist.has_events {
            crate::settings::RELIST_WITH_EVENTS
        } else {
            crate::settings::RELIST_WITHOUT_EVENTS
        };
        self.relist.next_at =
            if std::mem::take(&mut self.relist.is_wanted) { now.mono } else { now.after(pause) };
        let Outcome::Relisted(list) = outcome else { return };
        self.machine.relisted(now);
        let is_first = !std::mem::replace(&mut self.relist.has_succeeded, true);
        let mut seen = BTreeMap::new();
        for mut observation in list {
            observation.sort();
            seen.insert(observation.uid.clone(), observation);
        }
        for (uid, observation) in &seen {
            if !self.pods.contains_key(uid) {
                self.insert(PodRecord::new(uid.clone(), observation.key.clone(), Desired::Unknown));
            }
        }
        for (uid, record) in &mut self.pods {
            if self.relist.touched.contains(uid) || record.is_changing() {
                continue;
            }
            if record.compare(seen.get(uid)) || is_first {
                self.dirty.insert(uid.clone());
            }
        }
    }

    fn runtime_hint(&mut self, uid: &PodUid, container: &ContainerId, change: RuntimeChange) {
        let Some(record) = self.pods.get_mut(uid) else {
            // A pod nobody knows: the relist will find it if it is still there.
            return;
        };
        if record.hints_at_news(container, change) {
            record.mark_stale();
            self.dirty.insert(uid.clone());
        }
    }

    // ---- results ----

    fn finished(&mut self, now: Now, id: EffectId, outcome: Outcome) {
        let Some(place) = self.out.finish(id) else { return };
        match place {
            Place::Relist => self.relisted(now, outcome),
            Place::Register => {
                let was_known = self.machine.node_uid().is_some();
                if let Outcome::Registered(node) = &outcome {
                    self.pod_cidr.of_node(node);
                }
                self.machine.registered(now, outcome);
                self.mark_admitting();
                self.mirrors_may_be_made(was_known);
            }
            Place::NodeStatus => self.machine.status_written(now, outcome),
            Place::PodCidr => self.pod_cidr.finished(now, outcome),
            Place::ClassLimits => self.classes.finished(outcome, now),
            Place::StrayMirror(uid) => {
                self.mirrors.removal_done(&uid, &outcome, now);
                // A static pod that came meanwhile takes over from here.
                if let Some(key) = self.mirrors.key_of(&uid) {
                    self.mark_named(&key);
                }
            }
            Place::Pod(uid, slot) => {
                if slot.is_change() || slot == Slot::Observe {
                    self.relist.touched.insert(uid.clone());
                }
                let ctx = context(now, &self.settings, &self.machine);
                if let Some(record) = self.pods.get_mut(&uid) {
                    record.finished(slot, outcome, &ctx, &mut self.out);
                    self.dirty.insert(uid);
                }
            }
        }
    }

    // ---- decisions ----

    fn wake(&mut self, now: Now) {
        let due: Vec<PodUid> =
            self.wakes.iter().filter(|(_, at)| **at <= now.mono).map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            self.wakes.remove(&uid);
            self.dirty.insert(uid);
        }
    }

    fn are_sources_synced(&self) -> bool {
        self.settings.sources.iter().all(|s| self.synced.contains(s))
    }

    /// Returns whether a pod's end lets successors of the same name in.
    fn drive_dirty(&mut self, now: Now) -> bool {
        let are_synced = self.are_sources_synced();
        let mut ended: BTreeSet<PodKey> = BTreeSet::new();
        while let Some(uid) = self.dirty.pop_first() {
            let has_mirror = self.has_mirror(&uid);
            let ctx = context(now, &self.settings, &self.machine);
            let Some(record) = self.pods.get_mut(&uid) else { continue };
            let is_stray = matches!(record.desired, Desired::Unknown) && record.phase == Phase::Admitting;
            if is_stray
                && are_synced
                && let Some(observed) = &record.observed
            {
                let is_in_runtime = !observed.sandboxes.is_empty() || !observed.containers.is_empty();
                self.tallies.orphans += u64::from(is_in_runtime);
                record.begin_end(EndCause::Removed, &ctx, &mut self.out);
            }
            let had_ended = matches!(record.phase, Phase::Terminated(_));
            let mut next = record.drive(&ctx, &mut self.out);
            if !had_ended && matches!(record.phase, Phase::Terminated(_)) {
                ended.insert(record.key.clone());
            }
            if record.is_weighed != classes::counts(record) {
                record.is_weighed = !record.is_weighed;
                self.classes.pods_changed();
            }
            if has_mirror && let Some(node_uid) = self.machine.node_uid() {
                next = earliest(next, self.mirrors.drive(record, node_uid, &ctx, &mut self.out));
            }
            match next {
                Some(at) => self.wakes.insert(uid.clone(), at),
                None => self.wakes.remove(&uid),
            };
            if record.is_forgettable() {
                let (key, desired, leaves_logs) =
                    (record.key.clone(), record.desired.clone(), record.leaves_logs());
                let attempts = record.attempts();
                self.pods.remove(&uid);
                self.wakes.remove(&uid);
                self.view.remove(&uid);
                if desired.is_present() {
                    // The same static pod again.
                    self.tallies.restarted_static += 1;
                    let mut again = PodRecord::new(uid.clone(), key.clone(), desired);
                    again.observed = Some(PodObservation::empty(uid.clone(), key.clone()));
                    again.count_on_from(&attempts);
                    self.pods.insert(uid, again);
                    ended.insert(key);
                } else if leaves_logs {
                    self.old_logs.keep(uid, key, now);
                }
            } else {
                self.view.update(record);
            }
        }
        let waits = |p: &&PodRecord| p.phase == Phase::Admitting && ended.contains(&p.key);
        self.dirty.extend(self.pods.values().filter(waits).map(|p| p.uid.clone()));
        !self.dirty.is_empty()
    }

    /// Whether the mirror of that name is this pod's to keep. One that waits for its predecessor leaves
    /// it to that one, whose end the mirror shows.
    fn has_mirror(&self, uid: &PodUid) -> bool {
        let Some(record) = self.pods.get(uid) else { return false };
        let is_before = |other: &PodRecord| {
            other.uid != record.uid
                && other.key == record.key
                && other.desired.is_static()
                && matches!(other.phase, Phase::Running { .. } | Phase::Terminating(_))
        };
        record.desired.is_static()
            && record.desired.is_present()
            && self.synced.contains(&Source::Api)
            && match record.phase {
                Phase::Admitting => false,
                Phase::Running { .. } | Phase::Terminating(_) => true,
                Phase::Terminated(_) => !self.pods.values().any(is_before),
            }
    }

    fn remove_stray_mirrors(&mut self, now: Now) {
        if self.are_sources_synced() && !self.mirrors.is_empty() {
            let held: BTreeSet<&PodKey> =
                self.pods.values().filter(|p| p.desired.is_static()).map(|p| &p.key).collect();
            self.mirrors.remove_strays(&held, now, &mut self.out);
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

/// The surroundings of a pod in one step.
pub(crate) fn context<'a>(now: Now, settings: &'a Settings, machine: &'a Machine) -> Context<'a> {
    Context {
        now,
        settings,
        network_wait: machine.network_wait(),
        runtime_name: machine.runtime_name(),
        host_ips: machine.host_ips(),
    }
}

impl Node {
    /// The pods that have something to do in this step.
    pub(crate) fn dirty_pods(&self) -> impl Iterator<Item = &PodRecord> {
        self.dirty.iter().filter_map(|uid| self.pods.get(uid))
    }
}
