//! Files good, bad, changed and gone.

use super::*;

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
    )
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
    let mut folder = Folder::new(dir.path().to_owned(), "n".into());
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
    let mut folder = Folder::new(dir.path().to_owned(), "n".into());
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

#[test]
fn a_pod_written_anew_is_the_same_and_a_changed_one_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "a.yaml", &manifest("a", "i"));
    let mut folder = Folder::new(dir.path().to_owned(), "n".into());
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
    let mut folder = Folder::new(path.clone(), "n".into());
    folder.rescan();
    assert_eq!(folder.set().problems, [(path.clone(), "does not exist".to_owned())]);
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
    let mut folder = Folder::new(dir.path().to_owned(), "n".into());
    folder.touched(&write(&other, "a.yaml", &manifest("a", "i")));
    folder.touched(&write(&dir, ".a.yaml", &manifest("a", "i")));
    assert!(folder.set().pods.is_empty());
}
