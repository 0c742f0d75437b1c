//! The folder followed by inotify alone.

use futures::StreamExt;

use super::*;

/// Longer than any test: what arrives came through inotify.
const NEVER: Duration = Duration::from_secs(3600);

fn manifest(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
    )
}

fn settings(path: &Path) -> FileSettings {
    FileSettings {
        path: path.to_owned(),
        node_name: "n".into(),
        check_every: NEVER,
        gates: ManifestGates::default(),
    }
}

fn names(set: &StaticPodSet) -> Vec<&str> {
    set.pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
}

#[tokio::test]
async fn the_folder_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    // As people write it: with a slash at its end.
    let path = PathBuf::from(format!("{}/", dir.path().display()));
    let mut sets = Box::pin(watch_files(settings(&path)));
    assert!(names(&sets.next().await.unwrap()).is_empty(), "an empty folder is said to be one");
    let a = dir.path().join("a.yaml");
    std::fs::write(&a, manifest("a")).unwrap();
    assert_eq!(names(&sets.next().await.unwrap()), ["a-n"]);
    // As tools write it: beside, then renamed. And as a link.
    std::fs::write(dir.path().join(".b.tmp"), manifest("b")).unwrap();
    std::fs::rename(dir.path().join(".b.tmp"), dir.path().join("b.yaml")).unwrap();
    assert_eq!(names(&sets.next().await.unwrap()), ["a-n", "b-n"]);
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("c"), manifest("c")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("c"), dir.path().join("c.yaml")).unwrap();
    assert_eq!(names(&sets.next().await.unwrap()), ["a-n", "b-n", "c-n"]);
    std::fs::write(&a, "no: [").unwrap();
    let set = sets.next().await.unwrap();
    assert_eq!((names(&set), set.problems.len()), (vec!["a-n", "b-n", "c-n"], 1));
    std::fs::remove_file(&a).unwrap();
    let set = sets.next().await.unwrap();
    assert_eq!((names(&set), set.problems.len()), (vec!["b-n", "c-n"], 0));
}

#[tokio::test]
async fn one_file_is_followed_through_renames() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod.yaml");
    std::fs::write(&path, manifest("a")).unwrap();
    let mut sets = Box::pin(watch_files(settings(&path)));
    assert_eq!(names(&sets.next().await.unwrap()), ["a-n"]);
    std::fs::write(dir.path().join("next"), manifest("b")).unwrap();
    std::fs::rename(dir.path().join("next"), &path).unwrap();
    assert_eq!(names(&sets.next().await.unwrap()), ["b-n"]);
}

#[tokio::test]
async fn a_folder_that_comes_later_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later");
    let mut sets = Box::pin(watch_files(settings(&path)));
    let set = sets.next().await.unwrap();
    assert_eq!((set.pods.len(), set.problems.len()), (0, 0), "a worker node has none");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("a.yaml"), manifest("a")).unwrap();
    let mut set = sets.next().await.unwrap();
    // The look may fall between the two steps above.
    if set.pods.is_empty() {
        set = sets.next().await.unwrap();
    }
    assert_eq!(names(&set), ["a-n"]);
    std::fs::remove_dir_all(&path).unwrap();
    while !sets.next().await.unwrap().pods.is_empty() {}
}

/// The next set, or a failure: the limit is only so that a lost event does not hang the tests.
async fn next(sets: &mut (impl futures::Stream<Item = StaticPodSet> + Unpin)) -> StaticPodSet {
    let set = tokio::time::timeout(Duration::from_secs(60), sets.next()).await;
    set.expect("no update within a minute").expect("the stream goes on for ever")
}

#[tokio::test]
async fn what_is_there_already_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), manifest("a")).unwrap();
    std::fs::write(dir.path().join("bad.yaml"), "kind: Other").unwrap();
    std::fs::write(dir.path().join(".b.yaml"), manifest("b")).unwrap();
    let mut sets = Box::pin(watch_files(settings(dir.path())));
    let set = next(&mut sets).await;
    assert_eq!((names(&set), set.problems.len()), (vec!["a-n"], 1));
    std::fs::write(dir.path().join("bad.yaml"), manifest("c")).unwrap();
    let set = next(&mut sets).await;
    assert_eq!((names(&set), set.problems.len()), (vec!["a-n", "c-n"], 0));
}

#[tokio::test]
async fn only_what_makes_a_difference_is_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let a = dir.path().join("a.yaml");
    std::fs::write(&a, manifest("a")).unwrap();
    let mut sets = Box::pin(watch_files(settings(dir.path())));
    let first = next(&mut sets).await;
    // Neither a hidden file, nor a comment, nor a mode is a change; the one after them is.
    std::fs::write(dir.path().join(".a.yaml.swp"), "junk").unwrap();
    std::fs::write(&a, format!("# comment\n{}", manifest("a"))).unwrap();
    std::fs::set_permissions(&a, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(dir.path().join("b.yaml"), manifest("b")).unwrap();
    let second = next(&mut sets).await;
    assert_eq!(names(&second), ["a-n", "b-n"]);
    assert_eq!(first.pods[0].metadata.uid, second.pods[0].metadata.uid);
}

#[tokio::test]
async fn a_changed_pod_is_another_pod_and_a_moved_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let a = dir.path().join("a.yaml");
    std::fs::write(&a, manifest("a")).unwrap();
    let mut sets = Box::pin(watch_files(settings(dir.path())));
    let first = next(&mut sets).await;
    // Beside and renamed, so that it is never seen half written.
    std::fs::write(dir.path().join(".next"), manifest("a").replace("image: i", "image: j")).unwrap();
    std::fs::rename(dir.path().join(".next"), &a).unwrap();
    let second = next(&mut sets).await;
    assert_eq!(names(&second), ["a-n"]);
    assert_ne!(first.pods[0].metadata.uid, second.pods[0].metadata.uid);
    std::fs::rename(&a, dir.path().join(".a.yaml")).unwrap();
    assert!(next(&mut sets).await.pods.is_empty());
}

/// "should successfully recreate when file is removed and recreated": nobody may have looked while it
/// was away.
#[tokio::test]
async fn a_file_that_was_removed_and_is_back_went_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let a = dir.path().join("a.yaml");
    std::fs::write(&a, manifest("a")).unwrap();
    std::fs::write(dir.path().join("b.yaml"), manifest("b")).unwrap();
    let mut sets = Box::pin(watch_files(settings(dir.path())));
    let first = next(&mut sets).await;
    assert_eq!(names(&first), ["a-n", "b-n"]);
    std::fs::remove_file(&a).unwrap();
    std::fs::write(&a, manifest("a")).unwrap();
    assert_eq!(names(&next(&mut sets).await), ["b-n"]);
    let last = next(&mut sets).await;
    assert_eq!(names(&last), ["a-n", "b-n"]);
    assert_eq!(first.pods[0].metadata.uid, last.pods[0].metadata.uid);
    // Another one that takes its place is no removal.
    std::fs::write(dir.path().join(".next"), manifest("a")).unwrap();
    std::fs::rename(dir.path().join(".next"), &a).unwrap();
    std::fs::write(dir.path().join("c.yaml"), manifest("c")).unwrap();
    assert_eq!(names(&next(&mut sets).await), ["a-n", "b-n", "c-n"]);
}
