//! What a node does only with a runtime that can do it too: a kubelet beside `fake-cri`.

use std::path::Path;

use fake_cri::{Latencies, Options, Server};
use runtime::wire::runtime_service_client::RuntimeServiceClient;
use runtime::wire::{ContainerStatus, GetEventsRequest};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::transport::{Channel, Endpoint};

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

/// Serves a runtime until the test ends.
fn serve(socket: &Path, folder: &Path) -> RuntimeServiceClient<Channel> {
    let options = Options {
        socket: socket.to_owned(),
        control: folder.join("control.sock"),
        image_folder: folder.to_owned(),
        latencies: Latencies::default(),
    };
    let server = Server::bind(options).unwrap();
    tokio::spawn(async { drop(server.serve().await) });
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    RuntimeServiceClient::new(endpoint.connect_lazy())
}

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
    let mut client = serve(&lab.path("cri.sock"), &lab.path("log"));
    let container = {
        let mut child = lab.start();
        // Cancel-safe: the test fails when the kubelet ends first.
        let container = tokio::select! {
            container = tokio::time::timeout(DEADLINE, first_container(&mut client)) => container.unwrap(),
            status = child.wait() => panic!("the kubelet ended with {status:?}"),
        };
        signal(&child, Signal::TERM);
        assert_eq!(ended(child).await.code, Some(0));
        container
    };
    let data = container.mounts.iter().find(|mount| mount.container_path == "/data").unwrap();
    assert_eq!(data.mount_options, ["noexec", "nosuid"]);
}

#[tokio::test]
async fn a_pod_with_options_of_bind_mounts_is_refused_without_the_gate() {
    let lab = lab(false);
    serve(&lab.path("cri.sock"), &lab.path("log"));
    let mut child = lab.start();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let refused = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Pod requires node features that are not available: VolumeBindMountOptions") {
                return;
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
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
