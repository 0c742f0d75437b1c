//! What every call goes through: it is recorded for its pod, held up while somebody wants it to
//! hang, delayed, and refused if it is to fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tonic::Status;

use crate::latency::Latencies;

/// Calls remembered for each pod; the oldest go first. A start takes about twenty.
const REMEMBERED: usize = 1024;

/// A call that was made for a pod. Times are nanoseconds since 1970, as in the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) call: &'static str,
    /// When it arrived.
    pub(crate) start: i64,
    /// When its answer was ready or the caller gave up.
    pub(crate) end: i64,
}

/// The way in for calls.
pub(crate) struct Gate {
    latencies: Latencies,
    /// The calls that hang, with the pod they are for (`namespace/name`).
    hanging: watch::Sender<BTreeMap<String, Vec<&'static str>>>,
    /// The calls that fail, with the pod they are for.
    failing: Mutex<BTreeMap<String, Vec<&'static str>>>,
    /// How many calls are held up now, by pod.
    held: watch::Sender<BTreeMap<String, usize>>,
    records: Mutex<BTreeMap<String, VecDeque<Record>>>,
    /// How often each call was made, for whatever pod.
    counts: watch::Sender<BTreeMap<&'static str, u64>>,
    /// The last request of a kind that was made for a pod, or for none, as text.
    requests: watch::Sender<BTreeMap<(Option<String>, &'static str), String>>,
}

impl Gate {
    pub(crate) fn new(latencies: Latencies) -> Self {
        Self {
            latencies,
            hanging: watch::Sender::new(BTreeMap::new()),
            failing: Mutex::default(),
            held: watch::Sender::new(BTreeMap::new()),
            records: Mutex::default(),
            counts: watch::Sender::new(BTreeMap::new()),
            requests: watch::Sender::new(BTreeMap::new()),
        }
    }

    /// Waits until the call may be answered. It counts as running until the guard is dropped, which
    /// also happens when the caller gives up while it waits here. The error is the answer to a call that is to fail.
    pub(crate) async fn enter(&self, call: &'static str, pod: Option<&str>) -> Result<Running<'_>, Status> {
        self.counts.send_modify(|all| *all.entry(call).or_default() += 1);
        let running = Running { gate: self, call, pod: pod.map(str::to_owned), start: now() };
        if let Some(pod) = pod {
            let hangs = |all: &BTreeMap<_, Vec<_>>| all.get(pod).is_some_and(|calls| calls.contains(&call));
            let mut hanging = self.hanging.subscribe();
            if hangs(&hanging.borrow_and_update()) {
                let _held = Held::new(self, pod);
                // The sender lives as long as the gate, so this ends only when the pod was let go.
                let _ = hanging.wait_for(|all| !hangs(all)).await;
            }
        }
        if let Some(delay) = self.latencies.of(call) {
            tokio::time::sleep(delay).await;
        }
        let fails = |pod| locked(&self.failing).get(pod).is_some_and(|calls| calls.contains(&call));
        match pod {
            Some(pod) if fails(pod) => Err(Status::internal(format!("{call} of {pod} is to fail"))),
            _ => Ok(running),
        }
    }

    /// Lets calls for a pod hang from now on.
    pub(crate) fn hang(&self, pod: &str, calls: impl IntoIterator<Item = &'static str>) {
        self.hanging.send_modify(|all| all.entry(pod.to_owned()).or_default().extend(calls));
    }

    /// Lets calls for a pod fail from now on.
    pub(crate) fn fail(&self, pod: &str, call: &'static str) {
        locked(&self.failing).entry(pod.to_owned()).or_default().push(call);
    }

    /// Answers everything for a pod that hangs, and lets none of its calls fail any more.
    pub(crate) fn release(&self, pod: &str) {
        locked(&self.failing).remove(pod);
        self.hanging.send_modify(|all| drop(all.remove(pod)));
    }

    /// Waits until a call for a pod is held up.
    pub(crate) async fn holds(&self, pod: &str) {
        // The sender lives as long as the gate.
        let _ = self.held.subscribe().wait_for(|all| all.contains_key(pod)).await;
    }

    /// The calls for a pod that have ended, in the order of their end.
    pub(crate) fn records(&self, pod: &str) -> Vec<Record> {
        locked(&self.records).get(pod).map(|all| all.iter().cloned().collect()).unwrap_or_default()
    }

    /// How often a call was made.
    pub(crate) fn count(&self, call: &str) -> u64 {
        self.counts.borrow().get(call).copied().unwrap_or(0)
    }

    /// Waits until a call was made that often.
    pub(crate) async fn counts_to(&self, call: &str, number: u64) {
        let is_reached = |all: &BTreeMap<_, u64>| all.get(call).is_some_and(|count| *count >= number);
        // The sender lives as long as the gate.
        let _ = self.counts.subscribe().wait_for(is_reached).await;
    }

    /// Remembers a request, in place of an earlier one of its kind for the same pod.
    pub(crate) fn remember(&self, call: &'static str, pod: Option<&str>, request: &impl std::fmt::Debug) {
        let text = format!("{request:?}");
        self.requests.send_modify(|all| drop(all.insert((pod.map(str::to_owned), call), text)));
    }

    /// The last request of a kind for a pod, or for none; waits for the first.
    pub(crate) async fn request(&self, call: &'static str, pod: Option<String>) -> String {
        let (mut requests, key) = (self.requests.subscribe(), (pod, call));
        let found = requests.wait_for(|all| all.contains_key(&key)).await;
        // The sender lives as long as the gate.
        found.ok().and_then(|all| all.get(&key).cloned()).unwrap_or_default()
    }
}

/// Every change of what is locked here is a single one: whole even after a panic elsewhere.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that runs.
pub(crate) struct Running<'a> {
    gate: &'a Gate,
    call: &'static str,
    pod: Option<String>,
    start: i64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some(pod) = self.pod.take() else { return };
        let mut records = locked(&self.gate.records);
        let records = records.entry(pod).or_default();
        if records.len() == REMEMBERED {
            records.pop_front();
        }
        records.push_back(Record { call: self.call, start: self.start, end: now() });
    }
}

/// A call that is held up.
struct Held<'a> {
    gate: &'a Gate,
    pod: &'a str,
}

impl<'a> Held<'a> {
    fn new(gate: &'a Gate, pod: &'a str) -> Self {
        gate.held.send_modify(|all| *all.entry(pod.to_owned()).or_default() += 1);
        Self { gate, pod }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.gate.held.send_modify(|all| match all.get_mut(self.pod) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(self.pod)),
        });
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_hangs_until_its_pod_is_released_or_the_caller_gives_up() {
        let gate = Gate::new(Latencies::default());
        gate.hang("default/web", ["StopContainer"]);
        drop(gate.enter("ContainerStatus", Some("default/web")).await);
        drop(gate.enter("StopContainer", Some("default/other")).await);
        drop(gate.enter("StopContainer", None).await);

        let mut given_up = Box::pin(gate.enter("StopContainer", Some("default/web")));
        assert!(futures::poll!(&mut given_up).is_pending());
        gate.holds("default/web").await;
        drop(given_up);
        assert!(gate.held.borrow().is_empty());
        let mut waiting = Box::pin(gate.enter("StopContainer", Some("default/web")));
        assert!(futures::poll!(&mut waiting).is_pending());
        gate.release("default/web");
        drop(waiting.await);

        let records = gate.records("default/web");
        let calls: Vec<&str> = records.iter().map(|record| record.call).collect();
        assert_eq!(calls, ["ContainerStatus", "StopContainer", "StopContainer"]);
        assert!(records.iter().all(|record| record.start <= record.end));
        assert_eq!(gate.records("default/other").len(), 1);
    }

    #[tokio::test]
    async fn the_oldest_records_go_first() {
        let gate = Gate::new(Latencies::default());
        drop(gate.enter("Status", Some("a/b")).await);
        for _ in 0..REMEMBERED {
            drop(gate.enter("Version", Some("a/b")).await);
        }
        assert!(gate.records("a/b").iter().all(|record| record.call == "Version"));
    }
}
