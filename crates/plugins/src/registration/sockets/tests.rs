//! Real sockets in a real folder.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::Pin;

use futures::{Stream, StreamExt as _};

use super::watch_sockets;

type Sets = Pin<Box<dyn Stream<Item = BTreeMap<String, u64>> + Send>>;

/// Makes a socket, as a plugin does.
fn make(root: &Path, name: &str) {
    // Nobody need listen there.
    drop(UnixListener::bind(root.join(name)).unwrap());
}

/// The sockets by their names below the root, once they are these.
async fn until(sets: &mut Sets, root: &Path, names: &[&str]) -> BTreeMap<String, u64> {
    loop {
        let set = sets.next().await.unwrap();
        let below = |path: &str| Path::new(path).strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let set: BTreeMap<String, u64> = set.iter().map(|(path, number)| (below(path), *number)).collect();
        if set.keys().map(String::as_str).eq(names.iter().copied()) {
            return set;
        }
    }
}

#[tokio::test]
async fn those_that_are_there_come_first_and_then_what_happens() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    std::fs::create_dir_all(root.join("folder/.below")).unwrap();
    std::fs::write(root.join("file.sock"), "").unwrap();
    for name in ["a.sock", ".hidden.sock", "folder/b.sock", "folder/.below/c.sock"] {
        make(root, name);
    }
    let mut sets: Sets = Box::pin(watch_sockets(root.to_owned()));
    until(&mut sets, root, &["a.sock", "folder/.below/c.sock", "folder/b.sock"]).await;
    make(root, "folder/d.sock");
    until(&mut sets, root, &["a.sock", "folder/.below/c.sock", "folder/b.sock", "folder/d.sock"]).await;
    std::fs::remove_file(root.join("a.sock")).unwrap();
    until(&mut sets, root, &["folder/.below/c.sock", "folder/b.sock", "folder/d.sock"]).await;
    std::fs::remove_dir_all(root.join("folder")).unwrap();
    until(&mut sets, root, &[]).await;
    // A folder that comes with its sockets, and one that is hidden.
    let elsewhere = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    for name in ["new", ".new"] {
        std::fs::create_dir_all(elsewhere.path().join(name).join("deep")).unwrap();
        make(elsewhere.path(), &format!("{name}/deep/e.sock"));
        std::fs::rename(elsewhere.path().join(name), root.join(name)).unwrap();
    }
    until(&mut sets, root, &["new/deep/e.sock"]).await;
    std::fs::rename(root.join("new"), elsewhere.path().join("old")).unwrap();
    until(&mut sets, root, &[]).await;
    // The folder moved away is not looked at any more.
    make(elsewhere.path(), "old/deep/f.sock");
    make(root, "g.sock");
    until(&mut sets, root, &["g.sock"]).await;
}

#[tokio::test]
async fn one_that_is_made_anew_has_another_number() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    make(root, "a.sock");
    make(root, "b.sock");
    let mut sets: Sets = Box::pin(watch_sockets(root.to_owned()));
    let first = until(&mut sets, root, &["a.sock", "b.sock"]).await;
    // Put in its place at once, so that there is no moment without it.
    make(root, ".a.sock");
    std::fs::rename(root.join(".a.sock"), root.join("a.sock")).unwrap();
    let second = until(&mut sets, root, &["a.sock", "b.sock"]).await;
    assert_ne!(second["a.sock"], first["a.sock"]);
    assert_eq!(second["b.sock"], first["b.sock"]);
    // Something else takes its place.
    std::fs::write(root.join("file"), "").unwrap();
    std::fs::rename(root.join("file"), root.join("a.sock")).unwrap();
    until(&mut sets, root, &["b.sock"]).await;
}

#[tokio::test]
async fn a_folder_that_is_removed_is_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("plugins_registry");
    let mut sets: Sets = Box::pin(watch_sockets(root.clone()));
    until(&mut sets, &root, &[]).await;
    make(&root, "a.sock");
    until(&mut sets, &root, &["a.sock"]).await;
    std::fs::remove_dir_all(&root).unwrap();
    until(&mut sets, &root, &[]).await;
    // Whoever waits for it to come back is the watch itself: it is asked for the next set meanwhile.
    let next = tokio::spawn(async move { (until(&mut sets, &root, &["b.sock"]).await, root) });
    let root = parent.path().join("plugins_registry");
    let made = tokio::task::spawn_blocking(move || {
        while UnixListener::bind(root.join("b.sock")).is_err() {
            std::thread::yield_now();
        }
    });
    made.await.unwrap();
    next.await.unwrap();
}
