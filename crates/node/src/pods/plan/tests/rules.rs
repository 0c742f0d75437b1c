//! Restart rules by exit code (KEP-5307), and what is fetched for a sandbox that is not there yet.

use k8s_openapi::api::core::v1::Container;
use model::pod::ContainerKind;
use serde_json::json;

use super::super::first_to_start;
use super::{RULES, pod};
use crate::RestartRules;

/// The rule's operator and codes, the container's and the pod's policy, and the codes that restart.
#[test]
fn a_matching_rule_comes_before_the_policies() {
    type Case<'a> = (&'a str, &'a [i32], Option<&'a str>, &'a str, &'a [i32]);
    let cases: [Case<'_>; 8] = [
        ("In", &[42], Some("Never"), "Never", &[42]),
        ("In", &[42, 1], Some("Never"), "Always", &[1, 42]),
        ("NotIn", &[42], Some("Never"), "Never", &[0, 1]),
        ("In", &[42], Some("OnFailure"), "Never", &[1, 42]),
        ("In", &[0], Some("OnFailure"), "Never", &[0, 1, 42]),
        ("Sometimes", &[42], Some("Never"), "Always", &[]),
        ("In", &[], None, "OnFailure", &[1, 42]),
        // Rules come with a policy of the container's own.
        ("In", &[42], None, "Never", &[]),
    ];
    for (operator, codes, own, pods, restarting) in cases {
        let spec: Container = serde_json::from_value(json!({
            "name": "a",
            "restartPolicy": own,
            "restartPolicyRules": [{ "action": "Restart", "exitCodes": { "operator": operator, "values": codes } }],
        }))
        .unwrap();
        let pod = pod(&format!("{pods} a"));
        let found: Vec<i32> = [0, 1, 42]
            .into_iter()
            .filter(|code| RULES.restarts_after(&pod, &spec, ContainerKind::Regular, *code))
            .collect();
        assert_eq!(found, restarting, "{operator} {codes:?} of {own:?} in {pods}");
    }
}

/// The first rule that matches is the only one that counts, and each kind of rule has a switch.
#[test]
fn the_first_rule_that_matches_counts() {
    let rule = |action: &str, code: i32| json!({ "action": action, "exitCodes": { "operator": "In", "values": [code] } });
    let spec: Container = serde_json::from_value(json!({
        "name": "a",
        "restartPolicy": "Never",
        "restartPolicyRules": [
            rule("Unheard", 1), rule("Restart", 1), rule("RestartAllContainers", 2), rule("Restart", 2), rule("Restart", 3),
        ],
    }))
    .unwrap();
    let none = RestartRules { of_containers: false, of_pods: false };
    let single = RestartRules { of_containers: true, of_pods: false };
    let pod = pod("Always a");
    for (rules, restarting, all) in
        [(RULES, vec![2, 3], vec![2]), (single, vec![3], vec![]), (none, vec![0, 1, 2, 3], vec![])]
    {
        let codes = 0..4;
        let found: Vec<i32> = codes
            .clone()
            .filter(|code| rules.restarts_after(&pod, &spec, ContainerKind::Regular, *code))
            .collect();
        assert_eq!(found, restarting, "{rules:?}");
        let found: Vec<i32> = codes.filter(|code| rules.restarts_all_after(&spec, *code)).collect();
        assert_eq!(found, all, "{rules:?}");
    }
}

/// Rules say nothing about sidecars, which always restart, and ephemeral containers, which never do.
#[test]
fn the_kind_of_a_container_decides_first() {
    let spec = Container::default();
    for (kind, policy, good, bad) in [
        (ContainerKind::Regular, "Always", true, true),
        (ContainerKind::Regular, "OnFailure", false, true),
        (ContainerKind::Regular, "Never", false, false),
        (ContainerKind::Init, "Always", false, true),
        (ContainerKind::Init, "OnFailure", false, true),
        (ContainerKind::Init, "Never", false, false),
        (ContainerKind::Sidecar, "Never", true, true),
        (ContainerKind::Ephemeral, "Always", false, false),
    ] {
        let pod = pod(&format!("{policy} a"));
        let found = [0, 1].map(|code| RULES.restarts_after(&pod, &spec, kind, code));
        assert_eq!(found, [good, bad], "{kind:?} {policy}");
    }
}

#[test]
fn images_are_fetched_ahead_for_what_starts_first() {
    for (text, names) in
        [("Always a b e1", vec!["a", "b"]), ("Always i1 i2 a", vec!["i1"]), ("Always s1 i2 a", vec!["s1"])]
    {
        assert_eq!(first_to_start(&pod(text)), names, "{text}");
    }
}
