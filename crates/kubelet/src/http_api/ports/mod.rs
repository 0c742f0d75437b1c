//! What the HTTP server shows and reaches, a file for each of its ports.

mod access;
mod pages;
mod pods;
mod process;
mod requests;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver::PodCertificates;
use config::Config;
use model::{ContainerObservation, Pod, pod};
use node::{PodView, View};
use runtime::Runtime;
use runtime::logs::LogWatches;
use server::ports::ContainerTarget;
use telemetry::log::LogHandle;
use telemetry::metrics::Metrics;
use telemetry::traces::Tracer;
use tokio::sync::watch;

use crate::driver::Clock;
use crate::executor::api::Api;
use crate::http_api::cadvisor::CadvisorPage;
use crate::identity::IdentityMetrics;
use crate::observe::health::Health;
use crate::usage::Usage;

pub(crate) use streams::CHECKPOINTS;

/// The server's ports onto this node.
#[derive(Clone)]
pub(crate) struct NodePorts {
    pub(crate) runtime: Runtime,
    pub(crate) api: Arc<Api>,
    pub(crate) tracer: Tracer,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) identity: Arc<IdentityMetrics>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    /// The clock of the view's times.
    pub(crate) clock: Clock,
    pub(crate) health: Health,
    pub(crate) cadvisor: Arc<CadvisorPage>,
    pub(crate) usage: Arc<Usage>,
    pub(crate) log: LogHandle,
    pub(crate) flags: Arc<BTreeMap<&'static str, String>>,
    pub(crate) log_watches: LogWatches,
    pub(crate) pod_certificates: Option<PodCertificates>,
}

impl NodePorts {
    fn views(&self) -> Vec<Arc<PodView>> {
        self.view.borrow().pods.values().filter(|p| p.is_wanted && p.pod.is_some()).cloned().collect()
    }

    fn view_of(&self, pod: &Pod) -> Option<Arc<PodView>> {
        self.view.borrow().pods.get(&pod::uid(pod)).cloned()
    }

    /// The running container a stream is for. A static pod is asked for by its mirror's uid, so
    /// only a uid that is neither is wrong.
    fn target(&self, target: &ContainerTarget) -> Option<ContainerObservation> {
        let view = self.view_of(&target.pod)?;
        let is_meant = |uid: &String| view.is_static || view.uid.as_str() == uid;
        if !target.uid.as_ref().is_none_or(is_meant) {
            return None;
        }
        view.container(&target.container).filter(|c| c.state.is_running()).cloned()
    }
}
