//! State files as a write-ahead log of grants: what pods have is written down first, and what follows from it is done then,
//! so that the next process finds it whichever kubelet that is.
//!
//! Writes are committed in groups. One write of a file is under way at a time, and the next one has all that came
//! meanwhile: a hundred pods that are let in at once cost a few of them. Entries that are taken out are no reason for a
//! write, as upstream has it; the next one is without them.
//!
//! A write is for the next process, and nobody waits for the disk: a sandbox ends with the power, so that what it was
//! granted need not outlive that before it starts. The disk itself is given the content a moment later, once for all writes until then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use checkpoints::{Entry, PodResources, PodsState};
use k8s_openapi::api::core::v1::ResourceRequirements;
use model::{Now, PodUid};
use serde::{Deserialize, Serialize};

use crate::effect::{CheckpointAction, CheckpointWrite, Outcome, StateFile, Version};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::schedule::earliest;
use crate::tasks::Owner;
use crate::wait::{Found, WaitOn};

/// How long a file rests after a write, for each pod in it. A write is as long as the file: without a rest, a burst of pods on
/// a full node would have the file written again and again from one end to the other. One pod on its own waits for none.
const REST_PER_POD: Duration = Duration::from_micros(100);

/// How long after a write the file is synced to disk.
const SYNC_AFTER: Duration = Duration::from_secs(1);

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
    /// Of the last write, or the one under way.
    sent: Version,
    retry: Option<Retry>,
    /// When the last write is to be synced to disk; monotonic.
    sync_at: Option<Duration>,
    /// A sync failed: what was written may be lost, and a further sync would not tell (the kernel gives such pages up).
    is_lost: bool,
    /// No write begins before, after one that went well; monotonic.
    rests_until: Duration,
}

impl Checkpoints {
    /// What an earlier process has left in a file.
    pub(crate) fn restored(&mut self, file: StateFile, content: PodsState) {
        self.kept_mut(file).content = Arc::new(content);
    }

    /// What is written of a pod, or will be.
    pub(crate) fn entry(&self, file: StateFile, uid: &PodUid) -> Option<&Entry> {
        self.kept(file).content.pods.get(uid)
    }

    /// Has this written of a pod, unless it is there.
    pub(crate) fn set(&mut self, file: StateFile, uid: &PodUid, resources: &PodResources) {
        let entry = Entry::new(resources);
        if self.entry(file, uid) != Some(&entry) {
            self.touch(file, uid, entry);
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
        let mut all = self.entry(file, uid).map(Entry::resources).unwrap_or_default();
        all.containers.insert(name.to_owned(), resources);
        self.set(file, uid, &all);
    }

    /// A write becomes due, with another entry.
    fn touch(&mut self, file: StateFile, uid: &PodUid, entry: Entry) {
        let kept = self.kept_mut(file);
        kept.version.0 += 1;
        kept.unsaved.insert(uid.clone(), kept.version);
        // Copied only while a write has it.
        Arc::make_mut(&mut kept.content).pods.insert(uid.clone(), entry);
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

    /// Whether the next process would find what is to be written of a pod. Where not, the pod is looked at again when a write
    /// has ended.
    pub(crate) fn is_safe(&self, file: StateFile, uid: &PodUid) -> bool {
        !self.kept(file).unsaved.contains_key(uid)
    }

    /// The last write's failure.
    pub(crate) fn retry(&self, file: StateFile) -> Option<&Retry> {
        self.kept(file).retry.as_ref()
    }

    /// Finds the writes that are under way or have failed.
    pub(crate) fn find_waits(&self, out: &Outbox, found: &mut Found) {
        for file in StateFile::ALL {
            let kept = self.kept(file);
            let is_under_way = out.is_open(&Owner::Checkpoint(file));
            if is_under_way || (kept.is_unsaved() && kept.retry.is_some()) {
                found.retrying(WaitOn::StateFile(file), kept.retry.as_ref());
            }
            if is_under_way {
                found.add(WaitOn::StateFile(file)).next_try = None;
            }
        }
    }

    /// Starts what writes and syncs are due.
    pub(crate) fn drive(&mut self, now: Now, out: &mut Outbox) {
        for file in StateFile::ALL {
            if self.is_due(file, out).is_some_and(|at| at <= now.mono) {
                let kept = self.kept_mut(file);
                let (content, version) = (kept.content.clone(), kept.version);
                kept.sent = version;
                let write = CheckpointWrite { file, content, version };
                out.start(Owner::Checkpoint(file), CheckpointAction::Write(write));
            }
            if self.is_sync_due(file, out).is_some_and(|at| at <= now.mono) {
                self.kept_mut(file).sync_at = None;
                out.start(Owner::CheckpointSync(file), CheckpointAction::Sync(file));
            }
        }
    }

    /// When [`Checkpoints::drive`] has something to do; monotonic.
    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        let due = |file| earliest(self.is_due(file, out), self.is_sync_due(file, out));
        StateFile::ALL.into_iter().fold(None, |next, file| earliest(next, due(file)))
    }

    /// When a write is due; monotonic.
    fn is_due(&self, file: StateFile, out: &Outbox) -> Option<Duration> {
        let kept = self.kept(file);
        let is_wanted = !out.is_open(&Owner::Checkpoint(file)) && kept.is_unsaved();
        is_wanted.then(|| kept.retry.as_ref().map_or(kept.rests_until, |retry| retry.next_at))
    }

    /// When a sync is due; monotonic.
    fn is_sync_due(&self, file: StateFile, out: &Outbox) -> Option<Duration> {
        self.kept(file).sync_at.filter(|_| !out.is_open(&Owner::CheckpointSync(file)))
    }

    /// Takes in how a write ended. Returns the pods that this concerns: those of which the file lacked something until now.
    pub(crate) fn finished(&mut self, file: StateFile, outcome: Outcome, now: Now) -> BTreeSet<PodUid> {
        let kept = self.kept_mut(file);
        let written = kept.sent;
        let concerned = kept.unsaved.keys().cloned().collect();
        match outcome {
            Outcome::Done => {
                kept.retry = None;
                kept.is_lost = false;
                kept.sync_at = Some(now.after(SYNC_AFTER));
                let pods = u32::try_from(kept.content.pods.len()).unwrap_or(u32::MAX);
                kept.rests_until = now.after(REST_PER_POD.saturating_mul(pods));
                kept.unsaved.retain(|_, version| *version > written);
            }
            Outcome::Failed(failure) => {
                kept.retry = Some(Retry::after(kept.retry.as_ref(), failure.message, Pauses::CALLS, now));
            }
            _ => {}
        }
        concerned
    }

    /// Takes in how a sync ended. After a failure all is written anew.
    pub(crate) fn synced(&mut self, file: StateFile, outcome: Outcome, now: Now) {
        if let Outcome::Failed(failure) = outcome {
            let kept = self.kept_mut(file);
            kept.is_lost = true;
            kept.retry = Some(Retry::after(kept.retry.as_ref(), failure.message, Pauses::CALLS, now));
        }
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
    /// Whether the file on disk is not what it should be.
    fn is_unsaved(&self) -> bool {
        self.is_lost || !self.unsaved.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::effect::{Action, Effect, EffectId, Failure, FailureKind};

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

    /// State files, and where their writes go.
    #[derive(Default)]
    struct Files {
        checkpoints: Checkpoints,
        out: Outbox,
        open: Vec<EffectId>,
    }

    impl Files {
        fn set(&mut self, uid: &PodUid, cpu: &str) {
            self.checkpoints.set(FILE, uid, &resources(cpu));
        }

        /// The pods in the file that a write started now would leave.
        fn driven(&mut self, second: u64) -> Vec<String> {
            self.checkpoints.drive(at(second), &mut self.out);
            let mut all = Vec::new();
            for effect in self.out.take() {
                let Effect::Start { id, action: Action::Checkpoint(action) } = effect else {
                    panic!("{effect:?}")
                };
                self.open.push(id);
                let CheckpointAction::Write(write) = action else {
                    all.push("sync".to_owned());
                    continue;
                };
                let pods: Vec<&str> = write.content.pods.keys().map(PodUid::as_str).collect();
                all.push(pods.join(" "));
            }
            all
        }

        /// The write under way ends. Returns whom that concerns.
        fn ends(&mut self, outcome: Outcome, second: u64) -> BTreeSet<PodUid> {
            assert_eq!(self.out.finish(self.open.pop().unwrap()), Some(Owner::Checkpoint(FILE)));
            self.checkpoints.finished(FILE, outcome, at(second))
        }

        /// The sync under way ends.
        fn is_synced(&mut self, outcome: Outcome, second: u64) {
            assert_eq!(self.out.finish(self.open.pop().unwrap()), Some(Owner::CheckpointSync(FILE)));
            self.checkpoints.synced(FILE, outcome, at(second));
        }

        fn next_deadline(&self) -> Option<Duration> {
            self.checkpoints.next_deadline(&self.out)
        }
    }

    #[test]
    fn one_write_has_all_that_came_during_the_one_before() {
        let mut files = Files::default();
        let [a, b, c] = ["a", "b", "c"].map(PodUid::from);
        files.set(&a, "1");
        assert_eq!(files.driven(0), ["a"]);
        files.set(&b, "1");
        files.set(&c, "1");
        assert!(!files.checkpoints.is_safe(FILE, &a) && !files.checkpoints.is_safe(FILE, &c));
        assert_eq!(files.driven(0), [""; 0], "one at a time");
        assert_eq!(files.ends(Outcome::Done, 0), [a.clone(), b.clone(), c.clone()].into());
        assert!(files.checkpoints.is_safe(FILE, &a) && !files.checkpoints.is_safe(FILE, &b));
        assert_eq!(files.driven(0), [""; 0], "it rests");
        assert_eq!(files.next_deadline(), Some(REST_PER_POD * 3));
        assert_eq!(files.driven(1), ["a b c", "sync"]);
        files.is_synced(Outcome::Done, 1);
        files.ends(Outcome::Done, 1);
        assert!(files.checkpoints.is_safe(FILE, &b) && files.checkpoints.is_safe(FILE, &c));
        assert_eq!(files.next_deadline(), Some(Duration::from_secs(2)));
        assert_eq!(files.driven(2), ["sync"]);
        assert_eq!(files.next_deadline(), None);
    }

    #[test]
    fn no_write_waits_for_a_sync_and_what_a_sync_lost_is_written_anew() {
        let mut files = Files::default();
        let [a, b] = ["a", "b"].map(PodUid::from);
        files.set(&a, "1");
        files.driven(0);
        assert_eq!(files.ends(Outcome::Done, 0), [a.clone()].into());
        assert!(files.checkpoints.is_safe(FILE, &a), "before the disk has it");
        assert_eq!(files.driven(1), ["sync"]);
        files.set(&b, "1");
        assert_eq!(files.driven(1), ["a b"], "beside the sync");
        files.ends(Outcome::Done, 1);
        assert_eq!((files.driven(2), files.next_deadline()), (vec![], None), "one sync at a time");
        files.is_synced(full(), 2);
        assert!(files.checkpoints.is_safe(FILE, &a), "a process would find it");
        assert_eq!(files.driven(2), ["sync"]);
        files.is_synced(Outcome::Done, 2);
        assert_eq!(files.driven(3), ["a b"]);
        files.ends(Outcome::Done, 3);
        assert!(files.checkpoints.retry(FILE).is_none());
        assert_eq!(files.driven(4), ["sync"]);
        files.is_synced(Outcome::Done, 4);
        assert_eq!(files.next_deadline(), None);
    }

    #[test]
    fn what_is_written_already_is_not_written_again() {
        let mut files = Files::default();
        let [a, b] = ["a", "b"].map(PodUid::from);
        files
            .checkpoints
            .restored(FILE, PodsState { pods: [(a.clone(), Entry::new(&resources("500m")))].into() });
        files.set(&a, "0.5");
        assert_eq!((files.driven(0), files.checkpoints.is_safe(FILE, &a)), (vec![], true));
        files.checkpoints.remove(FILE, &a);
        assert_eq!(files.driven(0), [""; 0], "what goes is no reason for a write");
        files.set(&b, "1");
        assert_eq!(files.driven(0), ["b"]);
    }

    #[test]
    fn a_full_disk_holds_up_what_is_new_and_is_tried_again() {
        let mut files = Files::default();
        let [old, new] = ["old", "new"].map(PodUid::from);
        files.set(&old, "1");
        files.driven(0);
        files.ends(Outcome::Done, 0);
        files.driven(1);
        files.is_synced(Outcome::Done, 1);
        files.set(&new, "1");
        for (second, next) in [(1, 2), (2, 4), (4, 8)] {
            assert!(!files.checkpoints.is_safe(FILE, &new) && files.checkpoints.is_safe(FILE, &old));
            assert_eq!(files.driven(second), ["new old"]);
            assert_eq!(files.ends(full(), second), [new.clone()].into());
            assert_eq!(files.driven(second), [""; 0]);
            assert_eq!(files.next_deadline(), Some(Duration::from_secs(next)));
        }
        assert_eq!(files.checkpoints.retry(FILE).unwrap().error, "no space left");
        assert_eq!(files.driven(8), ["new old"]);
        files.ends(Outcome::Done, 8);
        assert!(files.checkpoints.is_safe(FILE, &new) && files.checkpoints.retry(FILE).is_none());
    }
}
