//! What a node does only with a runtime that can do it too: a kubelet beside `fake-cri`.

use runtime::wire::runtime_service_client::RuntimeServiceClient;
use runtime::wire::{ContainerStatus, GetEventsRequest};
use rustix::process::Signal;
use tonic::transport::Channel;

use crate::fake::{FakeRuntime, beside, until_logged};
use crate::process::{DEADLINE, Lab, ended, signal};
use crate::runtime as idle;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: main
    image: i:1
    volumeMounts: [{name: data, mountPath: /data, bindMountOptions: [noexec, nosuid]}]
  volumes: [{name: data, emptyDir: {}}]
";

fn lab(gate: bool) -> Lab {
    let lab = Lab::new();
    lab.write("manifests/web.yaml", POD);
    let folder = lab.path("manifests");
    lab.with(&format!(
        "staticPodPath: {}\nfeatureGates: {{VolumeBindMountOptions: {gate}}}\n",
        folder.display()
    ))
    .flag("--hostname-override=node-1")
    .flag("-v=3")
}

/// The first container that the runtime has.
async fn first_container(client: &mut RuntimeServiceClient<Channel>) -> ContainerStatus {
    let mut events = client.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    loop {
        let event = events.message().await.unwrap().unwrap();
        if let Some(container) = event.containers_statuses.into_iter().next() {
            return container;
        }
    }
}

#[tokio::test]
async fn a_runtime_is_given_the_options_of_bind_mounts() {
    let lab = lab(true);
    let mut client = FakeRuntime::serve(&lab).client();
    let (container, _) = beside(&lab, first_container(&mut client)).await;
    let data = container.mounts.iter().find(|mount| mount.container_path == "/data").unwrap();
    assert_eq!(data.mount_options, ["noexec", "nosuid"]);
}

#[tokio::test]
async fn a_pod_with_options_of_bind_mounts_is_refused_without_the_gate() {
    let lab = lab(false);
    FakeRuntime::serve(&lab);
    let why = "Pod requires node features that are not available: VolumeBindMountOptions";
    until_logged(&lab, why).await;
}

#[tokio::test]
async fn lists_are_asked_for_in_chunks_with_their_gate() {
    for (gate, wanted) in [(true, "chunks"), (false, "whole")] {
        let lab = Lab::new().with(&format!("featureGates: {{CRIListStreaming: {gate}}}\n"));
        let mut lists = idle::serve(&lab.path("cri.sock"));
        let mut child = lab.start();
        // Cancel-safe: the test fails when the kubelet ends first.
        let asked = tokio::select! {
            asked = tokio::time::timeout(DEADLINE, lists.recv()) => asked.unwrap(),
            status = child.wait() => panic!("the kubelet ended with {status:?}"),
        };
        assert_eq!(asked, Some(wanted));
        signal(&child, Signal::TERM);
        assert_eq!(ended(child).await.code, Some(0));
    }
}
