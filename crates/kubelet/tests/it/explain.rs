//! What a kubelet tells of its waits, asked at its own socket while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::exit_codes::started;
use crate::process::{DEADLINE, Lab, ended, signal};
use crate::recording::kubelet;

const MANIFEST: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, annotations: {note: s3cret}}
spec:
  hostNetwork: true
  containers:
  - name: web
    image: registry.example/web:1
    args: [--password=s3cret]
    env: [{name: TOKEN, value: s3cret}]
";

/// A node that has a static pod, and a runtime that says nothing about pods.
async fn node() -> (Lab, tokio::process::Child, crate::process::Systemd) {
    let lab = Lab::new();
    lab.write("manifests/web.yaml", MANIFEST);
    let field = format!("staticPodPath: {}\n", lab.path("manifests").display());
    let record = format!("--record={}", lab.path("recordings").display());
    started(lab.with(&field).flag("--hostname-override=n1").flag(record)).await
}

/// Watches until the answer is as wanted.
async fn watched(lab: &Lab, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubelet"));
    command.args(["explain", "-w", "-o", "json", "--root-dir"]).arg(lab.path("root"));
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wanted = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let answer: Value = serde_json::from_str(&line).unwrap();
            if is_wanted(&answer) {
                return answer;
            }
        }
        panic!("it has hung up");
    };
    timeout(DEADLINE, wanted).await.expect("never as wanted")
}

#[tokio::test]
async fn a_pod_says_what_it_waits_for_and_the_recording_tells_how_it_came_to_that() {
    let (lab, child, _systemd) = node().await;
    let root = lab.path("root");
    let root = root.to_str().unwrap();
    let has_pod = |answer: &Value| !answer["pods"].as_array().unwrap().is_empty();
    let answer = watched(&lab, has_pod).await;
    let pod = &answer["pods"][0];
    assert_eq!(pod["name"], "web-n1", "{answer}");
    assert_eq!(pod["stage"], "Admitting", "{answer}");
    let wait = &pod["waits"][0];
    assert_eq!(wait["for"], "the first list of the container runtime", "{answer}");
    assert_eq!(wait["on"], "the container runtime");
    assert!(wait["since"].as_str().is_some(), "{answer}");
    assert_eq!(pod["timeline"][0]["what"], "first seen");
    assert_eq!(answer["node"]["isStarted"], true);

    let (code, stdout, stderr) = kubelet(&["explain", "web-n1", "--root-dir", root]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.starts_with("default/web-n1 waits for the first list of the container runtime, "),
        "{stdout}"
    );
    let (code, stdout, _) = kubelet(&["explain", "--root-dir", root]).await;
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("node n1 is not ready yet; pods: 1, waiting: 1\n"), "{stdout}");
    let (code, stdout, _) = kubelet(&["explain", "default/none", "--root-dir", root]).await;
    assert_eq!(code, Some(1));
    assert!(stdout.starts_with("node n1 knows no pod default/none\n"), "{stdout}");

    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
    let file = fs::read_dir(lab.path("recordings")).unwrap().next().unwrap().unwrap().path();
    assert!(!fs::read_to_string(&file).unwrap().contains("s3cret"));
    let (code, stdout, _) = kubelet(&["replay", file.to_str().unwrap(), "--pod", "default/web-n1"]).await;
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("file lists default/web-n1"), "{stdout}");
    assert!(stdout.contains("default/web-n1 waits for the first list of the container runtime"), "{stdout}");
}

#[tokio::test]
async fn the_socket_is_roots_and_answers_what_it_understands() {
    let (lab, child, _systemd) = node().await;
    let path = lab.path("root/control.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"{\"dance\":{}}\n").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("{\"error\":\"not understood: unknown variant `dance`"), "{answer}");
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
    let root = lab.path("root");
    let (code, _, stderr) = kubelet(&["explain", "--root-dir", root.to_str().unwrap()]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("kubelet explain: no kubelet answers at "), "{stderr}");
}

#[tokio::test]
async fn a_recording_begins_and_ends_in_the_middle_of_its_life() {
    let lab = Lab::new();
    lab.write("manifests/web.yaml", MANIFEST);
    let field = format!("staticPodPath: {}\n", lab.path("manifests").display());
    let (lab, child, _systemd) = started(lab.with(&field).flag("--hostname-override=n1")).await;
    watched(&lab, |answer| !answer["pods"].as_array().unwrap().is_empty()).await;
    let (root, folder) = (lab.path("root"), lab.path("recordings"));
    let record = async |words: &[&str]| {
        let root = ["--root-dir", root.to_str().unwrap()];
        kubelet(&[&["record"][..], words, &root[..]].concat()).await
    };
    assert_eq!(record(&["status"]).await.1, "nothing is recorded\n");
    let (code, stdout, stderr) = record(&["start", folder.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with(&format!("recorded to {}/", folder.display())), "{stdout}");
    let (code, _, stderr) = record(&["start"]).await;
    assert_eq!((code, stderr.contains("there is a recording already")), (Some(1), true), "{stderr}");
    let (code, stdout, _) = record(&["stop"]).await;
    assert_eq!((code, stdout.starts_with("recorded to ")), (Some(0), true), "{stdout}");
    assert_eq!(record(&["stop"]).await.1, "nothing is recorded\n");
    lab.write("file", "");
    let (code, _, stderr) = record(&["start", lab.path("file/below").to_str().unwrap()]).await;
    assert_eq!(
        (code, stderr.starts_with("kubelet record: make the folder for recordings ")),
        (Some(1), true),
        "{stderr}"
    );
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));

    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("web-n1") && !text.contains("s3cret"), "{text}");
    let (code, stdout, stderr) =
        kubelet(&["replay", file.to_str().unwrap(), "--pod", "default/web-n1"]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[tokio::test]
async fn a_source_that_does_not_answer_is_waited_for() {
    let lab = Lab::new().with("staticPodURL: http://127.0.0.1:1/pods\n").flag("--hostname-override=n1");
    let (lab, child, _systemd) = started(lab).await;
    let of_node = |answer: &Value| {
        let waits = answer["node"]["waits"].as_array().unwrap().clone();
        waits
            .into_iter()
            .find(|wait| wait["for"].as_str().unwrap().starts_with("the first list of pods from: "))
    };
    let answer = watched(&lab, |answer| of_node(answer).is_some()).await;
    assert_eq!(of_node(&answer).unwrap()["on"], "the source of pods", "{answer}");
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
}

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: t0ken}}]
";

#[tokio::test]
async fn a_node_without_its_api_server_says_so() {
    let lab = Lab::new();
    lab.write("kubeconfig", KUBECONFIG);
    let flag = format!("--kubeconfig={}", lab.path("kubeconfig").display());
    let (lab, child, _systemd) = started(lab.flag(flag).flag("--hostname-override=n1")).await;
    let waits = |answer: &Value, what: &str| {
        let waits = answer["node"]["waits"].as_array().unwrap();
        waits.iter().find(|wait| wait["for"] == what && !wait["error"].is_null()).cloned()
    };
    let answer = watched(&lab, |answer| {
        waits(answer, "its registration").is_some() && waits(answer, "its lease to be renewed").is_some()
    })
    .await;
    let wait = waits(&answer, "its registration").unwrap();
    assert_eq!(wait["on"], "the API server", "{answer}");
    assert!(wait["error"].as_str().unwrap().contains("127.0.0.1:1"), "{answer}");
    assert!(wait["attempts"].as_u64().unwrap() > 0, "{answer}");
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
}
