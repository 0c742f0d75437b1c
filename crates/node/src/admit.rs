//! Lets waiting pods in, oldest first, each seeing the ones before it.

use model::{Now, PodUid, pod};

use crate::admission::{self, AdmissionContext};
use crate::core::{Node, context};
use crate::effect::{EventObject, EventRecord};
use crate::pods::record::{Desired, EndCause, Phase, PodRecord, Step, Terminated};

impl Node {
    /// Decides about every pod that waits to be let in and can be decided about.
    pub(crate) fn admit_waiting(&mut self, now: Now) {
        if !self.machine.is_measured() {
            return;
        }
        let mut waiting: Vec<(Option<jiff::Timestamp>, PodUid)> = self
            .pods
            .dirty()
            .filter(|p| {
                p.phase == Phase::Admitting
                    && p.desired.is_present()
                    && p.observed.is_some()
                    && !p.is_stale
                    && self.knows_enough_of_runtime(p)
            })
            .map(|p| {
                (
                    p.desired.pod().and_then(|pod| Some(pod.metadata.creation_timestamp.as_ref()?.0)),
                    p.uid.clone(),
                )
            })
            .collect();
        waiting.sort();
        for (_, uid) in waiting {
            self.admit_one(now, &uid);
        }
    }

    /// Whether the runtime has said what it can do, as far as the decision hangs on it.
    fn knows_enough_of_runtime(&self, record: &PodRecord) -> bool {
        !record.desired.pod().is_some_and(|pod| admission::has_strict_groups(pod))
            || self.machine.has_strict_groups().is_some()
    }

    fn admit_one(&mut self, now: Now, uid: &PodUid) {
        let Some(record) = self.pods.get(uid) else { return };
        let Some(pod) = record.desired.pod().cloned() else { return };
        if record.desired.is_static() && self.has_predecessor(record) {
            return;
        }
        let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        let is_over =
            matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        let is_deleted = pod.metadata.deletion_timestamp.is_some();
        let is_adopted =
            record.observed.as_ref().is_some_and(|o| !o.containers.is_empty() || !o.sandboxes.is_empty());
        let verdict = if is_over || is_deleted || is_adopted { Ok(()) } else { self.judge(record) };
        let ctx = context(now, &self.settings, &self.machine);
        let Some(mut record) = self.pods.get_mut(uid) else { return };
        match verdict {
            Ok(()) => {
                record.was_admitted = true;
                record.give(is_adopted, &mut self.out);
                record.phase = Phase::Running { since: started.unwrap_or(model::time::to_seconds(now.wall)) };
                if is_over && !record.desired.is_static() {
                    record.begin_end(EndCause::Completed, &ctx, &mut self.out);
                }
                if is_deleted {
                    record.begin_end(EndCause::Removed, &ctx, &mut self.out);
                }
            }
            Err(rejection) => {
                // The event tells the reason bare; only the status has the prefix.
                self.out.record(EventRecord {
                    about: EventObject::Pod { key: record.key.clone(), uid: uid.clone(), field_path: None },
                    is_warning: true,
                    reason: rejection.reason.to_string().into(),
                    message: rejection.message.clone(),
                });
                let message = format!("Pod was rejected: {}", rejection.message);
                record.phase = Phase::Terminated(Terminated {
                    why: EndCause::Rejected { reason: rejection.reason.to_string(), message },
                    volumes: Step::Done,
                    cgroup: Step::Done,
                    object: Step::Todo,
                    remains: None,
                    logs: None,
                });
            }
        }
    }

    /// A static pod that was edited has a new uid and the old name: the old one ends first. Nor do two
    /// of one name from two sources run at once: the second waits for the end of the first.
    fn has_predecessor(&self, record: &PodRecord) -> bool {
        self.pods.named(&record.key).any(|other| {
            let is_first = match other.desired {
                Desired::Present { .. } => other.desired.is_static() && other.phase != Phase::Admitting,
                Desired::Removed { .. } | Desired::Unknown => true,
            };
            other.uid != record.uid && is_first && !matches!(other.phase, Phase::Terminated(_))
        })
    }

    fn judge(&self, record: &PodRecord) -> Result<(), admission::Rejection> {
        let Some(pod) = record.desired.pod() else { return Ok(()) };
        let others = self.pods.iter().filter(|p| {
            p.uid != record.uid
                && p.was_admitted
                && match &p.phase {
                    Phase::Admitting | Phase::Terminated(_) => false,
                    Phase::Running { .. } | Phase::Terminating(_) => true,
                }
        });
        let active: Vec<&model::Pod> = others.filter_map(|p| p.desired.pod().map(AsRef::as_ref)).collect();
        let labels = self.machine.labels();
        admission::admit(
            pod,
            &AdmissionContext {
                node_name: &self.settings.node_name,
                labels: &labels,
                taints: self.machine.taints(),
                gates: self.settings.gates,
                has_strict_groups: self.machine.has_strict_groups().unwrap_or(false),
                is_static: pod::is_static(pod),
                active: &active,
                facts: self.machine.facts(),
                pressures: self.machine.pressures(),
            },
        )
    }
}
