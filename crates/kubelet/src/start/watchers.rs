//! Whatever tells the core something or looks after something without being asked, each in a task of its own.

use std::sync::Arc;

use node::{Input, View};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::{Readers, settings};
use crate::executor::adapters::Adapters;
use crate::identity::ServingNames;
use crate::iptables;
use crate::watchers::sampler::samples;
use crate::watchers::{self, images, log_rotation};

/// Starts them.
pub(super) fn spawn(
    adapters: &Arc<Adapters>,
    view: &watch::Receiver<Arc<View>>,
    Readers { sampler, addresses }: Readers,
    node_name: &str,
    serving: Option<ServingNames>,
    inbox: &mpsc::Sender<Input>,
    tasks: &TaskTracker,
) {
    tasks.spawn(watchers::runtime_health(adapters.clone(), sampler.clone(), inbox.clone()));
    tasks.spawn(watchers::runtime_events(adapters.clone(), inbox.clone()));
    tasks.spawn(samples(sampler.clone(), inbox.clone()));
    tasks.spawn(images::images(adapters.clone(), inbox.clone()));
    tasks.spawn(addresses.run(adapters.config.node.status_update_interval, inbox.clone()));
    tasks.spawn(log_rotation::run(adapters.clone(), view.clone()));
    if adapters.config.pods.iptables_chains {
        tasks.spawn(iptables::keep());
    }
    if let (Some(connection), Some(cache)) = (adapters.api.connection(), adapters.objects.cache()) {
        let (client, name) = (connection.api.clone(), node_name.to_owned());
        tasks.spawn(watchers::api_pods(client.clone(), name.clone(), cache.clone(), inbox.clone()));
        tasks.spawn(watchers::runtime_classes(client.clone(), inbox.clone()));
        tasks.spawn(watchers::node_object(client, name, serving, cache.clone(), inbox.clone()));
        let every = adapters.config.pods.sync_interval;
        tasks.spawn(watchers::object_changes(cache.clone(), every, inbox.clone()));
    }
    if let Some(path) = &adapters.config.sources.static_pod_path {
        let settings = sources::FileSettings {
            path: path.clone(),
            node_name: node_name.to_owned(),
            check_every: adapters.config.sources.file_check_interval,
            gates: settings::of_manifests(&adapters.config),
        };
        tasks.spawn(watchers::static_pods(settings, inbox.clone()));
    }
    if let Some(url) = &adapters.config.sources.static_pod_url {
        let settings = sources::UrlSettings {
            url: url.clone(),
            headers: adapters.config.sources.static_pod_url_headers.0.clone(),
            node_name: node_name.to_owned(),
            check_every: adapters.config.sources.http_check_interval,
            gates: settings::of_manifests(&adapters.config),
        };
        tasks.spawn(watchers::static_pods_from_url(settings, inbox.clone()));
    }
}
