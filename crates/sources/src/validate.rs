//! Rules of the Pod API that matter for running a pod, and those for static pods alone.

mod volumes;

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Probe, Volume};
use model::references::{ObjectKind, references};
use model::{Pod, Quantity};

use crate::manifest::ManifestGates;
use volumes::Volumes;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which field, e.g. `spec.containers[0].name`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

#[derive(Default)]
struct Report(Vec<FieldError>);

impl Report {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), problem: problem.into() });
    }

    fn require(&mut self, holds: bool, field: impl Into<String>, problem: impl Into<String>) {
        if !holds {
            self.add(field, problem);
        }
    }

    fn one_of(&mut self, value: Option<&str>, allowed: &[&str], field: impl Into<String>) {
        if let Some(value) = value.filter(|value| !allowed.contains(value)) {
            self.add(field, format!("{value:?} is none of {}", allowed.join(", ")));
        }
    }
}

/// All rules the pod breaks.
pub(crate) fn errors(pod: &Pod, gates: ManifestGates) -> Vec<FieldError> {
    let mut report = Report::default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    report.require(is_subdomain(name), "metadata.name", format!("{name:?} is not a DNS-1123 subdomain"));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    report.require(
        is_label(namespace),
        "metadata.namespace",
        format!("{namespace:?} is not a DNS-1123 label"),
    );
    if let Some(spec) = &pod.spec {
        check_spec(spec, &mut report);
        check_users(spec, gates, &mut report);
    }
    report.0
}

fn check_spec(spec: &PodSpec, report: &mut Report) {
    report.one_of(spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"], "spec.restartPolicy");
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    report.one_of(spec.dns_policy.as_deref(), &policies, "spec.dnsPolicy");
    let has_servers =
        spec.dns_config.as_ref().is_some_and(|dns| dns.nameservers.as_ref().is_some_and(|s| !s.is_empty()));
    report.require(
        spec.dns_policy.as_deref() != Some("None") || has_servers,
        "spec.dnsConfig.nameservers",
        "required when dnsPolicy is None",
    );
    report.require(
        spec.active_deadline_seconds.is_none_or(|seconds| seconds >= 1),
        "spec.activeDeadlineSeconds",
        "must be at least 1",
    );
    report.require(
        spec.ephemeral_containers.as_ref().is_none_or(Vec::is_empty),
        "spec.ephemeralContainers",
        "may not be set when a pod is created",
    );
    let volumes = volumes::check(spec.volumes.as_deref().unwrap_or_default(), report);
    report.require(!spec.containers.is_empty(), "spec.containers", "at least one is required");
    let mut names = BTreeSet::new();
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, container)| (format!("spec.initContainers[{index}]"), container, true));
    let regular = spec.containers.iter().enumerate();
    let regular = regular.map(|(index, container)| (format!("spec.containers[{index}]"), container, false));
    for (field, container, is_init) in init.chain(regular) {
        check_container(container, &field, &volumes, report);
        report.require(
            names.insert(container.name.as_str()),
            format!("{field}.name"),
            format!("{:?} is there twice", container.name),
        );
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        let has_probes = container.liveness_probe.is_some()
            || container.readiness_probe.is_some()
            || container.startup_probe.is_some()
            || container.lifecycle.is_some();
        report.require(
            !is_init || is_sidecar || !has_probes,
            field,
            "an init container that is no sidecar has neither probes nor lifecycle",
        );
    }
}

/// What a user namespace of a pod's own does not go together with.
fn check_users(spec: &PodSpec, gates: ManifestGates, report: &mut Report) {
    for (field, is_shared, is_allowed) in [
        ("spec.hostNetwork", spec.host_network, gates.has_users_on_host_network),
        ("spec.hostPID", spec.host_pid, false),
        ("spec.hostIPC", spec.host_ipc, false),
    ] {
        let is_wrong = spec.host_users == Some(false) && is_shared == Some(true) && !is_allowed;
        report.require(!is_wrong, field, "not allowed when hostUsers is false");
    }
}

fn check_container(container: &Container, field: &str, volumes: &Volumes<'_>, report: &mut Report) {
    report.require(
        is_label(&container.name),
        format!("{field}.name"),
        format!("{:?} is not a DNS-1123 label", container.name),
    );
    let image = container.image.as_deref().unwrap_or_default();
    report.require(!image.trim().is_empty(), format!("{field}.image"), "required");
    report.require(image.trim() == image, format!("{field}.image"), "must not begin or end with white space");
    report.one_of(
        container.image_pull_policy.as_deref(),
        &["Always", "Never", "IfNotPresent"],
        format!("{field}.imagePullPolicy"),
    );
    report.one_of(
        container.termination_message_policy.as_deref(),
        &["File", "FallbackToLogsOnError"],
        format!("{field}.terminationMessagePolicy"),
    );
    volumes::check_mounts(container, field, volumes, report);
    check_ports(container, field, report);
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let has_both =
            variable.value.as_ref().is_some_and(|value| !value.is_empty()) && variable.value_from.is_some();
        report.require(!variable.name.is_empty(), format!("{field}.env[{index}].name"), "required");
        report.require(!has_both, format!("{field}.env[{index}]"), "may have value or valueFrom only");
    }
    for (name, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        if let Some(probe) = probe {
            check_probe(probe, name, &format!("{field}.{name}"), report);
        }
    }
    let hooks = container.lifecycle.as_ref();
    let hooks = hooks.map(|hooks| [("postStart", &hooks.post_start), ("preStop", &hooks.pre_stop)]);
    for (name, hook) in hooks.into_iter().flatten() {
        if let Some(get) = hook.as_ref().and_then(|hook| hook.http_get.as_ref()) {
            check_get(get, &format!("{field}.lifecycle.{name}.httpGet"), report);
        }
    }
    check_resources(container, field, report);
}

fn check_ports(container: &Container, field: &str, report: &mut Report) {
    let is_port = |port: i32| (1..=65535).contains(&port);
    let mut names = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let field = format!("{field}.ports[{index}]");
        report.require(
            is_port(port.container_port),
            format!("{field}.containerPort"),
            "must be between 1 and 65535",
        );
        report.require(
            port.host_port.is_none_or(|port| port == 0 || is_port(port)),
            format!("{field}.hostPort"),
            "must be between 1 and 65535",
        );
        report.one_of(port.protocol.as_deref(), &["TCP", "UDP", "SCTP"], format!("{field}.protocol"));
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            report.require(names.insert(name), format!("{field}.name"), format!("{name:?} is there twice"));
        }
    }
}

fn check_probe(probe: &Probe, name: &str, field: &str, report: &mut Report) {
    let ways =
        [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    report.require(
        ways.iter().filter(|way| **way).count() == 1,
        field,
        "needs exactly one of exec, httpGet, tcpSocket, grpc",
    );
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (number, value) in numbers {
        report.require(value.unwrap_or(0) >= 0, format!("{field}.{number}"), "must not be negative");
    }
    let needs_one = name != "readinessProbe";
    report.require(
        !needs_one || probe.success_threshold.is_none_or(|count| count == 1),
        format!("{field}.successThreshold"),
        "must be 1",
    );
    if let Some(get) = &probe.http_get {
        check_get(get, &format!("{field}.httpGet"), report);
    }
    if let Some(grpc) = &probe.grpc {
        report.one_of(grpc.mode.as_deref(), &["Plaintext", "TLS"], format!("{field}.grpc.mode"));
    }
}

/// HTTP/2 is spoken without TLS, and to the pod itself.
fn check_get(get: &HTTPGetAction, field: &str, report: &mut Report) {
    report.one_of(get.protocol.as_deref(), &["HTTP1", "HTTP2"], format!("{field}.protocol"));
    if get.protocol.as_deref() != Some("HTTP2") {
        return;
    }
    let is_plain = get.scheme.as_deref() == Some("HTTP");
    report.require(is_plain, format!("{field}.protocol"), "\"HTTP2\" needs the scheme HTTP");
    let is_own = get.host.as_deref().unwrap_or_default().is_empty();
    report.require(!is_plain || is_own, format!("{field}.host"), "must be empty with the protocol \"HTTP2\"");
}

fn check_resources(container: &Container, field: &str, report: &mut Report) {
    let Some(resources) = &container.resources else { return };
    for (list, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for (name, amount) in amounts.iter().flatten() {
            let is_sound = Quantity::from_api(amount).is_some_and(|amount| amount >= Quantity::from_units(0));
            report.require(
                is_sound,
                format!("{field}.resources.{list}[{name}]"),
                format!("{:?} is not an amount", amount.0),
            );
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let Some(limit) = resources.limits.as_ref().and_then(|limits| limits.get(name)) else { continue };
        let is_within = Quantity::from_api(request) <= Quantity::from_api(limit);
        report.require(
            is_within,
            format!("{field}.resources.requests[{name}]"),
            format!("{} is more than the limit {}", request.0, limit.0),
        );
    }
    report.require(
        resources.claims.as_ref().is_none_or(Vec::is_empty),
        format!("{field}.resources.claims"),
        "static pods may not use resource claims",
    );
}

/// DNS-1123 label: at most 63 of `a-z 0-9 -`, not beginning or ending with `-`.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// DNS-1123 subdomain: at most 253, parts divided by dots.
fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(is_inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// What a static pod names that only the API server has, in upstream's words.
pub(crate) fn forbidden_reference(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let named = references(pod);
    for (kind, word) in [(ObjectKind::Secret, "secrets"), (ObjectKind::ConfigMap, "configmaps")] {
        if named.iter().any(|object| object.kind == kind) {
            return Some(word);
        }
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        return Some("resourceclaims");
    }
    spec.volumes.iter().flatten().find_map(forbidden_volume)
}

fn forbidden_volume(volume: &Volume) -> Option<&'static str> {
    let words = [
        (volume.config_map.is_some(), "configmaps (via configmap volumes)"),
        (volume.secret.is_some(), "secrets (via secret volumes)"),
        (volume.csi.is_some(), "csidrivers (via CSI volumes)"),
        (volume.glusterfs.is_some(), "endpoints (via glusterFS volumes)"),
        (volume.persistent_volume_claim.is_some(), "persistentvolumeclaims"),
        (volume.ephemeral.is_some(), "persistentvolumeclaims (via ephemeral volumes)"),
        (volume.azure_file.is_some(), "secrets (via azureFile volumes)"),
    ];
    let own = words.into_iter().find_map(|(is_there, word)| is_there.then_some(word));
    own.or_else(|| {
        let sources = volume.projected.as_ref()?.sources.as_ref()?;
        sources.iter().find_map(|source| {
            let words = [
                (source.config_map.is_some(), "configmaps (via projected volumes)"),
                (source.secret.is_some(), "secrets (via projected volumes)"),
                (source.service_account_token.is_some(), "serviceaccounts (via projected volumes)"),
                (source.cluster_trust_bundle.is_some(), "clustertrustbundles"),
                (source.pod_certificate.is_some(), "podcertificates"),
            ];
            words.into_iter().find_map(|(is_there, word)| is_there.then_some(word))
        })
    })
}
