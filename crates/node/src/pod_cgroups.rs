//! A resync of what pods' cgroups have (`syncFrequency`): others may write to them, and a pod's status tells what is in effect
//! (KEP-5419). All are read in one action, so that a node at rest wakes up for it once.

use std::time::Duration;

use model::{QosClass, pod};
use serde::{Deserialize, Serialize};

use crate::cx::Cx;
use crate::effect::{HostAction, Outcome};
use crate::outbox::Outbox;
use crate::pods::record::PodRecord;
use crate::pods::registry::PodRegistry;
use crate::settings::Settings;
use crate::tasks::{NodeTask, Owner};

const TASK: Owner = Owner::Node(NodeTask::PodCgroups);

/// When the cgroups of pods are read again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PodCgroups {
    /// Monotonic; `None` where no status tells of them.
    next_at: Option<Duration>,
}

impl PodCgroups {
    /// The first time is one interval after the start: until then what was read when they were made is new enough.
    pub(crate) fn new(settings: &Settings) -> Self {
        let is_told = settings.gates.grants_pod_level_resources;
        Self { next_at: is_told.then_some(settings.resync_interval) }
    }

    /// Reads them when that is due.
    pub(crate) fn drive(&mut self, pods: &PodRegistry, cx: &mut Cx<'_>) {
        if self.next_deadline(cx.out).is_none_or(|at| at > cx.now.mono) {
            return;
        }
        self.next_at = Some(cx.now.after(cx.settings.resync_interval));
        let all: Vec<_> =
            pods.iter().filter_map(|record| Some((record.uid.clone(), class(record)?))).collect();
        if !all.is_empty() {
            cx.out.start(TASK, HostAction::ReadPodCgroups { pods: all });
        }
    }

    /// When [`PodCgroups::drive`] has something to do; monotonic.
    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        self.next_at.filter(|_| !out.is_open(&TASK))
    }

    /// Takes in what they have. One that could not be read has what it had.
    pub(crate) fn finished(outcome: Outcome, pods: &mut PodRegistry) {
        let Outcome::PodCgroups(found) = outcome else { return };
        for (uid, has) in found {
            let had = pods.get(&uid).and_then(|record| record.life.running()?.limits);
            if had.is_none_or(|had| had == has) {
                continue;
            }
            if let Some(mut record) = pods.get_mut(&uid)
                && let Some(running) = record.life.running_mut()
            {
                running.limits = Some(has);
            }
            pods.mark(uid);
        }
    }
}

/// The class of a pod whose status tells what its cgroup has: one that is to run and has a cgroup.
fn class(record: &PodRecord) -> Option<QosClass> {
    record.life.running()?.limits?;
    let pod = record.desired.pod()?;
    (!pod::is_static(pod)).then(|| QosClass::of(pod))
}
