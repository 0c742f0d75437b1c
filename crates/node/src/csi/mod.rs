//! CSI drivers that have registered, and what the Node object and the CSINode object say of them.
//!
//! The CSINode object is made as soon as there is a Node, drivers or not, and the node is not ready before that. Both objects
//! are compared with what they should say, and written one after the other, one driver at a time: what the API server does
//! not accept of one driver is that driver's matter and holds up no other.

mod objects;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_openapi::api::storage::v1::CSINode;
use model::storage::{CsiDriver, CsiDriverObject};
use model::{MetadataChange, Now};
use serde::{Deserialize, Serialize};

use crate::cx::{Cx, NodeState};
use crate::effect::{ApiAction, ApiOutcome, CsiNodeInfo, FailureKind, Outcome, PluginAction, PluginOutcome};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::schedule::earliest;
use crate::settings::Settings;
use crate::tasks::{NodeTask, Owner};
use crate::volumes::Drivers;
use crate::wait::{Found, WaitOn};

pub(crate) use objects::{MIGRATED_ANNOTATION, NODE_ID_ANNOTATION};

const TASK: Owner = Owner::Node(NodeTask::CsiNode);
/// Short at first: mostly somebody else has written in between.
const PAUSES: Pauses = Pauses { initial: Duration::from_millis(10), max: Duration::from_secs(10) };

/// For how long an API server may go on with a request that nobody waits for any more.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// The drivers, and what is known of the objects that tell of them. What the Node object says is known to the lifecycle.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct CsiDrivers {
    drivers: BTreeMap<String, Driver>,
    /// Those that are gone, of which the objects may still tell, or tell again: a write that nobody waits for any more may come
    /// late.
    gone: BTreeSet<String>,
    /// The cluster's CSIDriver objects.
    objects: DriverObjects,
    /// Whether they were listed.
    are_objects_listed: bool,
    /// The drivers as volumes are made by them.
    callable: Arc<Drivers>,
    csi_node: Read,
    /// Whether this process has read it.
    has_read: bool,
    /// Whether the CSINode object was once as it has to be.
    is_initialized: bool,
    writing: Option<Writing>,
    retry: Option<Retry>,
    /// Monotonic time at which the CSINode object is read again: a write of which nobody knows how it ended, one of an earlier
    /// process or one that failed, may still have come after the last read.
    read_again_at: Option<Duration>,
}

/// A driver that works for this node.
#[derive(Debug, Serialize, Deserialize)]
struct Driver {
    /// Where it has registered.
    socket: String,
    /// Where it works.
    endpoint: String,
    info: CsiNodeInfo,
    /// Why the API server does not have it.
    refusal: Option<String>,
    /// Monotonic time at which it is asked again.
    ask_at: Option<Duration>,
    /// Whether it is being asked: an answer may also be that of one whose place it has taken.
    is_asked: bool,
}

/// The CSINode object as it was last read or written.
#[derive(Debug, Default, Serialize, Deserialize)]
enum Read {
    /// Not, or it may be another by now.
    #[default]
    Due,
    /// `None`: there was none.
    As(Option<Arc<CSINode>>),
}

/// What is being written of which driver.
#[derive(Debug, Serialize, Deserialize)]
struct Writing {
    driver: String,
    /// The Node object, not the CSINode.
    is_node: bool,
}

/// Whether the node can be ready, as far as its storage goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StorageState {
    /// The CSINode object is not there yet, as far as is known.
    #[default]
    Pending,
    /// It could not be made.
    Failed(String),
    /// It is there, or there is no API server.
    Ready,
}

impl StorageState {
    /// Why the node is not ready, in upstream's words.
    pub(crate) fn error(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Pending => Some(Cow::Borrowed("CSINode is not yet initialized")),
            Self::Failed(error) => Some(Cow::Owned(format!(
                "failed to initialize CSINode: error updating CSINode annotation: timed out waiting for the condition; \
                 caused by: {error}"
            ))),
            Self::Ready => None,
        }
    }
}

impl CsiDrivers {
    /// Tests that are not about CSI begin with a CSINode object that is there.
    #[cfg(test)]
    pub(crate) fn initialized() -> Self {
        Self { is_initialized: true, ..Self::default() }
    }

    // ---- what is known ----

    /// A driver has said what it calls the node. It takes the place of another one of its name.
    pub(crate) fn register(
        &mut self,
        driver: &str,
        socket: &str,
        endpoint: &str,
        info: CsiNodeInfo,
        now: Now,
    ) {
        self.gone.remove(driver);
        let (socket, endpoint) = (socket.to_owned(), endpoint.to_owned());
        let ask_at = next_question(&self.objects, driver, now);
        let (refusal, is_asked) = (None, false);
        self.drivers.insert(driver.to_owned(), Driver { socket, endpoint, info, refusal, ask_at, is_asked });
        self.refresh_callable();
    }

    /// What has registered at this socket is gone. Nothing happens when another one has taken its place.
    pub(crate) fn deregister(&mut self, driver: &str, socket: &str) {
        if self.drivers.get(driver).is_some_and(|known| known.socket == socket) {
            self.drivers.remove(driver);
            self.gone.insert(driver.to_owned());
            self.refresh_callable();
        }
    }

    /// Whether there is a driver of that name.
    pub(crate) fn has(&self, driver: &str) -> bool {
        self.drivers.contains_key(driver)
    }

    /// Why a driver that has registered cannot be had.
    pub(crate) fn refusal(&self, driver: &str, node: NodeState<'_>) -> Option<String> {
        let known = self.drivers.get(driver)?;
        let collision = || {
            let collision = objects::collision(node.object?, &known.info)?;
            Some(of_node(&collision))
        };
        known.refusal.clone().or_else(collision)
    }

    /// Whether both objects tell of the driver.
    pub(crate) fn is_installed(&self, driver: &str, node: NodeState<'_>) -> bool {
        let (Some(known), Some(node), Read::As(Some(csi_node))) =
            (self.drivers.get(driver), node.object, &self.csi_node)
        else {
            return false;
        };
        objects::node_with(node, driver, &known.info).is_none()
            && objects::csi_node_with(csi_node, driver, &known.info).is_none()
    }

    /// The cluster's CSIDriver objects were listed, or have changed.
    pub(crate) fn objects_listed(&mut self, objects: DriverObjects, now: Now) {
        let before = std::mem::replace(&mut self.objects, objects);
        let objects = &self.objects;
        for (name, driver) in &mut self.drivers {
            if period(&before, name) != period(objects, name) {
                driver.ask_at = next_question(objects, name, now);
            }
        }
        self.are_objects_listed = true;
        self.refresh_callable();
    }

    /// The drivers that have registered, as volumes are made by them, and what the cluster says of drivers.
    pub(crate) fn callable(&self) -> &Arc<Drivers> {
        &self.callable
    }

    fn refresh_callable(&mut self) {
        let callable = |(name, driver): (&String, &Driver)| {
            let object = self.objects.get(name).cloned().unwrap_or_default();
            let endpoint = driver.endpoint.clone();
            let capabilities = driver.info.capabilities;
            (name.clone(), CsiDriver { name: name.clone(), endpoint, capabilities, object })
        };
        let objects = self.are_objects_listed.then(|| self.objects.clone());
        let callable = self.drivers.iter().map(callable).collect();
        self.callable = Arc::new(Drivers { callable, objects });
    }

    /// A driver was asked again. What it said before holds when it cannot tell.
    pub(crate) fn asked_again(&mut self, driver: &str, outcome: Outcome) {
        let Some(driver) = self.drivers.get_mut(driver) else { return };
        let is_its = std::mem::take(&mut driver.is_asked);
        if let (true, Outcome::Plugin(PluginOutcome::NodeInfo(info))) = (is_its, outcome) {
            driver.info = info;
            self.refresh_callable();
        }
    }

    /// Whether the node can be ready.
    pub(crate) fn state(&self, settings: &Settings) -> StorageState {
        match &self.retry {
            _ if self.is_initialized || !settings.has_api => StorageState::Ready,
            Some(retry) => StorageState::Failed(retry.error.clone()),
            None => StorageState::Pending,
        }
    }

    // ---- what is done about it ----

    /// Asks drivers again whose time has come, and writes what differs.
    pub(crate) fn drive(&mut self, cx: &mut Cx<'_>) {
        self.ask_again(cx);
        if cx.node.uid().is_none() {
            // There is nothing to tell of them on, and what there was goes with the Node.
            (self.csi_node, self.has_read) = (Read::Due, false);
            (self.retry, self.read_again_at) = (None, None);
            return;
        }
        let is_due = self.retry.as_ref().is_none_or(|retry| retry.next_at <= cx.now.mono);
        if !cx.settings.has_api || cx.out.is_open(&TASK) || !is_due {
            return;
        }
        if self.read_again_at.is_some_and(|at| at <= cx.now.mono) {
            (self.csi_node, self.read_again_at) = (Read::Due, None);
        }
        let Some((action, writing)) = self.next_write(&cx.settings.node_name, cx.node) else { return };
        self.writing = writing;
        cx.out.start(TASK, action);
    }

    fn ask_again(&mut self, cx: &mut Cx<'_>) {
        let objects = &self.objects;
        for (name, driver) in &mut self.drivers {
            let owner = Owner::CsiDriver(name.clone());
            if driver.ask_at.is_none_or(|at| at > cx.now.mono) || cx.out.is_open(&owner) {
                continue;
            }
            driver.is_asked = true;
            driver.ask_at = next_question(objects, name, cx.now);
            let action =
                PluginAction::NodeGetInfo { driver: name.clone(), endpoint: driver.endpoint.clone() };
            cx.out.start(owner, action);
        }
    }

    /// What has to be read or written next, if anything.
    fn next_write(&mut self, name: &str, node: NodeState<'_>) -> Option<(ApiAction, Option<Writing>)> {
        let (node, uid) = (node.object?, node.uid()?);
        let csi_node = match &self.csi_node {
            Read::Due => return Some((ApiAction::ReadCsiNode, None)),
            Read::As(None) => return Some((write(objects::new_csi_node(name, uid)), None)),
            Read::As(Some(object)) => object.clone(),
        };
        if !objects::is_owned(&csi_node, name, uid) {
            let uid = csi_node.metadata.uid.clone().unwrap_or_default();
            return Some((ApiAction::DeleteCsiNode { uid }, None));
        }
        if let Some(object) = objects::annotated(&csi_node) {
            return Some((write(object), None));
        }
        self.is_initialized = true;
        let wanted = self.drivers.iter().filter(|(_, driver)| driver.refusal.is_none());
        // The Node first: who reads in the CSINode by which labels the driver tells nodes apart is to find them.
        let coming = wanted.into_iter().find_map(|(name, driver)| {
            let of_node =
                objects::node_with(node, name, &driver.info).map(|metadata| on_node(name, metadata));
            of_node.or_else(|| {
                objects::csi_node_with(&csi_node, name, &driver.info).map(|object| on_csi_node(name, object))
            })
        });
        coming.or_else(|| self.next_removal(node, &csi_node))
    }

    fn next_removal(&self, node: &ApiNode, csi_node: &CSINode) -> Option<(ApiAction, Option<Writing>)> {
        self.gone.iter().find_map(|name| {
            let of_csi_node =
                objects::csi_node_without(csi_node, name).map(|object| on_csi_node(name, object));
            of_csi_node.or_else(|| objects::node_without(node, name).map(|metadata| on_node(name, metadata)))
        })
    }

    /// Takes in what came of a read or a write.
    pub(crate) fn finished(&mut self, outcome: Outcome, now: Now) {
        let writing = self.writing.take();
        let error = match outcome {
            Outcome::Api(ApiOutcome::CsiNode(object)) => {
                if !std::mem::replace(&mut self.has_read, true) {
                    self.read_again_at = Some(now.after(REQUEST_TIME));
                }
                self.csi_node = Read::As(object);
                self.retry = None;
                return;
            }
            Outcome::Api(ApiOutcome::Node(_)) => {
                self.retry = None;
                return;
            }
            // It was deleted.
            Outcome::Done => {
                self.csi_node = Read::As(None);
                self.retry = None;
                return;
            }
            Outcome::Failed(failure) if failure.kind == FailureKind::Rejected => {
                let driver = writing.as_ref().and_then(|writing| self.drivers.get_mut(&writing.driver));
                if let (Some(driver), Some(writing)) = (driver, &writing) {
                    let text = if writing.is_node { of_node } else { of_csi_node };
                    driver.refusal = Some(text(&failure.message));
                    return;
                }
                failure.message
            }
            Outcome::Failed(failure) => failure.message,
            _ => "it does not exist any more".to_owned(),
        };
        (self.csi_node, self.read_again_at) = (Read::Due, Some(now.after(REQUEST_TIME)));
        self.retry = Some(Retry::after(self.retry.as_ref(), error, PAUSES, now));
    }

    /// When [`CsiDrivers::drive`] has something to do by itself; monotonic.
    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        let retry_at = self.retry.as_ref().map(|retry| retry.next_at).or(self.read_again_at);
        let retry_at = retry_at.filter(|_| !out.is_open(&TASK));
        let asked = |name: &String| out.is_open(&Owner::CsiDriver(name.clone()));
        let waiting = self.drivers.iter().filter(|(name, _)| !asked(name));
        earliest(retry_at, waiting.filter_map(|(_, driver)| driver.ask_at).min())
    }

    /// Finds what of the objects is not as it has to be.
    pub(crate) fn find_waits(&self, out: &Outbox, found: &mut Found) {
        if out.is_open(&TASK) || self.retry.is_some() {
            found.retrying(WaitOn::CsiNode, self.retry.as_ref());
            found.add(WaitOn::CsiNode).since = out.since(&TASK).unwrap_or_default();
        }
    }
}

type DriverObjects = BTreeMap<String, CsiDriverObject>;

fn period(objects: &DriverObjects, driver: &str) -> Option<Duration> {
    objects.get(driver)?.allocatable_update_period
}

/// When a driver is to be asked again how many volumes the node can have.
fn next_question(objects: &DriverObjects, driver: &str, now: Now) -> Option<Duration> {
    period(objects, driver).map(|period| now.after(period))
}

fn write(object: CSINode) -> ApiAction {
    ApiAction::WriteCsiNode { object: Box::new(object) }
}

fn on_csi_node(driver: &str, object: CSINode) -> (ApiAction, Option<Writing>) {
    (write(object), Some(Writing { driver: driver.to_owned(), is_node: false }))
}

fn on_node(driver: &str, metadata: MetadataChange) -> (ApiAction, Option<Writing>) {
    let action = ApiAction::WriteNodeMetadata { metadata };
    (action, Some(Writing { driver: driver.to_owned(), is_node: true }))
}

/// Upstream's words for a Node object that cannot be written.
pub(crate) fn of_node(error: &str) -> String {
    format!(
        "error updating Node object with CSI driver node info: error updating node: timed out waiting for the condition; \
         caused by: {error}"
    )
}

/// The same for a CSINode object.
fn of_csi_node(error: &str) -> String {
    format!(
        "error updating CSINode object with CSI driver node info: error updating CSINode: timed out waiting for the \
         condition; caused by: {error}"
    )
}

#[cfg(test)]
mod tests;
