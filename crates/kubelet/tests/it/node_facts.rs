//! What the core is told of the machine, as a recording has it, and how the machine is dealt with.

use std::fs;

use serde_json::Value;

use crate::fake::{FakeRuntime, beside};
use crate::process::Lab;
use crate::{exit_codes, runtime};

/// Shows a map of user ids in place of the kernel's own and becomes the kubelet.
const WITH_MAP: &str = r#"
echo "$MAP" > "$LAB/uid_map"
mount --bind "$LAB/uid_map" /proc/$$/uid_map
exec "$@"
"#;

/// The same where a setting of the kernel cannot be changed.
const WITH_MAP_AND_WITHOUT_SYSCTLS: &str = r#"
mount -o remount,bind,ro /proc/sys/kernel/panic
echo "$MAP" > "$LAB/uid_map"
mount --bind "$LAB/uid_map" /proc/$$/uid_map
exec "$@"
"#;

/// That of a rootless node.
const ROOTLESS: &str = "0 1000 65536";
/// That of the machine.
const FIRST: &str = "0 0 4294967295";

fn shown(script: &'static str, map: &str) -> Lab {
    let mut lab = Lab::new().variable("MAP", map);
    lab.becomes = vec!["sh", "-ec", script, "sh"];
    lab
}

/// What the core is told under this name.
async fn told(lab: Lab, name: &str) -> Value {
    let folder = lab.path("recordings");
    // Said once the core knows the machine.
    let lab = lab.with("podCIDR: 10.9.0.0/24\n").flag(format!("--record={}", folder.display()));
    let runtime = FakeRuntime::serve(&lab);
    beside(&lab, runtime.command("asked UpdateRuntimeConfig")).await;
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let lines: Vec<Value> = files
        .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect();
    lines.iter().find_map(|line| found(line, name).cloned()).unwrap_or_else(|| panic!("no {name}"))
}

/// What is somewhere below under this name.
fn found<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|value| found(value, name)))
        }
        Value::Array(items) => items.iter().find_map(|value| found(value, name)),
        _ => None,
    }
}

#[tokio::test]
async fn whether_it_runs_in_a_user_namespace() {
    for (map, gate, wanted) in [
        (ROOTLESS, true, Value::Bool(true)),
        (FIRST, true, Value::Bool(false)),
        (ROOTLESS, false, Value::Null),
    ] {
        let gates = format!("featureGates: {{KubeletInUserNamespace: {gate}}}\n");
        let machine = told(shown(WITH_MAP, map).with(&gates), "machine").await;
        assert_eq!(machine["is_in_user_namespace"], wanted, "{map}, {gate}");
    }
}

#[tokio::test]
async fn what_hard_thresholds_keep_from_pods() {
    let usual = told(Lab::new(), "kept_free").await;
    assert!(usual.get("memory").is_some(), "{usual}");
    let ignored = told(Lab::new().flag("--experimental-allocatable-ignore-eviction"), "kept_free").await;
    assert_eq!(ignored, serde_json::json!({}));
}

/// Where it may not change the kernel's settings it goes without, if that is because of a user namespace and it is told
/// not to mind.
#[tokio::test]
async fn settings_of_the_kernel_that_cannot_be_changed() {
    for (map, gate, goes_on) in [(ROOTLESS, true, true), (ROOTLESS, false, false), (FIRST, true, false)] {
        let gates = format!("featureGates: {{KubeletInUserNamespace: {gate}}}\n");
        let lab = shown(WITH_MAP_AND_WITHOUT_SYSCTLS, map).with(&gates);
        lab.write("sys/kernel/panic", "0");
        if goes_on {
            exit_codes::started(lab).await;
            continue;
        }
        runtime::serve(&lab.path("cri.sock"));
        let ended = lab.run().await;
        assert_eq!(ended.code, Some(1), "{map}, {gate}: {}", ended.stderr);
        assert!(ended.last().contains("kernel/panic"), "{map}, {gate}: {}", ended.stderr);
    }
}
