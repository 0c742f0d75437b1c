//! What the runtime is asked for, by what the node finds on the machine, on its disk and in its configuration.

use crate::fake::{FakeRuntime, beside};
use crate::process::Lab;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, uid: web-uid}
spec:
  containers:
  - name: main
    image: i:1
    volumeMounts: [{name: data, mountPath: /data}, {name: host, mountPath: /host}]
  volumes: [{name: data, emptyDir: {}}, {name: host, hostPath: {path: /}}]
";

/// Shows a machine with SELinux in force and becomes the kubelet.
const WITH_SELINUX: &str = r#"
{ cat /proc/self/mountinfo; echo '999 1 0:99 / /sys/fs/selinux rw,relatime shared:99 - selinuxfs selinuxfs rw'; } > "$LAB/mountinfo"
mount --bind "$LAB/mountinfo" /proc/$$/task/$$/mountinfo
exec "$@"
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("manifests/web.yaml", POD);
    let folder = lab.path("manifests");
    lab.with(&format!("staticPodPath: {}\n", folder.display())).flag("--hostname-override=node-1")
}

/// The container that the runtime is asked for.
async fn container(lab: &Lab) -> String {
    let runtime = FakeRuntime::serve(lab);
    beside(lab, runtime.command("asked CreateContainer default/web-node-1")).await.0
}

/// Which mounts of a container are relabelled.
fn relabelled(request: &str) -> Vec<&str> {
    let mounts = request.split("Mount { container_path: \"").skip(1);
    let relabelled = mounts.filter(|mount| mount.contains("selinux_relabel: true"));
    let mut paths: Vec<&str> = relabelled.filter_map(|mount| mount.split('"').next()).collect();
    paths.sort_unstable();
    paths
}

#[tokio::test]
async fn mounts_are_relabelled_where_selinux_is_in_force() {
    assert_eq!(relabelled(&container(&lab()).await), [""; 0]);
    let mut lab = lab();
    lab.becomes = vec!["sh", "-ec", WITH_SELINUX, "sh"];
    let request = container(&lab).await;
    assert_eq!(relabelled(&request), ["/data", "/dev/termination-log", "/etc/hosts"], "{request}");
}

#[tokio::test]
async fn a_container_counts_on_from_the_logs_of_those_the_runtime_forgot() {
    let lab = lab();
    for name in ["3.log", "7.log", "7.log.20261130-000000.gz"] {
        lab.write(&format!("logs/default_web-node-1_web-uid/main/{name}"), "");
    }
    let request = container(&lab).await;
    assert!(request.contains("attempt: 8") && request.contains("\"main/8.log\""), "{request}");
}

#[tokio::test]
async fn the_runtime_is_told_the_configured_range_of_addresses() {
    let lab = Lab::new().with("podCIDR: 10.9.0.0/24\n");
    let runtime = FakeRuntime::serve(&lab);
    let (request, _) = beside(&lab, runtime.command("asked UpdateRuntimeConfig")).await;
    assert!(request.contains("pod_cidr: \"10.9.0.0/24\""), "{request}");
}
