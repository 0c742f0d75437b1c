//! The node's credentials as the process uses them: the client certificate it talks to the API
//! server with, the serving certificate it shows to its own callers, and what is counted of both.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use apiserver::{
    CertificateStore, ClientSettings, Connection, CredentialEvent, ExecPluginEvent, NodeIdentity, Observer,
    RotationEvent, RotationTask, Template,
};
use config::Config;
use jiff::Timestamp;
use server::certificate::ServingCertificate;
use telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Nothing that could expire.
const NEVER: i64 = i64::MAX;
/// The prefix of the serving certificate's files.
const SERVING: &str = "kubelet-server";

/// Connects to the API server under the node's name. Without rotation this waits for the first
/// certificate, however long its approval takes.
pub(crate) async fn connect(
    config: &Config,
    node_name: &str,
    settings: ClientSettings,
    metrics: &IdentityMetrics,
    tasks: &TaskTracker,
) -> anyhow::Result<Option<Connection>> {
    let Some(kubeconfig) = &config.api.kubeconfig else { return Ok(None) };
    if config.api.rotate_certificates {
        metrics.client_rotates();
    }
    let identity = NodeIdentity {
        node_name: node_name.to_owned(),
        certificate_folder: config.paths.certificates.clone(),
        kubeconfig: kubeconfig.clone(),
        bootstrap_kubeconfig: config.api.bootstrap_kubeconfig.clone(),
        is_rotating: config.api.rotate_certificates,
    };
    let (connection, rotation) = apiserver::connect_node(&identity, settings).await?;
    metrics.first_is_there();
    if let Some(rotation) = rotation {
        tasks.spawn(rotation.run());
    }
    Ok(Some(connection))
}

/// What the serving certificate has to name, as the Node object has it.
pub(crate) struct ServingNames {
    node_name: String,
    allows_dns_only: bool,
    template: watch::Sender<Option<Template>>,
}

impl ServingNames {
    /// Asks for another certificate if the node's addresses call for one.
    pub(crate) fn observe(&self, node: &k8s_openapi::api::core::v1::Node) {
        let addresses =
            node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let addresses = addresses.iter().map(|one| (one.type_.as_str(), one.address.as_str()));
        let wanted = Template::for_serving(&self.node_name, addresses, self.allows_dns_only);
        self.template.send_if_modified(|current| {
            let is_new = *current != wanted;
            *current = wanted;
            is_new
        });
    }
}

/// The certificate of the HTTPS server: from files, signed by the cluster (then with what has to be
/// told of the node's addresses), or by itself.
pub(crate) fn serving_certificate(
    config: &Config,
    names: [&str; 2],
    addresses: &[IpAddr],
    connection: Option<&Connection>,
    metrics: &Arc<IdentityMetrics>,
    tasks: &TaskTracker,
) -> anyhow::Result<(ServingCertificate, Option<ServingNames>)> {
    let Some(server) = &config.server else { return Ok((ServingCertificate::pending(), None)) };
    if !server.tls.bootstrap {
        let certificate = match &server.tls.files {
            Some(files) => ServingCertificate::from_files(&files.certificate, &files.key)?,
            None => {
                let names = names.map(str::to_owned);
                ServingCertificate::self_signed(&config.paths.certificates, &names, addresses)?
            }
        };
        return Ok((certificate, None));
    }
    let files = server.tls.files.as_ref().map(|files| (files.certificate.clone(), files.key.clone()));
    metrics.serving_rotates();
    let store = CertificateStore::open(&config.paths.certificates, SERVING, files)?;
    let certificate = ServingCertificate::pending();
    let Some(connection) = connection else {
        warn!("serverTLSBootstrap: no API server to request a serving certificate from");
        if let Some(pair) = store.current()? {
            certificate.show(pair.certified().clone());
        }
        return Ok((certificate, None));
    };
    let (template, wanted) = watch::channel(None);
    let (shown, metrics) = (certificate.clone(), metrics.clone());
    let listener = move |event: RotationEvent| {
        if let RotationEvent::Current(pair) = &event {
            shown.show(pair.certified().clone());
        }
        metrics.serving(&event);
    };
    let rotation = RotationTask::for_serving(connection.api.clone(), store, wanted, listener);
    tasks.spawn(rotation.run());
    info!("Requested a serving certificate; TLS connections to this node fail until it is approved");
    let names = ServingNames {
        node_name: names[1].to_owned(),
        allows_dns_only: config.gates.enabled("AllowDNSOnlyNodeCSR"),
        template,
    };
    Ok((certificate, Some(names)))
}

/// What is counted of certificates and plugins.
pub(crate) struct IdentityMetrics {
    metrics: Arc<Metrics>,
    // Seconds since 1970 until which each holds.
    client_until: AtomicI64,
    serving_until: AtomicI64,
    plugin_until: AtomicI64,
    waits: watch::Sender<CertificateWaits>,
}

/// Which certificates are waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct CertificateWaits {
    /// The one that the API server is shown.
    pub(crate) client: Option<CertificateWait>,
    /// The one that callers of the node are shown.
    pub(crate) serving: Option<CertificateWait>,
}

/// A certificate that was asked for, or cannot be.
#[derive(Clone, Debug)]
pub(crate) struct CertificateWait {
    /// Since when.
    pub(crate) since: Timestamp,
    /// The certificate signing request that is to be approved, once there is one.
    pub(crate) request: Option<String>,
    /// How often it failed.
    pub(crate) attempts: u32,
    /// Why it did the last time.
    pub(crate) error: Option<String>,
    /// When it is tried again.
    pub(crate) next_try: Option<Timestamp>,
}

impl CertificateWait {
    /// What it is after this.
    fn after(before: Option<Self>, event: &RotationEvent) -> Option<Self> {
        let known = before.unwrap_or_else(|| Self {
            since: Timestamp::now(),
            request: None,
            attempts: 0,
            error: None,
            next_try: None,
        });
        match event {
            RotationEvent::Current(_) | RotationEvent::Replaced { .. } => None,
            RotationEvent::Asked { request } => {
                Some(Self { request: Some(request.clone()), error: None, next_try: None, ..known })
            }
            RotationEvent::Failed { error, next_try } => Some(Self {
                request: None,
                attempts: known.attempts.saturating_add(1),
                error: Some(error.clone()),
                next_try: Some(*next_try),
                ..known
            }),
        }
    }
}

impl IdentityMetrics {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let never = || AtomicI64::new(NEVER);
        let waits = watch::Sender::default();
        Arc::new(Self {
            metrics,
            client_until: never(),
            serving_until: never(),
            plugin_until: never(),
            waits,
        })
    }

    /// Which certificates are waited for.
    pub(crate) fn waits(&self) -> watch::Receiver<CertificateWaits> {
        self.waits.subscribe()
    }

    /// All of the node's metrics.
    pub(crate) fn all(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Hears from connections.
    pub(crate) fn observer(self: &Arc<Self>) -> Observer<CredentialEvent> {
        let this = self.clone();
        Observer::new(move |event| match event {
            CredentialEvent::Client(event) => this.client(&event),
            CredentialEvent::First(event) => this.client_waits(&event),
            CredentialEvent::Plugin(event) => this.plugin(event),
        })
    }

    /// Until when certificates hold, of those that expire.
    pub(crate) fn expiries(&self) -> Vec<(&'static str, Timestamp)> {
        let all = [
            ("client", &self.client_until),
            ("serving", &self.serving_until),
            ("plugin's client", &self.plugin_until),
        ];
        let known = all.into_iter().map(|(name, until)| (name, until.load(Ordering::Relaxed)));
        known
            .filter(|(_, until)| *until != NEVER)
            .filter_map(|(name, until)| Some((name, Timestamp::from_second(until).ok()?)))
            .collect()
    }

    /// Sets the gauges that change with the time.
    pub(crate) fn publish(&self) {
        let now = Timestamp::now().as_second();
        let left = |until: &AtomicI64| match until.load(Ordering::Relaxed) {
            NEVER => f64::INFINITY,
            // Seconds, far below what a float holds exactly.
            until => (until - now) as f64,
        };
        // Only what is rotated is on the page.
        for (gauge, until) in [
            (&self.metrics.certificate_client_ttl, &self.client_until),
            (&self.metrics.certificate_server_ttl, &self.serving_until),
        ] {
            if !gauge.is_empty() {
                gauge.with([]).set(left(until));
            }
        }
        self.metrics.exec_plugin_ttl.set(left(&self.plugin_until));
    }

    /// Puts what is counted of the serving certificate on the page: it is rotated.
    fn serving_rotates(&self) {
        self.metrics.certificate_server_ttl.with([]);
        self.metrics.certificate_server_rotation_age.with([]);
        self.metrics.certificate_server_renew_errors.with([]);
    }

    fn client_rotates(&self) {
        self.metrics.certificate_client_ttl.with([]);
        self.metrics.certificate_client_renew_errors.with([]);
    }

    /// There is a connection: whatever it needed is there.
    fn first_is_there(&self) {
        self.waits.send_modify(|waits| waits.client = None);
    }

    fn client_waits(&self, event: &RotationEvent) {
        self.waits.send_modify(|waits| waits.client = CertificateWait::after(waits.client.take(), event));
    }

    fn client(&self, event: &RotationEvent) {
        self.client_waits(event);
        match event {
            RotationEvent::Current(pair) => {
                self.client_until.store(pair.leaf().not_after.as_second(), Ordering::Relaxed);
            }
            RotationEvent::Replaced { .. } | RotationEvent::Asked { .. } => {}
            RotationEvent::Failed { .. } => self.metrics.certificate_client_renew_errors.with([]).increment(),
        }
    }

    fn serving(&self, event: &RotationEvent) {
        self.waits.send_modify(|waits| waits.serving = CertificateWait::after(waits.serving.take(), event));
        match event {
            RotationEvent::Current(pair) => {
                self.serving_until.store(pair.leaf().not_after.as_second(), Ordering::Relaxed);
            }
            RotationEvent::Replaced { age } => {
                self.metrics.certificate_server_rotation_age.with([]).observe(age.as_secs_f64());
            }
            RotationEvent::Asked { .. } => {}
            RotationEvent::Failed { .. } => self.metrics.certificate_server_renew_errors.with([]).increment(),
        }
    }

    fn plugin(&self, event: ExecPluginEvent) {
        match event {
            ExecPluginEvent::Called { code, status } => {
                self.metrics.exec_plugin_calls.with([status, &code.to_string()]).increment();
            }
            ExecPluginEvent::Certificate(until) => {
                self.plugin_until.store(until.as_second(), Ordering::Relaxed)
            }
            ExecPluginEvent::Replaced(age) => {
                self.metrics.exec_plugin_certificate_age.observe(age.as_secs_f64());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use telemetry::metrics::{Endpoint, Exposition};

    use super::*;

    #[test]
    fn what_is_not_in_use_never_expires_and_failures_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let counted = IdentityMetrics::new(metrics.clone());
        counted.publish();
        let mut page = Exposition::new();
        metrics.write(Endpoint::Main, &mut page).unwrap();
        let text = page.into_text();
        for family in ["kubelet_certificate_manager_", "kubelet_server_expiration_renew_errors"] {
            assert!(!text.contains(family), "nothing is rotated: {text}");
        }
        counted.client_rotates();
        counted.serving_rotates();
        counted.client(&RotationEvent::Failed { error: "refused".to_owned(), next_try: Timestamp::now() });
        counted.serving(&RotationEvent::Replaced { age: Duration::from_secs(61) });
        counted.plugin(ExecPluginEvent::Called { code: 3, status: "plugin_execution_error" });
        counted.plugin_until.store(Timestamp::now().as_second() - 100, Ordering::Relaxed);
        counted.publish();
        let mut page = Exposition::new();
        metrics.write(Endpoint::Main, &mut page).unwrap();
        let text = page.into_text();
        for line in [
            "kubelet_certificate_manager_client_ttl_seconds +Inf",
            "kubelet_certificate_manager_server_ttl_seconds +Inf",
            "kubelet_certificate_manager_client_expiration_renew_errors 1",
            "kubelet_certificate_manager_server_rotation_seconds_bucket{le=\"3600\"} 1",
            "rest_client_exec_plugin_call_total{call_status=\"plugin_execution_error\",code=\"3\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains("rest_client_exec_plugin_ttl_seconds -10"), "expired a while ago");
    }

    #[test]
    fn a_certificate_is_waited_for_until_it_is_there() {
        let counted = IdentityMetrics::new(Arc::default());
        let waits = counted.waits();
        let failed = || RotationEvent::Failed { error: "refused".to_owned(), next_try: Timestamp::now() };
        counted.client(&failed());
        counted.client(&failed());
        let first = waits.borrow().client.clone().unwrap();
        assert_eq!((first.attempts, first.error.as_deref()), (2, Some("refused")));
        counted.client(&RotationEvent::Asked { request: "csr-1".to_owned() });
        let asked = waits.borrow().client.clone().unwrap();
        assert_eq!((asked.since, asked.request.as_deref()), (first.since, Some("csr-1")));
        assert_eq!((asked.error, asked.next_try), (None, None));
        assert!(waits.borrow().serving.is_none());
        counted.first_is_there();
        assert!(waits.borrow().client.is_none());
    }

    #[test]
    fn only_other_addresses_ask_for_another_certificate() {
        let (template, mut wanted) = watch::channel(None);
        let names = ServingNames { node_name: "n".into(), allows_dns_only: false, template };
        let node = |ip: &str| {
            let json = serde_json::json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}});
            serde_json::from_value(json).unwrap()
        };
        names.observe(&k8s_openapi::api::core::v1::Node::default());
        assert!(!wanted.has_changed().unwrap());
        names.observe(&node("10.0.0.1"));
        assert!(wanted.has_changed().unwrap());
        assert!(wanted.borrow_and_update().is_some());
        names.observe(&node("10.0.0.1"));
        assert!(!wanted.has_changed().unwrap());
        names.observe(&node("10.0.0.2"));
        assert!(wanted.has_changed().unwrap());
    }
}
