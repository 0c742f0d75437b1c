//! Garbage collection of dead containers: how many stay for their logs and last state, and which go first.
//!
//! As upstream, by the age of a container and not of its end; who asks for nothing keeps one of each container.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ContainerId, ContainerObservation, Now, PodObservation, PodUid};

use crate::core::Node;
use crate::pods::record::{Phase, PodRecord};

/// Which dead containers stay, of pods that are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
fn dead(observed: &PodObservation) -> impl Iterator<Item = &ContainerObservation> {
    observed.containers.iter().filter(|container| !container.state.is_running())
}

/// One dead container of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dead {
    created_at: jiff::Timestamp,
    uid: PodUid,
    id: ContainerId,
}

/// Those that are too many, given the dead of each container, newest first: no container keeps more than its equal
/// share, at least one; if that is not enough, the oldest go.
fn surplus_of_all(mut groups: Vec<Vec<Dead>>, limit: usize) -> Vec<Dead> {
    let count = groups.iter().map(Vec::len).sum::<usize>();
    if groups.is_empty() || count <= limit {
        return Vec::new();
    }
    let share = (limit / groups.len()).max(1);
    let mut surplus: Vec<Dead> =
        groups.iter_mut().flat_map(|group| group.split_off(share.min(group.len()))).collect();
    let mut kept: Vec<Dead> = groups.into_iter().flatten().collect();
    kept.sort();
    kept.truncate(kept.len().saturating_sub(limit));
    surplus.append(&mut kept);
    surplus
}

impl Node {
    /// Removes dead containers beyond those the whole node may keep.
    pub(crate) fn cap_dead_containers(&mut self, now: Now) {
        let policy = self.settings.dead_containers;
        let Some(limit) = policy.in_all else { return };
        let mut groups: BTreeMap<(&PodUid, &str), Vec<Dead>> = BTreeMap::new();
        for record in self.pods.iter().filter(|record| keeps_containers(record)) {
            let uid = &record.uid;
            for container in record.observed.iter().flat_map(dead) {
                let is_old = now.since_wall(container.created_at) >= policy.minimum_age;
                if is_old && !record.is_removing(&container.id) {
                    let (created_at, id) = (container.created_at, container.id.clone());
                    let dead = Dead { created_at, uid: uid.clone(), id };
                    groups.entry((uid, &container.name)).or_default().push(dead);
                }
            }
        }
        for dead in surplus_of_all(groups.into_values().collect(), limit) {
            if let Some(mut record) = self.pods.get_mut(&dead.uid) {
                record.remove_container(&dead.id, false, &mut self.out);
            }
        }
    }
}

/// What a pod that is going holds is removed with it.
fn keeps_containers(record: &PodRecord) -> bool {
    record.desired.is_present() && matches!(record.phase, Phase::Running { .. } | Phase::Terminated(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, ages: &[i64]) -> Vec<Dead> {
        ages.iter()
            .map(|age| Dead {
                created_at: jiff::Timestamp::from_second(1_000_000 - age).unwrap(),
                uid: PodUid::from(name.to_owned()),
                id: ContainerId::from(format!("{name}{age}")),
            })
            .collect()
    }

    /// What is removed of a pod's dead containers, given by name and age in seconds, newest first; and when more may be.
    fn surplus(policy: DeadContainers, all: &[(&str, i64)]) -> (Vec<usize>, Option<u64>) {
        let wall = jiff::Timestamp::from_second(1_000_000).unwrap();
        let now = Now { wall, mono: Duration::from_secs(500) };
        let mut observed = PodObservation::empty(PodUid::from("u"), model::PodKey::new("ns", "web"));
        for (index, (name, age)) in all.iter().enumerate() {
            observed.containers.push(ContainerObservation {
                id: ContainerId::from(index.to_string()),
                sandbox_id: "s".into(),
                name: (*name).to_owned(),
                attempt: 0,
                state: model::ContainerState::Created,
                created_at: jiff::Timestamp::from_second(1_000_000 - age).unwrap(),
                spec_hash: None,
                image: String::new(),
                image_id: String::new(),
                pod_grace_seconds: None,
                resources: None,
                user: None,
                stop_signal: None,
                recursive_read_only: Vec::new(),
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

    fn removed(groups: &[(&str, &[i64])], limit: usize) -> Vec<String> {
        let groups = groups.iter().map(|(name, ages)| group(name, ages)).collect();
        let mut ids: Vec<String> =
            surplus_of_all(groups, limit).iter().map(|dead| dead.id.as_str().to_owned()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn the_node_shares_what_it_keeps() {
        assert_eq!(removed(&[], 0), [""; 0]);
        assert_eq!(removed(&[("a", &[1, 2]), ("b", &[3])], 3), [""; 0]);
        assert_eq!(removed(&[("a", &[1, 2]), ("b", &[3])], 2), ["a2"]);
        assert_eq!(removed(&[("a", &[1, 2, 3, 4]), ("b", &[5])], 4), ["a3", "a4"]);
        // Not even one of each: the oldest go.
        assert_eq!(removed(&[("a", &[1, 2]), ("b", &[3]), ("c", &[2])], 1), ["a2", "b3", "c2"]);
        assert_eq!(removed(&[("a", &[1]), ("b", &[3])], 0), ["a1", "b3"]);
    }
}
