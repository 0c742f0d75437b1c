//! Manifests at the edges of what YAML and the Pod API allow.

use serde_json::{Value, json};

use super::*;

fn read(text: &str) -> Result<Pod, ManifestError> {
    let origin = Origin {
        place: Place::File(Path::new("/m/a.yaml")),
        node_name: "n",
        seen: Timestamp::UNIX_EPOCH,
        gates: ManifestGates::default(),
    };
    parse(text.as_bytes(), origin)
}

fn value(text: &str) -> Value {
    serde_json::to_value(read(text).unwrap_or_else(|error| panic!("{text}: {error}"))).unwrap()
}

/// A pod with these fields in its metadata and its spec.
fn pod(meta: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  {meta}\nspec:\n  containers: [{{name: c, image: 'i:1'}}]\n  {spec}\n"
    )
}

#[test]
fn scalars_mean_what_they_mean_to_kubernetes() {
    for (spec, pointer, want) in [
        ("hostNetwork: true", "/spec/hostNetwork", json!(true)),
        ("hostNetwork: yes", "/spec/hostNetwork", json!(true)),
        ("hostNetwork: off", "/spec/hostNetwork", json!(false)),
        ("hostname: 'yes'", "/spec/hostname", json!("yes")),
        ("hostname: \"1\"", "/spec/hostname", json!("1")),
        ("terminationGracePeriodSeconds: 0", "/spec/terminationGracePeriodSeconds", json!(0)),
        ("terminationGracePeriodSeconds: -5", "/spec/terminationGracePeriodSeconds", json!(1)),
        ("priority: 2000001000", "/spec/priority", json!(2_000_001_000)),
        (
            "volumes: [{name: v, downwardAPI: {defaultMode: 0400}}]",
            "/spec/volumes/0/downwardAPI/defaultMode",
            json!(0o400),
        ),
        (
            "volumes: [{name: v, downwardAPI: {defaultMode: 0o400}}]",
            "/spec/volumes/0/downwardAPI/defaultMode",
            json!(0o400),
        ),
        ("hostname: a\n  hostname: b", "/spec/hostname", json!("b")),
        (
            "volumes: [{name: v, downwardAPI: {defaultMode: 256}}]",
            "/spec/volumes/0/downwardAPI/defaultMode",
            json!(256),
        ),
    ] {
        assert_eq!(value(&pod("", spec)).pointer(pointer), Some(&want), "{spec}");
    }
}

#[test]
fn anchors_and_block_text_are_read() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels: &all\n    app: web\n  annotations: *all\nspec:\n  containers:\n  - name: c\n    image: i:1\n    args:\n    - |\n      one\n      two\n    - >-\n      three\n      four\n";
    let pod = value(text);
    assert_eq!(pod["metadata"]["annotations"]["app"], json!("web"));
    assert_eq!(pod["spec"]["containers"][0]["args"], json!(["one\ntwo\n", "three four"]));
}

#[test]
fn of_several_documents_the_first_with_something_in_it_counts() {
    let first = pod("", "");
    for text in [
        format!("---\n{first}"),
        format!("# comment\n---\n---\n{first}"),
        format!("{first}---\n"),
        format!("{first}---\nkind: Other\n"),
        format!("{first}---\nbroken: [\n"),
        format!("{first}...\n"),
    ] {
        assert_eq!(value(&text)["metadata"]["name"], json!("web-n"), "{text}");
    }
    let error = read(&format!("kind: Other\n---\n{first}")).unwrap_err();
    assert!(matches!(error, ManifestError::Kind { .. }), "{error}");
}

#[test]
fn what_the_manifest_says_itself_is_kept() {
    let meta = "namespace: kube-system\n  annotations: {mine: m, kubernetes.io/config.source: api}\n  labels: {app: web}";
    let pod = value(&pod(
        meta,
        "tolerations: [{operator: Exists, effect: NoExecute, tolerationSeconds: 5}, {key: k, operator: Exists}]\n  nodeName: other",
    ));
    let meta = &pod["metadata"];
    assert_eq!((&meta["namespace"], &meta["labels"]), (&json!("kube-system"), &json!({"app": "web"})));
    assert_eq!(meta["annotations"]["mine"], json!("m"));
    assert_eq!(
        meta["annotations"]["kubernetes.io/config.source"],
        json!("file"),
        "the source is ours to say"
    );
    assert_eq!(pod["spec"]["nodeName"], json!("n"), "it runs here");
    let tolerations =
        json!([{"operator": "Exists", "effect": "NoExecute"}, {"key": "k", "operator": "Exists"}]);
    assert_eq!(pod["spec"]["tolerations"], tolerations, "for ever");
}

#[test]
fn what_is_no_yaml_says_where_on_one_line_and_shows_nothing_of_it() {
    for (text, line) in [
        ("a: [", 1),
        ("kind: Pod\npassword: \"hunter2", 2),
        ("kind: Pod\npassword: hunter2\n  more: x\n", 3),
        ("kind: Pod\n\tpassword: hunter2\n", 1),
        ("{\"kind\": \"Pod\",\n\"password\": \"hunter2\"", 1),
        ("password: *hunter\n", 1),
    ] {
        let error = read(text).unwrap_err();
        assert!(matches!(error, ManifestError::Yaml(_)), "{text:?}: {error}");
        let error = error.to_string();
        assert!(error.contains(&format!("line {line},")), "{text:?}: {error}");
        assert!(!error.contains('\n') && !error.contains("hunter2"), "{text:?}: {error}");
    }
    let latin = Origin {
        place: Place::File(Path::new("/m/a.yaml")),
        node_name: "n",
        seen: Timestamp::UNIX_EPOCH,
        gates: ManifestGates::default(),
    };
    let error = parse(b"kind: Pod\nname: caf\xe9\n", latin).unwrap_err();
    assert!(matches!(error, ManifestError::Yaml(_)), "{error}");
}

/// A pod whose one container has these fields.
fn with_container(fields: &str) -> String {
    pod("", "").replace("image: 'i:1'", &format!("image: 'i:1', {fields}"))
}

#[test]
fn more_rules_that_are_named() {
    let long = format!("name: {}", "x".repeat(252));
    for (text, want) in [
        (pod("", "").replace("name: web", &long), "-n\" is not a DNS-1123 subdomain"),
        (pod("", "").replace("name: web", "name: -web"), "metadata.name: \"-web-n\" is not"),
        (pod("", "activeDeadlineSeconds: 0"), "spec.activeDeadlineSeconds: must be at least 1"),
        (
            pod("", "initContainers: [{name: a, image: i}, {name: a, image: i}]"),
            "spec.initContainers[1].name: \"a\" is there twice",
        ),
        (
            pod("", "initContainers: [{name: a, image: i, readinessProbe: {exec: {command: [x]}}}]"),
            "spec.initContainers[0]: an init container that is no sidecar has neither probes nor lifecycle",
        ),
        (pod("", "volumes: [{name: V}]"), "spec.volumes[0].name: \"V\" is not a DNS-1123 label"),
        (pod("", "volumes: [{name: v, hostPath: {path: ''}}]"), "spec.volumes[0].hostPath.path: required"),
        (
            pod("", "volumes: [{name: v, hostPath: {path: /a, type: Folder}}]"),
            "spec.volumes[0].hostPath.type: \"Folder\" is none of",
        ),
        (with_container("volumeMounts: [{name: v, mountPath: ''}]"), "volumeMounts[0].mountPath: required"),
        (with_container("env: [{name: '', value: a}]"), "spec.containers[0].env[0].name: required"),
        (
            with_container("env: [{name: A, value: a, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"),
            "spec.containers[0].env[0]: may have value or valueFrom only",
        ),
        (with_container("terminationMessagePolicy: Log"), "terminationMessagePolicy: \"Log\" is none of"),
        (with_container("resources: {claims: [{name: a}]}"), "static pods may not use resource claims"),
        (pod("", "").replace("'i:1'", "' i'"), "image: must not begin or end with white space"),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.starts_with("invalid pod: ") && error.contains(want), "{want}: {error}");
    }
}

#[test]
fn all_broken_rules_are_named_at_once() {
    let error = read(&pod("", "restartPolicy: Maybe\n  dnsPolicy: Mine")).unwrap_err();
    let ManifestError::Invalid(errors) = &error else { panic!("{error}") };
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["spec.restartPolicy", "spec.dnsPolicy"]);
    assert_eq!(error.to_string().matches("; ").count(), 1, "{error}");
}

#[test]
fn sidecars_may_have_probes() {
    let sidecar = "initContainers: [{name: a, image: i, restartPolicy: Always, readinessProbe: {exec: {command: [x]}}}]";
    assert!(read(&pod("", sidecar)).is_ok());
}

#[test]
fn more_objects_of_the_api_server_are_refused() {
    for (text, want) in [
        (with_container("envFrom: [{configMapRef: {name: a}}]"), "configmaps"),
        (with_container("envFrom: [{configMapRef: {name: a}}, {secretRef: {name: b}}]"), "secrets"),
        (with_container("env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: k}}}]"), "secrets"),
        (pod("", "initContainers: [{name: a, image: i, envFrom: [{secretRef: {name: b}}]}]"), "secrets"),
        (pod("", "volumes: [{name: v, projected: {sources: [{configMap: {name: a}}]}}]"), "configmaps"),
        (pod("", "volumes: [{name: v, projected: {sources: [{secret: {name: a}}]}}]"), "secrets"),
        (
            pod("", "volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {}}}}]"),
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        (
            pod("", "volumes: [{name: v, glusterfs: {endpoints: e, path: p}}]"),
            "endpoints (via glusterFS volumes)",
        ),
        (
            pod("", "volumes: [{name: a}, {name: v, persistentVolumeClaim: {claimName: a}}]"),
            "persistentvolumeclaims",
        ),
    ] {
        let error = read(&text).unwrap_err();
        assert!(matches!(error, ManifestError::Reference(_)), "{text}: {error}");
        assert_eq!(error.to_string(), format!("static pods may not reference {want}"), "{text}");
    }
}

#[test]
fn defaults_applied_twice_are_the_same() {
    let spec = "hostNetwork: true\n  volumes: [{name: a}, {name: b, hostPath: {path: /x}}, {name: d, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}}]";
    let text = pod("", spec).replace(
        "image: 'i:1'",
        "image: 'i:1', ports: [{containerPort: 80}], lifecycle: {preStop: {httpGet: {port: 80}}}, startupProbe: {grpc: {port: 80}}",
    );
    let once = read(&text).unwrap();
    let mut twice = once.clone();
    crate::defaults::apply(&mut twice, false);
    assert_eq!(once, twice);
    let once = serde_json::to_value(once).unwrap();
    for (pointer, want) in [
        ("/spec/volumes/0/emptyDir", json!({})),
        ("/spec/volumes/1/hostPath/type", json!("")),
        ("/spec/volumes/2/downwardAPI/defaultMode", json!(0o644)),
        ("/spec/volumes/2/downwardAPI/items/0/fieldRef/apiVersion", json!("v1")),
        ("/spec/containers/0/lifecycle/preStop/httpGet/path", json!("/")),
        ("/spec/containers/0/lifecycle/preStop/httpGet/scheme", json!("HTTP")),
        ("/spec/containers/0/startupProbe/grpc/service", json!("")),
        ("/spec/containers/0/startupProbe/failureThreshold", json!(3)),
    ] {
        assert_eq!(once.pointer(pointer), Some(&want), "{pointer}");
    }
}
