//! Logs, exec, attach and port-forward, through the real kubectl.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::scene::{SOON, Scene, expect_line, phase, restarts, shell, with};
use crate::cluster::Changes;
use crate::images::AGNHOST;

pub(super) async fn logs(scene: Scene) -> Result<()> {
    // Standard error in a container of its own: the runtime reads the two streams independently.
    let script = "for i in 1 2 3 4 5; do echo line $i; done; sleep 1000";
    scene
        .ready_pod(
            "talks",
            json!({ "containers": [shell("main", script), shell("other", "echo other >&2; sleep 1000")] }),
        )
        .await?;
    let log = scene.kubectl_out(&["logs", "talks", "-c", "main"]).await?;
    expect_line(&log, "line 1")?;
    let last = scene.kubectl_out(&["logs", "talks", "-c", "main", "--tail=2"]).await?;
    ensure!(last.lines().count() == 2 && !last.contains("line 3"), "the last two lines: {last:?}");
    let none = scene.kubectl_out(&["logs", "talks", "-c", "main", "--tail=0"]).await?;
    ensure!(none.is_empty(), "no lines: {none:?}");
    let recent = scene.kubectl_out(&["logs", "talks", "-c", "main", "--since=1h"]).await?;
    ensure!(recent == log, "all is younger than an hour: {recent:?}");
    let future =
        scene.kubectl_out(&["logs", "talks", "-c", "main", "--since-time=2099-01-01T00:00:00Z"]).await?;
    ensure!(future.is_empty(), "nothing comes from the future: {future:?}");
    let short = scene.kubectl_out(&["logs", "talks", "-c", "main", "--limit-bytes=6"]).await?;
    ensure!(short == "line 1", "six bytes: {short:?}");
    let stamped = scene.kubectl_out(&["logs", "talks", "-c", "main", "--timestamps", "--tail=1"]).await?;
    let stamp = stamped.split(' ').next().unwrap_or_default();
    ensure!(stamp.len() > 20 && stamp.contains('T'), "a time before the line: {stamped:?}");
    let all = scene.kubectl_out(&["logs", "talks", "--all-containers", "--prefix"]).await?;
    ensure!(all.contains("[pod/talks/other] other"), "both containers: {all:?}");
    let said = scene.kubectl_with(b"", &["logs", "talks", "-c", "nobody"]).await?;
    ensure!(said.code != 0 && said.err.contains("nobody"), "an unknown container is an error: {said:?}");

    // Following ends with the container, and nothing is lost at the end.
    let script = "i=0; while test $i -lt 200; do echo line $i; i=$((i+1)); done; sleep 0.5; echo the end";
    scene.pod("ends", json!({ "restartPolicy": "Never", "containers": [shell("main", script)] })).await?;
    scene.until("ends", "started", SOON, |pod| matches!(phase(pod), "Running" | "Succeeded")).await?;
    let followed = scene.kubectl_out(&["logs", "-f", "ends"]).await?;
    ensure!(followed.lines().count() == 201, "every line: {} of 201", followed.lines().count());
    expect_line(&followed, "the end")
}

pub(super) async fn logs_of_the_previous_container(scene: Scene) -> Result<()> {
    let script = "test -e /keep/again && { echo second; sleep 1000; }; touch /keep/again; echo first; exit 1";
    let mounts = json!({ "volumeMounts": [{ "name": "keep", "mountPath": "/keep" }] });
    let volumes = json!([{ "name": "keep", "emptyDir": {} }]);
    scene
        .pod("twice", json!({ "containers": [with(shell("main", script), mounts)], "volumes": volumes }))
        .await?;
    scene
        .until("twice", "running again", SOON, |pod| {
            restarts(pod, "main") == 1 && super::scene::is_ready(pod)
        })
        .await?;
    let previous = scene.kubectl_out(&["logs", "twice", "--previous"]).await?;
    let current = scene.kubectl_out(&["logs", "twice"]).await?;
    ensure!(previous == "first\n" && current == "second\n", "{previous:?}, {current:?}");
    Ok(())
}

pub(super) async fn exec(scene: Scene) -> Result<()> {
    scene.ready_pod("box", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
    let said =
        scene.kubectl_with(b"", &["exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).await?;
    ensure!(said.code == 7 && said.out == "out\n", "output and exit code: {said:?}");
    ensure!(said.err.starts_with("err\n"), "standard error is kept apart: {said:?}");
    let missing = scene.kubectl_with(b"", &["exec", "box", "--", "no-such-program"]).await?;
    ensure!(missing.code != 0, "a missing program is an error: {missing:?}");
    // More than any buffer on the way.
    let long = "0123456789abcdef".repeat(1 << 16);
    let echoed = scene.kubectl_with(long.as_bytes(), &["exec", "-i", "box", "--", "cat"]).await?;
    ensure!(echoed.code == 0 && echoed.out == long, "a megabyte there and back: {} bytes", echoed.out.len());
    Ok(())
}

pub(super) async fn attach(scene: Scene) -> Result<()> {
    let script = "while read line; do echo got $line; test \"$line\" = end && exit 0; done; echo no more";
    let container = with(shell("main", script), json!({ "stdin": true, "stdinOnce": true }));
    scene.ready_pod("listens", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    let said = scene.kubectl_with(b"one\ntwo\nend\n", &["attach", "-i", "listens"]).await?;
    ensure!(said.code == 0, "attach ends well: {said:?}");
    scene.until("listens", "finished", SOON, |pod| phase(pod) == "Succeeded").await?;
    let log = scene.log("listens", None).await?;
    ensure!(log == "got one\ngot two\ngot end\n", "the container read it all: {log:?}");
    expect_line(&said.out, "got end")
}

pub(super) async fn port_forward(scene: Scene) -> Result<()> {
    let server = json!({ "name": "main", "image": AGNHOST, "args": ["netexec", "--http-port=8080"],
        "readinessProbe": { "httpGet": { "port": 8080 }, "periodSeconds": 1 } });
    scene.ready_pod("web", json!({ "containers": [server] })).await?;
    let mut kubectl = scene.kubectl(&["port-forward", "pod/web", ":8080"]);
    let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("run kubectl")?;
    let stdout = child.stdout.take().context("the output of kubectl")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(SOON, lines.next_line()).await.context("kubectl does not listen")??;
    let line = line.context("kubectl ended")?;
    let address =
        line.split_whitespace().nth(2).with_context(|| format!("an address in {line:?}"))?.to_owned();
    // Several at once and one after another, each on a stream of its own.
    let request = |path: &'static str| {
        let address = address.clone();
        async move {
            let mut connection = TcpStream::connect(&address).await.context("connect to kubectl")?;
            let text = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            connection.write_all(text.as_bytes()).await?;
            let mut answer = String::new();
            tokio::time::timeout(SOON, connection.read_to_string(&mut answer))
                .await
                .context("no answer")??;
            anyhow::Ok(answer)
        }
    };
    for _ in 0..2 {
        let (one, two, three) =
            tokio::try_join!(request("/hostname"), request("/echo?msg=hello"), request("/hostname"))?;
        ensure!(one.ends_with("web") && three.ends_with("web"), "the pod answers: {one:?}");
        ensure!(two.ends_with("hello"), "the pod answers: {two:?}");
    }
    child.kill().await.context("end kubectl")
}

/// Several ports over one kubectl; a client that has said all it has to say still gets the whole answer.
pub(super) async fn port_forward_of_several_ports(scene: Scene) -> Result<()> {
    let probe =
        |port: u16| json!({ "readinessProbe": { "tcpSocket": { "port": port }, "periodSeconds": 1 } });
    let server = json!({ "name": "main", "image": AGNHOST, "args": ["netexec", "--http-port=8080"] });
    let files =
        "mkdir /tmp/www; echo from the second > /tmp/www/index.html; exec httpd -f -p 8090 -h /tmp/www";
    let containers = json!([with(server, probe(8080)), with(shell("other", files), probe(8090))]);
    scene.ready_pod("web", json!({ "containers": containers })).await?;
    let mut kubectl = scene.kubectl(&["port-forward", "pod/web", ":8080", ":8090"]);
    let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("run kubectl")?;
    let mut lines = BufReader::new(child.stdout.take().context("the output of kubectl")?).lines();
    let mut addresses = std::collections::BTreeMap::new();
    while addresses.len() < 2 {
        let line =
            tokio::time::timeout(SOON, lines.next_line()).await.context("kubectl does not listen")??;
        let line = line.context("kubectl ended")?;
        // `Forwarding from 127.0.0.1:40000 -> 8080`, and the same for IPv6.
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["Forwarding", "from", from, "->", to] = words[..]
            && from.starts_with("127.")
        {
            addresses.insert(to.to_owned(), from.to_owned());
        }
    }
    let long = "x".repeat(100_000);
    let ask = |port: &str, path: String| {
        let address = addresses.get(port).cloned().unwrap_or_default();
        async move {
            let mut connection = TcpStream::connect(&address).await.context("connect to kubectl")?;
            let text = format!("GET {path} HTTP/1.0\r\n\r\n");
            connection.write_all(text.as_bytes()).await?;
            let mut answer = vec![0];
            let first = tokio::time::timeout(SOON, connection.read_exact(&mut answer)).await;
            first.context("no answer")?.context("read the answer")?;
            connection.shutdown().await.context("end the request")?;
            let rest = tokio::time::timeout(SOON, connection.read_to_end(&mut answer)).await;
            rest.context("the answer does not end")?.context("read the answer")?;
            anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
        }
    };
    let echo = format!("/echo?msg={long}");
    let (one, two, three) = tokio::try_join!(
        ask("8080", echo),
        ask("8090", "/".to_owned()),
        ask("8080", "/hostname".to_owned())
    )?;
    ensure!(one.ends_with(&long), "the whole of the long answer: {} bytes", one.len());
    ensure!(two.ends_with("from the second\n"), "the other port: {two:?}");
    ensure!(three.ends_with("web"), "the first port again: {three:?}");
    child.kill().await.context("end kubectl")
}

/// A session in which nothing is said ends long before the program in it, or the four hours that are usual.
pub(super) async fn idle_ones_are_closed(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    // Less than the time between two pings of kubectl, which are a sign of life.
    let fields = json!({ "streamingConnectionIdleTimeout": "2s" });
    let kubelet = scene.cluster.kubelet_changed("impatient", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    scene.ready_pod("box", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    let mut kubectl = scene.kubectl(&["exec", "box", "--", "sh", "-c", "echo here; exec sleep 90000"]);
    kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let session = kubectl.spawn().context("run kubectl")?;
    let ended = tokio::time::timeout(SOON, session.wait_with_output()).await;
    let ended = ended.context("the session goes on")?.context("wait for kubectl")?;
    ensure!(ended.stdout == b"here\n", "it has begun: {ended:?}");
    kubelet.stop().await
}
