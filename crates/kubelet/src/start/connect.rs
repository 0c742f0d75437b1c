//! The API server: the connection to it, and what is kept going over it.

use apiserver::{
    ClientSettings, EventRecorder, EventSettings, LeaseRenewerTask, LeaseSettings, ServiceIndex,
};
use tracing::info;

use super::Prerequisites;
use crate::executor::api::Remote;
use crate::identity;
use crate::observe::metering;

/// Connects to the API server. From here on it is told that this node is alive. `None` when there is none.
pub(super) async fn api(prerequisites: &Prerequisites) -> anyhow::Result<Option<Remote>> {
    let Prerequisites { config, host, identity: metrics, tracer, tasks, .. } = prerequisites;
    let node_name = host.node_name.as_str();
    let settings = ClientSettings {
        user_agent: format!("kubelet/{} ({})", config::version::KUBELET_VERSION, config::version::platform()),
        qps: f64::from(config.api.queries_per_second),
        burst: config.api.burst,
        heartbeat_timeout: config.node.status_update_interval.min(config.node.lease_duration),
        observer: metrics.observer(),
        requests: metering::calls::api(metrics.all()),
        tracer: tracer.clone(),
        ..ClientSettings::default()
    };
    let Some(connection) = identity::connect(config, node_name, settings, metrics, tasks).await? else {
        info!("Standalone mode, no API client: this node runs static pods only and reports to nobody");
        return Ok(None);
    };
    let (services, service_task) = ServiceIndex::new(connection.api.clone());
    tasks.spawn(service_task.run());
    let client = connection.with_limit(f64::from(config.api.events_per_second), config.api.event_burst)?;
    let recorder = EventSettings { component: "kubelet".to_owned(), host: node_name.to_owned() };
    let (events, event_task) = EventRecorder::new(client, recorder);
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
