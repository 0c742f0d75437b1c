//! State files as a write-ahead log of grants: what pods have is written down first, and what follows from it is done then,
//! so that the next process finds it whichever kubelet that is.
//!
//! Writes are committed in groups. One write of a file is under way at a time, and the next one has all that came
//! meanwhile: a hundred pods that are let in at once cost a few of them. Entries that are taken out are no reason for a
//! write, as upstream has it; the next one is without them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use checkpoints::{PodResources, PodsState};
use k8s_openapi::api::core::v1::ResourceRequirements;
use model::{Now, PodUid};
use serde::{Deserialize, Serialize};

use crate::effect::{CheckpointWrite, Outcome, StateFile, Version};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::schedule::earliest;
use crate::tasks::Owner;

/// How long a file rests after a write, for each pod in it. A write is as long as the file: without a rest, a burst of pods on
/// a full node would have the file written again and again from one end to the other. One pod on its own waits for none.
const REST_PER_POD: Duration = Duration::from_micros(100);

/// The state files that this node keeps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoints {
    allocated: Kept,
    actuated: Kept,
}

/// What is to be in one file, and how much of that is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    content: Arc<PodsState>,
    /// Of the content.
    version: Version,
    /// Pods with entries that the file on disk lacks, and the version those came with.
    unsaved: BTreeMap<PodUid, Version>,
    /// Of the write under way.
    in_flight: Option<Version>,
    retry: Option<Retry>,
    /// No write begins before, after one that went well; monotonic.
    rests_until: Duration,
    /// Pods that wait for the write of their entries.
    waiting: BTreeSet<PodUid>,
}

impl Checkpoints {
    /// What an earlier process has left in a file.
    pub(crate) fn restored(&mut self, file: StateFile, content: PodsState) {
        self.kept_mut(file).content = Arc::new(content);
    }

    /// What is written of a pod, or will be.
    pub(crate) fn entry(&self, file: StateFile, uid: &PodUid) -> Option<&Arc<PodResources>> {
        self.kept(file).content.pods.get(uid)
    }

    /// Has this written of a pod, unless it is there.
    pub(crate) fn set(&mut self, file: StateFile, uid: &PodUid, resources: &PodResources) {
        let resources = resources.canonical();
        if self.entry(file, uid).is_none_or(|held| **held != resources) {
            self.touch(file, uid, resources);
        }
    }

    /// Has this written of one of its containers.
    pub(crate) fn set_container(
        &mut self,
        file: StateFile,
        uid: &PodUid,
        name: &str,
        resources: ResourceRequirements,
    ) {
        let mut all = self.entry(file, uid).map(|held| (**held).clone()).unwrap_or_default();
        all.containers.insert(name.to_owned(), resources);
        self.set(file, uid, &all);
    }

    /// A write becomes due, with another entry.
    fn touch(&mut self, file: StateFile, uid: &PodUid, resources: PodResources) {
        let kept = self.kept_mut(file);
        kept.version.0 += 1;
        kept.unsaved.insert(uid.clone(), kept.version);
        // Copied only while a write has it.
        Arc::make_mut(&mut kept.content).pods.insert(uid.clone(), Arc::new(resources));
    }

    /// Leaves a pod out from the next write on.
    pub(crate) fn remove(&mut self, file: StateFile, uid: &PodUid) {
        let kept = self.kept_mut(file);
        kept.unsaved.remove(uid);
        if kept.content.pods.contains_key(uid) {
            Arc::make_mut(&mut kept.content).pods.remove(uid);
        }
    }

    /// Leaves out all pods but these from the next write on.
    pub(crate) fn retain(&mut self, file: StateFile, is_kept: impl Fn(&PodUid) -> bool) {
        let gone: Vec<_> = self.kept(file).content.pods.keys().filter(|uid| !is_kept(uid)).cloned().collect();
        gone.iter().for_each(|uid| self.remove(file, uid));
    }

    /// Whether a power cut would leave of a pod what is to be written of it.
    pub(crate) fn is_safe(&self, file: StateFile, uid: &PodUid) -> bool {
        !self.kept(file).unsaved.contains_key(uid)
    }

    /// The same. Where not, the pod is looked at again when a write has ended.
    pub(crate) fn wait_for(&mut self, file: StateFile, uid: &PodUid) -> bool {
        let is_safe = self.is_safe(file, uid);
        if !is_safe {
            self.kept_mut(file).waiting.insert(uid.clone());
        }
        is_safe
    }

    /// The last write's failure.
    pub(crate) fn retry(&self, file: StateFile) -> Option<&Retry> {
        self.kept(file).retry.as_ref()
    }

    /// Starts what writes are due.
    pub(crate) fn drive(&mut self, now: Now, out: &mut Outbox) {
        for file in StateFile::ALL {
            let kept = self.kept_mut(file);
            if kept.is_due().is_some_and(|at| at <= now.mono) {
                let (content, version) = (kept.content.clone(), kept.version);
                kept.in_flight = Some(version);
                out.start(Owner::Checkpoint(file), CheckpointWrite { file, content, version });
            }
        }
    }

    /// When [`Checkpoints::drive`] has something to do; monotonic.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        StateFile::ALL.into_iter().fold(None, |next, file| earliest(next, self.kept(file).is_due()))
    }

    /// Takes in how a write ended. Returns the pods that waited for that.
    pub(crate) fn finished(&mut self, file: StateFile, outcome: Outcome, now: Now) -> BTreeSet<PodUid> {
        let kept = self.kept_mut(file);
        let written = kept.in_flight.take().unwrap_or_default();
        match outcome {
            Outcome::Done => {
                kept.retry = None;
                let pods = u32::try_from(kept.content.pods.len()).unwrap_or(u32::MAX);
                kept.rests_until = now.after(REST_PER_POD.saturating_mul(pods));
                kept.unsaved.retain(|_, version| *version > written);
            }
            Outcome::Failed(failure) => {
                kept.retry = Some(Retry::after(kept.retry.as_ref(), failure.message, Pauses::CALLS, now));
            }
            _ => {}
        }
        std::mem::take(&mut kept.waiting)
    }

    fn kept(&self, file: StateFile) -> &Kept {
        match file {
            StateFile::AllocatedPods => &self.allocated,
            StateFile::ActuatedPods => &self.actuated,
        }
    }

    fn kept_mut(&mut self, file: StateFile) -> &mut Kept {
        match file {
            StateFile::AllocatedPods => &mut self.allocated,
            StateFile::ActuatedPods => &mut self.actuated,
        }
    }
}

impl Kept {
    /// When a write is due; monotonic.
    fn is_due(&self) -> Option<Duration> {
        let is_wanted = self.in_flight.is_none() && !self.unsaved.is_empty();
        is_wanted.then(|| self.retry.as_ref().map_or(self.rests_until, |retry| retry.next_at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::effect::{Action, Effect, Failure, FailureKind};

    const FILE: StateFile = StateFile::AllocatedPods;

    fn at(second: u64) -> Now {
        Now { wall: jiff::Timestamp::UNIX_EPOCH, mono: Duration::from_secs(second) }
    }

    fn resources(cpu: &str) -> PodResources {
        let requirements = serde_json::from_value(json!({ "requests": { "cpu": cpu } })).unwrap();
        PodResources { containers: [("a".to_owned(), requirements)].into(), ..PodResources::default() }
    }

    fn full() -> Outcome {
        Outcome::Failed(Failure { kind: FailureKind::Other, message: "no space left".into() })
    }

    /// The pods in the file that a write started now would leave.
    fn driven(checkpoints: &mut Checkpoints, second: u64) -> Vec<String> {
        let mut out = Outbox::default();
        checkpoints.drive(at(second), &mut out);
        let pods = |effect| match effect {
            Effect::Start { action: Action::Checkpoint(write), .. } => {
                let pods: Vec<&str> = write.content.pods.keys().map(PodUid::as_str).collect();
                pods.join(" ")
            }
            other => panic!("{other:?}"),
        };
        out.take().into_iter().map(pods).collect()
    }

    #[test]
    fn one_write_has_all_that_came_during_the_one_before() {
        let mut checkpoints = Checkpoints::default();
        let [a, b, c] = ["a", "b", "c"].map(PodUid::from);
        checkpoints.set(FILE, &a, &resources("1"));
        assert_eq!(driven(&mut checkpoints, 0), ["a"]);
        checkpoints.set(FILE, &b, &resources("1"));
        checkpoints.set(FILE, &c, &resources("1"));
        assert!(!checkpoints.wait_for(FILE, &a) && !checkpoints.wait_for(FILE, &c));
        assert_eq!(driven(&mut checkpoints, 0), [""; 0], "one at a time");
        assert_eq!(checkpoints.finished(FILE, Outcome::Done, at(0)), [a.clone(), c.clone()].into());
        assert!(checkpoints.is_safe(FILE, &a) && !checkpoints.is_safe(FILE, &b));
        assert_eq!(driven(&mut checkpoints, 0), [""; 0], "it rests");
        assert_eq!(checkpoints.next_deadline(), Some(REST_PER_POD * 3));
        assert_eq!(driven(&mut checkpoints, 1), ["a b c"]);
        checkpoints.finished(FILE, Outcome::Done, at(1));
        assert!(checkpoints.is_safe(FILE, &b) && checkpoints.is_safe(FILE, &c));
        assert_eq!(checkpoints.next_deadline(), None);
    }

    #[test]
    fn what_is_written_already_is_not_written_again() {
        let mut checkpoints = Checkpoints::default();
        let [a, b] = ["a", "b"].map(PodUid::from);
        checkpoints.restored(FILE, PodsState { pods: [(a.clone(), Arc::new(resources("500m")))].into() });
        checkpoints.set(FILE, &a, &resources("0.5"));
        assert_eq!((driven(&mut checkpoints, 0), checkpoints.is_safe(FILE, &a)), (vec![], true));
        checkpoints.remove(FILE, &a);
        assert_eq!(driven(&mut checkpoints, 0), [""; 0], "what goes is no reason for a write");
        checkpoints.set(FILE, &b, &resources("1"));
        assert_eq!(driven(&mut checkpoints, 0), ["b"]);
    }

    #[test]
    fn a_full_disk_holds_up_what_is_new_and_is_tried_again() {
        let mut checkpoints = Checkpoints::default();
        let [old, new] = ["old", "new"].map(PodUid::from);
        checkpoints.set(FILE, &old, &resources("1"));
        driven(&mut checkpoints, 0);
        checkpoints.finished(FILE, Outcome::Done, at(0));
        checkpoints.set(FILE, &new, &resources("1"));
        for (second, next) in [(1, 2), (2, 4), (4, 8)] {
            assert!(!checkpoints.wait_for(FILE, &new) && checkpoints.is_safe(FILE, &old));
            assert_eq!(driven(&mut checkpoints, second), ["new old"]);
            assert_eq!(checkpoints.finished(FILE, full(), at(second)), [new.clone()].into());
            assert_eq!(driven(&mut checkpoints, second), [""; 0]);
            assert_eq!(checkpoints.next_deadline(), Some(Duration::from_secs(next)));
        }
        assert_eq!(checkpoints.retry(FILE).unwrap().error, "no space left");
        driven(&mut checkpoints, 8);
        checkpoints.finished(FILE, Outcome::Done, at(8));
        assert!(checkpoints.is_safe(FILE, &new) && checkpoints.retry(FILE).is_none());
    }
}
