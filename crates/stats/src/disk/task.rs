//! The task that measures, pod by pod.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::{Now, PodUid};
use telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::measure::measure;
use super::{Asked, PodDisk, PodDisks};
use crate::Clock;

/// How often logs are measured where volumes are not.
const INTERVAL: Duration = Duration::from_secs(60);
/// For how long after the last question measurements are repeated. Scrapers come at least every minute.
pub(super) const INTEREST: Duration = Duration::from_secs(150);
/// One pod that takes longer does not hold up the others any more: its disk may never answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Threads that may hang at the same time. When all do, nothing is measured until one is done.
const MOST_AT_ONCE: usize = 4;
/// Results that are shown together: each time the whole table is copied.
const BATCH: usize = 32;

/// Measures what was asked for, until nobody can ask any more.
pub(super) struct PodTask {
    asking: watch::Receiver<Asked>,
    shown: watch::Sender<Arc<PodDisks>>,
    volume_interval: Option<Duration>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// The last question.
    asked: Asked,
    /// The pods of the last question that are due, by their place in it.
    queue: VecDeque<usize>,
    /// When the first of the others is.
    next_due: Option<Duration>,
    /// When each pod was begun to be measured last.
    begun: BTreeMap<PodUid, Duration>,
    /// Since when each pod is being measured.
    running: BTreeMap<PodUid, Duration>,
    /// What is known by now, and how much of it is not shown yet.
    measured: PodDisks,
    unshown: usize,
}

impl PodTask {
    pub(super) fn new(
        asking: watch::Receiver<Asked>,
        shown: watch::Sender<Arc<PodDisks>>,
        volume_interval: Option<Duration>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            asking,
            shown,
            volume_interval,
            clock,
            metrics,
            asked: Asked::default(),
            queue: VecDeque::new(),
            next_due: None,
            begun: BTreeMap::new(),
            running: BTreeMap::new(),
            measured: PodDisks::new(),
            unshown: 0,
        }
    }

    /// Runs until the asking side is gone.
    pub(super) async fn run(mut self) {
        let mut work = JoinSet::new();
        loop {
            let now = self.now().mono;
            if self.queue.is_empty() {
                self.find_due(now);
            }
            if self.may_begin(now)
                && let Some(place) = self.queue.pop_front()
            {
                self.begin(place, now, &mut work);
                continue;
            }
            let pause = pause(self.wait(now));
            // All three are cancel-safe: a change stays unseen, a finished measurement stays in its set, and
            // the pause is reckoned anew.
            tokio::select! {
                changed = self.asking.changed() => match changed {
                    Ok(()) => self.take_question(),
                    Err(_) => return,
                },
                Some(done) = work.join_next() => self.finish(done),
                () = pause => {}
            }
        }
    }

    fn now(&self) -> Now {
        (self.clock)()
    }

    /// Takes the latest question in, and drops what is known of pods that are not in it.
    fn take_question(&mut self) {
        self.asked = self.asking.borrow_and_update().clone();
        let wanted: BTreeSet<&PodUid> = self.asked.pods.iter().map(|pod| &pod.uid).collect();
        self.begun.retain(|uid, _| wanted.contains(uid));
        let before = self.measured.len();
        self.measured.retain(|uid, _| wanted.contains(uid));
        self.unshown += before - self.measured.len();
        self.queue.clear();
        self.find_due(self.now().mono);
        self.show();
    }

    /// Queues the pods that are due, the one that waits longest first.
    fn find_due(&mut self, now: Duration) {
        let is_asked = now.saturating_sub(self.asked.mono) < INTEREST;
        let interval = self.volume_interval.unwrap_or(INTERVAL);
        self.next_due = None;
        let mut due = Vec::new();
        for (place, pod) in self.asked.pods.iter().enumerate() {
            if self.running.contains_key(&pod.uid) {
                continue;
            }
            // A pod that was never measured is measured once, even if nobody has asked of late.
            let at = self.begun.get(&pod.uid).map_or(Duration::ZERO, |begun| *begun + interval);
            if at <= now && (is_asked || at.is_zero()) {
                due.push((at, place));
            } else if is_asked {
                self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
            }
        }
        due.sort_unstable();
        self.queue = due.into_iter().map(|(_, place)| place).collect();
    }

    /// One at a time, and one more for each that has been at it for long.
    fn may_begin(&self, now: Duration) -> bool {
        let slow = self.running.values().filter(|since| now.saturating_sub(**since) >= PATIENCE).count();
        self.running.len() < (slow + 1).min(MOST_AT_ONCE)
    }

    /// How long nothing happens by itself; for ever when nobody asks.
    fn wait(&self, now: Duration) -> Option<Duration> {
        let until_slow = self.running.values().map(|since| *since + PATIENCE).filter(|at| *at > now);
        let due = self.next_due.filter(|_| self.queue.is_empty());
        until_slow.chain(due).min().map(|at| at.saturating_sub(now))
    }

    fn begin(&mut self, place: usize, now: Duration, work: &mut JoinSet<(PodUid, PodDisk)>) {
        let pods = Arc::clone(&self.asked.pods);
        let Some(uid) = pods.get(place).map(|pod| pod.uid.clone()) else { return };
        self.begun.insert(uid.clone(), now);
        self.running.insert(uid.clone(), now);
        let with_volumes = self.volume_interval.is_some();
        let (clock, metrics) = (Arc::clone(&self.clock), Arc::clone(&self.metrics));
        work.spawn_blocking(move || {
            let disk = pods.get(place).map(|pod| measure(pod, with_volumes, &clock, &metrics));
            (uid, disk.unwrap_or_default())
        });
    }

    fn finish(&mut self, done: Result<(PodUid, PodDisk), JoinError>) {
        match done {
            Ok((uid, disk)) => {
                self.running.remove(&uid);
                // A pod may have been dropped while it was measured.
                if self.begun.contains_key(&uid) {
                    self.measured.insert(uid, Arc::new(disk));
                    self.unshown += 1;
                }
            }
            // A panic, which nothing there should cause. Whose it was is not known any more.
            Err(_) => self.running.clear(),
        }
        self.show();
    }

    /// Shows what has changed, once it is worth the copy.
    fn show(&mut self) {
        if self.unshown >= BATCH || (self.queue.is_empty() && self.unshown > 0) {
            self.shown.send_replace(Arc::new(self.measured.clone()));
            self.unshown = 0;
        }
    }
}

pub(super) async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::PodTarget;
    use crate::testing::{self, pod};

    fn asked(pods: &[&str], seconds: u64) -> Asked {
        let pods: Vec<PodTarget> = pods.iter().map(|name| pod(name, &[])).collect();
        Asked { pods: Arc::new(pods), mono: Duration::from_secs(seconds) }
    }

    fn task(asked: Asked) -> (watch::Sender<Asked>, PodTask) {
        let (sender, receiver) = watch::channel(Asked::default());
        let shown = watch::channel(Arc::default()).0;
        let mut task =
            PodTask::new(receiver, shown, Some(Duration::from_secs(60)), testing::clock(), Arc::default());
        sender.send_replace(asked);
        task.take_question();
        (sender, task)
    }

    fn due(task: &mut PodTask, seconds: u64) -> (Vec<usize>, Option<u64>) {
        let now = Duration::from_secs(seconds);
        task.find_due(now);
        (task.queue.iter().copied().collect(), task.wait(now).map(|d| d.as_secs()))
    }

    #[test]
    fn pods_are_due_after_the_interval_while_somebody_asks() {
        let (_sender, mut task) = task(asked(&["a", "b", "c"], 1000));
        let uid = |name: &str| pod(name, &[]).uid;
        task.begun.insert(uid("a"), Duration::from_secs(990));
        task.begun.insert(uid("b"), Duration::from_secs(950));
        assert_eq!(due(&mut task, 1000), (vec![2], None));
        assert_eq!(
            due(&mut task, 1020),
            (vec![2, 1], None),
            "never measured, then the one that waits longest"
        );
        task.begun.insert(uid("c"), Duration::from_secs(1021));
        task.begun.insert(uid("b"), Duration::from_secs(1022));
        assert_eq!(due(&mut task, 1022), (vec![], Some(28)));
        task.running.insert(uid("c"), Duration::from_secs(1021));
        assert_eq!(due(&mut task, 1090), (vec![0, 1], None), "not one that is being measured");
        assert_eq!(due(&mut task, 1000 + INTEREST.as_secs()), (vec![], None), "nobody asks any more");
    }

    #[test]
    fn slow_pods_let_others_pass_within_bounds() {
        let (_sender, mut task) = task(asked(&["a"], 0));
        let at = Duration::from_secs;
        assert!(task.may_begin(at(0)));
        for n in 0..4_u64 {
            let since = at(100 * n);
            task.running.insert(pod(&n.to_string(), &[]).uid, since);
            assert!(!task.may_begin(since), "one at a time");
            assert_eq!(task.may_begin(since + PATIENCE), n < 3, "{n}");
        }
    }

    #[tokio::test]
    async fn measures_once_asked_and_forgets_who_is_gone() {
        let (mut disk, task) = super::super::Disk::new(
            Some(Duration::from_secs(60)),
            testing::no_drivers(),
            testing::clock(),
            Arc::default(),
        );
        let task = tokio::spawn(task.run());
        for names in [&["a", "b", "c"][..], &["b"]] {
            let asked = asked(names, 1000);
            disk.ask(asked.pods, asked.mono);
            let uids: Vec<PodUid> = names.iter().map(|name| pod(name, &[]).uid).collect();
            let shown = disk.shown.wait_for(|shown| shown.keys().eq(&uids));
            tokio::time::timeout(Duration::from_secs(60), shown).await.expect("all are measured").unwrap();
        }
        drop(disk);
        task.await.unwrap();
    }
}
