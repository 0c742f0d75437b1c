//! `cargo xtask run`: a cluster of one node with a sample workload, to look at and to play with.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::cluster::{Cluster, Paths, wait_for};
use crate::images::BUSYBOX;
use crate::isolation::{self, Plan, Task};
use crate::peers::Purpose;
use crate::setup;
use crate::workspace::Profile;

/// Prepares everything and runs the cluster until it is interrupted.
pub(crate) fn outer(name: &str, kubelet: Option<&str>, profile: Profile) -> Result<ExitCode> {
    let purpose = Purpose::Sample { on_go_kubelet: kubelet == Some("go") };
    let (ready, kubelet) = setup::prepare_with_kubelet(purpose, kubelet, profile)?;
    let logs = ready.workspace.target.join("xtask").join(name).join("logs");
    let (peers, images) = (ready.peers, ready.images);
    let plan = Plan { peers, images, kubelet, fake_cri: None, fake_csi: None, task: Task::Run };
    Ok(isolation::launch(name, plan, &logs)?.code)
}

/// Inside the cluster's namespaces: starts it, deploys the sample, waits.
pub(crate) async fn inside(paths: Paths) -> Result<ExitCode> {
    eprintln!("==> start the cluster");
    let cluster = Cluster::start(paths).await?;
    eprintln!("==> deploy the sample");
    deploy(&cluster).await?;
    let kubectl = cluster.paths.file("kubectl");
    let kubectl = kubectl.display();
    println!("The node and its sample are ready. From another terminal:");
    println!("  {kubectl} get pods -o wide");
    println!("  {kubectl} exec deploy/sample -c shell -- cat /config/greeting");
    println!("  {kubectl} logs deploy/sample -c server");
    println!("Kubelet log: {}", cluster.kubelet.log().display());
    println!("Ctrl-C stops and removes everything.");
    Err(cluster.kubelet.died().await)
}

async fn deploy(cluster: &Cluster) -> Result<()> {
    let config: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "sample" },
        "data": { "greeting": "hello from a ConfigMap\n" },
    }))?;
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "sample" },
        "spec": { "selector": { "app": "sample" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    }))?;
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 });
    let server = json!({
        "name": "server", "image": BUSYBOX,
        "command": ["sh", "-c", "mkdir /www && echo ok >/www/healthz && exec httpd -fv -p 8080 -h /www"],
        "ports": [{ "containerPort": 8080 }],
        "readinessProbe": probe, "livenessProbe": probe,
    });
    let shell = json!({
        "name": "shell", "image": BUSYBOX, "command": ["sleep", "1000000"],
        "volumeMounts": [{ "name": "config", "mountPath": "/config" }],
    });
    let pod = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [server, shell],
        "volumes": [{ "name": "config", "configMap": { "name": "sample" } }],
    });
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": { "name": "sample" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "sample" } },
            "template": { "metadata": { "labels": { "app": "sample" } }, "spec": pod },
        },
    }))?;
    let create = PostParams::default();
    let client = || cluster.client.clone();
    Api::default_namespaced(client()).create(&create, &config).await.context("create the ConfigMap")?;
    Api::default_namespaced(client()).create(&create, &service).await.context("create the Service")?;
    let deployments: Api<Deployment> = Api::default_namespaced(client());
    deployments.create(&create, &deployment).await.context("create the Deployment")?;
    let ready = |deployment: Option<&Deployment>| {
        deployment.and_then(|deployment| deployment.status.as_ref()?.ready_replicas) == Some(2)
    };
    wait_for(&deployments, "sample", Duration::from_secs(120), ready)
        .await
        .context("wait for the sample")
        .map(drop)
}
