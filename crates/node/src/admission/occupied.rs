//! What the pods that were let in take of the node. It is kept up as pods come and go, so that letting in one more costs the
//! same however many there are.

use std::collections::BTreeMap;

use model::{Pod, resources};

use super::fit::amounts;
use super::ports::{HostPort, host_ports};

/// Sums over pods, and their host ports.
#[derive(Clone, Debug, Default)]
pub struct Occupied {
    pods: i64,
    /// Wider than what is asked for: a sum stays right whatever is added and taken away again.
    amounts: BTreeMap<String, i128>,
    /// With how often each is taken: a pod may name one twice.
    ports: BTreeMap<HostPort, u32>,
}

impl Occupied {
    /// A pod was let in.
    pub(crate) fn add(&mut self, pod: &Pod) {
        self.pods += 1;
        for (name, amount) in amounts(&resources::pod_requests(pod)) {
            *self.amounts.entry(name).or_default() += i128::from(amount);
        }
        for port in host_ports(pod) {
            *self.ports.entry(port).or_default() += 1;
        }
    }

    /// It is over. It has to be as it was when it was added.
    pub(crate) fn remove(&mut self, pod: &Pod) {
        self.pods -= 1;
        for (name, amount) in amounts(&resources::pod_requests(pod)) {
            if let Some(sum) = self.amounts.get_mut(&name) {
                *sum -= i128::from(amount);
            }
        }
        for port in host_ports(pod) {
            if let Some(count) = self.ports.get_mut(&port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(&port);
                }
            }
        }
    }

    /// How many pods there are.
    pub(crate) fn pods(&self) -> i64 {
        self.pods
    }

    /// What they request of a resource.
    pub(super) fn used(&self, resource: &str) -> i64 {
        let sum = self.amounts.get(resource).copied().unwrap_or(0);
        i64::try_from(sum).unwrap_or(i64::MAX)
    }

    /// Whether a port collides with one of theirs.
    pub(super) fn has_port(&self, wanted: &HostPort) -> bool {
        self.ports
            .range(wanted.first()..)
            .take_while(|(port, _)| port.is_same_number(wanted))
            .any(|(port, _)| port.collides(wanted))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, port: i32) -> Pod {
        let ports =
            json!([{ "hostPort": port, "containerPort": 1 }, { "hostPort": port, "containerPort": 1 }]);
        let container = json!({ "name": "a", "resources": { "requests": { "cpu": cpu } }, "ports": ports });
        serde_json::from_value(json!({ "spec": { "containers": [container] } })).unwrap()
    }

    #[test]
    fn what_was_taken_is_given_back() {
        let mut occupied = Occupied::default();
        let port = |number| host_ports(&pod("1", number)).next().unwrap();
        let state = |o: &Occupied| (o.pods(), o.used("cpu"), o.has_port(&port(80)), o.has_port(&port(81)));
        occupied.add(&pod("1500m", 80));
        occupied.add(&pod("2", 81));
        assert_eq!(state(&occupied), (2, 3500, true, true));
        occupied.remove(&pod("1500m", 80));
        assert_eq!(state(&occupied), (1, 2000, false, true));
        occupied.remove(&pod("2", 81));
        assert_eq!(state(&occupied), (0, 0, false, false));
    }

    #[test]
    fn more_than_can_be_counted_is_full_and_can_be_given_back() {
        let mut occupied = Occupied::default();
        let huge = pod("9000000000000000", 80);
        occupied.add(&huge);
        occupied.add(&huge);
        assert_eq!(occupied.used("cpu"), i64::MAX);
        occupied.remove(&huge);
        occupied.remove(&huge);
        assert_eq!((occupied.used("cpu"), occupied.has_port(&host_ports(&huge).next().unwrap())), (0, false));
    }
}
