//! What the API server fills in when a pod is created, for pods it never sees.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodIP, PodSpec, PodStatus, Probe, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::Pod;

/// Mode of files in volumes made from objects, 0644.
const DEFAULT_MODE: i32 = 0o644;

/// How long a service account's token is to be good for.
const TOKEN_SECONDS: i64 = 3600;

/// Fills in defaults, the protocol of HTTP probes and hooks only if that is wanted. Applying it again changes nothing.
pub(crate) fn apply(pod: &mut Pod, has_http_protocols: bool) {
    let spec = pod.spec.get_or_insert_default();
    pod_spec(spec);
    let is_host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        apply_container(container, is_host_network);
        if has_http_protocols {
            apply_http_protocols(container);
        }
    }
    for volume in spec.volumes.iter_mut().flatten() {
        apply_volume(volume);
    }
    if let Some(status) = &mut pod.status {
        apply_status(status);
    }
}

/// The first address and the list of all are kept equal; the first counts.
fn apply_status(status: &mut PodStatus) {
    let first = status.pod_ip.clone().filter(|ip| !ip.is_empty());
    let all = status.pod_ips.as_ref().and_then(|all| all.first());
    match (first, all) {
        (None, Some(of_all)) => status.pod_ip = Some(of_all.ip.clone()),
        (Some(first), of_all) if of_all.is_none_or(|of_all| of_all.ip != first) => {
            status.pod_ips = Some(vec![PodIP { ip: first }]);
        }
        _ => {}
    }
}

fn pod_spec(spec: &mut PodSpec) {
    if spec.service_account_name.as_deref().unwrap_or_default().is_empty() {
        spec.service_account_name = spec.service_account.clone();
    }
    spec.service_account.clone_from(&spec.service_account_name);
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    let grace = spec.termination_grace_period_seconds.get_or_insert(30);
    if *grace < 0 {
        *grace = 1;
    }
    spec.enable_service_links.get_or_insert(true);
}

fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.to_owned());
    }
}

fn apply_container(container: &mut Container, is_host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    text(&mut container.image_pull_policy, pull_policy(image));
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for probe in probes.into_iter().flatten() {
        apply_probe(probe);
    }
    let hooks = container.lifecycle.as_mut();
    for hook in hooks.into_iter().flat_map(|hooks| [&mut hooks.post_start, &mut hooks.pre_stop]).flatten() {
        if let Some(get) = &mut hook.http_get {
            text(&mut get.path, "/");
            text(&mut get.scheme, "HTTP");
        }
    }
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        if is_host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    for variable in container.env.iter_mut().flatten() {
        let Some(source) = &mut variable.value_from else { continue };
        if let Some(field) = &mut source.field_ref {
            text(&mut field.api_version, "v1");
        }
        if let Some(key) = &mut source.file_key_ref {
            key.optional.get_or_insert(false);
        }
    }
    // Always there in what the API server sends.
    let resources = container.resources.get_or_insert_default();
    requests_from_limits(&resources.limits, &mut resources.requests);
}

fn requests_from_limits(
    limits: &Option<BTreeMap<String, Quantity>>,
    requests: &mut Option<BTreeMap<String, Quantity>>,
) {
    if let Some(limits) = limits {
        let requests = requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
}

fn apply_probe(probe: &mut Probe) {
    for (field, default) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.unwrap_or(0) == 0 {
            *field = Some(default);
        }
    }
    if let Some(get) = &mut probe.http_get {
        text(&mut get.path, "/");
        text(&mut get.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

/// The feature gate `H2CContainerProbe` names the protocol that there is without it.
fn apply_http_protocols(container: &mut Container) {
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    let of_probes = probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_mut());
    let hooks = container.lifecycle.iter_mut();
    let hooks = hooks.flat_map(|hooks| [&mut hooks.post_start, &mut hooks.pre_stop]).flatten();
    for get in of_probes.chain(hooks.filter_map(|hook| hook.http_get.as_mut())) {
        get.protocol.get_or_insert_with(|| "HTTP1".to_owned());
    }
}

fn apply_volume(volume: &mut Volume) {
    if is_without_source(volume) {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    let own = volume.downward_api.iter_mut().flat_map(|source| source.items.iter_mut().flatten());
    let projected = volume.projected.iter_mut().flat_map(|source| source.sources.iter_mut().flatten());
    let projected = projected.filter_map(|source| {
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
        }
        source.downward_api.as_mut()
    });
    let projected = projected.flat_map(|source| source.items.iter_mut().flatten());
    for item in own.chain(projected) {
        if let Some(field) = &mut item.field_ref {
            text(&mut field.api_version, "v1");
        }
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.image {
        let policy = pull_policy(source.reference.as_deref().unwrap_or_default());
        text(&mut source.pull_policy, policy);
    }
    let claim = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut());
    if let Some(claim) = claim {
        claim.spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    }
    apply_storage(volume);
}

/// Kinds of volumes that need storage of their own.
fn apply_storage(volume: &mut Volume) {
    if let Some(source) = &mut volume.iscsi {
        text(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut volume.rbd {
        text(&mut source.pool, "rbd");
        text(&mut source.user, "admin");
        text(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut volume.scale_io {
        text(&mut source.storage_mode, "ThinProvisioned");
        text(&mut source.fs_type, "xfs");
    }
    if let Some(source) = &mut volume.azure_disk {
        // An empty text counts as given in these.
        source.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
        source.fs_type.get_or_insert_with(|| "ext4".to_owned());
        source.kind.get_or_insert_with(|| "Shared".to_owned());
        source.read_only.get_or_insert(false);
    }
}

fn is_without_source(volume: &Volume) -> bool {
    Volume { name: String::new(), ..volume.clone() } == Volume::default()
}

/// `Always` for the tag `latest`, named or meant.
fn pull_policy(image: &str) -> &'static str {
    // It has no tag either.
    if image.is_empty() {
        return "IfNotPresent";
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    match (last.split_once(':'), digest) {
        (Some((_, "latest")), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        for (image, want) in [
            ("", "IfNotPresent"),
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("host:5000/a/nginx:2", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }
}
