//! Volumes as containers see them.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use super::scene::{SOON, Scene, expect_line, is_ready, phase, shell, with};
use super::static_pods::{Manifest, mirror};
use crate::cluster::Changes;

pub(super) async fn show_their_content(scene: Scene) -> Result<()> {
    let map = json!({ "metadata": { "name": "map" }, "data": { "a": "alpha\n", "b": "beta\n" },
        "binaryData": { "c": "Z2FtbWEK" } });
    scene.create::<ConfigMap>(map).await?;
    scene
        .create::<Secret>(json!({ "metadata": { "name": "hidden" }, "stringData": { "key": "xyzzy\n" } }))
        .await?;
    let labels = json!([
        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
        { "path": "note", "fieldRef": { "fieldPath": "metadata.annotations['note']" } },
        { "path": "cpu", "resourceFieldRef": { "containerName": "main", "resource": "requests.cpu", "divisor": "1m" } },
    ]);
    let sources = json!([
        { "serviceAccountToken": { "path": "token", "audience": "someone", "expirationSeconds": 3600 } },
        { "configMap": { "name": "map", "items": [{ "key": "a", "path": "nested/a" }] } },
        { "secret": { "name": "hidden" } },
        { "downwardAPI": { "items": [{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }] } },
    ]);
    let volumes = json!([
        { "name": "map", "configMap": { "name": "map" } },
        { "name": "items", "configMap": { "name": "map", "items": [{ "key": "b", "path": "x/y", "mode": 0o600 }] } },
        { "name": "hidden", "secret": { "secretName": "hidden", "defaultMode": 0o400 } },
        { "name": "labels", "downwardAPI": { "items": labels } },
        { "name": "all", "projected": { "sources": sources } },
        { "name": "optional", "configMap": { "name": "not-there", "optional": true } },
    ]);
    let names = ["map", "items", "hidden", "labels", "all", "optional"];
    let mounts: Vec<_> =
        names.iter().map(|name| json!({ "name": name, "mountPath": format!("/{name}") })).collect();
    let script = "cat /map/a /map/b /map/c /items/x/y /hidden/key /labels/note; echo; cat /labels/labels; echo; \
        cat /labels/cpu; echo; stat -L -c %a /items/x/y /hidden/key /map/a; \
        cat /all/nested/a /all/key /all/name; echo; cut -d. -f2 /all/token | tr _- /+ | base64 -d 2>/dev/null; echo; \
        ls /optional | wc -l; ls /items; \
        S=/var/run/secrets/kubernetes.io/serviceaccount; cat $S/namespace; echo; head -1 $S/ca.crt; test -s $S/token && echo token; \
        touch /map/new 2>/dev/null || echo read-only";
    let resources = json!({ "requests": { "cpu": "70m" } });
    let container = with(shell("main", script), json!({ "volumeMounts": mounts, "resources": resources }));
    let spec = json!({ "restartPolicy": "Never", "containers": [container], "volumes": volumes });
    let (pod, log) = scene.finished_pod("volumes", spec).await?;
    ensure!(log.starts_with("alpha\nbeta\ngamma\nbeta\nxyzzy\na note\n"), "the files hold the data: {log}");
    for line in ["app=\"volumes\"", "70", "600", "400", "644", "volumes", "0", "x", "token", "read-only"] {
        expect_line(&log, line)?;
    }
    expect_line(&log, &scene.namespace)?;
    expect_line(&log, "-----BEGIN CERTIFICATE-----")?;
    let uid = pod.metadata.uid.unwrap_or_default();
    ensure!(
        log.contains("\"someone\"") && log.contains(&uid),
        "the token is for its audience and this pod: {log}"
    );
    Ok(())
}

pub(super) async fn empty_dir_is_shared_and_belongs_to_the_group(scene: Scene) -> Result<()> {
    let volumes = json!([
        { "name": "disk", "emptyDir": {} },
        { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "16Mi" } },
    ]);
    let mounts =
        json!([{ "name": "disk", "mountPath": "/disk" }, { "name": "memory", "mountPath": "/memory" }]);
    let write = "echo from the first > /disk/file; echo also > /memory/file";
    let read = "cat /disk/file /memory/file; stat -c %g /disk /disk/file; id -G | tr ' ' '\\n'; grep ' /memory ' /proc/mounts | cut -d' ' -f3";
    let first = with(shell("first", write), json!({ "volumeMounts": mounts }));
    let main = with(shell("main", read), json!({ "volumeMounts": mounts }));
    let spec = json!({
        "restartPolicy": "Never", "initContainers": [first], "containers": [main], "volumes": volumes,
        "securityContext": { "fsGroup": 4321, "runAsUser": 1000 },
    });
    let (pod, log) = scene.finished_pod("shared", spec).await?;
    ensure!(phase(&pod) == "Succeeded", "{:?}", pod.status);
    ensure!(log.starts_with("from the first\nalso\n4321\n4321\n"), "what one wrote the other reads: {log:?}");
    expect_line(&log, "tmpfs")
}

pub(super) async fn sub_paths_and_host_paths(scene: Scene) -> Result<()> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "map" }, "data": { "a": "alpha\n" } })).await?;
    let host = scene.cluster.paths.file(&scene.namespace);
    let volumes = json!([
        { "name": "map", "configMap": { "name": "map" } },
        { "name": "scratch", "emptyDir": {} },
        { "name": "host", "hostPath": { "path": host, "type": "DirectoryOrCreate" } },
    ]);
    let mounts = json!([
        { "name": "map", "mountPath": "/etc/single", "subPath": "a" },
        { "name": "scratch", "mountPath": "/own", "subPathExpr": "dir-$(NAME)" },
        { "name": "scratch", "mountPath": "/all" },
        { "name": "host", "mountPath": "/host" },
    ]);
    let script = "cat /etc/single; touch /own/file; ls /all/dir-paths; echo written > /host/file";
    let env = json!([{ "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]);
    let container = with(shell("main", script), json!({ "volumeMounts": mounts, "env": env }));
    let spec = json!({ "restartPolicy": "Never", "containers": [container], "volumes": volumes });
    let (_, log) = scene.finished_pod("paths", spec).await?;
    ensure!(log == "alpha\nfile\n", "the sub-paths lead to the files: {log:?}");
    let written = std::fs::read_to_string(host.join("file"))?;
    ensure!(written == "written\n", "the host sees the file: {written:?}");
    Ok(())
}

/// A static pod: an API server whose own gates are off keeps no such fields of others.
pub(super) async fn have_the_owners_and_modes_the_pod_names(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    for (name, is_on, wanted) in [("file-users-off", false, "0 0 777"), ("file-users", true, "7 5 1750")] {
        let gates = json!({ "AtomicWriteVolumeUserFields": is_on, "EmptyDirVolumeMode": is_on });
        let changes = Changes { fields: json!({ "featureGates": gates }), ..Changes::default() };
        let kubelet = scene.cluster.kubelet_changed(name, changes)?;
        kubelet.start().await?;
        let found = owners_and_mode(&scene, name).await?;
        ensure!(
            found == wanted,
            "the owners of the files and the mode of the folder are {found} and not {wanted}"
        );
        kubelet.stop().await?;
    }
    Ok(())
}

/// What the container of a pod from a file sees: the owners of two files, and the mode of a folder.
async fn owners_and_mode(scene: &Scene, pod: &str) -> Result<String> {
    let file = Manifest::new(scene, pod);
    let labels = |path: &str, more: Value| {
        with(json!({ "path": path, "fieldRef": { "fieldPath": "metadata.labels" } }), more)
    };
    let items = json!([labels("own", json!({ "user": 7 })), labels("default", json!({}))]);
    let container = with(
        shell("main", "echo $(stat -L -c %u /d/own /d/default) $(stat -c %a /e); sleep 100000"),
        json!({ "volumeMounts": [{ "name": "d", "mountPath": "/d" }, { "name": "e", "mountPath": "/e" }] }),
    );
    let volumes = json!([
        { "name": "d", "downwardAPI": { "defaultUser": 5, "items": items } },
        { "name": "e", "emptyDir": { "mode": 0o1750 } },
    ]);
    file.write_pod(pod, json!({ "containers": [container], "volumes": volumes }))?;
    let name = mirror(pod);
    scene.until(&name, "ready", SOON, is_ready).await?;
    let found = scene.first_line(&name, "main").await?;
    file.remove()?;
    scene.gone(&name).await?;
    Ok(found)
}
