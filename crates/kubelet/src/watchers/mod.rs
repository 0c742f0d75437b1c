//! Watchers: what tells the core about the world without being asked: pods from their sources, the
//! runtime's events and health, measurements of the node, changed objects.
//!
//! Each watcher is a task that waits for its source and sends inputs; it ends when the inbox does.

pub(crate) mod addresses;
pub(crate) mod images;
pub(crate) mod log_rotation;
pub(crate) mod oom;
pub(crate) mod sampler;
pub(crate) mod signals;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{
    NodeEvent, ObjectCache, ObjectChange, PodCertificateNews, PodCertificates, PodEvent, TrustBundles,
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use model::{PodUid, pod};
use node::{EventObject, EventRecord, Input, RuntimeChange, Source};
use runtime::{ContainerChange, Runtime, RuntimeEvent, RuntimeVersion};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tracing::{debug, info, trace, warn};

use crate::executor::api::Api;
use crate::identity::ServingNames;
use sampler::Sampler;

/// Time between two questions for the runtime's health while it answers (upstream's 5 s).
const HEALTH_EVERY: Duration = Duration::from_secs(5);
/// The same while it does not.
const HEALTH_RETRY: Duration = Duration::from_secs(1);
/// A runtime that takes longer is told of in the log: the node is not ready any more (upstream's threshold).
const HEALTH_SILENCE: Duration = Duration::from_secs(30);
/// Objects that are not watched are not read more often than this, whatever `syncFrequency` says.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Hints from the runtime's event stream.
pub(crate) async fn runtime_events(runtime: Runtime, is_back: Arc<Notify>, inbox: Sender<Input>) {
    let mut events = std::pin::pin!(runtime.events(is_back));
    let mut is_lost = false;
    while let Some(event) = events.next().await {
        let input = match event {
            RuntimeEvent::Connected => {
                is_lost = false;
                info!(v = 2, "CRI event stream connected");
                Input::EventStream { is_connected: true }
            }
            // It is tried again and again, which is told once.
            RuntimeEvent::Lost(error) if std::mem::replace(&mut is_lost, true) => {
                debug!(err = error.message(), "Failed again to connect to the CRI event stream");
                Input::EventStream { is_connected: false }
            }
            RuntimeEvent::Lost(error) => {
                warn!(
                    err = error.message(),
                    "CRI event stream lost; relisting containers every second until it is back (generic PLEG)"
                );
                Input::EventStream { is_connected: false }
            }
            // Without a pod to read, only a relist can tell.
            RuntimeEvent::PodChanged { uid: None, .. } => Input::EventStream { is_connected: true },
            RuntimeEvent::PodChanged { uid: Some(uid), container_id, change } => {
                trace!(pod_uid = %uid, container = %container_id, ?change, "Received CRI container event");
                let change = match change {
                    ContainerChange::Created => RuntimeChange::Created,
                    ContainerChange::Started => RuntimeChange::Started,
                    ContainerChange::Stopped => RuntimeChange::Stopped,
                    ContainerChange::Deleted => RuntimeChange::Deleted,
                };
                Input::RuntimeHint { uid, container: container_id, change }
            }
        };
        if inbox.send(input).await.is_err() {
            return;
        }
    }
}

/// The runtime's health, and its name and version whenever it comes (back) up. That it `is_back` is told to who waits for it.
pub(crate) async fn runtime_health(
    runtime: Runtime,
    endpoint: String,
    sampler: Arc<Sampler>,
    images_changed: Arc<Notify>,
    is_back: Arc<Notify>,
    inbox: Sender<Input>,
) {
    let (mut was_up, mut has_network) = (None, None);
    loop {
        let (health, was_silent) = noticed(runtime.status(), HEALTH_SILENCE, || {
            warn!(
                endpoint,
                silence = ?HEALTH_SILENCE,
                "Container runtime does not answer its status check; the node is not ready until it does"
            );
        })
        .await;
        let health = health.map_err(|error| error.message().to_owned());
        if was_silent && health.is_ok() && was_up == Some(true) {
            info!(endpoint, "Container runtime answers again");
        }
        let is_up = health.is_ok();
        if was_up != Some(is_up) {
            match &health {
                Ok(_) => {
                    if was_up.is_some() {
                        info!(endpoint, "Container runtime answers again");
                        is_back.notify_one();
                    }
                    if !tell_of_runtime(&runtime, &sampler, &images_changed, &inbox).await {
                        return;
                    }
                }
                Err(error) => warn!(
                    endpoint,
                    err = error,
                    "Container runtime is down; running pods go on, nothing new starts until it is back"
                ),
            }
            was_up = Some(is_up);
        }
        if let Ok(health) = &health
            && has_network != Some(health.network.is_met)
        {
            let (reason, message) = (health.network.reason.as_str(), health.network.message.as_str());
            match (health.network.is_met, has_network) {
                (false, _) => warn!(
                    reason,
                    err = message,
                    "Container runtime network not ready; the node is not ready until it is"
                ),
                (true, Some(_)) => info!("Container runtime network is ready again"),
                (true, None) => {}
            }
            has_network = Some(health.network.is_met);
        }
        if inbox.send(Input::RuntimeHealth(health)).await.is_err() {
            return;
        }
        tokio::time::sleep(if is_up { HEALTH_EVERY } else { HEALTH_RETRY }).await;
    }
}

/// Tells of a runtime that has come up: what it is, and what is left of the node, images included. Returns whether anybody
/// listens.
async fn tell_of_runtime(
    runtime: &Runtime,
    sampler: &Sampler,
    images_changed: &Notify,
    inbox: &Sender<Input>,
) -> bool {
    match runtime.version().await {
        Ok(RuntimeVersion { name, version, .. }) => {
            if inbox.send(Input::RuntimeVersion { name, version }).await.is_err() {
                return false;
            }
            sampler.forget_runtime_places();
            images_changed.notify_one();
        }
        Err(error) => {
            warn!(err = error.message(), "Failed to get version of the container runtime")
        }
    }
    inbox.send(Input::Sample(sampler.sample().await)).await.is_ok()
}

/// Does something that may take long. Gives notice once it does, and says whether it has.
async fn noticed<F: Future>(work: F, after: Duration, notice: impl FnOnce()) -> (F::Output, bool) {
    let mut work = std::pin::pin!(work);
    // Cancel-safe: only the wait for the work is given up, not the work.
    match tokio::time::timeout(after, work.as_mut()).await {
        Ok(done) => (done, false),
        Err(_) => {
            notice();
            (work.await, true)
        }
    }
}

/// The node's pods as the API server has them. Registers what they refer to with the cache of
/// objects, so that it is watched for as long as somebody needs it.
pub(crate) async fn api_pods(
    client: kube::Client,
    node_name: String,
    cache: ObjectCache,
    inbox: Sender<Input>,
) {
    let mut events = std::pin::pin!(apiserver::watch_pods(client, &node_name));
    let mut registered: BTreeSet<PodUid> = BTreeSet::new();
    while let Some(event) = events.next().await {
        let input = match event {
            PodEvent::Listed(pods) => {
                let listed: BTreeSet<PodUid> = pods.iter().map(|p| pod::uid(p)).collect();
                let is_new = |p: &&Arc<Pod>| !registered.contains(&pod::uid(p));
                log_pods("api", "added", pods.iter().filter(is_new).map(|p| pod::key(p).to_string()));
                log_pods("api", "removed", registered.difference(&listed).map(ToString::to_string));
                for gone in registered.difference(&listed) {
                    cache.unregister(gone);
                }
                pods.iter().for_each(|p| cache.register(p));
                registered = listed;
                Input::PodsListed { source: Source::Api, pods }
            }
            PodEvent::Applied(pod) => {
                let (name, uid) = (pod::key(&pod).to_string(), pod::uid(&pod));
                if registered.insert(uid.clone()) {
                    info!(v = 2, source = "api", pod = name, podUID = uid.as_str(), "Pod added");
                } else {
                    let is_ending = pod.metadata.deletion_timestamp.is_some();
                    debug!(source = "api", pod = name, podUID = uid.as_str(), is_ending, "Pod changed");
                }
                cache.register(&pod);
                Input::PodApplied { source: Source::Api, pod }
            }
            PodEvent::Deleted(pod) => {
                let uid = pod::uid(&pod);
                let name = pod::key(&pod).to_string();
                info!(v = 2, source = "api", pod = name, podUID = uid.as_str(), "Pod removed");
                registered.remove(&uid);
                cache.unregister(&uid);
                Input::PodDeleted { source: Source::Api, uid }
            }
        };
        if inbox.send(input).await.is_err() {
            return;
        }
    }
}

/// One line for any number of pods.
fn log_pods(source: &str, change: &str, pods: impl Iterator<Item = String>) {
    let pods: Vec<String> = pods.collect();
    if !pods.is_empty() {
        info!(v = 2, source, count = pods.len(), pods = ?pods, "Pods {change}");
    }
}

/// Static pods of files.
pub(crate) async fn static_pods(settings: sources::FileSettings, inbox: Sender<Input>) {
    let mut sets = std::pin::pin!(sources::watch_files(settings));
    let (mut known, mut problems) = (BTreeMap::new(), BTreeMap::new());
    while let Some(set) = sets.next().await {
        log_changes("file", &mut known, &set.pods);
        let listed: BTreeMap<_, _> = set.problems.into_iter().collect();
        for (path, problem) in listed.iter().filter(|(path, problem)| problems.get(*path) != Some(*problem)) {
            warn!(path = %path.display(), err = problem, "Could not process manifest file");
        }
        problems = listed;
        if inbox.send(Input::PodsListed { source: Source::File, pods: set.pods }).await.is_err() {
            return;
        }
    }
}

/// Static pods of a URL.
pub(crate) async fn static_pods_from_url(settings: sources::UrlSettings, inbox: Sender<Input>) {
    /// How often in a row a failure is told to everybody; upstream's number.
    const TELLINGS: u32 = 4;
    let mut updates = std::pin::pin!(sources::watch_url(settings));
    let (mut known, mut failures) = (BTreeMap::new(), 0);
    while let Some(update) = updates.next().await {
        match update {
            Ok(pods) => {
                if std::mem::take(&mut failures) > 0 && !pods.is_empty() {
                    info!("Successfully read pods from URL");
                }
                log_changes("http", &mut known, &pods);
                if inbox.send(Input::PodsListed { source: Source::Http, pods }).await.is_err() {
                    return;
                }
            }
            Err(error) if failures < TELLINGS => {
                failures += 1;
                info!(err = model::chain(&error), "Failed to read pods from URL");
            }
            Err(error) => debug!(err = model::chain(&error), "Failed to read pods from URL"),
        }
    }
}

fn log_changes(source: &str, known: &mut BTreeMap<PodUid, String>, pods: &[Arc<Pod>]) {
    let listed: BTreeMap<PodUid, String> =
        pods.iter().map(|p| (pod::uid(p), pod::key(p).to_string())).collect();
    let only_in = |these: &BTreeMap<PodUid, String>, those: &BTreeMap<PodUid, String>| -> Vec<String> {
        these.iter().filter(|(uid, _)| !those.contains_key(uid)).map(|(_, name)| name.clone()).collect()
    };
    // One that has changed is both, under one name: first it goes.
    log_pods(source, "removed", only_in(known, &listed).into_iter());
    log_pods(source, "added", only_in(&listed, known).into_iter());
    *known = listed;
}

/// The RuntimeClasses of the cluster.
pub(crate) async fn runtime_classes(client: kube::Client, inbox: Sender<Input>) {
    let mut sets = std::pin::pin!(apiserver::watch_runtime_classes(client));
    while let Some(classes) = sets.next().await {
        if inbox.send(Input::RuntimeClasses(classes)).await.is_err() {
            return;
        }
    }
}

/// The CSIDriver objects of the cluster.
pub(crate) async fn csi_drivers(client: kube::Client, inbox: Sender<Input>) {
    let mut sets = std::pin::pin!(apiserver::watch_csi_drivers(client));
    while let Some(objects) = sets.next().await {
        if inbox.send(Input::CsiDrivers(objects)).await.is_err() {
            return;
        }
    }
}

/// The sockets at which plugins register.
pub(crate) async fn plugin_sockets(folder: PathBuf, inbox: Sender<Input>) {
    let mut sets = std::pin::pin!(plugins::registration::watch_sockets(folder));
    while let Some(sockets) = sets.next().await {
        debug!(?sockets, "Plugin sockets changed");
        if inbox.send(Input::PluginSockets(sockets)).await.is_err() {
            return;
        }
    }
}

/// ClusterTrustBundles, once a volume is made from one.
pub(crate) async fn trust_bundles(bundles: TrustBundles, inbox: Sender<Input>) {
    let mut changes = std::pin::pin!(bundles.watch());
    while let Some(changed) = changes.next().await {
        if inbox.send(Input::TrustBundlesChanged(changed)).await.is_err() {
            return;
        }
    }
}

/// Certificates of pods: issues them, and records what their signers say.
pub(crate) async fn pod_certificates(certificates: PodCertificates, api: Arc<Api>, inbox: Sender<Input>) {
    let mut news = std::pin::pin!(certificates.issue());
    while let Some(news) = news.next().await {
        match news {
            PodCertificateNews::Changed(uid) => {
                if inbox.send(Input::PodCertificateChanged(uid)).await.is_err() {
                    return;
                }
            }
            PodCertificateNews::Warning { pod, uid, reason, message } => api.record(EventRecord {
                about: EventObject::Pod { key: pod, uid, field_path: None },
                is_warning: true,
                reason: reason.into(),
                message,
            }),
        }
    }
}

/// The own Node object, of which the serving certificate may have to know too.
pub(crate) async fn node_object(
    client: kube::Client,
    node_name: String,
    serving: Option<ServingNames>,
    cache: ObjectCache,
    inbox: Sender<Input>,
) {
    let mut events = std::pin::pin!(apiserver::watch_node(client, &node_name));
    let mut was_there = false;
    while let Some(event) = events.next().await {
        let NodeEvent::Current(node) = event else {
            // The core notices by its own writes; the operator may wonder.
            if std::mem::take(&mut was_there) {
                warn!(
                    node = node_name,
                    "Node object was deleted; it is not registered again until the kubelet restarts"
                );
            }
            continue;
        };
        was_there = true;
        if let Some(serving) = &serving {
            serving.observe(&node);
        }
        cache.set_ttl(object_ttl(&node));
        if inbox.send(Input::NodeObject(node)).await.is_err() {
            return;
        }
    }
}

/// How long the control plane wants objects to be taken for new, more the more nodes there are.
fn object_ttl(node: &k8s_openapi::api::core::v1::Node) -> Option<Duration> {
    let seconds = node.metadata.annotations.as_ref()?.get("node.alpha.kubernetes.io/ttl")?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Changes of ConfigMaps and Secrets that pods refer to. Where nobody is told of them, everything is looked at
/// every so often.
pub(crate) async fn object_changes(cache: ObjectCache, every: Duration, inbox: Sender<Input>) {
    while !cache.tells_of_changes() {
        tokio::time::sleep(every.max(LOOK_AGAIN)).await;
        if inbox.send(Input::ManyObjectsChanged).await.is_err() {
            return;
        }
    }
    let mut changes = cache.changes();
    while let Some(change) = changes.next().await {
        let input = match change {
            ObjectChange::Many => Input::ManyObjectsChanged,
            ObjectChange::One(name) => Input::ObjectChanged(name),
        };
        if inbox.send(input).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn notice_is_given_of_what_takes_long_and_it_goes_on() {
        for (seconds, is_noticed) in [(29, false), (31, true)] {
            let mut notices = 0;
            let work = async {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                seconds
            };
            assert_eq!(noticed(work, Duration::from_secs(30), || notices += 1).await, (seconds, is_noticed));
            assert_eq!(notices, u32::from(is_noticed));
        }
    }
}
