//! Which groups are shown, and whose they are.

use std::collections::HashMap;

use host::cgroup::stats::GroupReader;

/// A container may make groups in its own; a page with more than this many helps nobody.
const MAX_GROUPS: usize = 10_000;
/// How long the ids of containers and sandboxes are.
const ID_DIGITS: usize = 64;

/// What a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A whole pod.
    Pod,
    /// A pod's sandbox, which has its network.
    Sandbox,
    /// A container.
    Container,
}

/// Whose a group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it holds.
    pub role: Role,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name; empty for a pod or sandbox.
    pub container: String,
    /// The container's image; empty for a pod.
    pub image: String,
    /// When it was created, seconds since 1970; 0 where only the group knows.
    pub created_seconds: i64,
    /// When it was started, likewise.
    pub started_seconds: i64,
}

/// Whose the groups are, as far as that is known.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    pods: HashMap<String, Owner>,
    ids: HashMap<String, Owner>,
}

impl Owners {
    /// Says whose the group of a pod is.
    pub fn add_pod(&mut self, group: String, owner: Owner) {
        self.pods.insert(group, owner);
    }

    /// Says whose the group of a container or sandbox is, by its id.
    pub fn add(&mut self, id: String, owner: Owner) {
        self.ids.insert(id, owner);
    }

    /// Whose a group is, and the id if it is a container's or sandbox's.
    pub(super) fn of<'a>(&'a self, group: &'a str) -> Option<(&'a Owner, &'a str)> {
        let by_id = id_in(group).and_then(|id| Some((self.ids.get(id)?, id)));
        by_id.or_else(|| Some((self.pods.get(group)?, "")))
    }
}

/// The groups to show, parents before children.
pub(super) fn groups(reader: &mut GroupReader, prefixes: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = Vec::new();
    if reader.exists("/") {
        ahead.push("/".to_owned());
    }
    while let Some(group) = ahead.pop() {
        let mut children = reader.children(&group);
        children.retain(|child| leads_somewhere(child, prefixes));
        // The last is taken first.
        children.sort_unstable_by(|a, b| b.cmp(a));
        ahead.append(&mut children);
        if is_shown(&group, prefixes) {
            found.push(group);
        }
        if found.len() >= MAX_GROUPS {
            break;
        }
    }
    found
}

/// Upstream compares texts, not paths: `/kubepods` lets `/kubepods2` in as well. Containers that are
/// elsewhere are shown too.
fn is_shown(group: &str, prefixes: &[String]) -> bool {
    group == "/" || prefixes.iter().any(|p| group.starts_with(p.as_str())) || id_in(group).is_some()
}

/// Whether a group or one below it is shown. Mounts, which systemd gives groups, are not.
fn leads_somewhere(group: &str, prefixes: &[String]) -> bool {
    let above = |prefix: &String| prefix.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'));
    !group.ends_with(".mount") && (is_shown(group, prefixes) || prefixes.iter().any(above))
}

/// The id of the container whose group has this name: `<id>`, or `cri-containerd-<id>.scope` where
/// systemd makes groups. CRI-O's monitor of a container has a group beside it, with the same id.
fn id_in(group: &str) -> Option<&str> {
    let name = group.rsplit('/').next()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit('-').next()?;
    if name.contains("conmon-") {
        return None;
    }
    let is_id = id.len() == ID_DIGITS && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_shown_by_prefix() {
        let id = "a".repeat(64);
        let prefixes = ["/kubepods".to_owned(), "/system.slice/kubelet.service".to_owned()];
        for (group, shown, followed) in [
            ("/", true, true),
            ("/kubepods", true, true),
            ("/kubepods2", true, true),
            ("/kubepods/pod1/c", true, true),
            ("/system.slice", false, true),
            ("/system.slice/kubelet.service", true, true),
            ("/system.slice/cron.service", false, false),
            ("/system", false, false),
            ("/kubepods/x.mount", true, false),
            (&format!("/other/{id}"), true, true),
        ] {
            assert_eq!(is_shown(group, &prefixes), shown, "{group}");
            if group != "/" {
                assert_eq!(leads_somewhere(group, &prefixes), followed, "{group}");
            }
        }
        assert!(is_shown("/anything", &["/".to_owned()]));
    }

    #[test]
    fn ids_are_found_in_names_of_either_driver() {
        let id = "0123456789abcdef".repeat(4);
        for (group, found) in [
            (format!("/kubepods/pod1/{id}"), Some(id.as_str())),
            (format!("/kubepods.slice/x.slice/cri-containerd-{id}.scope"), Some(id.as_str())),
            (format!("/kubepods.slice/x.slice/crio-{id}.scope"), Some(id.as_str())),
            (format!("/kubepods.slice/x.slice/crio-conmon-{id}.scope"), None),
            (format!("/kubepods/{id}/below"), None),
            (format!("/kubepods/{id}0"), None),
            ("/".to_owned(), None),
        ] {
            assert_eq!(id_in(&group), found, "{group}");
        }
    }
}
