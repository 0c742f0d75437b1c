//! The node's heartbeat: a Lease renewed again and again.
//!
//! While it is renewed the node is alive for the control plane, whatever else goes wrong, so this
//! runs on the heartbeat client and depends on nothing else of the node.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use model::chain;
use tokio::sync::watch;

use crate::call::{Cause, Purpose, RequestError, call};
use crate::node::get_node;
use crate::watch::retry_pause;

/// Where nodes' leases live.
const NAMESPACE: &str = "kube-node-lease";
/// Renewals are spread by up to this part of their interval.
const JITTER: f64 = 0.04;
/// First and longest pause between attempts of a renewal that fails.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(7);

/// Whose lease, and how long it holds.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// The Node's name, which is also the lease's and its holder's.
    pub node_name: String,
    /// `nodeLeaseDurationSeconds`, 40 by default. It is renewed four times as often.
    pub duration_seconds: u32,
}

/// How renewals go.
#[derive(Clone, Debug, Default)]
pub struct LeaseState {
    /// When the last succeeded; `None` when none has.
    pub renewed: Option<Timestamp>,
    /// Those that failed since.
    pub failure: Option<LeaseFailure>,
}

/// Renewals that failed.
#[derive(Clone, Debug)]
pub struct LeaseFailure {
    /// When the first of them did.
    pub since: Timestamp,
    /// How many they are.
    pub attempts: u32,
    /// Why the last did.
    pub error: String,
    /// When it is tried again.
    pub next_try: Timestamp,
}

impl LeaseState {
    fn failed(&mut self, error: &RequestError, pause: Duration) {
        let now = Timestamp::now();
        let before = self.failure.as_ref();
        self.failure = Some(LeaseFailure {
            since: before.map_or(now, |failure| failure.since),
            attempts: before.map_or(0, |failure| failure.attempts).saturating_add(1),
            error: chain(error),
            next_try: now + pause,
        });
    }
}

/// Renews the lease until its future is dropped.
pub struct LeaseRenewerTask {
    client: Client,
    state: watch::Sender<LeaseState>,
    settings: LeaseSettings,
    /// As we wrote it last; renewing it needs no read.
    latest: Option<Lease>,
    is_failing: bool,
}

impl LeaseRenewerTask {
    /// `client` should be [`crate::Connection::heartbeat`].
    pub fn new(client: Client, settings: LeaseSettings) -> Self {
        Self { client, state: watch::Sender::default(), settings, latest: None, is_failing: false }
    }

    /// Tells how renewals go.
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.state.subscribe()
    }

    /// Creates the lease if need be and renews it, for ever.
    pub async fn run(mut self) {
        let interval = Duration::from_secs(u64::from(self.settings.duration_seconds.max(4))) / 4;
        let mut failures = 0;
        loop {
            match self.renew().await {
                Ok(()) => {
                    failures = 0;
                    self.state.send_replace(LeaseState { renewed: Some(Timestamp::now()), failure: None });
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!(node = self.settings.node_name, "Renewed node lease after failures");
                    }
                    tokio::time::sleep(interval.mul_f64(1.0 + JITTER * fastrand::f64())).await;
                }
                Err(error) => {
                    if is_early(&error) {
                        tracing::debug!(
                            error = chain(&error),
                            "Failed to create node lease, the node is not registered yet"
                        );
                    } else if std::mem::replace(&mut self.is_failing, true) {
                        tracing::debug!(error = chain(&error), "Failed to renew node lease again");
                    } else {
                        tracing::error!(
                            error = chain(&error),
                            node = self.settings.node_name,
                            "Failed to renew node lease, will retry"
                        );
                    }
                    let pause = retry_pause(failures, RETRY_FIRST, RETRY_MAX.min(interval));
                    let pause = pause.max(error.retry_after().unwrap_or_default());
                    self.state.send_modify(|state| state.failed(&error, pause));
                    tokio::time::sleep(pause).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// One renewal: PUT of what we wrote last. Somebody else's write or a deletion costs one more round.
    async fn renew(&mut self) -> Result<(), RequestError> {
        for _ in 0..2 {
            let base = match self.latest.take() {
                Some(lease) => Some(lease),
                None => self.read().await?,
            };
            match self.write(base).await {
                Ok(lease) => {
                    self.latest = Some(lease);
                    return Ok(());
                }
                // Gone, written by somebody, or created by somebody: read it and try once more.
                Err(error) if error.is_not_found() || error.is_conflict() || error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        let base = self.read().await?;
        self.latest = Some(self.write(base).await?);
        Ok(())
    }

    async fn read(&self) -> Result<Option<Lease>, RequestError> {
        let request = leases().get(&self.settings.node_name, &GetParams::default());
        match call(&self.client, &self.purpose("get lease"), request).await {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, base: Option<Lease>) -> Result<Lease, RequestError> {
        let owned = base.as_ref().is_some_and(has_owner);
        let owner = if owned { None } else { self.owner(base.is_none()).await? };
        let name = &self.settings.node_name;
        let (purpose, request) = match base {
            Some(lease) => {
                let purpose = self.purpose("renew lease");
                let lease = renewed(lease, &self.settings, owner, Timestamp::now());
                let body = serde_json::to_vec(&lease).map_err(|error| purpose.build(error))?;
                (purpose, leases().replace(name, &PostParams::default(), body))
            }
            None => {
                let purpose = self.purpose("create lease");
                let lease = renewed(new_lease(name), &self.settings, owner, Timestamp::now());
                let body = serde_json::to_vec(&lease).map_err(|error| purpose.build(error))?;
                (purpose, leases().create(&PostParams::default(), body))
            }
        };
        call(&self.client, &purpose, request).await
    }

    /// The reference to the Node, which needs its uid. Without it a lease is not created (it
    /// would outlive the Node), but an existing one is renewed all the same.
    async fn owner(&self, is_required: bool) -> Result<Option<OwnerReference>, RequestError> {
        let name = &self.settings.node_name;
        let uid = match get_node(&self.client, name).await {
            Ok(node) => node.and_then(|node| node.metadata.uid),
            Err(error) if is_required => return Err(error),
            Err(_) => None,
        };
        match uid {
            Some(uid) => Ok(Some(OwnerReference {
                api_version: Node::API_VERSION.to_owned(),
                kind: Node::KIND.to_owned(),
                name: name.clone(),
                uid,
                ..OwnerReference::default()
            })),
            None if is_required => Err(self.purpose("create lease").build(NoNode)),
            None => Ok(None),
        }
    }

    fn purpose(&self, operation: &'static str) -> Purpose {
        Purpose::new(operation, format!("{NAMESPACE}/{}", self.settings.node_name))
    }
}

/// A lease needs its Node.
#[derive(Debug, thiserror::Error)]
#[error("its node is not registered yet")]
struct NoNode;

/// Whether all that is wrong is that the node is not registered, which it is about to be.
fn is_early(error: &RequestError) -> bool {
    matches!(&error.cause, Cause::Build(source) if source.is::<NoNode>())
}

fn leases() -> Request {
    Request::new(format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"))
}

fn has_owner(lease: &Lease) -> bool {
    lease.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty())
}

fn new_lease(name: &str) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec { holder_identity: Some(name.to_owned()), ..LeaseSpec::default() }),
    }
}

fn renewed(
    mut lease: Lease,
    settings: &LeaseSettings,
    owner: Option<OwnerReference>,
    now: Timestamp,
) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.lease_duration_seconds = Some(i32::try_from(settings.duration_seconds).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(now));
    if let Some(owner) = owner {
        lease.metadata.owner_references = Some(vec![owner]);
    }
    lease.metadata.managed_fields = None;
    lease
}

#[cfg(test)]
mod tests;
