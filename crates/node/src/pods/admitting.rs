//! Lets waiting pods in, oldest first, each seeing the ones before it.

use model::{AllocatedPod, Pod, PodUid, pod};

use crate::admission::{self, AdmissionContext};
use crate::cx::{Cx, NodeState};
use crate::effect::{EventObject, EventRecord};
use crate::input::Source;
use crate::node_status::NodeDescription;
use crate::pods::life::EndCause;
use crate::pods::record::{Desired, PodRecord};
use crate::pods::registry::PodRegistry;
use crate::status;
use crate::wait::WaitOn;

/// Decides about every pod that waits to be let in and can be decided about.
pub(crate) fn admit_waiting(pods: &mut PodRegistry, cx: &mut Cx<'_>) {
    grant_to_found(pods, cx);
    let Some(node) = cx.node.description() else { return };
    let mut waiting: Vec<(Option<jiff::Timestamp>, PodUid)> = pods
        .dirty()
        .filter(|p| {
            p.life.is_admitting()
                && p.desired.is_present()
                && p.seen.is_fresh()
                && knows_enough_of_runtime(p, cx.node)
        })
        .map(|p| {
            (p.desired.pod().and_then(|pod| Some(pod.metadata.creation_timestamp.as_ref()?.0)), p.uid.clone())
        })
        .collect();
    waiting.sort();
    for (_, uid) in waiting {
        admit_one(pods, &uid, node, cx);
    }
}

/// Pods that an earlier process let in are never turned away, and have what they had before anybody else is let in.
fn grant_to_found(pods: &mut PodRegistry, cx: &mut Cx<'_>) {
    let is_found = |p: &&PodRecord| {
        let pod = p.desired.pod();
        p.life.was_admitted() && !p.granted.is_any() && pod.is_some_and(|pod| !is_over(pod))
    };
    let found: Vec<PodUid> = pods.dirty().filter(is_found).map(|p| p.uid.clone()).collect();
    for uid in found {
        if let Some(mut record) = pods.get_mut(&uid) {
            record.grant(cx);
        }
    }
}

/// Whether the API server was told that it is over.
fn is_over(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(status::is_terminal)
}

/// Whether the runtime has said what it can do, as far as the decision hangs on it.
fn knows_enough_of_runtime(record: &PodRecord, node: NodeState<'_>) -> bool {
    !record.desired.pod().is_some_and(|pod| admission::has_strict_groups(pod))
        || node.has_strict_groups().is_some()
}

/// What a pod that is not let in yet waits for.
pub(crate) fn admission_wait(
    pods: &PodRegistry,
    uid: &PodUid,
    missing: Vec<Source>,
    node: NodeState<'_>,
) -> Option<WaitOn> {
    let record = pods.get(uid).filter(|record| record.life.is_admitting())?;
    if record.seen.is_to_be_read() {
        // That is what it waits for.
        None
    } else if record.seen.last().is_none() {
        Some(WaitOn::FirstRelist)
    } else if !record.desired.is_present() {
        // Nobody has said yet that it is wanted.
        (!missing.is_empty()).then_some(WaitOn::Sources(missing))
    } else if node.description().is_none() {
        Some(WaitOn::Measurement)
    } else if !knows_enough_of_runtime(record, node) {
        Some(WaitOn::RuntimeStatus)
    } else {
        predecessor(pods, record).map(|other| WaitOn::Predecessor(other.uid.clone()))
    }
}

fn admit_one(pods: &mut PodRegistry, uid: &PodUid, node: NodeDescription<'_>, cx: &mut Cx<'_>) {
    let Some(record) = pods.get(uid) else { return };
    let Some(pod) = record.desired.pod().cloned() else { return };
    if predecessor(pods, record).is_some() {
        return;
    }
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let is_over = is_over(&pod);
    let is_deleted = pod.metadata.deletion_timestamp.is_some();
    let is_let_in = is_over || is_deleted || record.life.was_admitted();
    let verdict = match record.offer(cx).pod(&pod).filter(|_| !is_let_in) {
        Some(offered) => judge(pods, &offered, node, cx),
        None => Ok(()),
    };
    let Some(mut record) = pods.get_mut(uid) else { return };
    match verdict {
        Ok(()) => {
            if !record.granted.is_any() {
                record.grant(cx);
            }
            record.life.admit(started.unwrap_or(model::time::to_seconds(cx.now.wall)));
            if is_over && !record.desired.is_static() {
                record.begin_end(EndCause::Completed, cx);
            }
            if is_deleted {
                record.begin_end(EndCause::Deleted, cx);
            }
        }
        Err(rejection) => reject(&mut record, rejection, cx),
    }
}

fn reject(record: &mut PodRecord, rejection: admission::Rejection, cx: &mut Cx<'_>) {
    // The event tells the reason bare; only the status has the prefix.
    cx.out.record(EventRecord {
        about: EventObject::Pod { key: record.key.clone(), uid: record.uid.clone(), field_path: None },
        is_warning: true,
        reason: rejection.reason.to_string().into(),
        message: rejection.message.clone(),
    });
    record.life.reject(rejection);
}

/// A static pod that was edited has a new uid and the old name: the old one ends first. Nor do two
/// of one name from two sources run at once: the second waits for the end of the first.
fn predecessor<'a>(pods: &'a PodRegistry, record: &PodRecord) -> Option<&'a PodRecord> {
    if !record.desired.is_static() {
        return None;
    }
    pods.named(&record.key).find(|other| {
        let is_first = match other.desired {
            Desired::Present { .. } => other.desired.is_static() && !other.life.is_admitting(),
            Desired::Removed { .. } | Desired::Orphan => true,
        };
        other.uid != record.uid && is_first && !other.life.has_ended()
    })
}

fn judge(
    pods: &PodRegistry,
    pod: &AllocatedPod,
    node: NodeDescription<'_>,
    cx: &Cx<'_>,
) -> Result<(), admission::Rejection> {
    let labels = cx.node.labels();
    admission::admit(
        pod,
        &AdmissionContext {
            settings: cx.settings,
            machine: node.machine,
            allocatable: &node.resources().allocatable(),
            labels: &labels,
            taints: cx.node.taints(),
            has_strict_groups: cx.node.has_strict_groups().unwrap_or(false),
            is_static: pod::is_static(pod),
            ledger: pods.ledger(),
            pressures: cx.node.pressures,
        },
    )
}
