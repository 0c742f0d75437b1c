//! Environments: sources, order, expansion, and what is said when something is missing.

use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> AllocatedPod {
    serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u", "labels": {"l": "v"}}, "spec": spec}),
    )
    .unwrap()
}

fn service(namespace: &str, name: &str, spec: Value) -> Arc<Service> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}))
            .unwrap(),
    )
}

fn inputs() -> EnvironmentInputs {
    let map = json!({"metadata": {}, "data": {"one": "1", "two": "$(one)"}});
    let secret = json!({"metadata": {}, "data": {"pass": "aHVudGVyMg==", "bin": "/w=="}});
    let text = json!({"metadata": {}, "data": {"pass": "aHVudGVyMg=="}});
    EnvironmentInputs {
        config_maps: [
            ("cm".to_owned(), Some(Arc::new(serde_json::from_value(map).unwrap()))),
            ("none".to_owned(), None),
        ]
        .into(),
        secrets: [
            ("sec".to_owned(), Some(Arc::new(serde_json::from_value(secret).unwrap()))),
            ("text".to_owned(), Some(Arc::new(serde_json::from_value(text).unwrap()))),
        ]
        .into(),
        facts: PodFacts { pod_ips: vec!["10.0.0.2".into()], ..Default::default() },
        file_keys: Some(
            [
                ("f.env", "K", FileKey::Found("from file".to_owned())),
                ("f.env", "NONE", FileKey::Absent { file: "/volume/f.env".into() }),
                ("broken.env", "K", FileKey::Unreadable),
            ]
            .map(|(path, key, found)| (("vol".to_owned(), path.to_owned(), key.to_owned()), found))
            .into(),
        ),
        ..Default::default()
    }
}

fn shown(container: Value, inputs: &EnvironmentInputs) -> Result<Vec<String>, String> {
    let mut container = container;
    container["name"] = json!("app");
    let pod = pod(json!({"containers": [container], "enableServiceLinks": false}));
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let built = build(&pod, container, inputs).map_err(|e| e.to_string())?;
    Ok(built.into_iter().map(|v| format!("{}={}", v.name, v.value)).collect())
}

#[test]
fn resolves_every_source() {
    let from = |source: Value| json!({"env": [{"name": "X", "valueFrom": source}]});
    for (container, expect) in [
        (json!({"env": [{"name": "X"}]}), Ok(vec!["X="])),
        (
            json!({"env": [{"name": "X", "value": "a"}, {"name": "Y", "value": "$(X)$(Z)$$(X)"}]}),
            Ok(vec!["X=a", "Y=a$(Z)$(X)"]),
        ),
        // Only what stands before is known.
        (
            json!({"env": [{"name": "Y", "value": "$(X)"}, {"name": "X", "value": "a"}]}),
            Ok(vec!["X=a", "Y=$(X)"]),
        ),
        (json!({"env": [{"name": "X", "value": "a"}, {"name": "X", "value": "$(X)b"}]}), Ok(vec!["X=ab"])),
        (json!({"envFrom": [{"configMapRef": {"name": "cm"}}]}), Ok(vec!["one=1", "two=$(one)"])),
        (
            json!({"envFrom": [{"prefix": "p_", "configMapRef": {"name": "cm"}}], "env": [{"name": "p_one", "value": "$(p_one)0"}]}),
            Ok(vec!["p_one=10", "p_two=$(one)"]),
        ),
        (json!({"envFrom": [{"secretRef": {"name": "text"}}]}), Ok(vec!["pass=hunter2"])),
        (json!({"envFrom": [{"configMapRef": {"name": "none", "optional": true}}]}), Ok(vec![])),
        (json!({"envFrom": [{"configMapRef": {"name": "none"}}]}), Err("configmap \"none\" not found")),
        (json!({"envFrom": [{"secretRef": {"name": "none"}}]}), Err("secret \"none\" not found")),
        (from(json!({"configMapKeyRef": {"name": "cm", "key": "one"}})), Ok(vec!["X=1"])),
        (from(json!({"configMapKeyRef": {"name": "cm", "key": "k", "optional": true}})), Ok(vec![])),
        (
            from(json!({"configMapKeyRef": {"name": "cm", "key": "k"}})),
            Err("couldn't find key k in ConfigMap ns/cm"),
        ),
        (from(json!({"configMapKeyRef": {"name": "none", "key": "k"}})), Err("configmap \"none\" not found")),
        (from(json!({"secretKeyRef": {"name": "sec", "key": "pass"}})), Ok(vec!["X=hunter2"])),
        (
            from(json!({"secretKeyRef": {"name": "sec", "key": "k"}})),
            Err("couldn't find key k in Secret ns/sec"),
        ),
        (from(json!({"secretKeyRef": {"name": "no", "key": "k", "optional": true}})), Ok(vec![])),
        (from(json!({"secretKeyRef": {"name": "sec", "key": "bin"}})), Ok(vec!["X=\u{fffd}"])),
        (from(json!({"fieldRef": {"fieldPath": "metadata.labels['l']"}})), Ok(vec!["X=v"])),
        (from(json!({"fieldRef": {"fieldPath": "status.podIP"}})), Ok(vec!["X=10.0.0.2"])),
        (
            from(json!({"fileKeyRef": {"volumeName": "vol", "path": "f.env", "key": "K"}})),
            Ok(vec!["X=from file"]),
        ),
        (
            from(
                json!({"fileKeyRef": {"volumeName": "vol", "path": "f.env", "key": "NONE", "optional": true}}),
            ),
            Ok(vec![]),
        ),
        (
            from(json!({"fileKeyRef": {"volumeName": "vol", "path": "f.env", "key": "NONE"}})),
            Err("environment variable key \"NONE\" not found in file \"/volume/f.env\""),
        ),
        (
            from(
                json!({"fileKeyRef": {"volumeName": "vol", "path": "broken.env", "key": "K", "optional": true}}),
            ),
            Err("couldn't parse env file"),
        ),
        (
            from(
                json!({"fileKeyRef": {"volumeName": "other", "path": "f.env", "key": "K", "optional": true}}),
            ),
            Err("cannot find the volume \"other\" referenced by FileKeyRef"),
        ),
    ] {
        let expect = expect.map(|list| list.into_iter().map(str::to_owned).collect()).map_err(str::to_owned);
        assert_eq!(shown(container.clone(), &inputs()), expect, "{container}");
    }
    assert!(shown(from(json!({"fieldRef": {"fieldPath": "spec.nonsense"}})), &inputs()).is_err());
    let off = EnvironmentInputs { file_keys: None, ..inputs() };
    let file = from(json!({"fileKeyRef": {"volumeName": "vol", "path": "f.env", "key": "K"}}));
    assert_eq!(shown(file, &off), Ok(vec!["X=".to_owned()]));
}

#[test]
fn tells_of_services() {
    let port = |port: u16| json!({"port": port});
    let services = vec![
        service(
            "default",
            "kubernetes",
            json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}),
        ),
        service(
            "ns",
            "my-db",
            json!({"clusterIP": "fd00::1", "ports": [port(1), {"name": "udp-x", "port": 2, "protocol": "UDP"}]}),
        ),
        service("ns", "headless", json!({"clusterIP": "None", "ports": [port(1)]})),
        service("ns", "external", json!({"type": "ExternalName"})),
        service("elsewhere", "other", json!({"clusterIP": "10.96.0.3", "ports": [port(1)]})),
    ];
    let master = [
        "KUBERNETES_PORT=tcp://10.96.0.1:443",
        "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
        "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
        "KUBERNETES_PORT_443_TCP_PORT=443",
        "KUBERNETES_PORT_443_TCP_PROTO=tcp",
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "KUBERNETES_SERVICE_PORT=443",
        "KUBERNETES_SERVICE_PORT_HTTPS=443",
    ];
    let linked = [
        "MY_DB_PORT=tcp://[fd00::1]:1",
        "MY_DB_PORT_1_TCP=tcp://[fd00::1]:1",
        "MY_DB_PORT_1_TCP_ADDR=fd00::1",
        "MY_DB_PORT_1_TCP_PORT=1",
        "MY_DB_PORT_1_TCP_PROTO=tcp",
        "MY_DB_PORT_2_UDP=udp://[fd00::1]:2",
        "MY_DB_PORT_2_UDP_ADDR=fd00::1",
        "MY_DB_PORT_2_UDP_PORT=2",
        "MY_DB_PORT_2_UDP_PROTO=udp",
        "MY_DB_SERVICE_HOST=fd00::1",
        "MY_DB_SERVICE_PORT=1",
        "MY_DB_SERVICE_PORT_UDP_X=2",
    ];
    for (links, expect) in [(false, master.to_vec()), (true, [&master[..], &linked[..]].concat())] {
        let found = services::variables(&services, "ns", links);
        let found: Vec<String> = found.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(found, expect);
    }
    let with = EnvironmentInputs { services, ..inputs() };
    let container = json!({"env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "mine"}, {"name": "A", "value": "$(KUBERNETES_SERVICE_PORT)"}]});
    let built = shown(container, &with).unwrap();
    assert!(
        built.contains(&"KUBERNETES_SERVICE_HOST=mine".to_owned()) && built.contains(&"A=443".to_owned())
    );
}

#[test]
fn says_what_to_fetch_and_hides_values() {
    let container: Container = serde_json::from_value(json!({
        "name": "app",
        "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}},
                {"name": "Z", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}}],
    }))
    .unwrap();
    let found = references(&container);
    assert_eq!(found.config_maps, ["a", "c"].map(str::to_owned).into());
    assert_eq!(found.secrets, ["b"].map(str::to_owned).into());
    assert_eq!(
        found.file_keys,
        [("v", "p", "k")].map(|(v, p, k)| (v.to_owned(), p.to_owned(), k.to_owned())).into()
    );
    let variable = EnvVar { name: "X".into(), value: "hunter2".into() };
    assert_eq!(format!("{variable:?}"), "EnvVar { name: \"X\", .. }");
}
