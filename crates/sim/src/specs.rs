//! Pods, as random as the rules of the API allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, EnvVar, ExecAction, Lifecycle,
    LifecycleHandler, PodSpec, Probe,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use model::{Pod, pod};

use crate::chance::Chance;

/// Exit code of a container that fails by itself.
pub(crate) const FAILED: i32 = 1;

/// What pods have where secrets may be.
pub(crate) const SECRET: &str = "s3cret";

/// The node all pods are bound to.
pub(crate) const NODE: &str = "node";

/// A pod as a user would create it.
pub(crate) fn pod(chance: &mut Chance, name: &str, uid: &str, now: Timestamp) -> Pod {
    let policy = *chance.pick(&["Always", "Always", "OnFailure", "Never"]).unwrap_or(&"Always");
    let regular: Vec<Container> = (0..chance.number(1, 3).min(chance.number(1, 3)))
        .map(|n| container(chance, &format!("c{n}")))
        .collect();
    let mut init: Vec<Container> = Vec::new();
    if chance.percent(40) {
        for n in 0..chance.number(1, 3) {
            let is_sidecar = chance.percent(45);
            let mut c = container(chance, &format!("{}{n}", if is_sidecar { "s" } else { "i" }));
            if is_sidecar {
                c.restart_policy = Some("Always".to_owned());
            } else {
                (c.liveness_probe, c.readiness_probe, c.startup_probe, c.lifecycle) =
                    (None, None, None, None);
            }
            init.push(c);
        }
    }
    let mut regular = regular;
    if chance.percent(15) {
        let all: Vec<&mut Container> =
            regular.iter_mut().chain(init.iter_mut().filter(|c| c.restart_policy.is_none())).collect();
        restart_all(chance, all);
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some(uid.to_owned()),
            creation_timestamp: Some(Time(now)),
            generation: Some(1),
            annotations: Some(BTreeMap::from([("note".to_owned(), SECRET.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(NODE.to_owned()),
            restart_policy: Some(policy.to_owned()),
            containers: regular,
            init_containers: Some(init).filter(|l| !l.is_empty()),
            host_network: chance.percent(15).then_some(true),
            termination_grace_period_seconds: Some(i64::from(
                *chance.pick(&[0, 1, 5, 30, 60]).unwrap_or(&30),
            )),
            active_deadline_seconds: chance.percent(8).then(|| i64::from(chance.number(5, 60))),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// The same as a static pod: its uid is its content's hash.
pub(crate) fn static_pod(chance: &mut Chance, name: &str, now: Timestamp, version: u32) -> Arc<Pod> {
    let uid = format!("static-{name}-{version}");
    let mut made = pod(chance, name, &uid, now);
    made.metadata.annotations.get_or_insert_default().extend([
        (pod::ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned()),
        (pod::ANNOTATION_CONFIG_HASH.to_owned(), uid),
    ]);
    if let Some(spec) = &mut made.spec {
        spec.active_deadline_seconds = None;
    }
    Arc::new(made)
}

fn container(chance: &mut Chance, name: &str) -> Container {
    let hooks = chance.percent(20).then(|| Lifecycle {
        post_start: chance.percent(50).then(handler),
        pre_stop: chance.percent(50).then(handler),
        ..Lifecycle::default()
    });
    Container {
        name: name.to_owned(),
        image: Some(format!("image-{}", chance.number(0, 3))),
        image_pull_policy: Some(
            (*chance.pick(&["IfNotPresent", "IfNotPresent", "Always"]).unwrap_or(&"Always")).to_owned(),
        ),
        args: Some(vec![SECRET.to_owned()]),
        env: Some(vec![EnvVar {
            name: "TOKEN".to_owned(),
            value: Some(SECRET.to_owned()),
            ..EnvVar::default()
        }]),
        lifecycle: hooks,
        liveness_probe: chance.percent(12).then(|| probe(chance)),
        readiness_probe: chance.percent(12).then(|| probe(chance)),
        startup_probe: chance.percent(12).then(|| probe(chance)),
        ..Container::default()
    }
}

/// Gives one of the containers the rule that restarts all of them when it fails.
fn restart_all(chance: &mut Chance, containers: Vec<&mut Container>) {
    let index = chance.number(0, u32::try_from(containers.len()).unwrap_or(1).saturating_sub(1));
    let Some(chosen) = containers.into_iter().nth(index as usize) else { return };
    chosen.restart_policy = Some("Never".to_owned());
    chosen.restart_policy_rules = Some(vec![ContainerRestartRule {
        action: "RestartAllContainers".to_owned(),
        exit_codes: Some(ContainerRestartRuleOnExitCodes {
            operator: "In".to_owned(),
            values: Some(vec![FAILED]),
        }),
    }]);
}

fn handler() -> LifecycleHandler {
    LifecycleHandler {
        exec: Some(ExecAction { command: Some(vec!["hook".to_owned()]) }),
        ..LifecycleHandler::default()
    }
}

fn probe(chance: &mut Chance) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(vec!["probe".to_owned()]) }),
        period_seconds: Some(i32::try_from(chance.number(1, 10)).unwrap_or(10)),
        failure_threshold: Some(i32::try_from(chance.number(1, 3)).unwrap_or(3)),
        // The longer one so that some process of the node ends within it.
        initial_delay_seconds: chance.percent(30).then(|| *chance.pick(&[3, 45]).unwrap_or(&3)),
        termination_grace_period_seconds: None,
        ..Probe::default()
    }
}
