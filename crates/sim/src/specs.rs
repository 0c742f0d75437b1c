//! Pods, as random as the rules of the API allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, EnvVar, ExecAction, ImageVolumeSource,
    Lifecycle, LifecycleHandler, PodSpec, Probe, ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use model::{Pod, pod};

use crate::rng::SimRng;

/// Exit code of a container that fails by itself.
pub(crate) const FAILED: i32 = 1;

/// What pods have where secrets may be.
pub(crate) const SECRET: &str = "s3cret";

/// The node all pods are bound to.
pub(crate) const NODE: &str = "node";

/// A pod as a user would create it.
pub(crate) fn pod(rng: &mut SimRng, name: &str, uid: &str, now: Timestamp) -> Pod {
    let policy = *rng.pick(&["Always", "Always", "OnFailure", "Never"]).unwrap_or(&"Always");
    let regular: Vec<Container> =
        (0..rng.number(1, 3).min(rng.number(1, 3))).map(|n| container(rng, &format!("c{n}"))).collect();
    let mut init: Vec<Container> = Vec::new();
    if rng.percent(40) {
        for n in 0..rng.number(1, 3) {
            let is_sidecar = rng.percent(45);
            let mut c = container(rng, &format!("{}{n}", if is_sidecar { "s" } else { "i" }));
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
    let volumes = image_volumes(rng, regular.iter_mut().chain(&mut init));
    if rng.percent(15) {
        let all: Vec<&mut Container> =
            regular.iter_mut().chain(init.iter_mut().filter(|c| c.restart_policy.is_none())).collect();
        restart_all(rng, all);
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
            volumes: Some(volumes).filter(|l| !l.is_empty()),
            host_network: rng.percent(15).then_some(true),
            termination_grace_period_seconds: Some(i64::from(*rng.pick(&[0, 1, 5, 30, 60]).unwrap_or(&30))),
            active_deadline_seconds: rng.percent(8).then(|| i64::from(rng.number(5, 60))),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// The same as a static pod: its uid is its content's hash.
pub(crate) fn static_pod(rng: &mut SimRng, name: &str, now: Timestamp, version: u32) -> Arc<Pod> {
    let uid = format!("static-{name}-{version}");
    let mut made = pod(rng, name, &uid, now);
    made.metadata.annotations.get_or_insert_default().extend([
        (pod::ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned()),
        (pod::ANNOTATION_CONFIG_HASH.to_owned(), uid),
    ]);
    if let Some(spec) = &mut made.spec {
        spec.active_deadline_seconds = None;
    }
    Arc::new(made)
}

fn container(rng: &mut SimRng, name: &str) -> Container {
    let hooks = rng.percent(20).then(|| Lifecycle {
        post_start: rng.percent(50).then(handler),
        pre_stop: rng.percent(50).then(handler),
        ..Lifecycle::default()
    });
    Container {
        name: name.to_owned(),
        image: Some(format!("image-{}", rng.number(0, 3))),
        image_pull_policy: Some(
            (*rng.pick(&["IfNotPresent", "IfNotPresent", "Always"]).unwrap_or(&"Always")).to_owned(),
        ),
        args: Some(vec![SECRET.to_owned()]),
        env: Some(vec![EnvVar {
            name: "TOKEN".to_owned(),
            value: Some(SECRET.to_owned()),
            ..EnvVar::default()
        }]),
        resources: requests(*rng.pick(&[0, 0, 100, 500, 900]).unwrap_or(&0)),
        lifecycle: hooks,
        liveness_probe: rng.percent(12).then(|| probe(rng)),
        readiness_probe: rng.percent(12).then(|| probe(rng)),
        startup_probe: rng.percent(12).then(|| probe(rng)),
        ..Container::default()
    }
}

/// Images as volumes, in some pods, and the containers that mount them.
fn image_volumes<'a>(rng: &mut SimRng, containers: impl Iterator<Item = &'a mut Container>) -> Vec<Volume> {
    let count = if rng.percent(15) { rng.number(1, 2) } else { 0 };
    let volumes: Vec<Volume> = (0..count).map(|n| image_volume(rng, &format!("v{n}"))).collect();
    for container in containers.filter(|_| count > 0) {
        let mounts = volumes.iter().filter(|_| rng.percent(60)).map(|volume| VolumeMount {
            name: volume.name.clone(),
            mount_path: format!("/{}", volume.name),
            ..VolumeMount::default()
        });
        container.volume_mounts = Some(mounts.collect());
    }
    volumes
}

fn image_volume(rng: &mut SimRng, name: &str) -> Volume {
    let policy = *rng.pick(&["IfNotPresent", "IfNotPresent", "Always"]).unwrap_or(&"Always");
    Volume {
        name: name.to_owned(),
        image: Some(ImageVolumeSource {
            reference: Some(format!("image-{}", rng.number(0, 3))),
            pull_policy: Some(policy.to_owned()),
        }),
        ..Volume::default()
    }
}

/// Requests of so many thousandths of a processor.
pub(crate) fn requests(cpu_millis: u32) -> Option<ResourceRequirements> {
    let cpu = ("cpu".to_owned(), Quantity(format!("{cpu_millis}m")));
    let requests = Some(BTreeMap::from([cpu]));
    (cpu_millis > 0).then(|| ResourceRequirements { requests, ..ResourceRequirements::default() })
}

/// Gives one of the containers the rule that restarts all of them when it fails.
fn restart_all(rng: &mut SimRng, containers: Vec<&mut Container>) {
    let index = rng.number(0, u32::try_from(containers.len()).unwrap_or(1).saturating_sub(1));
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

fn probe(rng: &mut SimRng) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(vec!["probe".to_owned()]) }),
        period_seconds: Some(i32::try_from(rng.number(1, 10)).unwrap_or(10)),
        failure_threshold: Some(i32::try_from(rng.number(1, 3)).unwrap_or(3)),
        // The longer one so that some process of the node ends within it.
        initial_delay_seconds: rng.percent(30).then(|| *rng.pick(&[3, 45]).unwrap_or(&3)),
        termination_grace_period_seconds: None,
        ..Probe::default()
    }
}
