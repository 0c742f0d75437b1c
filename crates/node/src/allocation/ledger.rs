//! The ledger: what pods have of the node together. It is kept up as they come, change and go, so that letting in one more
//! costs the same however many there are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::AddAssign;
use std::sync::Arc;

use model::{AllocatedPod, PodUid, QosClass, Quantity};

use super::amounts::requested;
use super::host_ports::{HostPort, host_ports};
use crate::effect::QosAmounts;

/// Who has what, and the sums.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    held: BTreeMap<PodUid, AllocatedPod>,
    sums: Sums,
}

/// How much there is of a resource, and how much of that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// What pods have.
    pub(crate) used: i64,
    /// What all of them may have together.
    pub(crate) capacity: i64,
}

impl Room {
    /// Whether so much more fits.
    pub(crate) fn has(self, amount: i64) -> bool {
        amount <= self.capacity.saturating_sub(self.used)
    }
}

impl Ledger {
    /// From here on a pod has the resources it was granted, in place of those it had before.
    pub(crate) fn reserve(&mut self, uid: &PodUid, pod: &AllocatedPod) {
        match self.held.get_mut(uid) {
            Some(held) if Arc::ptr_eq(held.shared(), pod.shared()) => {}
            // A newer version of its object, mostly with another status.
            Some(held) if held.spec == pod.spec => *held = pod.clone(),
            Some(held) => {
                self.sums.change(held, -1);
                self.sums.change(pod, 1);
                *held = pod.clone();
            }
            None => {
                self.sums.change(pod, 1);
                self.held.insert(uid.clone(), pod.clone());
            }
        }
    }

    /// It has nothing any more.
    pub(crate) fn release(&mut self, uid: &PodUid) {
        if let Some(held) = self.held.remove(uid) {
            self.sums.change(&held, -1);
        }
    }

    /// How many pods have something.
    pub(crate) fn pods(&self) -> i64 {
        i64::try_from(self.held.len()).unwrap_or(i64::MAX)
    }

    /// How a resource stands of which pods may have so much.
    pub(crate) fn room(&self, resource: &str, capacity: i64) -> Room {
        let used = self.sums.amounts.get(resource).copied().unwrap_or(0);
        Room { used: i64::try_from(used).unwrap_or(i64::MAX), capacity }
    }

    /// Whether a port collides with one of theirs.
    pub(crate) fn has_port(&self, wanted: &HostPort) -> bool {
        self.sums
            .ports
            .range(wanted.first()..)
            .take_while(|(port, _)| port.is_same_number(wanted))
            .any(|(port, _)| port.collides(wanted))
    }

    /// What the pods of QoS classes request together.
    pub(crate) fn qos_amounts(&self) -> QosAmounts {
        let positive = |sum: i128| u64::try_from(sum.max(0)).unwrap_or(u64::MAX);
        let Sums { burstable, guaranteed_memory_bytes, .. } = &self.sums;
        QosAmounts {
            burstable_cpu_millis: positive(burstable.cpu_millis),
            burstable_memory_bytes: positive(burstable.memory_bytes),
            guaranteed_memory_bytes: positive(*guaranteed_memory_bytes),
        }
    }
}

/// What all of them come to. Wider than what is added: a sum stays right whatever is added and taken away again.
#[derive(Clone, Debug, Default)]
struct Sums {
    amounts: BTreeMap<String, i128>,
    burstable: Burstable,
    guaranteed_memory_bytes: i128,
    /// With how often each is taken: a pod may name one twice.
    ports: BTreeMap<HostPort, i32>,
}

#[derive(Clone, Debug, Default)]
struct Burstable {
    cpu_millis: i128,
    memory_bytes: i128,
}

impl Sums {
    /// Adds a pod, or with a sign of minus one takes it away again.
    fn change(&mut self, pod: &AllocatedPod, sign: i8) {
        for (name, amount) in requested(pod) {
            add_to(&mut self.amounts, name, i128::from(sign) * i128::from(amount));
        }
        for port in host_ports(pod) {
            add_to(&mut self.ports, port, i32::from(sign));
        }
        self.change_class(pod, sign);
    }

    fn change_class(&mut self, pod: &AllocatedPod, sign: i8) {
        let class = QosClass::of(pod);
        if class == QosClass::BestEffort {
            return;
        }
        let requests = pod.requests();
        let signed = |name: &str, of: fn(Quantity) -> i64| {
            let amount = of(requests.get(name).unwrap_or_default()).max(0);
            i128::from(sign) * i128::from(amount)
        };
        let memory = signed("memory", Quantity::units);
        if class == QosClass::Guaranteed {
            self.guaranteed_memory_bytes += memory;
        } else {
            self.burstable.cpu_millis += signed("cpu", Quantity::millis);
            self.burstable.memory_bytes += memory;
        }
    }
}

/// Leaves out what comes to nothing.
fn add_to<K: Ord, V>(sums: &mut BTreeMap<K, V>, key: K, more: V)
where
    V: Default + PartialEq + AddAssign,
{
    match sums.entry(key) {
        Entry::Vacant(sum) if more != V::default() => {
            sum.insert(more);
        }
        Entry::Vacant(_) => {}
        Entry::Occupied(mut sum) => {
            *sum.get_mut() += more;
            if *sum.get() == V::default() {
                sum.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, port: i32) -> AllocatedPod {
        let ports =
            json!([{ "hostPort": port, "containerPort": 1 }, { "hostPort": port, "containerPort": 1 }]);
        let container = json!({ "name": "a", "resources": { "requests": { "cpu": cpu } }, "ports": ports });
        serde_json::from_value(json!({ "spec": { "containers": [container] } })).unwrap()
    }

    /// How many pods, what they use of the processors, and which of two ports are taken.
    fn state(ledger: &Ledger) -> (i64, i64, bool, bool) {
        let has = |number| ledger.has_port(&host_ports(&pod("1", number)).next().unwrap());
        (ledger.pods(), ledger.room("cpu", 0).used, has(80), has(81))
    }

    #[test]
    fn what_was_reserved_is_given_back() {
        let [a, b] = ["a", "b"].map(PodUid::from);
        let mut ledger = Ledger::default();
        ledger.reserve(&a, &pod("1500m", 80));
        ledger.reserve(&b, &pod("2", 81));
        assert_eq!(state(&ledger), (2, 3500, true, true));
        ledger.release(&a);
        ledger.release(&a);
        assert_eq!(state(&ledger), (1, 2000, false, true));
        ledger.release(&b);
        assert_eq!(state(&ledger), (0, 0, false, false));
        assert!(ledger.sums.amounts.is_empty() && ledger.sums.ports.is_empty(), "nothing stays behind");
    }

    #[test]
    fn another_grant_takes_the_place_of_the_first() {
        let uid = PodUid::from("a");
        let mut ledger = Ledger::default();
        for (cpu, port) in [("1", 80), ("1", 80), ("3", 81)] {
            ledger.reserve(&uid, &pod(cpu, port));
        }
        assert_eq!(state(&ledger), (1, 3000, false, true));
    }

    #[test]
    fn room_is_what_is_left() {
        let room = Room { used: 3, capacity: 5 };
        assert!(room.has(2) && !room.has(3));
        assert!(!Room { used: i64::MAX, capacity: 5 }.has(1) && !Room { used: 7, capacity: 5 }.has(1));
    }

    #[test]
    fn more_than_can_be_counted_is_full_and_can_be_given_back() {
        let [a, b] = ["a", "b"].map(PodUid::from);
        let mut ledger = Ledger::default();
        let huge = pod("9000000000000000", 80);
        ledger.reserve(&a, &huge);
        ledger.reserve(&b, &huge);
        assert_eq!(ledger.room("cpu", 1).used, i64::MAX);
        ledger.release(&a);
        ledger.release(&b);
        assert_eq!(state(&ledger), (0, 0, false, false));
    }

    #[test]
    fn classes_are_summed_up_each_by_itself() {
        let of = |requests: serde_json::Value, limits: serde_json::Value| -> AllocatedPod {
            let resources = json!({ "requests": requests, "limits": limits });
            let container = json!({ "name": "a", "resources": resources });
            serde_json::from_value(json!({ "spec": { "containers": [container] } })).unwrap()
        };
        let all = || json!({ "cpu": "1", "memory": "1Ki" });
        let mut ledger = Ledger::default();
        for (uid, pod) in [
            ("guaranteed", of(all(), all())),
            ("burstable", of(json!({ "cpu": "100m", "memory": "2Ki" }), json!({}))),
            ("other", of(json!({ "cpu": "1500m" }), json!({}))),
            ("best-effort", of(json!({}), json!({}))),
        ] {
            ledger.reserve(&PodUid::from(uid), &pod);
        }
        let amounts = |cpu, burstable, guaranteed| QosAmounts {
            burstable_cpu_millis: cpu,
            burstable_memory_bytes: burstable,
            guaranteed_memory_bytes: guaranteed,
        };
        assert_eq!(ledger.qos_amounts(), amounts(1600, 2048, 1024));
        ledger.release(&PodUid::from("burstable"));
        assert_eq!(ledger.qos_amounts(), amounts(1500, 0, 1024));
    }
}
