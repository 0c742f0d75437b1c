//! Which dead containers stay, for their logs and last state.
//!
//! As upstream, by the age of a container and not of its end; who asks for nothing keeps one of each container.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ContainerObservation, Now, PodObservation};
use serde::{Deserialize, Serialize};

/// Which dead containers stay, of pods that are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadContainers {
    /// How many of each container (`--maximum-dead-containers-per-container`); `None` is all.
    pub of_each: Option<usize>,
    /// How many on the whole node (`--maximum-dead-containers`); `None` is all. Each container keeps one while
    /// that is possible.
    pub in_all: Option<usize>,
    /// Younger ones neither go nor count (`--minimum-container-ttl-duration`).
    pub minimum_age: Duration,
}

/// As without any flag.
impl Default for DeadContainers {
    fn default() -> Self {
        Self { of_each: Some(1), in_all: None, minimum_age: Duration::ZERO }
    }
}

impl DeadContainers {
    /// The dead containers of a pod that are too many, and the monotonic time at which there may be more of them.
    pub(crate) fn surplus<'a>(
        &self,
        observed: &'a PodObservation,
        now: Now,
    ) -> (Vec<&'a ContainerObservation>, Option<Duration>) {
        let Some(limit) = self.of_each else { return (Vec::new(), None) };
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut surplus, mut next): (Vec<_>, Option<Duration>) = (Vec::new(), None);
        for container in dead(observed) {
            let age = now.since_wall(container.created_at);
            if age < self.minimum_age {
                let at = now.after(self.minimum_age - age);
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            let seen = seen.entry(&container.name).or_default();
            *seen += 1;
            if *seen > limit {
                surplus.push(container);
            }
        }
        (surplus, next)
    }
}

/// Newest first, as the observation has them.
pub(crate) fn dead(observed: &PodObservation) -> impl Iterator<Item = &ContainerObservation> {
    observed.containers.iter().filter(|container| !container.state.is_running())
}

#[cfg(test)]
mod tests {
    use model::{ContainerId, PodUid};

    use super::*;

    /// What is removed of a pod's dead containers, given by name and age in seconds, newest first; and when more may be.
    fn surplus(policy: DeadContainers, all: &[(&str, i64)]) -> (Vec<usize>, Option<u64>) {
        let wall = jiff::Timestamp::from_second(1_000_000).unwrap();
        let now = Now { wall, mono: Duration::from_secs(500) };
        let mut observed = PodObservation::empty(PodUid::from("u"), model::PodKey::new("ns", "web"));
        for (index, (name, age)) in all.iter().enumerate() {
            let (id, state) = (ContainerId::from(index.to_string()), model::ContainerState::Created);
            observed.containers.push(ContainerObservation {
                created_at: jiff::Timestamp::from_second(1_000_000 - age).unwrap(),
                ..ContainerObservation::bare(id, "s".into(), *name, state)
            });
        }
        let (surplus, next) = policy.surplus(&observed, now);
        let ids = surplus.iter().map(|container| container.id.as_str().parse().unwrap()).collect();
        (ids, next.map(|at| at.as_secs()))
    }

    #[test]
    fn each_container_keeps_its_newest() {
        let all = [("a", 1), ("b", 2), ("a", 3), ("a", 4)];
        let policy = DeadContainers::default();
        assert_eq!(surplus(policy, &all), (vec![2, 3], None));
        assert_eq!(surplus(DeadContainers { of_each: Some(2), ..policy }, &all), (vec![3], None));
        assert_eq!(surplus(DeadContainers { of_each: Some(0), ..policy }, &all), (vec![0, 1, 2, 3], None));
        assert_eq!(surplus(DeadContainers { of_each: None, ..policy }, &all), (vec![], None));
    }

    #[test]
    fn young_ones_neither_go_nor_count() {
        let policy = DeadContainers { minimum_age: Duration::from_secs(10), ..DeadContainers::default() };
        assert_eq!(surplus(policy, &[("a", 7), ("a", 20), ("a", 30)]), (vec![2], Some(503)));
        assert_eq!(surplus(policy, &[("a", 10), ("a", 20)]), (vec![1], None));
    }
}
