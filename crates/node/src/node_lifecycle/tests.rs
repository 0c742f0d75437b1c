//! What a node says of itself while it does not know yet how its runtime fares.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as ApiNode, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{Now, RuntimeCondition, RuntimeFeatures, RuntimeHealth};

use crate::pressure::{Amount, Limit, Sample, Signal, Threshold};
use crate::{
    Action, ApiAction, ApiOutcome, Effect, EffectId, EventRecord, Input, Machine, Node, ObjectSettings,
    Outcome, Restored, RuntimeAction, RuntimeOutcome, Settings,
};

const START: i64 = 1_000_000;

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_second(START + i64::try_from(seconds).unwrap()).unwrap();
    Now { wall, mono: Duration::from_secs(seconds) }
}

fn node() -> Node {
    Node::begun(settings(), machine())
}

fn machine() -> Machine {
    Machine {
        boot_id: "second".into(),
        operating_system: "linux".into(),
        architecture: "amd64".into(),
        ..Machine::default()
    }
}

fn measured() -> Input {
    Input::Sample(Sample::default())
}

fn settings() -> Settings {
    Settings { node_name: "n".into(), is_registering: true, ..Settings::for_tests() }
}

/// The node as an earlier process left it: ready since an hour.
fn ready_node() -> Arc<ApiNode> {
    let ready = NodeCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(Time(Timestamp::from_second(START - 3600).unwrap())),
        ..NodeCondition::default()
    };
    let status = NodeStatus { conditions: Some(vec![ready]), ..NodeStatus::default() };
    Arc::new(ApiNode { status: Some(status), ..ApiNode::default() })
}

fn health(is_met: bool) -> Input {
    let condition = || RuntimeCondition { is_met, reason: "Reason".into(), message: "message".into() };
    Input::RuntimeHealth(Ok(RuntimeHealth {
        runtime: condition(),
        network: condition(),
        handlers: Vec::new(),
        features: RuntimeFeatures::default(),
    }))
}

/// A node that adopted its object and knows nothing of the runtime, with the id of its relist.
fn adopted() -> (Node, EffectId, Vec<Effect>) {
    let mut node = node();
    let effects = node.step(at(0), measured());
    let id = |wanted: fn(&Action) -> bool| {
        let found = effects.iter().find_map(|effect| match effect {
            Effect::Start { id, action } if wanted(action) => Some(*id),
            _ => None,
        });
        found.unwrap()
    };
    let register = id(|a| matches!(a, Action::Api(ApiAction::RegisterNode { .. })));
    let relist = id(|a| matches!(a, Action::Runtime(RuntimeAction::Relist)));
    let outcome = Outcome::Api(ApiOutcome::Registered(ready_node()));
    let mut after = node.step(at(0), Input::Finished { id: register, outcome });
    after.extend(node.step(at(0), Input::NodeObject(ready_node())));
    (node, relist, after)
}

/// Status and transition time of Ready in each write among the effects.
fn written(effects: &[Effect]) -> Vec<(String, i64)> {
    let ready = |status: &NodeStatus| {
        let found = status.conditions.iter().flatten().find(|c| c.type_ == "Ready").unwrap();
        let since = found.last_transition_time.as_ref().unwrap().0.as_second();
        (found.status.clone(), since - START)
    };
    let writes = effects.iter().filter_map(|effect| match effect {
        Effect::Start { action: Action::Api(ApiAction::WriteNodeStatus { new, .. }), .. } => Some(ready(new)),
        _ => None,
    });
    writes.collect()
}

/// The runtime's answer and the relist come in either order; in both the node stays ready.
#[test]
fn a_restart_does_not_make_the_node_unready() {
    for is_health_first in [true, false] {
        let (mut node, relist, mut effects) = adopted();
        let listed =
            Input::Finished { id: relist, outcome: Outcome::Runtime(RuntimeOutcome::Relisted(Vec::new())) };
        let inputs = if is_health_first { [health(true), listed] } else { [listed, health(true)] };
        for input in inputs {
            effects.extend(node.step(at(1), input));
        }
        let writes = written(&effects);
        assert!(!writes.is_empty(), "what changed is written once it is known");
        assert!(writes.iter().all(|w| *w == ("True".to_owned(), -3600)), "{is_health_first}: {writes:?}");
    }
}

#[test]
fn a_runtime_that_says_it_is_not_ready_is_believed_at_once() {
    let (mut node, _, _) = adopted();
    assert_eq!(written(&node.step(at(1), health(false))), [("False".to_owned(), 1)]);
}

/// What an earlier process said holds for as long as a silence is tolerated, and no longer.
#[test]
fn a_runtime_that_stays_silent_makes_the_node_unready_in_time() {
    let (mut node, _, effects) = adopted();
    assert_eq!(written(&effects), []);
    let away = || Input::RuntimeHealth(Err("connection refused".into()));
    assert_eq!(written(&node.step(at(29), away())), []);
    assert!(node.next_deadline().is_some_and(|at| at <= Duration::from_secs(30)), "it wakes up for that");
    assert_eq!(written(&node.step(at(30), Input::Tick)), [("False".to_owned(), 30)]);
}

/// The reason of each event among the effects, and whether it is a warning. Reasons about the node are constants.
fn events(effects: &[Effect]) -> Vec<(bool, &'static str)> {
    let records = effects.iter().filter_map(|effect| match effect {
        Effect::Record(EventRecord { is_warning, reason: Cow::Borrowed(reason), .. }) => {
            Some((*is_warning, *reason))
        }
        _ => None,
    });
    records.collect()
}

/// The effect that writes the node's status.
fn write(effects: &[Effect]) -> Option<EffectId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Start { id, action: Action::Api(ApiAction::WriteNodeStatus { .. }) } => Some(*id),
        _ => None,
    })
}

/// A node of which all is known, from the second 2 on.
fn settled(object: &Arc<ApiNode>) -> (Node, Vec<Effect>) {
    settle(node(), object)
}

fn settle(mut node: Node, object: &Arc<ApiNode>) -> (Node, Vec<Effect>) {
    let mut effects = node.step(at(0), measured());
    let mut finish = |node: &mut Node, time: u64, wanted: fn(&Action) -> bool, outcome: Outcome| {
        let id = effects.iter().find_map(|effect| match effect {
            Effect::Start { id, action } if wanted(action) => Some(*id),
            _ => None,
        });
        effects.extend(node.step(at(time), Input::Finished { id: id.unwrap(), outcome }));
    };
    finish(
        &mut node,
        0,
        |a| matches!(a, Action::Api(ApiAction::RegisterNode { .. })),
        Outcome::Api(ApiOutcome::Registered(object.clone())),
    );
    finish(
        &mut node,
        1,
        |a| matches!(a, Action::Runtime(RuntimeAction::Relist)),
        Outcome::Runtime(RuntimeOutcome::Relisted(Vec::new())),
    );
    effects.extend(node.step(at(2), health(true)));
    let id = write(&effects).expect("the first status is written");
    effects.extend(
        node.step(at(2), Input::Finished { id, outcome: Outcome::Api(ApiOutcome::Written { version: 0 }) }),
    );
    (node, effects)
}

/// An object whose labels are as they have to be.
fn object(change: impl FnOnce(&mut ApiNode)) -> Arc<ApiNode> {
    let mut node = (*ready_node()).clone();
    let labels = [("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "amd64")];
    node.metadata.labels = Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    change(&mut node);
    Arc::new(node)
}

const AT_START: [(bool, &str); 3] =
    [(false, "NodeHasSufficientMemory"), (false, "NodeHasNoDiskPressure"), (false, "NodeHasSufficientPID")];

#[test]
fn a_start_tells_that_nothing_is_short() {
    let (_, effects) = settled(&object(|_| {}));
    // Registration says so, and the first status, of which the object said nothing.
    assert_eq!(events(&effects), [AT_START, AT_START].concat());
}

#[test]
fn a_reboot_is_told_once() {
    let booted = object(|node| {
        let status = node.status.get_or_insert_default();
        status.node_info = Some(NodeSystemInfo { boot_id: "first".into(), ..NodeSystemInfo::default() });
    });
    let (mut node, effects) = settled(&booted);
    assert_eq!(events(&effects).iter().filter(|event| **event == (true, "Rebooted")).count(), 1);
    // An object from before the write comes late.
    let mut effects = node.step(at(3), Input::NodeObject(booted));
    effects.extend(node.step(at(60), Input::Tick));
    assert!(!events(&effects).contains(&(true, "Rebooted")));
    let (_, effects) = settled(&object(|_| {}));
    assert!(!events(&effects).contains(&(true, "Rebooted")), "there was no boot before");
}

#[test]
fn whether_pods_may_come_is_told_when_it_changes() {
    let cordoned = object(|node| node.spec.get_or_insert_default().unschedulable = Some(true));
    let (mut node, effects) = settled(&object(|_| {}));
    let about_pods = |effects: &[Effect]| -> Vec<&str> {
        let reasons = events(effects).into_iter().map(|(_, reason)| reason);
        reasons.filter(|reason| reason.ends_with("Schedulable")).collect()
    };
    assert_eq!(about_pods(&effects), [""; 0]);
    let mut seen = |time: u64, object: Arc<ApiNode>| {
        let effects = node.step(at(time), Input::NodeObject(object));
        if let Some(id) = write(&effects) {
            node.step(
                at(time),
                Input::Finished { id, outcome: Outcome::Api(ApiOutcome::Written { version: 0 }) },
            );
        }
        about_pods(&effects)
    };
    assert_eq!(seen(3, cordoned.clone()), ["NodeNotSchedulable"]);
    assert_eq!(seen(4, cordoned.clone()), [""; 0]);
    assert_eq!(seen(5, object(|_| {})), ["NodeSchedulable"]);
    let (_, effects) = settled(&cordoned);
    assert!(
        events(&effects).contains(&(false, "NodeNotSchedulable")),
        "a cordoned node says so when it starts"
    );
}

/// Nodes that start together do not write together: after news the next write is half to one and a half of the usual time
/// later, and status is computed up to a twenty-fifth late.
#[test]
fn nodes_write_at_different_times() {
    let mut writes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let node = Node::begun(Settings { seed, ..settings() }, machine());
        let (mut node, effects) = settle(node, &object(|_| {}));
        let under_way = effects.iter().filter_map(|effect| match effect {
            Effect::Start { id, action: Action::Runtime(RuntimeAction::Relist) } => Some(*id),
            _ => None,
        });
        for id in under_way {
            node.step(
                at(2),
                Input::Finished { id, outcome: Outcome::Runtime(RuntimeOutcome::Relisted(Vec::new())) },
            );
        }
        let mut found = Vec::new();
        while found.len() < 3 {
            let now = Now { wall: at(0).wall, mono: node.next_deadline().unwrap() };
            for effect in node.step(now, health(true)) {
                let Effect::Start { id, action } = effect else { continue };
                let outcome = match action {
                    Action::Runtime(RuntimeAction::Relist) => {
                        Outcome::Runtime(RuntimeOutcome::Relisted(Vec::new()))
                    }
                    Action::Api(ApiAction::WriteNodeStatus { .. }) => {
                        found.push(now.mono);
                        Outcome::Api(ApiOutcome::Written { version: 0 })
                    }
                    other => panic!("{other:?}"),
                };
                node.step(now, Input::Finished { id, outcome });
            }
        }
        let gap = |late: Duration, early: Duration| late.saturating_sub(early).as_millis();
        // The first wait is any, those after it the usual one, rounded up to when status is computed.
        assert!((150_000..=460_500).contains(&gap(found[0], Duration::from_secs(2))), "{found:?}");
        assert!((300_000..=310_400).contains(&gap(found[1], found[0])), "{found:?}");
        assert!((300_000..=310_400).contains(&gap(found[2], found[1])), "{found:?}");
        writes.insert(found[0]);
    }
    assert!(writes.len() > 15, "they differ: {writes:?}");
}

#[test]
fn pods_see_the_addresses_of_the_object() {
    let address = |kind: &str, text: &str| NodeAddress { type_: kind.into(), address: text.into() };
    let mut node = node();
    node.step(at(0), Input::NodeAddresses(Some(vec!["10.0.0.1".into()])));
    assert_eq!(node.lifecycle.state(&node.settings).host_ips, ["10.0.0.1"], "before there is an object");
    let moved = object(|node| {
        let status = node.status.get_or_insert_default();
        status.addresses = Some(vec![address("InternalIP", "10.0.0.2"), address("InternalIP", "fd00::2")]);
    });
    node.step(at(1), Input::NodeObject(moved));
    assert_eq!(node.lifecycle.state(&node.settings).host_ips, ["10.0.0.2", "fd00::2"]);
    node.step(at(2), Input::NodeObject(object(|_| {})));
    assert!(node.lifecycle.state(&node.settings).host_ips.is_empty(), "a cloud provider has not spoken yet");
}

#[test]
fn the_annotation_for_a_cloud_provider_is_put_on_an_object_that_lacks_it() {
    let object_settings = ObjectSettings {
        is_cloud_provider_external: true,
        provided_node_ips: vec!["10.0.0.1".into()],
        ..ObjectSettings::default()
    };
    let node = Node::begun(Settings { object: object_settings, ..settings() }, machine());
    let (mut node, effects) = settle(node, &object(|_| {}));
    let changes = |effects: &[Effect]| -> Vec<bool> {
        let metadata = effects.iter().filter_map(|effect| match effect {
            Effect::Start { action: Action::Api(ApiAction::WriteNodeStatus { metadata, .. }), .. } => {
                Some(metadata)
            }
            _ => None,
        });
        metadata.map(|m| m.annotations.contains_key("alpha.kubernetes.io/provided-node-ip")).collect()
    };
    assert_eq!(changes(&effects), [true]);
    let annotated = object(|node| {
        let annotation = ("alpha.kubernetes.io/provided-node-ip".to_owned(), "10.0.0.1".to_owned());
        node.metadata.annotations = Some([annotation].into());
    });
    node.step(at(3), Input::NodeObject(annotated));
    assert_eq!(changes(&node.step(at(14), Input::Tick)), [] as [bool; 0]);
}

#[test]
fn a_shortage_is_told_at_once_and_its_end_after_the_transition_period() {
    let threshold =
        Threshold { signal: Signal::Memory, limit: Limit::amount(100), grace: Duration::ZERO, reclaim: None };
    let node = Node::begun(Settings { thresholds: vec![threshold], ..settings() }, machine());
    let (mut node, _) = settle(node, &object(|_| {}));
    let mut told = |time: u64, available: u64| -> Vec<&str> {
        let signals = [(Signal::Memory, Amount { available, capacity: 1000 })].into();
        let effects =
            node.step(at(time), Input::Sample(Sample { at: at(time).mono, signals, ..Sample::default() }));
        if let Some(id) = write(&effects) {
            node.step(
                at(time),
                Input::Finished { id, outcome: Outcome::Api(ApiOutcome::Written { version: 0 }) },
            );
        }
        let reasons = events(&effects).into_iter().map(|(_, reason)| reason);
        reasons.filter(|reason| reason.contains("Memory")).collect()
    };
    assert_eq!(told(3, 100), [""; 0]);
    assert_eq!(told(4, 99), ["NodeHasInsufficientMemory"]);
    assert_eq!(told(303, 500), [""; 0]);
    assert_eq!(told(304, 500), ["NodeHasSufficientMemory"]);
}

/// The actions among the effects that are about the Node object.
fn about_the_object(effects: &[Effect]) -> Vec<&'static str> {
    let actions = effects.iter().filter_map(|effect| match effect {
        Effect::Start { action: Action::Api(ApiAction::RegisterNode { .. }), .. } => Some("register"),
        Effect::Start { action: Action::Api(ApiAction::WriteNodeStatus { .. }), .. } => Some("write"),
        _ => None,
    });
    actions.collect()
}

/// With `registerNode: false` others make the object, and the node reports to it as soon as there is one, before or after
/// the node itself was measured.
#[test]
fn a_node_that_others_register_is_reported_to() {
    for is_made_first in [true, false] {
        let mut node = Node::begun(Settings { is_registering: false, ..settings() }, machine());
        let made = || Input::NodeObject(object(|_| {}));
        let mut effects = node.step(at(0), if is_made_first { made() } else { measured() });
        effects.extend(node.step(at(1), health(true)));
        assert_eq!(about_the_object(&effects), Vec::<&str>::new());
        let mut effects = node.step(at(2), if is_made_first { measured() } else { made() });
        // The runtime has not told its pods yet; that is waited for as long as a silence is.
        effects.extend(node.step(at(60), Input::Tick));
        assert_eq!(about_the_object(&effects), ["write"], "{is_made_first}");
    }
}

#[test]
fn a_node_without_an_api_server_reports_to_nobody() {
    for is_registering in [true, false] {
        let mut node = Node::begun(Settings { is_registering, has_api: false, ..settings() }, machine());
        let mut effects = node.step(at(0), measured());
        effects.extend(node.step(at(1), health(true)));
        effects.extend(node.step(at(60), Input::Tick));
        assert_eq!(about_the_object(&effects), Vec::<&str>::new());
    }
}

/// `kubectl delete node` holds until the kubelet starts anew, or until somebody else makes the object again.
#[test]
fn a_deleted_object_is_not_made_again() {
    let (mut node, _) = settled(&object(|_| {}));
    let effects = node.step(at(3), health(false));
    let gone = write(&effects).expect("the runtime's state is news");
    let mut effects = node.step(at(4), Input::Finished { id: gone, outcome: Outcome::Gone });
    assert_eq!(node.next_deadline().filter(|at| *at <= Duration::from_secs(4)), None, "it does not spin");
    for second in [5, 20, 4000] {
        effects.extend(node.step(at(second), Input::Tick));
        effects.extend(node.step(at(second), health(second == 20)));
    }
    assert_eq!(about_the_object(&effects), Vec::<&str>::new());
    let made = object(|node| node.metadata.uid = Some("second".into()));
    assert_eq!(about_the_object(&node.step(at(4001), Input::NodeObject(made))), ["write"]);
}

/// What a cloud provider told of the addresses is kept for the pods that still run.
#[test]
fn addresses_outlive_the_object() {
    let told = object(|node| {
        let address = NodeAddress { type_: "InternalIP".into(), address: "10.0.0.7".into() };
        node.status.as_mut().unwrap().addresses = Some(vec![address]);
    });
    let (mut node, _) = settled(&told);
    let mut effects = node.step(at(3), Input::NodeObject(told));
    assert_eq!(node.lifecycle.state(&node.settings).host_ips, ["10.0.0.7"]);
    effects.extend(node.step(at(4), health(false)));
    node.step(at(5), Input::Finished { id: write(&effects).unwrap(), outcome: Outcome::Gone });
    node.step(at(6), Input::NodeAddresses(None));
    assert_eq!(node.lifecycle.state(&node.settings).host_ips, ["10.0.0.7"]);
}

/// Huge pages count as free although nobody but those who ask for them gets them.
#[test]
fn huge_pages_are_not_free_memory() {
    let is_short = |leaves_huge_pages_out: bool, is_machine_first: bool| {
        let threshold = Threshold {
            signal: Signal::Memory,
            limit: Limit::amount(100),
            grace: Duration::ZERO,
            reclaim: None,
        };
        let settings = Settings { thresholds: vec![threshold], leaves_huge_pages_out, ..settings() };
        let signals = [(Signal::Memory, Amount { available: 300, capacity: 1000 })].into();
        let sample = Input::Sample(Sample { signals, ..Sample::default() });
        let machine = Machine { huge_pages: [(2, 256)].into(), ..machine() };
        let mut inputs = [Input::Restored(Box::new(Restored { machine, ..Restored::default() })), sample];
        if !is_machine_first {
            inputs.reverse();
        }
        let mut node = Node::new(settings);
        let effects: Vec<Effect> = inputs.into_iter().flat_map(|input| node.step(at(0), input)).collect();
        events(&effects).contains(&(false, "NodeHasInsufficientMemory"))
    };
    for is_machine_first in [true, false] {
        assert!(is_short(true, is_machine_first));
        assert!(!is_short(false, is_machine_first));
    }
}
