//! The CSINode object: made at the start, put right, and what the node says as long as it is not there. Drivers in it are in
//! the tests of plugins.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_openapi::api::storage::v1::CSINode;
use model::{Now, RuntimeCondition, RuntimeFeatures, RuntimeHealth};
use serde_json::json;

use super::objects::new_csi_node;
use crate::pressure::Sample;
use crate::{
    Action, ApiAction, ApiOutcome, Effect, EffectId, Failure, FailureKind, Input, Machine, Node, Outcome,
    Restored, RuntimeAction, RuntimeOutcome, Settings,
};

fn at(seconds: u64) -> Now {
    Now { wall: Timestamp::from_second(1_000_000).unwrap(), mono: Duration::from_secs(seconds) }
}

fn started(effects: &[Effect], is_meant: impl Fn(&Action) -> bool) -> Option<EffectId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Start { id, action } if is_meant(action) => Some(*id),
        _ => None,
    })
}

fn csi_node(object: Option<CSINode>) -> Outcome {
    Outcome::Api(ApiOutcome::CsiNode(object.map(Arc::new)))
}

/// The object that is written, with the effect.
fn written(effects: &[Effect]) -> Option<(EffectId, CSINode)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Start { id, action: Action::Api(ApiAction::WriteCsiNode { object }) } => {
            Some((*id, (**object).clone()))
        }
        _ => None,
    })
}

fn is_read(action: &Action) -> bool {
    *action == Action::Api(ApiAction::ReadCsiNode)
}

/// Why the node is not ready, as its status says it; empty when it is. `None` when none is written.
fn unready(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::Start { action: Action::Api(ApiAction::WriteNodeStatus { new, .. }), .. } => {
            let ready = new.conditions.iter().flatten().find(|c| c.type_ == "Ready")?;
            let is_ready = ready.status == "True";
            Some(if is_ready { String::new() } else { ready.message.clone().unwrap_or_default() })
        }
        _ => None,
    })
}

/// A node that has registered and whose runtime is well; with the effects of the last steps.
fn registered() -> (Node, Vec<Effect>) {
    let settings = Settings { node_name: "n".into(), is_registering: true, ..Settings::for_tests() };
    let mut node = Node::new(settings);
    let restored = Restored { machine: Machine::default(), ..Restored::default() };
    let mut effects = node.step(at(0), Input::Restored(Box::new(restored)));
    effects.extend(node.step(at(0), Input::Sample(Sample::default())));
    let met = || RuntimeCondition { is_met: true, reason: String::new(), message: String::new() };
    let health = RuntimeHealth {
        runtime: met(),
        network: met(),
        handlers: Vec::new(),
        features: RuntimeFeatures::default(),
    };
    effects.extend(node.step(at(0), Input::RuntimeHealth(Ok(health))));
    let relist = started(&effects, |a| *a == Action::Runtime(RuntimeAction::Relist)).unwrap();
    let outcome = Outcome::Runtime(RuntimeOutcome::Relisted(Vec::new()));
    effects.extend(node.step(at(0), Input::Finished { id: relist, outcome }));
    let register = started(&effects, |a| matches!(a, Action::Api(ApiAction::RegisterNode { .. }))).unwrap();
    let object: ApiNode = serde_json::from_value(json!({ "metadata": { "name": "n", "uid": "u" } })).unwrap();
    let outcome = Outcome::Api(ApiOutcome::Registered(Arc::new(object)));
    let effects = node.step(at(0), Input::Finished { id: register, outcome });
    (node, effects)
}

fn finish(node: &mut Node, time: u64, id: EffectId, outcome: Outcome) -> Vec<Effect> {
    node.step(at(time), Input::Finished { id, outcome })
}

#[test]
fn the_node_is_ready_when_its_object_is_there() {
    let (mut node, effects) = registered();
    assert_eq!(unready(&effects), None, "nothing is said before it is known");
    let read = started(&effects, is_read).expect("it is looked for");
    let effects = finish(&mut node, 1, read, csi_node(None));
    let (create, object) = written(&effects).expect("it is made");
    assert_eq!(object, new_csi_node("n", "u"));
    assert!(object.spec.drivers.is_empty() && object.metadata.resource_version.is_none());
    assert_eq!(unready(&effects), None);
    let effects = finish(&mut node, 1, create, csi_node(Some(object)));
    assert_eq!(unready(&effects).as_deref(), Some(""));
    assert!(written(&effects).is_none());
}

#[test]
fn one_that_is_right_is_left_alone_and_one_of_another_node_replaced() {
    let (mut node, effects) = registered();
    let right = new_csi_node("n", "u");
    let effects = finish(&mut node, 1, started(&effects, is_read).unwrap(), csi_node(Some(right)));
    assert_eq!(unready(&effects).as_deref(), Some(""));

    let (mut node, effects) = registered();
    let mut foreign = new_csi_node("n", "earlier");
    foreign.metadata.uid = Some("c".into());
    let effects = finish(&mut node, 1, started(&effects, is_read).unwrap(), csi_node(Some(foreign)));
    let delete = started(&effects, |a| *a == Action::Api(ApiAction::DeleteCsiNode { uid: "c".into() }));
    let effects = finish(&mut node, 1, delete.expect("it goes"), Outcome::Done);
    assert_eq!(written(&effects).unwrap().1, new_csi_node("n", "u"));

    let (mut node, effects) = registered();
    let mut old = new_csi_node("n", "u");
    old.metadata.annotations = None;
    old.metadata.resource_version = Some("7".into());
    let effects = finish(&mut node, 1, started(&effects, is_read).unwrap(), csi_node(Some(old)));
    let (_, object) = written(&effects).expect("its annotation is written");
    assert_eq!(object.metadata.resource_version.as_deref(), Some("7"), "it is an update");
}

#[test]
fn what_fails_is_read_and_tried_again_and_told() {
    let (mut node, effects) = registered();
    let failure = Failure { kind: FailureKind::Other, message: "away".into() };
    let effects = finish(&mut node, 1, started(&effects, is_read).unwrap(), Outcome::Failed(failure));
    let expected = "failed to initialize CSINode: error updating CSINode annotation: timed out waiting for the condition; \
                    caused by: away";
    assert_eq!(unready(&effects).as_deref(), Some(expected));
    let wait = node.view().waits.iter().find(|wait| wait.on == crate::WaitOn::CsiNode).cloned().unwrap();
    assert_eq!(wait.error.as_deref(), Some("away"));
    assert!(node.next_deadline().is_some_and(|next| next <= Duration::from_secs(2)));
    let effects = node.step(at(2), Input::Tick);
    let effects = finish(&mut node, 2, started(&effects, is_read).unwrap(), csi_node(None));
    let (create, object) = written(&effects).unwrap();
    // Somebody else has made it.
    let failure = Failure { kind: FailureKind::Other, message: "already exists".into() };
    finish(&mut node, 2, create, Outcome::Failed(failure));
    let effects = node.step(at(3), Input::Tick);
    finish(&mut node, 3, started(&effects, is_read).unwrap(), csi_node(Some(object)));
    assert!(node.view().waits.iter().all(|wait| wait.on != crate::WaitOn::CsiNode));
}
