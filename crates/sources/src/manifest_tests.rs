//! Manifests: defaults, identity, rules, refusals.

use serde_json::json;

use super::*;

fn read(text: &str) -> Result<Pod, ManifestError> {
    read_at(text, "/m/a.yaml", "Node-1")
}

fn origin<'a>(path: &'a str, node_name: &'a str) -> Origin<'a> {
    let place = Place::File(Path::new(path));
    Origin { place, node_name, seen: Timestamp::UNIX_EPOCH, gates: ManifestGates::default() }
}

fn read_at(text: &str, path: &str, node_name: &str) -> Result<Pod, ManifestError> {
    parse(text.as_bytes(), origin(path, node_name))
}

const PLAIN: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'i:1'}]}\n";

/// A pod whose spec has these fields beside one sound container.
fn with_spec(fields: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers: [{{name: c, image: 'i:1'}}]\n  {fields}\n"
    )
}

/// A pod whose container has these fields.
fn with_container(fields: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{volumes: [{{name: v}}], containers: [{{name: c, image: 'i:1', {fields}}}]}}\n"
    )
}

#[test]
fn a_static_pod_is_of_this_node() {
    let pod = read(PLAIN).unwrap();
    let meta = &pod.metadata;
    assert_eq!(meta.name.as_deref(), Some("web-node-1"));
    assert_eq!(meta.namespace.as_deref(), Some("default"));
    let uid = meta.uid.clone().unwrap();
    assert!(uid.len() == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{uid}");
    let annotations = meta.annotations.as_ref().unwrap();
    assert_eq!(annotations[ANNOTATION_CONFIG_HASH], uid);
    assert_eq!(annotations[ANNOTATION_CONFIG_SOURCE], "file");
    assert_eq!(annotations[ANNOTATION_CONFIG_SEEN], "1970-01-01T00:00:00Z");
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.node_name.as_deref(), Some("Node-1"));
    assert_eq!(
        serde_json::to_value(&spec.tolerations).unwrap(),
        json!([{"operator": "Exists", "effect": "NoExecute"}])
    );
    assert!(model::pod::is_static(&pod));
}

#[test]
fn the_uid_follows_pod_file_and_node_and_nothing_else() {
    let uid = |text: &str, path: &str, node: &str| read_at(text, path, node).unwrap().metadata.uid.unwrap();
    let plain = uid(PLAIN, "/m/a", "n");
    assert_eq!(plain, uid(&format!("# a comment\n---\n{PLAIN}"), "/m/a", "n"));
    assert_ne!(plain, uid(PLAIN, "/m/b", "n"));
    assert_ne!(plain, uid(PLAIN, "/m/a", "o"));
    assert_ne!(plain, uid(&PLAIN.replace("i:1", "i:2"), "/m/a", "n"));
    let given = PLAIN.replace("{name: web}", "{name: web, uid: given}");
    assert_eq!(uid(&given, "/m/a", "n"), "given");
    for strange in ["../../x", "..", "a/b", "a b"] {
        let text = PLAIN.replace("{name: web}", &format!("{{name: web, uid: '{strange}'}}"));
        let error = read_at(&text, "/m/a", "n").unwrap_err().to_string();
        assert!(error.starts_with("invalid pod: metadata.uid: names folders"), "{error}");
    }
}

#[test]
fn json_and_the_first_of_several_documents() {
    let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"i:1"}]}}"#;
    assert_eq!(read(json).unwrap().metadata.uid, read(PLAIN).unwrap().metadata.uid);
    assert!(read(&format!("{PLAIN}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: second}}\n")).is_ok());
}

#[test]
fn defaults_of_the_api_server() {
    let text = with_container(
        "ports: [{containerPort: 80}], resources: {limits: {cpu: 0.5, memory: 1Gi}, requests: {cpu: 100m}}, \
         livenessProbe: {httpGet: {port: 80}}, env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
    );
    let value = serde_json::to_value(read(&text).unwrap()).unwrap();
    let spec = &value["spec"];
    for (field, want) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
        ("volumes", json!([{"name": "v", "emptyDir": {}}])),
    ] {
        assert_eq!(spec[field], want, "{field}");
    }
    let container = &spec["containers"][0];
    for (field, want) in [
        ("imagePullPolicy", json!("IfNotPresent")),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("ports", json!([{"containerPort": 80, "protocol": "TCP"}])),
        (
            "resources",
            json!({"limits": {"cpu": "0.5", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}),
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}]),
        ),
    ] {
        assert_eq!(container[field], want, "{field}");
    }
    let probe = json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
    assert_eq!(container["livenessProbe"], probe);
    let host = read(
        &with_spec("hostNetwork: true").replace("image: 'i:1'", "image: 'i:1', ports: [{containerPort: 80}]"),
    );
    let host = serde_json::to_value(host.unwrap()).unwrap();
    assert_eq!(host["spec"]["containers"][0]["ports"][0]["hostPort"], json!(80));
}

/// Upstream's gate names the protocol before it hashes the pod.
#[test]
fn protocols_of_probes_and_hooks_have_a_default_with_the_gate_only() {
    let text = |protocol: &str| {
        with_container(&format!(
            "livenessProbe: {{httpGet: {{port: 80{protocol}}}}}, \
             lifecycle: {{postStart: {{httpGet: {{port: 80{protocol}}}}}}}, startupProbe: {{exec: {{command: [a]}}}}"
        ))
    };
    let read = |text: &str, has_http_protocols| {
        let gates = ManifestGates { has_http_protocols, ..ManifestGates::default() };
        let origin = Origin { gates, ..origin("/m/a", "n") };
        let pod = parse(text.as_bytes(), origin).unwrap();
        let value = serde_json::to_value(&pod).unwrap();
        let container = &value["spec"]["containers"][0];
        let of_probe = container["livenessProbe"]["httpGet"]["protocol"].clone();
        (
            pod.metadata.uid.unwrap(),
            of_probe,
            container["lifecycle"]["postStart"]["httpGet"]["protocol"].clone(),
        )
    };
    let named = |protocol: &str| read(&text(&format!(", protocol: {protocol}")), false);
    assert_eq!(read(&text(""), true), named("HTTP1"));
    assert_eq!(named("HTTP1").1, json!("HTTP1"));
    assert_eq!((read(&text(""), false).1, read(&text(""), false).2), (json!(null), json!(null)));
    assert_eq!(read(&text(", protocol: HTTP2"), true), named("HTTP2"));
}

#[test]
fn user_namespaces_on_the_hosts_network_need_their_gate() {
    let text = with_spec("hostUsers: false\n  hostNetwork: true");
    let read = |has_users_on_host_network| {
        let gates = ManifestGates { has_users_on_host_network, ..ManifestGates::default() };
        parse(text.as_bytes(), Origin { gates, ..origin("/m/a", "n") })
    };
    assert!(read(true).is_ok());
    let error = read(false).unwrap_err().to_string();
    assert!(error.contains("spec.hostNetwork: not allowed when hostUsers is false"), "{error}");
}

#[test]
fn empty_resources_of_a_pod_make_its_class_without_their_gate_only() {
    let read = |text: &str, has_no_empty_resources| {
        let gates = ManifestGates { has_no_empty_resources, ..ManifestGates::default() };
        let pod = parse(text.as_bytes(), Origin { gates, ..origin("/m/a", "n") }).unwrap();
        (model::QosClass::of(&pod).as_str(), pod.metadata.uid)
    };
    let requests = "image: 'i:1', resources: {requests: {cpu: 1}}";
    let text = with_spec("resources: {}").replace("image: 'i:1'", requests);
    let (on, off) = (read(&text, true), read(&text, false));
    assert_eq!((on.0, off.0), ("Burstable", "BestEffort"));
    assert_eq!(on.1, off.1, "it is the same pod");
    let text = with_spec("hostNetwork: true").replace("image: 'i:1'", requests);
    assert_eq!(read(&text, false).0, "Burstable");
}

#[test]
fn what_is_no_pod_says_so() {
    for (text, want) in [
        ("", "no document in it"),
        ("# only a comment\n", "no document in it"),
        ("a: [", "not YAML"),
        ("just text", "expected a v1 Pod, found something that is not an object"),
        ("metadata: {name: a}", "found an object without apiVersion and kind"),
        ("apiVersion: v1\nkind: PodList\nitems: []", "expected a v1 Pod, found v1 PodList"),
        ("apiVersion: apps/v1\nkind: Deployment", "found apps/v1 Deployment"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: []}", "name is needed for the pod"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: 5}", "not a pod"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(want), "{text:?}: {error}");
    }
}

#[test]
fn broken_rules_are_named() {
    for (text, want) in [
        (PLAIN.replace("web", "Web_1"), "metadata.name: \"Web_1-node-1\" is not a DNS-1123 subdomain"),
        (
            PLAIN.replace("{name: web}", "{name: web, namespace: a.b}"),
            "metadata.namespace: \"a.b\" is not a DNS-1123 label",
        ),
        (PLAIN.replace("[{name: c, image: 'i:1'}]", "[]"), "spec.containers: at least one is required"),
        (PLAIN.replace("name: c,", "name: C,"), "spec.containers[0].name: \"C\" is not a DNS-1123 label"),
        (PLAIN.replace(", image: 'i:1'", ""), "spec.containers[0].image: required"),
        (with_spec("initContainers: [{name: c, image: i}]"), "spec.containers[0].name: \"c\" is there twice"),
        (
            with_spec("restartPolicy: Sometimes"),
            "spec.restartPolicy: \"Sometimes\" is none of Always, OnFailure, Never",
        ),
        (with_spec("dnsPolicy: None"), "spec.dnsConfig.nameservers: required when dnsPolicy is None"),
        (with_spec("volumes: [{name: v}, {name: v}]"), "spec.volumes[1].name: \"v\" is there twice"),
        (
            with_spec("volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]"),
            "spec.volumes[0]: may have one source only",
        ),
        (
            with_spec("volumes: [{name: v, hostPath: {path: /a/../b}}]"),
            "hostPath.path: must not contain '..'",
        ),
        (with_spec("ephemeralContainers: [{name: e, image: i}]"), "spec.ephemeralContainers: may not be set"),
        (
            with_container("volumeMounts: [{name: w, mountPath: /a}]"),
            "volumeMounts[0].name: no volume is named \"w\"",
        ),
        (
            with_container("volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a}]"),
            "volumeMounts[1].mountPath: \"/a\" is there twice",
        ),
        (
            with_container("volumeMounts: [{name: v, mountPath: /a, subPath: ../x}]"),
            "volumeMounts[0].subPath: must be a relative path",
        ),
        (
            with_container("volumeMounts: [{name: v, mountPath: /a, bindMountOptions: [noexec, exec]}]"),
            "bindMountOptions[1]: \"exec\" is none of nodev, noexec, nosuid",
        ),
        (
            with_container("volumeMounts: [{name: v, mountPath: /a, bindMountOptions: [noexec, noexec]}]"),
            "bindMountOptions[1]: \"noexec\" is there twice",
        ),
        (
            with_container("ports: [{containerPort: 0}]"),
            "ports[0].containerPort: must be between 1 and 65535",
        ),
        (
            with_container("ports: [{containerPort: 1, protocol: ICMP}]"),
            "ports[0].protocol: \"ICMP\" is none of",
        ),
        (with_container("livenessProbe: {}"), "livenessProbe: needs exactly one of exec"),
        (
            with_container("livenessProbe: {exec: {command: [a]}, successThreshold: 2}"),
            "livenessProbe.successThreshold: must be 1",
        ),
        (with_spec("hostUsers: false\n  hostPID: true"), "spec.hostPID: not allowed when hostUsers is false"),
        (with_spec("hostUsers: false\n  hostIPC: true"), "spec.hostIPC: not allowed when hostUsers is false"),
        (
            with_container("livenessProbe: {httpGet: {port: 1, protocol: HTTP3}}"),
            "livenessProbe.httpGet.protocol: \"HTTP3\" is none of HTTP1, HTTP2",
        ),
        (
            with_container("startupProbe: {httpGet: {port: 1, protocol: HTTP2, scheme: HTTPS}}"),
            "startupProbe.httpGet.protocol: \"HTTP2\" needs the scheme HTTP",
        ),
        (
            with_container("lifecycle: {preStop: {httpGet: {port: 1, protocol: HTTP2, host: h}}}"),
            "lifecycle.preStop.httpGet.host: must be empty with the protocol \"HTTP2\"",
        ),
        (
            with_container("readinessProbe: {grpc: {port: 1, mode: tls}}"),
            "readinessProbe.grpc.mode: \"tls\" is none of Plaintext, TLS",
        ),
        (with_container("imagePullPolicy: Maybe"), "imagePullPolicy: \"Maybe\" is none of"),
        (
            with_container("resources: {limits: {cpu: 1}, requests: {cpu: 2}}"),
            "resources.requests[cpu]: 2 is more than the limit 1",
        ),
        (
            with_container("resources: {limits: {cpu: lots}}"),
            "resources.limits[cpu]: \"lots\" is not an amount",
        ),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.starts_with("invalid pod: ") && error.contains(want), "{want}: {error}");
    }
}

/// CVE-2025-4563: a static pod is not checked for what its mirror pod would be refused for.
#[test]
fn objects_of_the_api_server_are_refused() {
    for (text, want) in [
        (with_spec("serviceAccountName: a"), "serviceaccounts"),
        (with_spec("serviceAccount: a"), "serviceaccounts"),
        (with_spec("imagePullSecrets: [{name: a}]"), "secrets"),
        (with_container("envFrom: [{secretRef: {name: a}}]"), "secrets"),
        (with_container("env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: k}}}]"), "configmaps"),
        (with_spec("resourceClaims: [{name: a, resourceClaimName: b}]"), "resourceclaims"),
        (with_spec("volumes: [{name: v, secret: {secretName: a}}]"), "secrets"),
        (with_spec("volumes: [{name: v, configMap: {name: a}}]"), "configmaps"),
        (with_spec("volumes: [{name: v, persistentVolumeClaim: {claimName: a}}]"), "persistentvolumeclaims"),
        (with_spec("volumes: [{name: v, csi: {driver: d}}]"), "csidrivers (via CSI volumes)"),
        (
            with_spec("volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]"),
            "serviceaccounts (via projected volumes)",
        ),
        (
            with_spec("volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: t}}]}}]"),
            "clustertrustbundles",
        ),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert_eq!(error, format!("static pods may not reference {want}"));
    }
    let allowed = "volumes: [{name: a, hostPath: {path: /x}}, {name: b, projected: {sources: [{downwardAPI: {items: []}}]}}]";
    assert!(read(&with_spec(allowed)).is_ok());
}

/// What upstream says of the same manifests: a part of the field it names, or nothing where it takes the pod.
#[test]
fn volumes_and_their_mounts_follow_the_rules_of_the_api_server() {
    let volume = |source: &str| with_spec(&format!("volumes: [{{name: v, {source}}}]"));
    let mount =
        |fields: &str| with_container(&format!("volumeMounts: [{{name: v, mountPath: /a, {fields}}}]"));
    let privileged = |fields: &str| {
        with_container(&format!(
            "securityContext: {{privileged: true}}, volumeMounts: [{{name: v, mountPath: /a, {fields}}}]"
        ))
    };
    let image = |fields: &str| {
        mount(fields).replace("{name: v}]", "{name: v, image: {reference: 'i:1', pullPolicy: Always}}]")
    };
    let file =
        |fields: &str| format!("items: [{{path: p, fieldRef: {{fieldPath: metadata.name}}, {fields}}}]");
    for (text, error) in [
        (volume("emptyDir: {mode: 1023}"), None),
        (volume("emptyDir: {mode: 0}"), None),
        (volume("emptyDir: {mode: 1024}"), Some("emptyDir.mode")),
        (volume("emptyDir: {mode: -1}"), Some("emptyDir.mode")),
        (volume("emptyDir: {sizeLimit: 1Mi}"), None),
        (volume("emptyDir: {sizeLimit: -1}"), Some("emptyDir.sizeLimit")),
        (volume("downwardAPI: {defaultMode: 511}"), None),
        (volume("downwardAPI: {defaultMode: 512}"), Some("downwardAPI.defaultMode")),
        (volume("downwardAPI: {defaultUser: -1}"), Some("downwardAPI.defaultUser")),
        (volume("downwardAPI: {defaultUser: 2147483648}"), Some("downwardAPI.defaultUser")),
        (volume(&format!("downwardAPI: {{{}}}", file("mode: 256, user: 7"))), None),
        (volume(&format!("downwardAPI: {{{}}}", file("mode: 512"))), Some("mode")),
        (volume(&format!("downwardAPI: {{{}}}", file("user: -7"))), Some("user")),
        (volume("projected: {defaultMode: 512, sources: []}"), Some("projected.defaultMode")),
        (volume("projected: {defaultUser: -1, sources: []}"), Some("projected.defaultUser")),
        (
            volume(&format!("projected: {{sources: [{{downwardAPI: {{{}}}}}]}}", file("mode: 512"))),
            Some("mode"),
        ),
        (mount("bindMountOptions: [nodev, noexec, nosuid]"), None),
        (mount("bindMountOptions: [exec]"), Some("bindMountOptions[0]")),
        (mount("bindMountOptions: [nodev, nodev]"), Some("bindMountOptions[1]")),
        (image("bindMountOptions: []"), None),
        (image("bindMountOptions: [nodev]"), Some("bindMountOptions")),
        (mount("subPath: a"), None),
        (mount("subPathExpr: $(X)/a"), None),
        (mount("subPathExpr: ../a"), Some("subPathExpr")),
        (mount("subPathExpr: /a"), Some("subPathExpr")),
        (mount("subPath: a, subPathExpr: a"), Some("subPathExpr")),
        (mount("mountPropagation: HostToContainer"), None),
        (mount("mountPropagation: Sideways"), Some("mountPropagation")),
        (mount("mountPropagation: Bidirectional"), Some("mountPropagation")),
        (privileged("mountPropagation: Bidirectional"), None),
        (mount("recursiveReadOnly: Disabled"), None),
        (mount("recursiveReadOnly: Enabled"), Some("recursiveReadOnly")),
        (mount("recursiveReadOnly: Enabled, readOnly: true"), None),
        (mount("recursiveReadOnly: Often, readOnly: true"), Some("recursiveReadOnly")),
        (
            mount("recursiveReadOnly: IfPossible, readOnly: true, mountPropagation: HostToContainer"),
            Some("recursiveReadOnly"),
        ),
    ] {
        let said = read(&text).map_err(|error| error.to_string());
        let is_right = match (&said, error) {
            (Ok(_), None) => true,
            (Err(error), Some(field)) => error.contains(&format!("{field}: ")),
            _ => false,
        };
        assert!(is_right, "{text}\n{error:?}: {:?}", said.err());
    }
}
