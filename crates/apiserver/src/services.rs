//! All Services, reduced to what a container's environment says about them.
//!
//! A cluster can have thousands; of each only name, address and ports are decoded and kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use serde::Deserialize;
use tokio::sync::watch;

use crate::call::Purpose;
use crate::watch::{Change, Freshness, Watch, Watched};

/// A Service with a cluster IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.clusterIP`.
    pub cluster_ip: String,
    /// `spec.ports`, in their order.
    pub ports: Vec<ServicePortView>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServicePortView {
    /// Empty when the Service has one unnamed port.
    #[serde(default)]
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// The Service's port.
    pub port: i32,
}

fn tcp() -> String {
    "TCP".to_owned()
}

#[derive(Clone, Debug, Default)]
struct Known {
    is_synced: bool,
    namespaces: BTreeMap<String, Arc<BTreeMap<String, ServiceView>>>,
}

/// Reads the Services. Clones share one view.
#[derive(Clone, Debug)]
pub struct ServiceIndex(watch::Receiver<Known>);

impl ServiceIndex {
    /// An index and the task that keeps it.
    pub fn new(client: Client) -> (Self, ServiceTask) {
        let (known, index) = watch::channel(Known::default());
        (Self(index), ServiceTask { client, known })
    }

    /// Whether all Services were seen once. Before that no container may start whose pod wants
    /// service variables.
    pub fn is_synced(&self) -> bool {
        self.0.borrow().is_synced
    }

    /// Waits until [`Self::is_synced`]. Cancel-safe. Returns at once when the task is gone.
    pub async fn synced(&self) {
        // An error means that the task was dropped: nothing to wait for.
        let _ = self.0.clone().wait_for(|known| known.is_synced).await;
    }

    /// A namespace's Services by name.
    pub fn for_namespace(&self, namespace: &str) -> Arc<BTreeMap<String, ServiceView>> {
        self.0.borrow().namespaces.get(namespace).cloned().unwrap_or_default()
    }
}

/// Follows the Services until its future is dropped.
pub struct ServiceTask {
    client: Client,
    known: watch::Sender<Known>,
}

impl ServiceTask {
    /// Runs for ever.
    pub async fn run(self) {
        let purpose = Purpose::new("watch services in", "all namespaces");
        let mut watch =
            Watch::<LeanService>::new(self.client, "/api/v1/services", None, Freshness::Cached, purpose);
        loop {
            let change = watch.next().await;
            self.known.send_modify(|known| known.apply(change));
        }
    }
}

impl Known {
    fn apply(&mut self, change: Change<LeanService>) {
        match change {
            Change::Listed(services) => {
                self.is_synced = true;
                let mut namespaces: BTreeMap<String, BTreeMap<String, ServiceView>> = BTreeMap::new();
                for view in services.into_iter().filter_map(LeanService::view) {
                    namespaces.entry(view.namespace.clone()).or_default().insert(view.name.clone(), view);
                }
                self.namespaces = namespaces.into_iter().map(|(name, all)| (name, Arc::new(all))).collect();
            }
            Change::Applied(service) => {
                let (namespace, name) = (service.metadata.namespace.clone(), service.metadata.name.clone());
                match service.view() {
                    Some(view) => {
                        let all = self.namespaces.entry(namespace).or_default();
                        if all.get(&name) != Some(&view) {
                            Arc::make_mut(all).insert(name, view);
                        }
                    }
                    None => self.remove(&namespace, &name),
                }
            }
            Change::Deleted(service) => self.remove(&service.metadata.namespace, &service.metadata.name),
        }
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some(all) = self.namespaces.get_mut(namespace) else { return };
        Arc::make_mut(all).remove(name);
        if all.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanService {
    metadata: LeanMeta,
    #[serde(default)]
    spec: LeanSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeanMeta {
    namespace: String,
    name: String,
    resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LeanSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ports: Vec<ServicePortView>,
}

impl Watched for LeanService {
    fn version(&self) -> Option<&str> {
        Some(&self.metadata.resource_version)
    }
}

impl LeanService {
    /// `None` for a headless Service or one without an address.
    fn view(self) -> Option<ServiceView> {
        let has_address = !self.spec.cluster_ip.is_empty() && self.spec.cluster_ip != "None";
        has_address.then_some(ServiceView {
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            cluster_ip: self.spec.cluster_ip,
            ports: self.spec.ports,
        })
    }
}

#[cfg(test)]
mod tests;
