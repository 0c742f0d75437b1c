//! Which addresses of a pod its actions are given: those that its status has.

use model::Pod;
use serde_json::json;

use super::scenario::{Scenario, pod};
use crate::{Action, ProbeAction, RuntimeAction, VolumeAction};

/// What an action says of the pod's addresses, if it is of a kind that does.
fn told(action: &Action) -> Option<String> {
    match action {
        Action::Volume(VolumeAction::Sync { facts, .. }) => {
            Some(format!("volumes {}", facts.pod_ips.join(",")))
        }
        Action::Runtime(RuntimeAction::StartContainer(start)) => {
            Some(format!("start#{} {}", start.attempt, start.facts.pod_ips.join(",")))
        }
        Action::Probe(ProbeAction::Hook { hook, pod_ip, .. }) => {
            Some(format!("{hook:?} {}", pod_ip.as_deref().unwrap_or_default()))
        }
        Action::Probe(ProbeAction::Attempt { pod_ip, .. }) => {
            Some(format!("probe {}", pod_ip.as_deref().unwrap_or_default()))
        }
        _ => None,
    }
}

/// Everything that was told until the pod is up, has restarted its container, and probes it.
fn told_of(node_ips: &[&str], pod: &Pod) -> Vec<String> {
    let mut scenario = Scenario::with_addresses(node_ips);
    let mut all = Vec::new();
    scenario.apply(pod);
    let mut run = |scenario: &mut Scenario| {
        while let Some(text) = scenario.under_way().first().cloned() {
            all.extend(scenario.actions().next().and_then(told));
            scenario.done(&text);
        }
    };
    run(&mut scenario);
    scenario.exits("a#0", 1);
    run(&mut scenario);
    scenario.wait(std::time::Duration::from_secs(20));
    run(&mut scenario);
    all
}

#[test]
fn a_pods_addresses_are_the_nodes_in_its_network_and_its_sandboxes_otherwise() {
    for (node_ips, on_host, all, first) in [
        (&["192.0.2.1"][..], true, "192.0.2.1", "192.0.2.1"),
        (&["192.0.2.1", "2001:db8::1"], true, "192.0.2.1,2001:db8::1", "192.0.2.1"),
        (&["2001:db8::1", "192.0.2.1"], true, "2001:db8::1,192.0.2.1", "2001:db8::1"),
        (&["192.0.2.1"], false, "10.0.0.1,fd00::1", "10.0.0.1"),
        // The order of families is the node's.
        (&["2001:db8::1"], false, "fd00::1,10.0.0.1", "fd00::1"),
    ] {
        let hook = json!({ "httpGet": { "port": 1 } });
        let container = json!({
            "name": "a", "image": "i", "lifecycle": { "postStart": hook },
            "readinessProbe": { "httpGet": { "port": 1 } },
        });
        let pod = pod(json!({ "hostNetwork": on_host, "containers": [container] }));
        let told = told_of(node_ips, &pod);
        let volumes = if on_host { all } else { "" };
        let mut want = vec![format!("volumes {volumes}")];
        for attempt in 0..2 {
            want.push(format!("start#{attempt} {all}"));
            want.push(format!("PostStart {first}"));
            want.push(format!("probe {first}"));
        }
        let mut rest = told.clone();
        rest.dedup();
        assert_eq!(rest, want, "{node_ips:?} {on_host}");
    }
}
