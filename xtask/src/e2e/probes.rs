//! Liveness, readiness and startup probes.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::scene::{SOON, Scene, container, is_ready, phase, restarts, shell, with};
use super::static_pods::{Manifest, mirror};
use crate::cluster::Changes;
use crate::images::AGNHOST;

pub(super) async fn liveness_restarts(scene: Scene) -> Result<()> {
    let probe = json!({ "exec": { "command": ["test", "-e", "/tmp/alive"] }, "periodSeconds": 1, "failureThreshold": 2 });
    let script = "touch /tmp/alive; sleep 3; rm /tmp/alive; sleep 1000";
    let main = with(shell("main", script), json!({ "livenessProbe": probe }));
    scene.pod("dies", json!({ "containers": [main, shell("other", "sleep 1000")] })).await?;
    let pod = scene.until("dies", "restarted", SOON, |pod| restarts(pod, "main") >= 1).await?;
    ensure!(restarts(&pod, "other") == 0, "the other container is left alone");
    scene.event("dies", "Unhealthy", SOON).await?;
    scene.event("dies", "Killing", SOON).await?;
    Ok(())
}

pub(super) async fn readiness_flips(scene: Scene) -> Result<()> {
    let probe = json!({ "exec": { "command": ["test", "-e", "/tmp/ready"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let main = with(shell("main", "sleep 1000"), json!({ "readinessProbe": probe }));
    scene.pod("flips", json!({ "containers": [main] })).await?;
    scene.event("flips", "Unhealthy", SOON).await?;
    let pod = scene.until("flips", "running", SOON, |pod| super::scene::phase(pod) == "Running").await?;
    ensure!(!is_ready(&pod), "a pod whose probe fails is not ready");
    scene.kubectl_out(&["exec", "flips", "--", "touch", "/tmp/ready"]).await?;
    scene.until("flips", "ready", SOON, is_ready).await?;
    scene.kubectl_out(&["exec", "flips", "--", "rm", "/tmp/ready"]).await?;
    let pod = scene.until("flips", "unready again", SOON, |pod| !is_ready(pod)).await?;
    ensure!(restarts(&pod, "main") == 0, "readiness never restarts");
    Ok(())
}

pub(super) async fn startup_holds_the_others_back(scene: Scene) -> Result<()> {
    let startup = json!({ "exec": { "command": ["test", "-e", "/tmp/started"] }, "periodSeconds": 1, "failureThreshold": 60 });
    let liveness = json!({ "exec": { "command": ["test", "-e", "/tmp/started"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let probes = json!({ "startupProbe": startup, "livenessProbe": liveness });
    scene.pod("slow", json!({ "containers": [with(shell("main", "sleep 1000"), probes)] })).await?;
    // Several failures: a liveness probe that ran would have restarted the container.
    scene.event("slow", "Unhealthy", SOON).await?;
    let pod = scene.until("slow", "running", SOON, |pod| super::scene::phase(pod) == "Running").await?;
    let started = container(&pod, "main").and_then(|status| status.started);
    ensure!(started == Some(false) && !is_ready(&pod), "not started, not ready: {started:?}");
    scene.kubectl_out(&["exec", "slow", "--", "touch", "/tmp/started"]).await?;
    let pod = scene.until("slow", "ready", SOON, is_ready).await?;
    ensure!(container(&pod, "main").and_then(|status| status.started) == Some(true), "started");
    ensure!(restarts(&pod, "main") == 0, "liveness waited for startup");
    Ok(())
}

/// A probe that cannot be made says so, instead of leaving a pod unready for no reason.
pub(super) async fn command_that_does_not_exist_is_told(scene: Scene) -> Result<()> {
    let probe = json!({ "exec": { "command": ["/nonexistent"] }, "periodSeconds": 2 });
    let main = with(shell("main", "sleep 1000"), json!({ "readinessProbe": probe }));
    scene.pod("unmade", json!({ "containers": [main] })).await?;
    let message = scene.event("unmade", "Unhealthy", SOON).await?;
    let start = "Readiness probe errored and resulted in unknown state: rpc error: code = ";
    ensure!(message.starts_with(start) && message.contains("/nonexistent"), "it says why: {message:?}");
    let pod = scene.until("unmade", "running", SOON, |pod| super::scene::phase(pod) == "Running").await?;
    ensure!(!is_ready(&pod) && restarts(&pod, "main") == 0, "unready, and nothing else");
    Ok(())
}

pub(super) async fn http_tcp_and_grpc(scene: Scene) -> Result<()> {
    let server = |name: &str, args: serde_json::Value, probe: serde_json::Value| {
        let probe = with(probe, json!({ "periodSeconds": 1 }));
        json!({ "name": name, "image": AGNHOST, "args": args, "readinessProbe": probe,
            "ports": [{ "name": "web", "containerPort": 8080 }] })
    };
    let web = |name: &str, probe| json!({ "containers": [server(name, json!(["netexec", "--http-port=8080"]), probe)] });
    let http = json!({ "httpGet": { "path": "/healthz", "port": "web", "httpHeaders": [{ "name": "X-Test", "value": "1" }] } });
    let missing = json!({ "httpGet": { "path": "/no-such-page-at-all", "port": 8081 } });
    let tcp = json!({ "tcpSocket": { "port": 8080 } });
    let grpc = json!({ "grpc": { "port": 5000 } });
    let health =
        json!({ "containers": [server("grpc", json!(["grpc-health-checking", "--port=5000"]), grpc)] });
    scene.pod("missing", web("missing", missing)).await?;
    tokio::try_join!(
        scene.ready_pod("http", web("http", http)),
        scene.ready_pod("tcp", web("tcp", tcp)),
        scene.ready_pod("grpc", health),
    )?;
    scene.event("missing", "Unhealthy", SOON).await?;
    Ok(())
}

/// Servers that take HTTP/2 without TLS, and gRPC with TLS, only. Static pods: an API server whose own gates are off keeps
/// no such fields of others.
pub(super) async fn http2_and_grpc_over_tls_have_gates(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    for (name, is_on) in [("probe-gates-off", false), ("probe-gates", true)] {
        let gates = json!({ "H2CContainerProbe": is_on, "GRPCContainerProbeTLS": is_on });
        let changes = Changes { fields: json!({ "featureGates": gates }), ..Changes::default() };
        let kubelet = scene.cluster.kubelet_changed(name, changes)?;
        kubelet.start().await?;
        probed_over_http2_and_tls(&scene, is_on).await.with_context(|| format!("with the gates {is_on}"))?;
        kubelet.stop().await?;
    }
    Ok(())
}

/// Servers that know nothing but HTTP/2 and TLS are ready when they are asked in that way.
async fn probed_over_http2_and_tls(scene: &Scene, is_asked_so: bool) -> Result<()> {
    let server = |args: serde_json::Value, port: u16, probe: serde_json::Value| {
        let probe = with(probe, json!({ "periodSeconds": 1 }));
        // Whoever asks in the wrong way shall not take a server that is not up yet for one that cannot answer.
        let up = json!({ "tcpSocket": { "port": port }, "periodSeconds": 1, "failureThreshold": 60 });
        json!({ "name": "main", "image": AGNHOST, "args": args, "startupProbe": up, "readinessProbe": probe })
    };
    let probe = json!({ "httpGet": { "path": "/", "port": 8080, "protocol": "HTTP2" } });
    let http2 = server(json!(["h2c-server", "--port=8080"]), 8080, probe);
    let args =
        json!(["grpc-health-checking", "--port=5000", "--tls-cert-file=/crt", "--tls-private-key-file=/key"]);
    let probe = json!({ "grpc": { "port": 5000, "mode": "TLS" } });
    let mounts = json!([{ "name": "crt", "mountPath": "/crt" }, { "name": "key", "mountPath": "/key" }]);
    let grpc = with(server(args, 5000, probe), json!({ "volumeMounts": mounts }));
    let volume = |name: &str| {
        let path = scene.cluster.paths.file(&format!("kubelet.{name}"));
        json!({ "name": name, "hostPath": { "path": path, "type": "File" } })
    };
    let end = if is_asked_so { "" } else { "-otherwise" };
    let names = [format!("http2{end}"), format!("grpc{end}")];
    let files = names.each_ref().map(|name| Manifest::new(scene, name));
    files[0].write_pod(&names[0], json!({ "containers": [http2] }))?;
    let volumes = [volume("crt"), volume("key")];
    files[1].write_pod(&names[1], json!({ "containers": [grpc], "volumes": volumes }))?;
    for name in names.each_ref().map(|name| mirror(name)) {
        if is_asked_so {
            scene.until(&name, "ready", SOON, is_ready).await?;
        } else {
            scene.event_naming(&name, "Unhealthy", "Readiness probe failed").await?;
            scene
                .until(&name, "running and not ready", SOON, |pod| phase(pod) == "Running" && !is_ready(pod))
                .await?;
        }
    }
    for (file, name) in files.iter().zip(&names) {
        file.remove()?;
        scene.gone(&mirror(name)).await?;
    }
    Ok(())
}
