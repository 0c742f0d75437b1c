//! The world around a node in a scenario. It answers reads at once and truthfully; every other action
//! stays open until the scenario says how it went.
//!
//! Actions read `verb object details`, as [`action_text`] writes them; a container's instance is
//! `name#attempt`. A status reads `write PHASE ready=STATUS container=state…`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use checkpoints::PodsState;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use model::probe::ProbeOutcome;
use model::{Now, Pod, PodKey, PodObservation, PodUid, RuntimeCondition, RuntimeFeatures, RuntimeHealth};
use serde_json::{Value, json};

use super::words::action_text;
use crate::pressure::Sample;
use crate::{
    Action, ApiAction, CheckpointAction, Effect, EffectId, EventObject, EventRecord, Failure, FailureKind,
    HostAction, ImageAnswer, ImageOutcome, Input, Machine, Node, ObjectSettings, Outcome, QosAmounts,
    RuntimeAction, RuntimeOutcome, Settings, Source, StateFile,
};

/// A pod of the API server with this spec, version 1.
pub(super) fn pod(spec: Value) -> Pod {
    let metadata = json!({ "namespace": "ns", "name": "web", "uid": "u", "resourceVersion": "1" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

/// The machine of a scenario's node.
pub(super) fn machine() -> Machine {
    Machine { cpus: 4, memory_bytes: 8 << 30, operating_system: "linux".into(), ..Machine::default() }
}

/// A node, its surroundings, and what has been asked of them.
pub(super) struct Scenario {
    pub(super) node: Node,
    pub(super) at: Duration,
    pub(super) version: u64,
    open: Vec<(EffectId, Action)>,
    /// What the runtime holds.
    pub(super) runtime: BTreeMap<PodUid, PodObservation>,
    /// The last status of each API object.
    pub(super) statuses: BTreeMap<PodUid, Arc<PodStatus>>,
    /// What the QoS classes were last weighed and limited by.
    pub(super) classes: Option<QosAmounts>,
    /// State files.
    pub(super) files: BTreeMap<StateFile, Arc<PodsState>>,
    /// Writes of state files stay open like other actions.
    pub(super) is_disk_slow: bool,
    /// Why the runtime does not tell what it holds, if it does not.
    pub(super) is_silent: Option<&'static str>,
    /// What was recorded about the node.
    pub(super) node_events: Vec<String>,
}

impl Scenario {
    /// A node whose runtime is up and that has heard of no pod.
    pub(super) fn new() -> Self {
        Self::with_addresses(&["192.0.2.1"])
    }

    /// The same with these addresses.
    pub(super) fn with_addresses(node_ips: &[&str]) -> Self {
        let mut scenario = Self::begun(BTreeMap::new(), Duration::from_secs(1000), node_ips);
        assert_eq!(scenario.tell(Input::PodsListed { source: Source::File, pods: vec![] }), "");
        assert_eq!(scenario.tell(Input::PodsListed { source: Source::Api, pods: vec![] }), "");
        scenario
    }

    /// A node that was just started over a runtime that holds this.
    pub(super) fn restarted(runtime: BTreeMap<PodUid, PodObservation>, at: Duration) -> Self {
        Self::begun(runtime, at, &["192.0.2.1"])
    }

    fn begun(runtime: BTreeMap<PodUid, PodObservation>, at: Duration, node_ips: &[&str]) -> Self {
        let is_ipv6_first = node_ips.first().is_some_and(|ip| ip.contains(':'));
        let mut scenario = Self::unregistered(runtime, at, is_ipv6_first);
        let addresses: Vec<_> =
            node_ips.iter().map(|ip| json!({ "type": "InternalIP", "address": ip })).collect();
        let object = json!({
            "metadata": { "name": "node", "uid": "node-uid" }, "status": { "addresses": addresses },
        });
        assert_eq!(scenario.tell(Input::NodeObject(serde_json::from_value(object).unwrap())), "");
        scenario
    }

    /// A node that was just started and has not seen its object.
    pub(super) fn unregistered(
        runtime: BTreeMap<PodUid, PodObservation>,
        at: Duration,
        is_ipv6_first: bool,
    ) -> Self {
        let settings = Settings {
            is_ipv6_first,
            limits_qos_memory: true,
            // It never ends, nor does the first look at the CSINode, so that scenarios are about pods.
            is_registering: true,
            sources: vec![Source::Api, Source::File],
            object: ObjectSettings {
                declared_features: vec!["RestartAllContainersOnContainerExits".into()],
                ..ObjectSettings::default()
            },
            ..Settings::for_tests()
        };
        let met = RuntimeCondition { is_met: true, reason: String::new(), message: String::new() };
        let health = RuntimeHealth {
            runtime: met.clone(),
            network: met,
            handlers: vec![],
            features: RuntimeFeatures { has_supplemental_groups_policy: true, ..RuntimeFeatures::default() },
        };
        let mut scenario = Self {
            node: Node::begun(settings, machine()),
            at,
            version: 100,
            open: vec![],
            runtime,
            statuses: BTreeMap::new(),
            classes: None,
            files: BTreeMap::new(),
            is_disk_slow: false,
            is_silent: None,
            node_events: vec![],
        };
        for input in [
            Input::RuntimeVersion { name: "containerd".into(), version: String::new() },
            Input::Sample(Sample::default()),
            Input::EventStream { is_connected: true },
            Input::RuntimeHealth(Ok(health)),
        ] {
            assert_eq!(scenario.tell(input), "");
        }
        scenario
    }

    pub(super) fn now(&self) -> Now {
        let wall = Timestamp::from_second(1_700_000_000).unwrap() + self.at;
        Now { wall, mono: self.at }
    }

    /// Tells the node something; returns what it wants done.
    pub(super) fn tell(&mut self, input: Input) -> String {
        let mut lines = Vec::new();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.node.step(self.now(), input) {
                match effect {
                    Effect::Record(EventRecord { about: EventObject::Node, reason, message, .. }) => {
                        self.node_events.push(format!("{reason}: {message}"));
                    }
                    Effect::Start {
                        action: Action::Api(ApiAction::RegisterNode { .. } | ApiAction::ReadCsiNode),
                        ..
                    } => {}
                    Effect::Record(event) => lines.push(format!("{}: {}", event.reason, event.message)),
                    Effect::Cancel(id) => {
                        let action = self.open.iter().find(|(open, _)| *open == id);
                        lines.push(format!(
                            "cancel {}",
                            action.map_or_else(String::new, |a| action_text(&a.1))
                        ));
                    }
                    Effect::Start { id, action: Action::Runtime(RuntimeAction::Relist) } => {
                        let list = self.runtime.values().cloned().collect();
                        let outcome = self.told(RuntimeOutcome::Relisted(list));
                        inputs.push(Input::Finished { id, outcome });
                    }
                    Effect::Start {
                        id,
                        action: Action::Host(HostAction::UpdateQosCgroups { amounts, .. }),
                    } => {
                        self.classes = Some(amounts);
                        inputs.push(Input::Finished { id, outcome: Outcome::Done });
                    }
                    Effect::Start { id, action: Action::Checkpoint(CheckpointAction::Sync(_)) } => {
                        inputs.push(Input::Finished { id, outcome: Outcome::Done });
                    }
                    Effect::Start { id, action: Action::Checkpoint(CheckpointAction::Write(write)) }
                        if !self.is_disk_slow =>
                    {
                        self.files.insert(write.file, write.content);
                        inputs.push(Input::Finished { id, outcome: Outcome::Done });
                    }
                    Effect::Start { id, action: Action::Runtime(RuntimeAction::Observe { uid, key }) } => {
                        let outcome = self.told(RuntimeOutcome::Observed(self.seen(&uid, &key)));
                        inputs.push(Input::Finished { id, outcome });
                    }
                    Effect::Start { id, action } => {
                        lines.push(action_text(&action));
                        self.open.push((id, action));
                    }
                }
            }
        }
        lines.join(" | ")
    }

    /// What the runtime answers, if it does.
    fn told(&self, answer: RuntimeOutcome) -> Outcome {
        match self.is_silent {
            None => Outcome::Runtime(answer),
            Some(why) => Outcome::Failed(Failure { kind: FailureKind::Other, message: why.into() }),
        }
    }

    fn seen(&self, uid: &PodUid, key: &PodKey) -> PodObservation {
        self.runtime.get(uid).cloned().unwrap_or_else(|| PodObservation::empty(uid.clone(), key.clone()))
    }

    /// A pod of the API server is new or changed.
    pub(super) fn apply(&mut self, pod: &Pod) -> String {
        self.tell(Input::PodApplied { source: Source::Api, pod: Arc::new(pod.clone()) })
    }

    /// Time passes, and the node is called whenever it asked to be.
    pub(super) fn wait(&mut self, time: Duration) -> String {
        let end = self.at + time;
        let mut lines = Vec::new();
        while let Some(at) = self.node.next_deadline().filter(|at| *at <= end) {
            self.at = self.at.max(at);
            let before = self.node.next_deadline();
            lines.push(self.tell(Input::Tick));
            assert_ne!(self.node.next_deadline(), before, "a deadline that does not move");
        }
        self.at = end;
        lines.push(self.tell(Input::Tick));
        lines.retain(|l| !l.is_empty());
        lines.join(" | ")
    }

    fn take(&mut self, text: &str) -> (EffectId, Action) {
        let open: Vec<String> = self.open.iter().map(|(_, a)| action_text(a)).collect();
        let index = open.iter().position(|t| t == text || t.starts_with(&format!("{text} ")));
        let Some(index) = index else { panic!("no {text:?} is under way, only {open:?}") };
        self.open.remove(index)
    }

    /// The actions under way.
    pub(super) fn actions(&self) -> impl Iterator<Item = &Action> {
        self.open.iter().map(|(_, action)| action)
    }

    /// What is under way.
    pub(super) fn under_way(&self) -> Vec<String> {
        self.open.iter().map(|(_, a)| action_text(a)).collect()
    }

    /// The action goes well.
    pub(super) fn done(&mut self, text: &str) -> String {
        let (id, action) = self.take(text);
        let outcome = self.perform(&action);
        self.tell(Input::Finished { id, outcome })
    }

    /// The action ends in this way and changes nothing.
    pub(super) fn ends(&mut self, text: &str, outcome: Outcome) -> String {
        let (id, _) = self.take(text);
        self.tell(Input::Finished { id, outcome })
    }

    /// The action fails.
    pub(super) fn fails(&mut self, text: &str, kind: FailureKind, message: &str) -> String {
        self.ends(text, Outcome::Failed(Failure { kind, message: message.into() }))
    }

    /// Plays a script of what happens and what the node then wants done.
    ///
    /// `ok ACTION`, `fail ACTION: message`, `bad PROBE`, `cancelled ACTION`, `absent INSPECTION`,
    /// `wait SECONDS`, `exit CONTAINER CODE`.
    #[track_caller]
    pub(super) fn play(&mut self, script: &[(&str, &str)]) {
        for (line, expected) in script {
            let (verb, rest) = line.split_once(' ').unwrap();
            let wanted = match verb {
                "ok" => self.done(rest),
                "fail" => {
                    let (action, message) = rest.split_once(": ").unwrap();
                    self.fails(action, FailureKind::Other, message)
                }
                "bad" => self.ends(rest, Outcome::Probed(ProbeOutcome::Failure("no".into()))),
                "cancelled" => self.ends(rest, Outcome::Cancelled),
                "absent" => self.ends(rest, Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Absent))),
                "wait" => self.wait(Duration::from_secs_f64(rest.parse().unwrap())),
                "exit" => {
                    let (id, code) = rest.split_once(' ').unwrap();
                    self.exits(id, code.parse().unwrap())
                }
                other => panic!("{other:?} is no verb"),
            };
            assert_eq!(wanted, *expected, "after {line:?}");
        }
    }

    /// Brings a pod up: everything goes well until nothing is under way.
    pub(super) fn up(&mut self, pod: &Pod) {
        self.apply(pod);
        while let Some(text) = self.under_way().first().cloned() {
            self.done(&text);
        }
        self.wait(Duration::from_secs(1));
    }
}
