//! What a scenario gets to work with: a namespace, and ways to create, watch and ask.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Event, Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::cluster::{Cluster, wait_for};
use crate::images::BUSYBOX;
use crate::isolation::NODE;

/// The deadline for anything that should happen at once, on a machine that is busy.
pub(super) const SOON: Duration = Duration::from_secs(60);
/// The deadline for what a kubelet may do at leisure: back-off, volume refresh.
pub(super) const EVENTUALLY: Duration = Duration::from_secs(150);

/// A scenario's place in the cluster.
pub(super) struct Scene {
    /// The cluster, shared by all.
    pub(super) cluster: Arc<Cluster>,
    /// The scenario's own namespace.
    pub(super) namespace: String,
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub(super) struct CommandOutput {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Scene {
    /// Makes the namespace and waits for what every pod in it needs.
    pub(super) async fn new(cluster: Arc<Cluster>, scenario: &str) -> Result<Self> {
        let mut namespace = scenario.replace("::", "-").replace('_', "-");
        namespace.truncate(63);
        let namespace = namespace.trim_end_matches('-').to_owned();
        let document: Namespace = serde_json::from_value(json!({ "metadata": { "name": namespace } }))?;
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        namespaces.create(&PostParams::default(), &document).await.context("create the namespace")?;
        let scene = Self { cluster, namespace };
        let accounts = scene.api::<ServiceAccount>();
        wait_for(&accounts, "default", SOON, |found: Option<&ServiceAccount>| found.is_some()).await?;
        let maps = scene.api::<ConfigMap>();
        wait_for(&maps, "kube-root-ca.crt", SOON, |found: Option<&ConfigMap>| found.is_some()).await?;
        Ok(scene)
    }

    /// Deletes the namespace; the controllers and the kubelet do the rest while other scenarios run.
    pub(super) async fn leave(cluster: &Cluster, namespace: &str) {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let now = DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() };
        // What stays behind shows up in the scenarios that look for it, not here.
        let _ = pods.delete_collection(&now, &Default::default()).await;
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let _ = namespaces.delete(namespace, &DeleteParams::default()).await;
    }

    /// Objects of a kind in this namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// Creates an object from its document.
    pub(super) async fn create<K>(&self, document: Value) -> Result<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(document).context("read the test's document")?;
        let created = self.api::<K>().create(&PostParams::default(), &object).await;
        created.with_context(|| format!("create a {}", K::kind(&())))
    }

    /// Creates a pod on the node.
    pub(super) async fn pod(&self, name: &str, spec: Value) -> Result<Pod> {
        self.create(pod(name, spec)).await
    }

    /// Creates a pod and waits until it is ready.
    pub(super) async fn ready_pod(&self, name: &str, spec: Value) -> Result<Pod> {
        self.pod(name, spec).await?;
        self.until(name, "ready", SOON, is_ready).await
    }

    /// Creates a pod that runs to its end, and returns it with what its only container printed.
    pub(super) async fn finished_pod(&self, name: &str, spec: Value) -> Result<(Pod, String)> {
        self.pod(name, spec).await?;
        let pod =
            self.until(name, "finished", SOON, |pod| matches!(phase(pod), "Succeeded" | "Failed")).await?;
        let log = self.log(name, None).await?;
        Ok((pod, log))
    }

    /// Watches a pod until it exists and a condition holds.
    pub(super) async fn until(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Pod) -> bool + Clone,
    ) -> Result<Pod> {
        let pods = self.api::<Pod>();
        let met = wait_for(&pods, name, limit, |pod: Option<&Pod>| pod.is_some_and(&condition)).await;
        match met {
            Ok(pod) => pod.with_context(|| format!("pod {name} is gone")),
            Err(_) => {
                let last = match pods.get_opt(name).await {
                    Ok(Some(pod)) => serde_json::to_string(&pod.status).unwrap_or_default(),
                    Ok(None) => "it does not exist".to_owned(),
                    Err(error) => error.to_string(),
                };
                let events = self.events(name).await.unwrap_or_default();
                bail!("pod {name} is not {what} after {limit:?}\n    status: {last}\n    events: {events:?}")
            }
        }
    }

    /// Watches until a pod is gone.
    pub(super) async fn gone(&self, name: &str) -> Result<()> {
        let gone = wait_for(&self.api::<Pod>(), name, SOON, |pod: Option<&Pod>| pod.is_none()).await;
        gone.map(drop).with_context(|| format!("pod {name} is still there"))
    }

    /// Asks for a pod's deletion with its own grace period.
    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let deleted = self.api::<Pod>().delete(name, &DeleteParams::default()).await;
        deleted.map(drop).with_context(|| format!("delete pod {name}"))
    }

    /// What a container has printed so far.
    pub(super) async fn log(&self, pod: &str, container: Option<&str>) -> Result<String> {
        let params = LogParams { container: container.map(str::to_owned), ..LogParams::default() };
        self.api::<Pod>().logs(pod, &params).await.with_context(|| format!("read the log of {pod}"))
    }

    /// Reasons of the events about an object, with their messages.
    pub(super) async fn events(&self, name: &str) -> Result<Vec<String>> {
        let list = self.api::<Event>().list(&Default::default()).await.context("list events")?;
        let about =
            list.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
        let text = |event: Event| {
            format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default())
        };
        Ok(about.map(text).collect())
    }

    /// Watches until there is an event of this reason about an object, and returns its message.
    pub(super) async fn event(&self, name: &str, reason: &str, limit: Duration) -> Result<String> {
        self.event_with(name, reason, "", limit).await
    }

    /// The same for an event whose message has this in it: of some reasons there are several.
    pub(super) async fn event_naming(&self, name: &str, reason: &str, part: &str) -> Result<String> {
        self.event_with(name, reason, part, SOON).await.with_context(|| format!("look for {part:?}"))
    }

    /// The same within a time of one's own.
    pub(super) async fn event_with(
        &self,
        name: &str,
        reason: &str,
        part: &str,
        limit: Duration,
    ) -> Result<String> {
        let fields = format!("involvedObject.name={name},reason={reason}");
        let config = watcher::Config::default().fields(&fields);
        let stream = watcher(self.api::<Event>(), config).default_backoff().applied_objects();
        let messages = stream.filter_map(|event| {
            let message = event.ok().map(|event| event.message.unwrap_or_default());
            std::future::ready(message.filter(|message| message.contains(part)))
        });
        match tokio::time::timeout(limit, std::pin::pin!(messages).next()).await {
            Ok(Some(message)) => Ok(message),
            _ => bail!("no event {reason} about {name}; there are {:?}", self.events(name).await?),
        }
    }

    /// A kubectl for this namespace.
    pub(super) fn kubectl(&self, args: &[&str]) -> Command {
        let paths = &self.cluster.paths;
        let mut kubectl = Command::new(paths.peers.kubernetes("kubectl"));
        kubectl.arg("--kubeconfig").arg(paths.file("admin.kubeconfig"));
        kubectl.args(["--namespace", &self.namespace]).args(args).kill_on_drop(true);
        kubectl
    }

    /// Runs kubectl to its end with this input.
    pub(super) async fn kubectl_with(&self, input: &[u8], args: &[&str]) -> Result<CommandOutput> {
        run_with(input, self.kubectl(args)).await.with_context(|| format!("kubectl {args:?}"))
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    pub(super) async fn kubectl_out(&self, args: &[&str]) -> Result<String> {
        let said = self.kubectl_with(b"", args).await?;
        if said.code != 0 {
            bail!("kubectl {args:?} ended with {}: {}", said.code, said.err.trim());
        }
        Ok(said.out)
    }

    /// Creates the objects of a document, of whatever kinds.
    pub(super) async fn create_all(&self, document: &str) -> Result<()> {
        self.kubectl_document("create", document).await
    }

    /// Deletes the objects of a document.
    pub(super) async fn delete_all(&self, document: &str) -> Result<()> {
        self.kubectl_document("delete", document).await
    }

    async fn kubectl_document(&self, verb: &str, document: &str) -> Result<()> {
        let said = self.kubectl_with(document.as_bytes(), &[verb, "--filename=-"]).await?;
        if said.code != 0 {
            bail!("kubectl {verb} ended with {}: {}", said.code, said.err.trim());
        }
        Ok(())
    }

    /// The first line a container prints. A container can be ready before it prints anything.
    pub(super) async fn first_line(&self, pod: &str, container: &str) -> Result<String> {
        Ok(self.lines(pod, container).await?.0)
    }

    /// Follows a container's log until it ends, from the moment its first line is there.
    pub(super) async fn follow(&self, pod: &str, container: &str) -> Result<Follow> {
        let (first, mut lines) = self.lines(pod, container).await?;
        let rest = tokio::spawn(async move {
            let mut all = vec![first];
            while let Ok(Some(line)) = lines.try_next().await {
                all.push(line);
            }
            all
        });
        Ok(Follow(rest))
    }

    /// The first line of a log, once it is there, and those that follow.
    async fn lines(
        &self,
        pod: &str,
        container: &str,
    ) -> Result<(String, impl Stream<Item = std::io::Result<String>> + Unpin + Send + use<>)> {
        let params =
            LogParams { follow: true, container: Some(container.to_owned()), ..LogParams::default() };
        let reader = self.api::<Pod>().log_stream(pod, &params).await;
        let reader = reader.with_context(|| format!("follow the log of {pod}"))?;
        let mut lines = Box::pin(futures::AsyncBufReadExt::lines(reader));
        let first = tokio::time::timeout(SOON, lines.try_next()).await.context("the log stays empty")?;
        Ok((first?.context("the log ended without a line")?, lines))
    }
}

/// Runs a program to its end with this input.
pub(super) async fn run_with(input: &[u8], mut program: Command) -> Result<CommandOutput> {
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = program.spawn().context("start it")?;
    let mut stdin = child.stdin.take().context("its input")?;
    let feed = async move {
        // It may end without reading all; how it ended tells.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let done = tokio::time::timeout(SOON, both).await;
    let done = done.map_err(|_| anyhow!("did not end within {SOON:?}"))?.context("wait for its end")?;
    Ok(CommandOutput {
        code: done.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        err: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

/// A log that is being followed.
pub(super) struct Follow(tokio::task::JoinHandle<Vec<String>>);

impl Follow {
    /// All lines, once the log has ended.
    pub(super) async fn lines(self) -> Result<Vec<String>> {
        let lines = tokio::time::timeout(SOON, self.0).await;
        lines.context("the log did not end")?.context("follow a log")
    }
}

/// A pod's document, bound to the node, with a short grace period unless the spec says otherwise.
pub(super) fn pod(name: &str, mut spec: Value) -> Value {
    for (key, value) in [
        ("nodeName", json!(NODE)),
        ("terminationGracePeriodSeconds", json!(1)),
        ("enableServiceLinks", json!(false)),
    ] {
        if spec.get(key).is_none() {
            spec[key] = value;
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name }, "annotations": { "note": "a note" } },
        "spec": spec,
    })
}

/// A container that runs a script in busybox.
pub(super) fn shell(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": BUSYBOX, "command": ["sh", "-c", script] })
}

/// A document with further fields.
pub(super) fn with(mut document: Value, fields: Value) -> Value {
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    document
}

/// The pod's phase.
pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The status of a condition of the pod.
pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let all = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    all.iter().find(|condition| condition.type_ == kind).map_or("", |condition| condition.status.as_str())
}

/// Whether the pod is ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready") == "True"
}

/// The status of a container, init containers included.
pub(super) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == name)
}

/// Why a container waits.
pub(super) fn waiting<'a>(pod: &'a Pod, name: &str) -> &'a str {
    let state = container(pod, name).and_then(|status| status.state.as_ref()?.waiting.as_ref());
    state.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default()
}

/// How a container ended, now or before its last restart: reason and exit code.
pub(super) fn ended<'a>(pod: &'a Pod, name: &str) -> Option<(&'a str, i32)> {
    let status = container(pod, name)?;
    let states = [&status.state, &status.last_state];
    let mut ends = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
    ends.next().map(|end| (end.reason.as_deref().unwrap_or_default(), end.exit_code))
}

/// How often a container was restarted.
pub(super) fn restarts(pod: &Pod, name: &str) -> i32 {
    container(pod, name).map_or(0, |status| status.restart_count)
}

/// Fails unless a text has a line that is exactly this.
pub(super) fn expect_line(text: &str, line: &str) -> Result<()> {
    if text.lines().any(|have| have == line) { Ok(()) } else { bail!("no line {line:?} in {text:?}") }
}
