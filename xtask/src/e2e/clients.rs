//! Programs that are not ours read what the node serves: Prometheus' parser and metrics-server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::client::Body;
use serde_json::{Value, json};

use super::scene::{EVENTUALLY, SOON, Scene, run_with, shell, with};
use crate::cluster::{wait_for, write_kubeconfig};
use crate::isolation::NODE;
use crate::process::{Program, Service};

/// How often `kubectl top` is asked until it knows the pod: metrics-server tells nobody when it has looked.
const AGAIN: Duration = Duration::from_secs(2);

/// Where metrics-server listens, in the cluster's own network.
const PORT: u16 = 4443;

/// The API group that metrics-server serves.
const API_SERVICE: &str = "v1beta1.metrics.k8s.io";

/// Each page with a family that it has to have once a pod is ready.
const PAGES: &[(&str, &str, &str)] = &[
    ("metrics", "kubelet_pod_start_duration_seconds", "histogram"),
    ("metrics/cadvisor", "container_cpu_usage_seconds_total", "counter"),
    ("metrics/resource", "node_cpu_usage_seconds_total", "counter"),
    ("metrics/probes", "prober_probe_total", "counter"),
    ("metrics/slis", "kubernetes_healthcheck", "gauge"),
];

pub(super) async fn prometheus_reads_every_page(scene: Scene) -> Result<()> {
    let probe = json!({ "exec": { "command": ["true"] }, "periodSeconds": 1 });
    let probes = json!({ "startupProbe": probe, "livenessProbe": probe, "readinessProbe": probe });
    scene.ready_pod("read", json!({ "containers": [with(shell("main", "sleep 1000"), probes)] })).await?;
    // Health checks are counted where they are asked for.
    get(&scene, "healthz").await?;
    let mut wrong = Vec::new();
    for (path, family, kind) in PAGES {
        for form in [TEXT, PROTOBUF] {
            let page = page(&scene, path, form).await?;
            match families(&scene, &page, form).await {
                Err(error) => wrong.push(format!("/{path} as {form}: {error:#}")),
                Ok(families) if families.get(*family).is_none_or(|found| found != kind) => {
                    wrong.push(format!("/{path} as {form}: no {kind} {family} among {families:?}"));
                }
                Ok(_) => {}
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n    "));
    Ok(())
}

/// What a scraper accepts.
const TEXT: &str = "text/plain";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// A page in a form that kubectl cannot ask for.
async fn page(scene: &Scene, path: &str, form: &str) -> Result<Bytes> {
    let request = Request::get(format!("/api/v1/nodes/{NODE}/proxy/{path}")).header(ACCEPT, form);
    let response = scene.cluster.client.send(request.body(Body::empty())?).await;
    let response = response.with_context(|| format!("ask for /{path}"))?;
    let said = response.headers().get(CONTENT_TYPE).map_or("nothing", |kind| kind.to_str().unwrap_or("?"));
    ensure!(said.starts_with(form), "/{path} is {said} and not {form}");
    Ok(response.into_body().collect().await.with_context(|| format!("read /{path}"))?.to_bytes())
}

async fn get(scene: &Scene, path: &str) -> Result<String> {
    scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/{path}")]).await
}

/// The types of a page's families, as Prometheus reads them.
async fn families(scene: &Scene, page: &[u8], form: &str) -> Result<BTreeMap<String, String>> {
    let mut judge = tokio::process::Command::new(scene.cluster.paths.peers.page_judge());
    if form == PROTOBUF {
        judge.arg("--protobuf");
    }
    let said = run_with(page, judge).await.context("run page-judge")?;
    ensure!(said.code == 0, "{}", said.err.trim());
    let mut families = BTreeMap::new();
    for line in said.out.lines() {
        let mut words = line.split(' ').map(str::to_owned);
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            bail!("page-judge said {line:?}")
        };
        families.insert(name, kind);
    }
    Ok(families)
}

/// `kubectl top` asks metrics-server, which reads `/metrics/resource` with the token of a service account.
pub(super) async fn kubectl_top_shows_nodes_and_pods(scene: Scene) -> Result<()> {
    let script = "dd if=/dev/zero of=/memory/file bs=1024 count=32768 2>/dev/null; while :; do :; done";
    let mounts = json!({ "volumeMounts": [{ "name": "memory", "mountPath": "/memory" }] });
    let spec = json!({
        "containers": [with(shell("busy", script), mounts)],
        "volumes": [{ "name": "memory", "emptyDir": { "medium": "Memory" } }],
    });
    scene.ready_pod("busy", spec).await?;
    let rights = rights(&scene.namespace).to_string();
    scene.create_all(&rights).await?;
    let server = metrics_server(&scene).await?;
    let service = api_service(&scene.namespace).to_string();
    scene.create_all(&service).await?;
    let shown = top(&scene, &server).await;
    // Without its server the group would be in the way of everybody who lists what the API server has.
    for document in [service, rights] {
        scene.delete_all(&document).await.context("delete what metrics-server needed")?;
    }
    shown
}

/// Starts metrics-server and waits until it listens.
async fn metrics_server(scene: &Scene) -> Result<Service> {
    let paths = &scene.cluster.paths;
    let token = scene.kubectl_out(&["create", "token", "metrics-server"]).await?;
    write_kubeconfig(paths, "metrics-server", &json!({ "token": token.trim() }))?;
    let kubeconfig = paths.file("metrics-server.kubeconfig");
    let kubeconfig = kubeconfig.display();
    let args = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--kubelet-certificate-authority={}", paths.file("ca.crt").display()),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--kubelet-use-node-status-port".into(),
        // The shortest it takes, and that a request has to be shorter.
        "--metric-resolution=10s".into(),
        "--kubelet-request-timeout=9s".into(),
        format!("--cert-dir={}", paths.file("metrics-server").display()),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={PORT}"),
    ];
    let server = scene.cluster.guest(Program::new("metrics-server", paths.peers.metrics_server(), args));
    server.start().await?;
    let listens = || async { Ok(tokio::net::TcpStream::connect(("127.0.0.1", PORT)).await?) };
    server.answers(SOON, listens).await?;
    Ok(server)
}

/// Waits until the API server reaches metrics-server and kubectl prints of pod and node what they use.
async fn top(scene: &Scene, server: &Service) -> Result<()> {
    let services: Api<APIService> = Api::all(scene.cluster.client.clone());
    let busy = |row: &[String]| {
        ensure!(row.len() == 3 && row[0] == "busy", "name, CPU and memory of the pod");
        ensure!(amount(&row[1], "m")? >= 10, "the pod is busy");
        ensure!((32..64).contains(&amount(&row[2], "Mi")?), "it holds a file of 32 MiB in memory");
        Ok(())
    };
    let node = |row: &[String]| {
        ensure!(row.len() == 5 && row[0] == NODE, "name of the node, CPU, its share, memory, its share");
        ensure!(amount(&row[1], "m")? >= 10 && amount(&row[2], "%")? <= 100, "the node is busy");
        ensure!(
            amount(&row[3], "Mi")? > 32 && amount(&row[4], "%")? <= 100,
            "it uses more memory than the pod"
        );
        Ok(())
    };
    let shown = async {
        wait_for(&services, API_SERVICE, SOON, is_available).await.context("reach metrics-server")?;
        row(scene, &["top", "pod", "--no-headers", "busy"], busy).await?;
        row(scene, &["top", "node", "--no-headers", NODE], node).await
    };
    // Cancel-safe: both only look.
    tokio::select! {
        shown = shown => shown,
        died = server.died() => Err(died),
    }
}

/// Waits until kubectl prints a line whose words are right: the first may be from before the pod was busy.
async fn row(scene: &Scene, args: &[&str], check: impl Fn(&[String]) -> Result<()>) -> Result<()> {
    let started = Instant::now();
    loop {
        let said = scene.kubectl_with(b"", args).await?;
        let words: Vec<String> = said.out.split_whitespace().map(str::to_owned).collect();
        match check(&words) {
            Ok(()) => return Ok(()),
            Err(wrong) if started.elapsed() > EVENTUALLY => {
                bail!("kubectl {args:?} printed {words:?}: {wrong:#} {}", said.err.trim());
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn amount(word: &str, unit: &str) -> Result<u64> {
    let number = word.strip_suffix(unit).and_then(|number| number.parse().ok());
    number.with_context(|| format!("{word} is no number of {unit}"))
}

fn is_available(service: Option<&APIService>) -> bool {
    let conditions = service.and_then(|service| service.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Available" && c.status == "True"))
}

/// The group that metrics-server serves. Nothing in this cluster gives Services an address, so the Service is a name.
fn api_service(namespace: &str) -> Value {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "metrics-server", "namespace": namespace },
        "spec": { "type": "ExternalName", "externalName": "localhost" },
    });
    let group = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": API_SERVICE },
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": { "name": "metrics-server", "namespace": namespace, "port": PORT },
            // It made its certificate itself.
            "insecureSkipTLSVerify": true,
        },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [service, group] })
}

/// A service account that may do what metrics-server does.
fn rights(namespace: &str) -> Value {
    let name = "test-metrics-server";
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "metrics-server", "namespace": namespace },
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name },
        "rules": [
            { "apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"] },
            { "apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"] },
            // To ask who calls it and what they may, and to know the API server by its certificate.
            { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
            { "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"] },
            { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"],
              "resourceNames": ["extension-apiserver-authentication"] },
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": "metrics-server", "namespace": namespace }],
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [account, role, binding] })
}
