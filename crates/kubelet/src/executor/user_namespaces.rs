//! Ids for pods with a user namespace of their own (`hostUsers: false`, <https://kep.k8s.io/127>): each pod gets a range of
//! the node's user and group ids that no other has. Which one a pod has stands in a file of its folder, where upstream's
//! kubelet has it too, and nowhere else: with the file the range is free again. It goes with the pod's volumes, and the
//! folder later.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use config::Config;
use model::{Pod, PodUid, RuntimeHandler, pod};
use node::{Failure, FailureKind, Outcome};
use runtime::sandbox::IdRange;
use serde_json::{Value, json};

use super::failure;

/// Whose subordinate ids pods get, where this user is known.
const USER: &str = "kubelet";
/// The program that knows subordinate ids.
const PROGRAM: &str = "getsubids";
/// The file in a pod's folder.
const FILE: &str = "userns";
/// The most a damaged file may have.
const MOST_BYTES: usize = 64 << 10;

/// Why there are no ids.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdError {
    /// The ids of the user cannot be told.
    #[error("ask {PROGRAM} for the subordinate ids of the user {USER}: {0}")]
    Ask(String),
    /// What there is cannot be divided.
    #[error(
        "subordinate ids of the user {USER}: {length} from {first} on cannot be divided among pods: {problem} \
         (userNamespaces.idsPerPod is {each}; see /etc/subuid and /etc/subgid)"
    )]
    UnusableAddress {
        /// The first.
        first: u32,
        /// How many.
        length: u32,
        /// For each pod.
        each: u32,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file says something else.
    #[error("{} does not hold ids of a user namespace: remove it when its pod is gone", .0.display())]
    Content(PathBuf),
    /// No name of a folder.
    #[error("the pod's uid {0:?} cannot be that of a pod with a user namespace")]
    Uid(String),
    /// As many pods as fit.
    #[error("all {0} ranges of ids for pods with a user namespace are taken")]
    Full(u32),
}

/// The ids of this node that pods may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    first: u32,
    /// For each pod.
    each: u32,
    /// For how many pods.
    pods: u32,
}

/// Gives pods their ranges.
pub(crate) struct UserNamespaces {
    ids: Ids,
    /// `<root>/pods`.
    pods_dir: PathBuf,
    // Held while a range is looked for and written down: two pods must not find the same one.
    turn: Mutex<()>,
}

impl UserNamespaces {
    /// Looks up which ids this node has for pods: those of the user `kubelet`, or else all that are not the node's own.
    ///
    /// # Errors
    /// When that user is there and has no fitting ids: as upstream, a node does not start then.
    pub(crate) fn new(config: &Config) -> Result<Self, IdError> {
        let each = config.pods.ids_per_user_namespace;
        let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let of_user = if has_user(&known) { subordinate_ids()? } else { None };
        let ids = match of_user {
            Some((first, length)) => divide(first, length, each, config.node.max_pods)?,
            None => divide(each, u32::MAX - each + 1, each, config.node.max_pods)?,
        };
        Ok(Self { ids, pods_dir: config.paths.root.join("pods"), turn: Mutex::new(()) })
    }

    /// The range of a pod, which it keeps.
    fn of_pod(&self, uid: &PodUid) -> Result<IdRange, IdError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.folder(uid)?;
        if let Some(range) = read(&dir.join(FILE))? {
            return Ok(range);
        }
        let taken = self.taken()?;
        let free =
            (0..self.ids.pods).find(|index| !taken.contains(index)).ok_or(IdError::Full(self.ids.pods))?;
        let range = IdRange { first_host_id: self.ids.first + free * self.ids.each, length: self.ids.each };
        write(&dir, range)?;
        Ok(range)
    }

    /// Others may have the pod's range: nothing of it runs, and its volumes are gone.
    fn release(&self, uid: &PodUid) -> Result<(), IdError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder(uid)?.join(FILE);
        let is_gone = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        match fs::remove_file(&path) {
            Err(source) if !is_gone(source.kind()) => Err(IdError::File { what: "remove", path, source }),
            _ => Ok(()),
        }
    }

    /// The pod's folder, whether it is there or not.
    fn folder(&self, uid: &PodUid) -> Result<PathBuf, IdError> {
        let mut parts = Path::new(uid.as_str()).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(IdError::Uid(uid.to_string()));
        }
        Ok(self.pods_dir.join(uid.as_str()))
    }

    /// Which ranges others have, by their place. One of an earlier configuration may cover several.
    fn taken(&self) -> Result<BTreeSet<u32>, IdError> {
        let mut taken = BTreeSet::new();
        let failed = |source| IdError::File { what: "list", path: self.pods_dir.clone(), source };
        let entries = match fs::read_dir(&self.pods_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(taken),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let file = entry.map_err(failed)?.path().join(FILE);
            if let Some(range) = read(&file)? {
                let last = range.first_host_id.saturating_add(range.length - 1);
                let place = |id: u32| id.checked_sub(self.ids.first).map(|id| id / self.ids.each);
                if let Some(end) = place(last) {
                    taken.extend(place(range.first_host_id).unwrap_or(0)..=end);
                }
            }
        }
        Ok(taken)
    }
}

impl UserNamespaces {
    /// The ids of a pod that has a user namespace of its own; `None` for all others.
    pub(crate) async fn ids_of(
        self: &Arc<Self>,
        pod: &Pod,
        handler: &RuntimeHandler,
    ) -> Result<Option<IdRange>, Failure> {
        if pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false) {
            return Ok(None);
        }
        let failed = |message| Failure { kind: FailureKind::Other, message };
        if !handler.has_user_namespaces {
            let name = &handler.name;
            let whose = if name.is_empty() { String::new() } else { format!("handler {name:?} of the ") };
            return Err(failed(format!(
                "can't set `spec.hostUsers: false`: the {whose}container runtime does not support user namespaces"
            )));
        }
        let (namespaces, uid) = (self.clone(), pod::uid(pod));
        let found = tokio::task::spawn_blocking(move || namespaces.of_pod(&uid)).await;
        let found = found.map_err(|_| failed("interrupted".to_owned()))?;
        found.map(Some).map_err(|error| failed(format!("user namespace: {}", model::chain(&error))))
    }

    /// The pod has ended: its ids are free.
    pub(crate) async fn free(self: &Arc<Self>, uid: PodUid) -> Outcome {
        let namespaces = self.clone();
        match tokio::task::spawn_blocking(move || namespaces.release(&uid)).await {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(error)) => failure::other(format!("user namespace: {}", model::chain(&error))),
            Err(_) => failure::other("interrupted".to_owned()),
        }
    }
}

fn has_user(passwd: &str) -> bool {
    passwd.lines().any(|line| line.split(':').next() == Some(USER))
}

/// The ids subordinate to the user, if there is a program that knows them: the first and how many.
fn subordinate_ids() -> Result<Option<(u32, u32)>, IdError> {
    let ask = |arguments: &[&str]| match Command::new(PROGRAM).args(arguments).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IdError::Ask(error.to_string())),
        Ok(output) if !output.status.success() => {
            Err(IdError::Ask(format!("it ended with {}", output.status)))
        }
        Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
    };
    let Some(users) = ask(&[USER])? else { return Ok(None) };
    if ask(&["-g", USER])?.as_deref() != Some(&users) {
        return Err(IdError::Ask("subordinate users and groups are not the same".to_owned()));
    }
    parse(&users).map(Some).ok_or_else(|| {
        IdError::Ask(format!(
            "want a single line such as \"0: {USER} 65536 2147483648\", not {:?}",
            users.trim()
        ))
    })
}

/// One line of a number, the user, the first id and how many there are.
fn parse(text: &str) -> Option<(u32, u32)> {
    let mut lines = text.trim_matches('\n').lines();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, _, first, length] = words.as_slice() else { return None };
    Some((first.parse().ok()?, length.parse().ok()?))
}

/// Divides ids among pods.
fn divide(first: u32, length: u32, each: u32, max_pods: u32) -> Result<Ids, IdError> {
    let unfit = |problem: String| Err(IdError::UnusableAddress { first, length, each, problem });
    if !first.is_multiple_of(each) {
        return unfit(format!("the first has to be a multiple of {each}"));
    }
    if first < each {
        // The node's own root must be nobody's.
        return unfit(format!("the first has to be {each} or more"));
    }
    if u64::from(first) + u64::from(length) > 1 << 32 {
        return unfit("there are not so many ids".to_owned());
    }
    if !length.is_multiple_of(each) {
        return unfit(format!("their number has to be a multiple of {each}"));
    }
    let pods = length / each;
    if pods < max_pods {
        return unfit(format!("they are enough for {pods} pods and maxPods is {max_pods}"));
    }
    Ok(Ids { first, each, pods })
}

/// The range a file holds; `None` when it is not there.
fn read(path: &Path) -> Result<Option<IdRange>, IdError> {
    let text = match fs::read(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        text => text.map_err(|source| IdError::File { what: "read", path: path.to_owned(), source })?,
    };
    // As upstream, an empty file is none.
    if text.is_empty() {
        return Ok(None);
    }
    let damaged = || IdError::Content(path.to_owned());
    let value: Value = serde_json::from_slice(text.get(..MOST_BYTES.min(text.len())).unwrap_or_default())
        .map_err(|_| damaged())?;
    let [users, groups] = ["uidMappings", "gidMappings"].map(|key| value.get(key).and_then(Value::as_array));
    let range = users.filter(|users| users.len() == 1 && Some(*users) == groups).and_then(|users| {
        let number = |key| users[0].get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let (first_host_id, length) = (number("hostId")?, number("length")?);
        // Root is mapped, and not to the node's own.
        (number("containerId")? == 0 && first_host_id > 0 && length > 0)
            .then_some(IdRange { first_host_id, length })
    });
    range.map(Some).ok_or_else(damaged)
}

/// Writes a pod's range down, for good.
fn write(dir: &Path, range: IdRange) -> Result<(), IdError> {
    let mapping = [json!({ "hostId": range.first_host_id, "containerId": 0, "length": range.length })];
    let text = json!({ "uidMappings": mapping, "gidMappings": mapping }).to_string();
    let path = dir.join(FILE);
    let temporary = dir.join(format!(".{FILE}.new"));
    let written = fs::DirBuilder::new().recursive(true).mode(0o750).create(dir).and_then(|()| {
        let mut file =
            fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        // A range that is forgotten would be given away twice.
        fs::File::open(dir)?.sync_all()
    });
    written.map_err(|source| IdError::File { what: "write", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: u32 = 65_536;

    fn namespaces(root: &Path, pods: u32) -> UserNamespaces {
        UserNamespaces {
            ids: Ids { first: EACH, each: EACH, pods },
            pods_dir: root.join("pods"),
            turn: Mutex::new(()),
        }
    }

    fn range(first_host_id: u32) -> IdRange {
        IdRange { first_host_id, length: EACH }
    }

    #[test]
    fn a_pod_keeps_its_range_until_it_is_released() {
        let root = tempfile::tempdir().unwrap();
        let of = |pods: u32, uid: &str| namespaces(root.path(), pods).of_pod(&PodUid::from(uid));
        assert_eq!(of(2, "a").unwrap(), range(EACH));
        assert_eq!(of(2, "b").unwrap(), range(2 * EACH));
        assert_eq!(of(2, "a").unwrap(), range(EACH), "after a restart, too");
        assert!(matches!(of(2, "c"), Err(IdError::Full(2))));
        let file = root.path().join("pods/a/userns");
        let mapping = json!([{"hostId": 65_536, "containerId": 0, "length": 65_536}]);
        let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(written, json!({"uidMappings": mapping, "gidMappings": mapping}));
        let all = namespaces(root.path(), 2);
        all.release(&PodUid::from("a")).unwrap();
        all.release(&PodUid::from("a")).unwrap();
        assert!(root.path().join("pods/a").exists(), "the rest of the folder goes later");
        assert_eq!(of(2, "c").unwrap(), range(EACH));
        fs::remove_dir_all(root.path().join("pods/c")).unwrap();
        assert_eq!(of(2, "d").unwrap(), range(EACH));
        for uid in ["", "..", "a/b", "/x"] {
            assert!(matches!(of(9, uid), Err(IdError::Uid(_))), "{uid}");
            assert!(matches!(all.release(&PodUid::from(uid)), Err(IdError::Uid(_))), "{uid}");
        }
    }

    #[test]
    fn what_other_kubelets_have_given_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let put = |uid: &str, text: &str| {
            let dir = root.path().join("pods").join(uid);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(FILE), text).unwrap();
        };
        let mapping = |first: u32, length: u32| {
            let all = format!(r#"[{{"hostId":{first},"containerId":0,"length":{length}}}]"#);
            format!(r#"{{"uidMappings":{all},"gidMappings":{all}}}"#)
        };
        put("wide", &mapping(2 * EACH, 2 * EACH));
        put("none", "");
        let of = |uid: &str| namespaces(root.path(), 9).of_pod(&PodUid::from(uid));
        assert_eq!(of("wide").unwrap(), IdRange { first_host_id: 2 * EACH, length: 2 * EACH });
        assert_eq!(of("a").unwrap(), range(EACH));
        assert_eq!(of("b").unwrap(), range(4 * EACH));
        let others = [mapping(0, EACH), mapping(EACH, 0), mapping(EACH, EACH).replacen("65536", "1", 1)];
        for bad in ["x", "{}"].into_iter().chain(others.iter().map(String::as_str)) {
            put("bad", bad);
            assert!(matches!(of("bad"), Err(IdError::Content(_))), "{bad}");
            // Nobody knows which one it is.
            assert!(matches!(of("d"), Err(IdError::Content(_))), "{bad}");
        }
    }

    #[test]
    fn ids_are_divided_without_a_rest() {
        assert_eq!(divide(EACH, 2 * EACH, EACH, 2).unwrap(), Ids { first: EACH, each: EACH, pods: 2 });
        for (first, length) in
            [(0, EACH), (1, EACH), (EACH, EACH + 1), (EACH, 0), (EACH, EACH), (u32::MAX - EACH + 1, 2 * EACH)]
        {
            assert!(
                matches!(divide(first, length, EACH, 2), Err(IdError::UnusableAddress { .. })),
                "{first} {length}"
            );
        }
        let default = divide(EACH, u32::MAX - EACH + 1, EACH, 110).unwrap();
        assert_eq!(default.pods, 65_535);
    }

    #[test]
    fn the_programs_answer_is_one_line() {
        assert_eq!(parse("0: kubelet 65536 2147483648\n"), Some((65_536, 2_147_483_648)));
        for bad in [
            "",
            "0: kubelet 65536",
            "0: kubelet a 1\n",
            "0: kubelet 1 2\n1: kubelet 3 4\n",
            "0: k 1 4294967296",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(has_user("root:x:0:0::/:/bin/sh\nkubelet:x:9:9::/:/bin/false\n"));
        assert!(!has_user("root:x:0:0:kubelet:/:/bin/sh\nkubelet2:x:1:1::/:\n"));
    }
}
