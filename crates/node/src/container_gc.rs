//! Garbage collection of dead containers on the whole node: how many stay, and which go first.

use std::collections::BTreeMap;

use model::{ContainerId, PodUid};

use crate::cx::Cx;
use crate::dead_containers::dead;
use crate::pods::record::PodRecord;
use crate::pods::registry::PodRegistry;

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

/// Removes dead containers beyond those the whole node may keep.
pub(crate) fn cap_dead_containers(pods: &mut PodRegistry, cx: &mut Cx<'_>) {
    let policy = cx.settings.dead_containers;
    let Some(limit) = policy.in_all else { return };
    let mut groups: BTreeMap<(&PodUid, &str), Vec<Dead>> = BTreeMap::new();
    for record in pods.iter().filter(|record| keeps_containers(record)) {
        let uid = &record.uid;
        for container in record.seen.last().into_iter().flat_map(|last| dead(last)) {
            let is_old = cx.now.since_wall(container.created_at) >= policy.minimum_age;
            if is_old && !record.is_removing(&container.id) {
                let (created_at, id) = (container.created_at, container.id.clone());
                let dead = Dead { created_at, uid: uid.clone(), id };
                groups.entry((uid, &container.name)).or_default().push(dead);
            }
        }
    }
    for dead in surplus_of_all(groups.into_values().collect(), limit) {
        if let Some(mut record) = pods.get_mut(&dead.uid) {
            record.remove_container(&dead.id, false, cx.out);
        }
    }
}

/// What a pod that is going holds is removed with it.
fn keeps_containers(record: &PodRecord) -> bool {
    record.desired.is_present() && (record.life.is_running() || record.life.has_ended())
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
