//! Views of a pod that its API type lacks. All are pure functions of the pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Volume};

use crate::{Pod, PodKey, PodUid};

/// Annotation naming the source a pod came from: `api`, `file` or `http`.
pub const ANNOTATION_CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation holding the hash of a static pod's manifest, which is also its uid.
pub const ANNOTATION_CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation with the time at which the node first saw a pod.
pub const ANNOTATION_CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// Annotation that makes an API pod the mirror of a static one; its value is the static pod's hash.
pub const ANNOTATION_CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Grace used when a pod's spec names none, seconds.
pub const DEFAULT_GRACE_SECONDS: u64 = 30;
/// Priority from which a pod counts as critical (`system-cluster-critical`).
pub const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Which of a pod's three lists a container stands in. The order is the order of starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerKind {
    /// `spec.initContainers` without `restartPolicy: Always`: runs to completion.
    Init,
    /// `spec.initContainers` with `restartPolicy: Always` (KEP-753): runs beside the others.
    Sidecar,
    /// `spec.containers`.
    Regular,
    /// `spec.ephemeralContainers` (`kubectl debug`).
    Ephemeral,
}

/// One container of a pod with its place in it.
#[derive(Clone, Debug)]
pub struct ContainerRef<'a> {
    /// Which list.
    pub kind: ContainerKind,
    /// The spec.
    pub spec: SpecRef<'a>,
}

/// Copy-on-write reference to the spec of a container: an ephemeral container's is converted to the type of the others. Smaller
/// than [`Cow`](std::borrow::Cow), which has room for a whole spec wherever it goes.
#[derive(Clone, Debug)]
pub enum SpecRef<'a> {
    /// As the pod has it.
    Borrowed(&'a Container),
    /// Converted.
    Owned(Box<Container>),
}

impl std::ops::Deref for SpecRef<'_> {
    type Target = Container;

    fn deref(&self) -> &Container {
        match self {
            Self::Borrowed(spec) => spec,
            Self::Owned(spec) => spec,
        }
    }
}

impl SpecRef<'_> {
    /// The spec without its pod.
    pub fn into_owned(self) -> Container {
        match self {
            Self::Borrowed(spec) => spec.clone(),
            Self::Owned(spec) => *spec,
        }
    }
}

/// `metadata.uid`; empty when the source gave none.
pub fn uid(pod: &Pod) -> PodUid {
    PodUid::from(pod.metadata.uid.as_deref().unwrap_or_default())
}

/// Namespace and name.
pub fn key(pod: &Pod) -> PodKey {
    PodKey::new(
        pod.metadata.namespace.as_deref().unwrap_or("default"),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}

/// An annotation's value.
pub fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether the pod comes from a file or URL instead of the API server.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, ANNOTATION_CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Whether the pod is the API server's mirror of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, ANNOTATION_CONFIG_MIRROR).is_some()
}

/// Whether the pod is never evicted and may preempt: static, mirror, or of critical priority.
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod)
        || is_mirror(pod)
        || pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= CRITICAL_PRIORITY)
}

/// Whether the pod's containers share the node's network namespace.
pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

/// The pod's `restartPolicy`, `Always` by default.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// Unless its exit code is zero.
    OnFailure,
    /// Not at all.
    Never,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Whatever there is.
    Always,
    /// Where there is none that the pod may use.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// From what a pod says; one that has not been through the API may say nothing.
    pub fn of(text: Option<&str>) -> Self {
        match text {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            _ => Self::IfNotPresent,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// When the image of this container is pulled.
pub fn pull_policy(container: &Container) -> PullPolicy {
    PullPolicy::of(container.image_pull_policy.as_deref())
}

/// Seconds between SIGTERM and SIGKILL: the deletion's when one is under way, else the spec's.
pub fn grace_seconds(pod: &Pod) -> u64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    let deletion =
        pod.metadata.deletion_grace_period_seconds.filter(|_| pod.metadata.deletion_timestamp.is_some());
    deletion.or(spec).map_or(DEFAULT_GRACE_SECONDS, |s| u64::try_from(s).unwrap_or(0))
}

/// All containers: init and sidecars in their order, then regular, then ephemeral ones.
pub fn containers(pod: &Pod) -> impl Iterator<Item = ContainerRef<'_>> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    let regular = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
    let ephemeral = spec.and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or_default();
    let init = init.iter().map(|c| ContainerRef {
        kind: if is_sidecar(c) { ContainerKind::Sidecar } else { ContainerKind::Init },
        spec: SpecRef::Borrowed(c),
    });
    let regular =
        regular.iter().map(|c| ContainerRef { kind: ContainerKind::Regular, spec: SpecRef::Borrowed(c) });
    let ephemeral = ephemeral.iter().map(|c| ContainerRef {
        kind: ContainerKind::Ephemeral,
        spec: SpecRef::Owned(Box::new(ephemeral_as_container(c))),
    });
    init.chain(regular).chain(ephemeral)
}

/// The container of that name, in whichever list.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<ContainerRef<'a>> {
    containers(pod).find(|c| c.spec.name == name)
}

/// The volumes that containers have, as folders or as devices: others are not made, and nobody waits for them.
pub fn used_volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let mut names = BTreeSet::new();
    for container in containers(pod) {
        names.extend(container.spec.volume_mounts.iter().flatten().map(|mount| mount.name.clone()));
        names.extend(container.spec.volume_devices.iter().flatten().map(|device| device.name.clone()));
    }
    let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    all.filter(move |volume| names.contains(&volume.name))
}

/// Whether an init container is a sidecar (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// `spec.containers{name}` and its kin: the field path events about a container carry.
pub fn field_path(kind: ContainerKind, name: &str) -> String {
    match kind {
        ContainerKind::Init | ContainerKind::Sidecar => format!("spec.initContainers{{{name}}}"),
        ContainerKind::Regular => format!("spec.containers{{{name}}}"),
        ContainerKind::Ephemeral => format!("spec.ephemeralContainers{{{name}}}"),
    }
}

fn ephemeral_as_container(c: &k8s_openapi::api::core::v1::EphemeralContainer) -> Container {
    Container {
        args: c.args.clone(),
        command: c.command.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        image: c.image.clone(),
        image_pull_policy: c.image_pull_policy.clone(),
        lifecycle: c.lifecycle.clone(),
        liveness_probe: None,
        name: c.name.clone(),
        ports: c.ports.clone(),
        readiness_probe: None,
        resize_policy: c.resize_policy.clone(),
        resources: c.resources.clone(),
        restart_policy: c.restart_policy.clone(),
        restart_policy_rules: None,
        security_context: c.security_context.clone(),
        startup_probe: None,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy.clone(),
        tty: c.tty,
        volume_devices: c.volume_devices.clone(),
        volume_mounts: c.volume_mounts.clone(),
        working_dir: c.working_dir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value, spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn annotated(name: &str, value: &str) -> Pod {
        pod(json!({"annotations": {name: value}}), json!({"containers": []}))
    }

    #[test]
    fn volumes_are_used_by_containers_of_each_kind() {
        let mounts = |name: &str| json!([{ "name": name, "mountPath": "/x" }]);
        let all: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| json!({ "name": name })).to_vec();
        let pod = pod(
            json!({}),
            json!({
                "initContainers": [{ "name": "init", "volumeMounts": mounts("d") }],
                "containers": [
                    { "name": "main", "volumeMounts": mounts("b") },
                    { "name": "raw", "volumeDevices": [{ "name": "c", "devicePath": "/y" }] },
                ],
                "ephemeralContainers": [{ "name": "debug", "volumeMounts": mounts("a") }],
                "volumes": all,
            }),
        );
        assert_eq!(used_volumes(&pod).map(|v| v.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn sources() {
        for (case, pod, want) in [
            ("no source", Pod::default(), (false, false, false)),
            ("api", annotated(ANNOTATION_CONFIG_SOURCE, "api"), (false, false, false)),
            ("file", annotated(ANNOTATION_CONFIG_SOURCE, "file"), (true, false, true)),
            ("url", annotated(ANNOTATION_CONFIG_SOURCE, "http"), (true, false, true)),
            ("mirror", annotated(ANNOTATION_CONFIG_MIRROR, "hash"), (false, true, true)),
        ] {
            assert_eq!((is_static(&pod), is_mirror(&pod), is_critical(&pod)), want, "{case}");
        }
        for (priority, want) in [(1_999_999_999, false), (2_000_000_000, true), (2_000_001_000, true)] {
            let pod = pod(json!({}), json!({"priority": priority, "containers": []}));
            assert_eq!(is_critical(&pod), want, "{priority}");
        }
    }

    #[test]
    fn graces() {
        for (metadata, spec, want) in [
            (json!({}), json!({"containers": []}), 30),
            (json!({}), json!({"containers": [], "terminationGracePeriodSeconds": 7}), 7),
            (json!({}), json!({"containers": [], "terminationGracePeriodSeconds": -1}), 0),
            (json!({"deletionGracePeriodSeconds": 3}), json!({"containers": []}), 30),
            (
                json!({"deletionGracePeriodSeconds": 3, "deletionTimestamp": "2026-01-01T00:00:00Z"}),
                json!({"containers": [], "terminationGracePeriodSeconds": 7}),
                3,
            ),
        ] {
            assert_eq!(grace_seconds(&pod(metadata, spec)), want);
        }
    }

    #[test]
    fn lists_containers_in_the_order_of_starting() {
        let pod = pod(
            json!({}),
            json!({
                "containers": [{"name": "main"}],
                "initContainers": [{"name": "init"}, {"name": "proxy", "restartPolicy": "Always"}],
                "ephemeralContainers": [{"name": "debug", "image": "tools"}],
            }),
        );
        let all: Vec<_> = containers(&pod).map(|c| (c.kind, c.spec.name.clone())).collect();
        let want = [
            (ContainerKind::Init, "init"),
            (ContainerKind::Sidecar, "proxy"),
            (ContainerKind::Regular, "main"),
            (ContainerKind::Ephemeral, "debug"),
        ];
        assert_eq!(all, want.map(|(kind, name)| (kind, name.to_owned())));
        assert_eq!(container(&pod, "debug").unwrap().spec.image.as_deref(), Some("tools"));
        assert!(container(&pod, "ghost").is_none());
        assert_eq!(field_path(ContainerKind::Sidecar, "proxy"), "spec.initContainers{proxy}");
        assert_eq!(field_path(ContainerKind::Ephemeral, "debug"), "spec.ephemeralContainers{debug}");
    }
}
