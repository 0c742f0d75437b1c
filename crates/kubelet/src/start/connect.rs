//! The API server: the connection to it, and what is kept going over it.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{
    ClientSettings, Connection, EventRecorder, EventSettings, EventTask, EventType, InvolvedObject,
    LeaseRenewerTask, LeaseSettings, NewEvent, ServiceIndex,
};
use config::Config;
use model::reason::event;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::Prerequisites;
use crate::executor::api::Remote;
use crate::identity::{self, IdentityMetrics};
use crate::observe::metering;

/// How long a node that cannot be set up tries to say so.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Connects to the API server. From here on it is told that this node is alive. `None` when there is none.
pub(super) async fn api(prerequisites: &Prerequisites) -> anyhow::Result<Option<Remote>> {
    let Prerequisites { config, host, identity: metrics, tracer, tasks, .. } = prerequisites;
    let node_name = host.node_name.as_str();
    let settings = ClientSettings { tracer: tracer.clone(), ..client_settings(config, metrics) };
    let Some(connection) = identity::connect(config, node_name, settings, metrics, tasks).await? else {
        info!("Standalone mode, no API client: this node runs static pods only and reports to nobody");
        return Ok(None);
    };
    let (services, service_task) = ServiceIndex::new(connection.api.clone());
    tasks.spawn(service_task.run());
    let (events, event_task) = events(config, node_name, &connection)?;
    tasks.spawn(event_task.run());
    let lease = LeaseSettings {
        node_name: node_name.to_owned(),
        duration_seconds: u32::try_from(config.node.lease_duration.as_secs()).unwrap_or(40),
    };
    let renewer = LeaseRenewerTask::new(connection.heartbeat.clone(), lease);
    let lease = renewer.state();
    tasks.spawn(renewer.run());
    Ok(Some(Remote { connection, events, services, lease }))
}

/// Tells the API server that the node cannot be set up, and why, if it can be reached at once. It is not told that this node
/// is alive, and a node that has no certificate yet asks for none.
pub(super) async fn tell_setup_failed(config: &Config, node_name: &str, error: &anyhow::Error) {
    if config.api.kubeconfig.as_ref().is_none_or(|path| !path.exists()) {
        return;
    }
    let telling = async {
        let metrics = IdentityMetrics::new(Arc::default());
        let settings = client_settings(config, &metrics);
        let tasks = TaskTracker::new();
        let connected = identity::connect(config, node_name, settings, &metrics, &tasks).await?;
        let Some(connection) = connected else { return anyhow::Ok(()) };
        let (events, task) = events(config, node_name, &connection)?;
        events.record(NewEvent {
            object: InvolvedObject::node(node_name),
            event_type: EventType::Warning,
            reason: event::KUBELET_SETUP_FAILED.to_owned(),
            message: model::chain(error.as_ref()),
            at: jiff::Timestamp::now(),
        });
        // It ends when all that was recorded is written.
        drop(events);
        task.run().await;
        Ok(())
    };
    // Cancel-safe: nobody hears of it then. Why the node cannot be set up is in the log in any case.
    if let Ok(Err(error)) = tokio::time::timeout(LAST_WORD, telling).await {
        info!(
            err = model::chain(error.as_ref()),
            "Failed to tell the API server why this node cannot be set up"
        );
    }
}

fn client_settings(config: &Config, metrics: &Arc<IdentityMetrics>) -> ClientSettings {
    ClientSettings {
        user_agent: format!("kubelet/{} ({})", config::version::KUBELET_VERSION, config::version::platform()),
        qps: f64::from(config.api.queries_per_second),
        burst: config.api.burst,
        heartbeat_timeout: config.node.status_update_interval.min(config.node.lease_duration),
        observer: metrics.observer(),
        requests: metering::calls::api(metrics.all()),
        ..ClientSettings::default()
    }
}

/// A recorder of events, and the task that writes them.
fn events(
    config: &Config,
    node_name: &str,
    connection: &Connection,
) -> anyhow::Result<(EventRecorder, EventTask)> {
    let client = connection.with_limit(f64::from(config.api.events_per_second), config.api.event_burst)?;
    let settings = EventSettings { component: "kubelet".to_owned(), host: node_name.to_owned() };
    Ok(EventRecorder::new(client, settings))
}
