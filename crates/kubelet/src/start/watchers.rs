//! Whatever tells the core something or looks after something without being asked, each in a task of its own.

use std::sync::Arc;

use node::{Input, View};
use tokio::sync::{Notify, mpsc, watch};

use super::{Prerequisites, Readers, Shared, settings};
use crate::identity::ServingNames;
use crate::iptables;
use crate::watchers::sampler::samples;
use crate::watchers::{self, images, log_rotation};

/// Where plugins make the sockets they are registered by, below the root folder.
pub(super) const PLUGINS: &str = "plugins_registry";

/// Starts them.
pub(super) fn spawn(
    prerequisites: &Prerequisites,
    shared: &Shared,
    view: &watch::Receiver<Arc<View>>,
    Readers { sampler, addresses }: Readers,
    serving: Option<ServingNames>,
    inbox: &mpsc::Sender<Input>,
) {
    let Prerequisites { config, runtime, tasks, host, .. } = prerequisites;
    let (node_name, changed) = (&host.node_name, &shared.images_changed);
    let endpoint = config.runtime.endpoint.clone();
    let is_back = Arc::new(Notify::new());
    tasks.spawn(watchers::runtime_health(
        runtime.clone(),
        endpoint,
        sampler.clone(),
        changed.clone(),
        is_back.clone(),
        inbox.clone(),
    ));
    // Off by default upstream, where all containers are listed every second either way. Here the stream stands in for
    // that, so it is there unless somebody does not want it.
    if !config.gates.is_turned_off("EventedPLEG") {
        tasks.spawn(watchers::runtime_events(runtime.clone(), is_back, inbox.clone()));
    }
    tasks.spawn(samples(sampler.clone(), inbox.clone()));
    tasks.spawn(images::images(runtime.clone(), changed.clone(), inbox.clone()));
    tasks.spawn(addresses.run(config.node.status_update_interval, inbox.clone()));
    tasks.spawn(watchers::plugin_sockets(config.paths.root.join(PLUGINS), inbox.clone()));
    tasks.spawn(watchers::oom::machine_oom_kills(shared.api.clone()));
    tasks.spawn(log_rotation::run(runtime.clone(), config.clone(), view.clone()));
    if config.pods.iptables_chains {
        tasks.spawn(iptables::keep());
    }
    if let (Some(connection), Some(cache)) = (shared.api.connection(), shared.objects.cache()) {
        let (client, name) = (connection.api.clone(), node_name.clone());
        tasks.spawn(watchers::api_pods(client.clone(), name.clone(), cache.clone(), inbox.clone()));
        tasks.spawn(watchers::runtime_classes(client.clone(), inbox.clone()));
        tasks.spawn(watchers::csi_drivers(client.clone(), inbox.clone()));
        tasks.spawn(watchers::node_object(client, name, serving, cache.clone(), inbox.clone()));
        let every = config.pods.sync_interval;
        tasks.spawn(watchers::object_changes(cache.clone(), every, inbox.clone()));
    }
    if let Some(bundles) = shared.objects.trust_bundles() {
        tasks.spawn(watchers::trust_bundles(bundles.clone(), inbox.clone()));
    }
    if let Some(certificates) = shared.objects.pod_certificates() {
        let (certificates, api) = (certificates.clone(), shared.api.clone());
        tasks.spawn(watchers::pod_certificates(certificates, api, inbox.clone()));
    }
    if let Some(path) = &config.sources.static_pod_path {
        let settings = sources::FileSettings {
            path: path.clone(),
            node_name: node_name.clone(),
            check_every: config.sources.file_check_interval,
            gates: settings::of_manifests(config),
        };
        tasks.spawn(watchers::static_pods(settings, inbox.clone()));
    }
    if let Some(url) = &config.sources.static_pod_url {
        let settings = sources::UrlSettings {
            url: url.clone(),
            headers: config.sources.static_pod_url_headers.0.clone(),
            node_name: node_name.clone(),
            check_every: config.sources.http_check_interval,
            gates: settings::of_manifests(config),
        };
        tasks.spawn(watchers::static_pods_from_url(settings, inbox.clone()));
    }
}
