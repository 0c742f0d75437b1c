//! What a node says of itself while it does not know yet how its runtime fares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as ApiNode, NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{Now, RuntimeCondition, RuntimeHealth};

use crate::node_status::NodeFacts;
use crate::{Action, Effect, EffectId, Input, Node, Outcome, Settings};

const START: i64 = 1_000_000;

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_second(START + i64::try_from(seconds).unwrap()).unwrap();
    Now { wall, mono: Duration::from_secs(seconds) }
}

fn node() -> Node {
    Node::new(Settings {
        node_name: "n".into(),
        node_ips: Vec::new(),
        is_registering: true,
        has_api: true,
        max_pods: 110,
        limits_class_memory: false,
        forgets_readiness: false,
        max_restart_backoff: Duration::from_secs(300),
        restart_rules: crate::RestartRules { of_containers: true, of_pods: true },
        node_status_update_every: Duration::from_secs(10),
        node_status_report_every: Duration::from_secs(300),
        sources: Vec::new(),
    })
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
        has_supplemental_groups_policy: false,
    }))
}

/// A node that adopted its object and knows nothing of the runtime, with the id of its relist.
fn adopted() -> (Node, EffectId, Vec<Effect>) {
    let mut node = node();
    let facts = NodeFacts { name: "n".into(), labels: BTreeMap::new(), ..NodeFacts::default() };
    let effects = node.step(at(0), Input::NodeFacts(Box::new(facts)));
    let id = |wanted: fn(&Action) -> bool| {
        let found = effects.iter().find_map(|effect| match effect {
            Effect::Start { id, action } if wanted(action) => Some(*id),
            _ => None,
        });
        found.unwrap()
    };
    let register = id(|a| matches!(a, Action::RegisterNode { .. }));
    let relist = id(|a| matches!(a, Action::Relist));
    let outcome = Outcome::Registered(ready_node());
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
        Effect::Start { action: Action::WriteNodeStatus { new, .. }, .. } => Some(ready(new)),
        _ => None,
    });
    writes.collect()
}

/// The runtime's answer and the relist come in either order; in both the node stays ready.
#[test]
fn a_restart_does_not_make_the_node_unready() {
    for is_health_first in [true, false] {
        let (mut node, relist, mut effects) = adopted();
        let listed = Input::Finished { id: relist, outcome: Outcome::Relisted(Vec::new()) };
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
