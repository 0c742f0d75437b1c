//! Lets waiting pods in, oldest first, each seeing the ones before it.

use model::{PodUid, pod};

use crate::admission::{self, AdmissionContext};
use crate::cx::{Cx, NodeState};
use crate::effect::{EventObject, EventRecord};
use crate::input::Source;
use crate::node_status::NodeFacts;
use crate::pods::life::EndCause;
use crate::pods::record::{Desired, PodRecord};
use crate::pods::registry::PodRegistry;
use crate::wait::WaitOn;

/// Decides about every pod that waits to be let in and can be decided about.
pub(crate) fn admit_waiting(pods: &mut PodRegistry, cx: &mut Cx<'_>) {
    let Some(facts) = cx.node.measured else { return };
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
        admit_one(pods, &uid, facts, cx);
    }
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
    } else if node.measured.is_none() {
        Some(WaitOn::Measurement)
    } else if !knows_enough_of_runtime(record, node) {
        Some(WaitOn::RuntimeStatus)
    } else {
        predecessor(pods, record).map(|other| WaitOn::Predecessor(other.uid.clone()))
    }
}

fn admit_one(pods: &mut PodRegistry, uid: &PodUid, facts: &NodeFacts, cx: &mut Cx<'_>) {
    let Some(record) = pods.get(uid) else { return };
    let Some(pod) = record.desired.pod().cloned() else { return };
    if predecessor(pods, record).is_some() {
        return;
    }
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let is_over =
        matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
    let is_deleted = pod.metadata.deletion_timestamp.is_some();
    let is_adopted = record.seen.last().is_some_and(|o| !o.containers.is_empty() || !o.sandboxes.is_empty());
    let verdict = if is_over || is_deleted || is_adopted { Ok(()) } else { judge(pods, record, facts, cx) };
    let Some(mut record) = pods.get_mut(uid) else { return };
    match verdict {
        Ok(()) => {
            record.give(is_adopted, cx.out);
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
    record: &PodRecord,
    facts: &NodeFacts,
    cx: &Cx<'_>,
) -> Result<(), admission::Rejection> {
    let Some(pod) = record.desired.pod() else { return Ok(()) };
    let labels = cx.node.labels();
    admission::admit(
        pod,
        &AdmissionContext {
            node_name: &cx.settings.node_name,
            labels: &labels,
            taints: cx.node.taints(),
            gates: cx.settings.gates,
            has_strict_groups: cx.node.has_strict_groups().unwrap_or(false),
            is_static: pod::is_static(pod),
            occupied: pods.occupied(),
            facts,
            pressures: cx.node.pressures,
        },
    )
}
