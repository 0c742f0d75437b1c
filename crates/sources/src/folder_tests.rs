//! Files good, bad, changed and gone.

use super::*;

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
    )
}

/// A folder whose pods are of the node `n`.
fn open(path: PathBuf) -> Folder {
    let check_every = std::time::Duration::from_secs(20);
    let settings = FileSettings {
        path: path.clone(),
        node_name: "n".into(),
        check_every,
        gates: ManifestGates::default(),
    };
    Folder::new(path, &settings)
}

fn write(folder: &tempfile::TempDir, file: &str, text: &str) -> PathBuf {
    let path = folder.path().join(file);
    std::fs::write(&path, text).unwrap();
    path
}

fn names(folder: &Folder) -> Vec<String> {
    folder.set().pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
}

#[test]
fn every_file_but_hidden_ones_counts_and_a_bad_one_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "b.yaml", &manifest("b", "i"));
    write(&dir, "a.manifest", &manifest("a", "i"));
    write(&dir, ".hidden.yaml", &manifest("hidden", "i"));
    let bad = write(&dir, "bad.yaml", "kind: Nonsense");
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let mut folder = open(dir.path().to_owned());
    folder.rescan();
    assert_eq!(names(&folder), ["a-n", "b-n"]);
    let problems = folder.set().problems;
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0], (bad, "expected a v1 Pod, found a Nonsense without apiVersion".into()));
}

#[test]
fn a_file_that_turns_bad_keeps_its_pod_until_the_next_full_look() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "a.yaml", &manifest("a", "i"));
    let mut folder = open(dir.path().to_owned());
    folder.rescan();
    write(&dir, "a.yaml", "half done: [");
    folder.touched(&path);
    assert_eq!((names(&folder), folder.set().problems.len()), (vec!["a-n".to_owned()], 1));
    folder.rescan();
    assert_eq!((names(&folder).len(), folder.set().problems.len()), (0, 1));
    write(&dir, "a.yaml", &manifest("a", "i"));
    folder.touched(&path);
    assert_eq!((names(&folder).len(), folder.set().problems.len()), (1, 0));
    std::fs::remove_file(&path).unwrap();
    folder.touched(&path);
    assert!(folder.set().pods.is_empty());
}

/// The uid has the file's path in it, and upstream goes the shortest way to a file.
#[test]
fn the_way_to_a_folder_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a.yaml", &manifest("a", "i"));
    std::fs::create_dir(dir.path().join("deeper")).unwrap();
    let uid = |way: &str| {
        let mut folder = open(PathBuf::from(format!("{}{way}", dir.path().display())));
        folder.rescan();
        folder.set().pods[0].metadata.uid.clone().unwrap()
    };
    let straight = uid("");
    assert_eq!([uid("/"), uid("//./"), uid("/deeper/..")], [straight.as_str(); 3]);
    assert_ne!(uid("/deeper/../a.yaml"), straight, "a file on its own is called as it is configured");
    assert_eq!(uid("/a.yaml"), straight);
}

#[test]
fn a_pod_written_anew_is_the_same_and_a_changed_one_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "a.yaml", &manifest("a", "i"));
    let mut folder = open(dir.path().to_owned());
    folder.rescan();
    let first = folder.set().pods[0].clone();
    write(&dir, "a.yaml", &format!("# comment\n{}", manifest("a", "i")));
    folder.touched(&path);
    assert!(Arc::ptr_eq(&first, &folder.set().pods[0]));
    write(&dir, "a.yaml", &manifest("a", "j"));
    folder.touched(&path);
    assert_ne!(first.metadata.uid, folder.set().pods[0].metadata.uid);
}

#[test]
fn one_file_and_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod.yaml");
    let mut folder = open(path.clone());
    folder.rescan();
    assert!(folder.set().problems.is_empty(), "a node without static pods is none to worry about");
    write(&dir, "pod.yaml", &manifest("a", "i"));
    write(&dir, "other.yaml", &manifest("b", "i"));
    folder.touched(&path);
    folder.rescan();
    assert_eq!(names(&folder), ["a-n"]);
    assert!(folder.set().problems.is_empty());
}

#[test]
fn files_outside_are_nothing_to_us() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut folder = open(dir.path().to_owned());
    folder.touched(&write(&other, "a.yaml", &manifest("a", "i")));
    folder.touched(&write(&dir, ".a.yaml", &manifest("a", "i")));
    assert!(folder.set().pods.is_empty());
}

#[test]
fn files_that_come_change_and_go_between_full_looks() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path().to_owned());
    folder.rescan();
    assert!(names(&folder).is_empty() && folder.set().problems.is_empty());
    let a = write(&dir, "1.yaml", &manifest("a", "i"));
    let b = write(&dir, "2.yaml", &manifest("b", "i"));
    folder.rescan();
    assert_eq!(names(&folder), ["a-n", "b-n"]);
    let kept = folder.set().pods[1].clone();
    write(&dir, "1.yaml", &manifest("z", "i"));
    folder.rescan();
    assert_eq!(names(&folder), ["z-n", "b-n"], "in the order of the files");
    assert!(Arc::ptr_eq(&kept, &folder.set().pods[1]), "what did not change is not read again");
    std::fs::remove_file(&a).unwrap();
    folder.rescan();
    assert_eq!(names(&folder), ["b-n"]);
    // The same pod from another file is another pod.
    std::fs::rename(&b, dir.path().join("3.yaml")).unwrap();
    folder.rescan();
    assert_eq!(names(&folder), ["b-n"]);
    assert_ne!(kept.metadata.uid, folder.set().pods[0].metadata.uid);
}

#[test]
fn a_problem_ends_with_its_file_and_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "good.yaml", &manifest("good", "i"));
    let bad = write(&dir, "bad.yaml", &manifest("bad", ""));
    let mut folder = open(dir.path().to_owned());
    folder.rescan();
    folder.rescan();
    let problems = folder.set().problems;
    assert_eq!(problems.len(), 1, "told once");
    assert_eq!(problems[0].0, bad);
    write(&dir, "bad.yaml", &manifest("bad", "i"));
    folder.rescan();
    assert_eq!(
        (names(&folder), folder.set().problems.len()),
        (vec!["bad-n".to_owned(), "good-n".to_owned()], 0)
    );
    write(&dir, "bad.yaml", "");
    folder.rescan();
    assert_eq!(folder.set().problems, [(bad.clone(), "no document in it".to_owned())]);
    std::fs::remove_file(&bad).unwrap();
    folder.touched(&bad);
    assert!(folder.set().problems.is_empty());
    assert_eq!(names(&folder), ["good-n"]);
}

#[test]
fn what_is_no_readable_file_says_so_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let huge = dir.path().join("huge.yaml");
    std::fs::File::create(&huge).unwrap().set_len(MAX_MANIFEST + 1).unwrap();
    std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("link.yaml")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    write(&dir, "typed.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: 5}\n");
    write(&dir, "broken.yaml", "kind: Pod\na: [\nb: c\n");
    let mut folder = open(dir.path().to_owned());
    folder.rescan();
    let set = folder.set();
    assert!(set.pods.is_empty());
    for (file, want) in [
        ("broken.yaml", "not YAML: "),
        ("huge.yaml", "is larger than 10485760 bytes"),
        ("link.yaml", "No such file or directory"),
        ("socket", "is not a regular file"),
        ("sub", "is a folder; folders in here are not looked into"),
        ("typed.yaml", "not a pod: invalid type: integer `5`, expected a sequence"),
    ] {
        let problem = set.problems.iter().find(|(path, _)| path.ends_with(file));
        let (_, problem) = problem.unwrap_or_else(|| panic!("{file}: {:?}", set.problems));
        assert!(problem.starts_with(want) && !problem.contains('\n'), "{file}: {problem}");
    }
    assert_eq!(set.problems.len(), 6);
}

#[test]
fn a_folder_that_goes_takes_its_pods_along() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifests");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("a.yaml"), manifest("a", "i")).unwrap();
    let mut folder = open(path.clone());
    folder.rescan();
    assert_eq!(names(&folder), ["a-n"]);
    std::fs::remove_dir_all(&path).unwrap();
    folder.rescan();
    assert!(folder.set().pods.is_empty());
    assert!(folder.set().problems.is_empty());
    std::fs::create_dir(&path).unwrap();
    folder.rescan();
    assert!(folder.set().problems.is_empty());
}

/// kubernetes/kubeadm#2823: a backup beside a manifest is a manifest, too.
#[test]
fn of_two_files_with_one_pod_the_last_counts() {
    let dir = tempfile::tempdir().unwrap();
    let original = write(&dir, "etcd.yaml", &manifest("etcd", "new"));
    let backup = write(&dir, "etcd.yaml.bak", &manifest("etcd", "old"));
    write(&dir, "other.yaml", &manifest("other", "i"));
    let mut folder = open(dir.path().to_owned());
    let images = |folder: &Folder| -> Vec<String> {
        let image = |pod: &Arc<Pod>| pod.spec.as_ref()?.containers[0].image.clone();
        folder.set().pods.iter().filter_map(image).collect()
    };
    folder.rescan();
    assert_eq!(images(&folder), ["old", "i"]);
    let problem =
        format!("describes the pod default/etcd-n, and so does {}, which is used", backup.display());
    assert_eq!(folder.set().problems, [(original.clone(), problem)]);
    // Not by which was touched last.
    folder.touched(&original);
    assert_eq!(images(&folder), ["old", "i"]);
    std::fs::remove_file(&backup).unwrap();
    folder.touched(&backup);
    assert_eq!((images(&folder), folder.set().problems), (vec!["new".into(), "i".into()], vec![]));
    // One in another namespace is another pod.
    let elsewhere = manifest("etcd", "else").replace("{name: etcd}", "{name: etcd, namespace: else}");
    write(&dir, "z.yaml", &elsewhere);
    folder.rescan();
    assert_eq!(images(&folder), ["new", "i", "else"]);
}
