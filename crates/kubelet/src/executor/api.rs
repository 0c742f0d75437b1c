//! Writes to the API server, and what is kept of it; a node without one answers for itself.

use std::sync::Arc;

use apiserver::{
    ClaimError, Connection, EventRecorder, EventType, InvolvedObject, LeaseState, MirrorOutcome, NewEvent,
    PatchOutcome, RequestError, ResizeReport, ServiceIndex,
};
use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus, PodStatus, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::storage::v1::CSINode;
use model::MetadataChange;
use model::storage::ClaimName;
use model::{Pod, PodKey, PodUid, pod};
use node::{ApiOutcome, EventObject, EventRecord, Failure, FailureKind, Outcome};
use tokio::sync::watch;

use super::failure;
use super::objects::authorized_as;

/// The API server as effects use it.
pub(crate) struct Api {
    node_name: String,
    /// `None` for a node that has no API server.
    remote: Option<Remote>,
}

/// A connected API server.
pub(crate) struct Remote {
    pub(crate) connection: Connection,
    pub(crate) events: EventRecorder,
    pub(crate) services: ServiceIndex,
    /// How its lease fares.
    pub(crate) lease: watch::Receiver<LeaseState>,
}

impl Api {
    pub(crate) fn new(node_name: String, remote: Option<Remote>) -> Self {
        Self { node_name, remote }
    }

    /// The connection, for watchers and the server's reviews.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.remote.as_ref().map(|r| &r.connection)
    }

    /// Records an event; a node without an API server has nowhere to.
    pub(crate) fn record(&self, event: EventRecord) {
        let Some(remote) = &self.remote else { return };
        let object = match event.about {
            EventObject::Node => InvolvedObject::node(&self.node_name),
            EventObject::Pod { key, uid, field_path } => InvolvedObject {
                kind: "Pod",
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                uid: uid.to_string(),
                resource_version: String::new(),
                field_path: field_path.unwrap_or_default(),
            },
            EventObject::Claim { name, uid } => InvolvedObject {
                kind: "PersistentVolumeClaim",
                namespace: name.namespace,
                name: name.name,
                uid,
                resource_version: String::new(),
                field_path: String::new(),
            },
        };
        let event_type = if event.is_warning { EventType::Warning } else { EventType::Normal };
        remote.events.record(NewEvent {
            object,
            event_type,
            reason: event.reason.into_owned(),
            message: event.message,
            at: jiff::Timestamp::now(),
        });
    }

    /// Services of a namespace with those of `default/kubernetes`; `None` before the first list.
    pub(crate) fn services(&self, namespace: &str) -> Option<Vec<Arc<Service>>> {
        let Some(remote) = &self.remote else { return Some(Vec::new()) };
        if !remote.services.is_synced() {
            return None;
        }
        let mut all: Vec<Arc<Service>> =
            remote.services.for_namespace(namespace).values().map(|s| Arc::new(service(s))).collect();
        if namespace != "default"
            && let Some(kubernetes) = remote.services.for_namespace("default").get("kubernetes")
        {
            all.push(Arc::new(service(kubernetes)));
        }
        Some(all)
    }

    /// Waits until services were read once.
    pub(crate) async fn services_synced(&self) {
        if let Some(remote) = &self.remote {
            remote.services.synced().await;
        }
    }

    pub(crate) async fn write_status(
        &self,
        key: &PodKey,
        uid: &PodUid,
        old: &PodStatus,
        new: &PodStatus,
    ) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        match apiserver::patch_pod_status(&remote.connection.api, key, uid, old, new).await {
            Ok(PatchOutcome::Written(pod)) => Outcome::Api(ApiOutcome::Written { version: version(&pod) }),
            Ok(PatchOutcome::Unchanged) => Outcome::Api(ApiOutcome::Written { version: 0 }),
            Ok(PatchOutcome::Gone | PatchOutcome::Replaced) => Outcome::Gone,
            Err(error) => failed(&error),
        }
    }

    pub(crate) async fn delete_pod(&self, key: &PodKey, uid: &PodUid) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        match apiserver::delete_pod(&remote.connection.api, key, uid).await {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Gone,
            Err(error) => failed(&error),
        }
    }

    pub(crate) async fn create_mirror(&self, pod: &Pod, node_uid: &str) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        match apiserver::create_mirror(&remote.connection.api, pod, &self.node_name, node_uid).await {
            Ok(MirrorOutcome::Created(_) | MirrorOutcome::Present(_)) => Outcome::Done,
            Ok(MirrorOutcome::Conflict(other)) => {
                let uid = pod::uid(&other);
                match apiserver::delete_mirror(&remote.connection.api, &pod::key(&other), Some(&uid)).await {
                    Ok(_) => failure::other("another pod had the mirror's name; it was removed".to_owned()),
                    Err(error) => failed(&error),
                }
            }
            Err(error) => failed(&error),
        }
    }

    pub(crate) async fn register(&self, node: ApiNode, looks_when_forbidden: bool) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        match apiserver::register(&remote.connection.api, &node, looks_when_forbidden).await {
            Ok(registered) => Outcome::Api(ApiOutcome::Registered(Arc::new(registered.node().clone()))),
            Err(error) => failed(&error),
        }
    }

    pub(crate) async fn write_node_status(
        &self,
        old: &NodeStatus,
        new: &NodeStatus,
        metadata: &MetadataChange,
    ) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        let client = &remote.connection.heartbeat;
        match apiserver::patch_node_status(client, &self.node_name, old, new, metadata).await {
            Ok(_) => Outcome::Api(ApiOutcome::Written { version: 0 }),
            Err(error) if error.is_not_found() => Outcome::Gone,
            Err(error) => failed(&error),
        }
    }

    pub(crate) async fn write_node_metadata(&self, metadata: &MetadataChange) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        let (client, same) = (&remote.connection.api, NodeStatus::default());
        match apiserver::patch_node_status(client, &self.node_name, &same, &same, metadata).await {
            Ok(Some(mut node)) => {
                node.metadata.managed_fields = None;
                // The node wrote them, nobody reads them back.
                if let Some(status) = &mut node.status {
                    status.images = None;
                }
                Outcome::Api(ApiOutcome::Node(Arc::new(node)))
            }
            Ok(None) => Outcome::Cancelled,
            Err(error) if error.is_not_found() => Outcome::Gone,
            Err(error) => rejected(&error),
        }
    }

    pub(crate) async fn read_csi_node(&self) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        match apiserver::get_csi_node(&remote.connection.api, &self.node_name).await {
            Ok(object) => Outcome::Api(ApiOutcome::CsiNode(object.map(Arc::new))),
            Err(error) => failed(&error),
        }
    }

    pub(crate) async fn write_csi_node(&self, object: &CSINode) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        match apiserver::write_csi_node(&remote.connection.api, object).await {
            Ok(object) => Outcome::Api(ApiOutcome::CsiNode(Some(Arc::new(object)))),
            Err(error) if error.is_not_found() => Outcome::Gone,
            Err(error) => rejected(&error),
        }
    }

    pub(crate) async fn delete_csi_node(&self, uid: &str) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        match apiserver::delete_csi_node(&remote.connection.api, &self.node_name, uid).await {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Gone,
            Err(error) => failed(&error),
        }
    }

    pub(crate) async fn resolve_claim(&self, claim: &ClaimName) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        let ask = || apiserver::resolve_claim(&remote.connection.api, claim);
        match authorized_as(ClaimError::is_forbidden, ask).await {
            Ok(answer) => Outcome::Api(ApiOutcome::Claim(answer)),
            Err(error) => failure::other(model::chain(&error)),
        }
    }

    /// Says in a claim's status how far the growth of its volume is.
    pub(crate) async fn report_resize(
        &self,
        claim: &ClaimName,
        uid: &str,
        report: &ResizeReport,
    ) -> Result<(), RequestError> {
        // Claims come from an API server.
        let Some(remote) = &self.remote else { return Ok(()) };
        apiserver::report_resize(&remote.connection.api, claim, uid, report, jiff::Timestamp::now()).await
    }

    pub(crate) async fn read_attachment(&self, name: &str) -> Outcome {
        let Some(remote) = &self.remote else { return Outcome::Cancelled };
        let ask = || apiserver::get_attachment(&remote.connection.api, name);
        match authorized_as(RequestError::is_forbidden, ask).await {
            Ok(Some(object)) => {
                let status = object.status.unwrap_or_default();
                Outcome::Api(ApiOutcome::Attachment {
                    is_attached: status.attached,
                    metadata: status.attachment_metadata.unwrap_or_default(),
                    error: status.attach_error.and_then(|error| error.message),
                })
            }
            Ok(None) => Outcome::Gone,
            Err(error) => failed(&error),
        }
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A write that failed, and whether it would again.
fn rejected(error: &RequestError) -> Outcome {
    let is_final = error.code().is_some() && !error.is_retryable();
    let kind = if is_final { FailureKind::Rejected } else { FailureKind::Other };
    Outcome::Failed(Failure { kind, message: model::chain(error) })
}

fn failed(error: &RequestError) -> Outcome {
    failure::other(model::chain(error))
}

fn service(view: &apiserver::ServiceView) -> Service {
    let ports = view.ports.iter().map(|p| ServicePort {
        name: Some(p.name.clone()).filter(|n| !n.is_empty()),
        protocol: Some(p.protocol.clone()),
        port: p.port,
        ..ServicePort::default()
    });
    let mut service = Service::default();
    service.metadata.namespace = Some(view.namespace.clone());
    service.metadata.name = Some(view.name.clone());
    service.spec = Some(ServiceSpec {
        cluster_ip: Some(view.cluster_ip.clone()),
        ports: Some(ports.collect()),
        ..ServiceSpec::default()
    });
    service
}
