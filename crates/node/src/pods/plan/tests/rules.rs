//! Restart rules by exit code (KEP-5307), and what is fetched for a sandbox that is not there yet.

use k8s_openapi::api::core::v1::Container;
use model::pod::ContainerKind;
use serde_json::json;

use super::super::{first_to_start, restarts_after};
use super::pod;

/// The rule's operator and codes, the container's and the pod's policy, and the codes that restart.
#[test]
fn a_matching_rule_comes_before_the_policies() {
    type Case<'a> = (&'a str, &'a [i32], Option<&'a str>, &'a str, &'a [i32]);
    let cases: [Case<'_>; 7] = [
        ("In", &[42], Some("Never"), "Never", &[42]),
        ("In", &[42, 1], Some("Never"), "Always", &[1, 42]),
        ("NotIn", &[42], Some("Never"), "Never", &[0, 1]),
        ("In", &[42], Some("OnFailure"), "Never", &[1, 42]),
        ("In", &[0], Some("OnFailure"), "Never", &[0, 1, 42]),
        ("Sometimes", &[42], Some("Never"), "Always", &[]),
        ("In", &[], None, "OnFailure", &[1, 42]),
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
            .filter(|code| restarts_after(&pod, &spec, ContainerKind::Regular, *code))
            .collect();
        assert_eq!(found, restarting, "{operator} {codes:?} of {own:?} in {pods}");
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
        let found = [0, 1].map(|code| restarts_after(&pod, &spec, kind, code));
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
