//! Static pods that a web server has (`staticPodURL`).

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::scene::{EVENTUALLY, SOON, Scene, container, is_ready, pod, shell};
use super::static_pods::mirror;
use super::web::{self, Web};
use crate::cluster::Changes;

/// What the server answers, and how often it was asked, with the header and without.
struct PodServer {
    status: StatusCode,
    text: String,
    asked: usize,
    strangers: usize,
}

/// The pods of a document, each with the container's script.
fn list(scene: &Scene, pods: &[(&str, &str)]) -> String {
    let one = |(name, script): &(&str, &str)| {
        let mut document = pod(name, json!({ "containers": [shell("main", script)] }));
        document["metadata"]["namespace"] = json!(scene.namespace);
        if let Some(spec) = document["spec"].as_object_mut() {
            spec.remove("nodeName");
        }
        document
    };
    let items: Vec<Value> = pods.iter().map(one).collect();
    json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items }).to_string()
}

fn fields(port: u16) -> Value {
    json!({
        "staticPodURL": format!("http://127.0.0.1:{port}/pods"),
        "staticPodURLHeader": { "X-Token": ["hunter2"] },
        "httpCheckFrequency": "1s",
        "staticPodPath": null,
    })
}

pub(super) async fn come_change_and_go(scene: Scene) -> Result<()> {
    let first = list(&scene, &[("one", "echo first; sleep 100000"), ("two", "echo two; sleep 100000")]);
    let (server, seen) =
        watch::channel(PodServer { status: StatusCode::OK, text: first, asked: 0, strangers: 0 });
    let served = server.clone();
    let web = Web::serve(move |request| {
        let is_known = request.headers().get("x-token").is_some_and(|token| token == "hunter2");
        let mut answer = None;
        served.send_modify(|server| {
            if is_known && request.uri().path() == "/pods" {
                server.asked += 1;
                answer = Some(web::text(server.status, server.text.clone()));
            } else {
                server.strangers += 1;
            }
        });
        answer.unwrap_or_else(|| web::text(StatusCode::UNAUTHORIZED, ""))
    })
    .await?;
    // Says something else, and returns when the kubelet has heard it twice: the first time, it may have asked before.
    let say = async |status: StatusCode, text: String| -> Result<()> {
        let mut seen = seen.clone();
        let mut asked = 0;
        server.send_modify(|server| {
            (server.status, server.text) = (status, text);
            asked = server.asked;
        });
        let heard = tokio::time::timeout(EVENTUALLY, seen.wait_for(|server| server.asked > asked + 2)).await;
        heard.context("nobody asks for pods")?.context("the server is gone").map(drop)
    };

    scene.cluster.kubelet.stop().await?;
    let changes = Changes { fields: fields(web.port), ..Changes::default() };
    let kubelet = scene.cluster.kubelet_changed("pods-from-url", changes)?;
    kubelet.start().await?;
    let (one, two) = (mirror("one"), mirror("two"));
    let before = scene.until(&one, "ready", SOON, is_ready).await?;
    let source = before.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.source"));
    ensure!(source.is_some_and(|source| source == "http"), "its source is {source:?}");
    ensure!(scene.first_line(&one, "main").await? == "first", "it runs");
    let untouched = scene.until(&two, "ready", SOON, is_ready).await?;

    // Changed: the one is replaced, the other stays.
    let id = |pod: &Pod| container(pod, "main").and_then(|status| status.container_id.clone());
    let (old, kept) = (id(&before), id(&untouched));
    let changed = list(&scene, &[("one", "echo second; sleep 100000"), ("two", "echo two; sleep 100000")]);
    say(StatusCode::OK, changed.clone()).await?;
    let replaced = scene.until(&one, "replaced", SOON, |pod| is_ready(pod) && id(pod) != old).await?;
    ensure!(scene.first_line(&one, "main").await? == "second", "it runs what is said now");

    // A server in trouble, and one that talks nonsense, take no pod away.
    say(StatusCode::INTERNAL_SERVER_ERROR, "broken".to_owned()).await?;
    say(StatusCode::OK, "nonsense: [".to_owned()).await?;
    say(StatusCode::OK, changed).await?;
    let pods = scene.api::<Pod>();
    for (name, wanted) in [(&one, id(&replaced)), (&two, kept)] {
        let now = pods.get(name).await.with_context(|| format!("look at {name}"))?;
        ensure!(is_ready(&now) && id(&now) == wanted, "{name} was left alone");
    }

    // Gone: one of them, then all.
    say(StatusCode::OK, list(&scene, &[("two", "echo two; sleep 100000")])).await?;
    scene.gone(&one).await?;
    say(StatusCode::OK, list(&scene, &[])).await?;
    scene.gone(&two).await?;
    ensure!(seen.borrow().strangers == 0, "every request was for the pods and had the header");
    kubelet.stop().await
}
