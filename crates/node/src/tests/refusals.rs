//! What the node says of pods that ask for more than it has or declares.

use std::sync::Arc;

use serde_json::{Value, json};

use super::scenario::{Scenario, pod};
use crate::{Input, Source};

fn applied(spec: Value, version: &str) -> Input {
    let mut pod = pod(spec);
    pod.metadata.resource_version = Some(version.to_owned());
    Input::PodApplied { source: Source::Api, pod: Arc::new(pod) }
}

#[test]
fn an_event_has_the_statuss_reason_and_no_prefix() {
    let requests = json!({ "hugepages-64Ki": "64Ki", "cpu": "1", "memory": "1Mi" });
    let container = json!({ "name": "a", "image": "i", "resources": { "limits": requests } });
    let mut scenario = Scenario::new();
    let said = scenario.tell(applied(json!({ "containers": [container] }), "1"));
    let expected = "OutOfhugepages-64Ki: Node didn't have enough resource: hugepages-64Ki, requested: 65536, \
                    used: 0, capacity: 0";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_new_version_that_needs_more_is_told() {
    let spec = |cpu: &str| json!({ "resources": { "limits": { "cpu": cpu } }, "containers": [{ "name": "a", "image": "i" }] });
    let mut scenario = Scenario::new();
    let said = scenario.tell(applied(spec("1"), "1"));
    assert!(!said.contains("NodeDeclaredFeatures"), "{said}");
    let said = scenario.tell(applied(spec("2"), "2"));
    let expected = "FailedNodeDeclaredFeaturesCheck: Pod requires node features that are not available: \
                    InPlacePodLevelResourcesVerticalScaling";
    assert!(said.contains(expected), "{said}");
}
