//! Updates seen by readers, and everything a container may have left in the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::payload::FileContent;

fn payload(files: &[(&str, &str)]) -> Payload {
    let mut payload = Payload::default();
    for (path, content) in files {
        let file = FileContent { data: content.as_bytes().to_vec(), mode: 0o640, owner: Some(1234) };
        payload.insert(path, file).unwrap();
    }
    payload
}

struct Volume {
    dir: tempfile::TempDir,
    root: Root,
}

impl Volume {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        Self { dir, root }
    }

    fn write(&self, files: &[(&str, &str)]) -> bool {
        write(&self.root, &payload(files), Timestamp::UNIX_EPOCH, |_| Ok(())).unwrap()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.root.names().unwrap().into_iter().map(|n| n.to_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn layout_and_modes() {
    let volume = Volume::new();
    assert!(volume.write(&[("plain", "1"), ("sub/deep/x", "2"), ("sub/y", "3")]));
    let stamp = "..1970_01_01_00_00_00.0";
    assert_eq!(volume.names(), ["..1970_01_01_00_00_00.0", "..data", "plain", "sub"]);
    let link = |name: &str| fs::read_link(volume.dir.path().join(name)).unwrap();
    assert_eq!(link("..data"), Path::new(stamp));
    assert_eq!((link("plain"), link("sub")), ("..data/plain".into(), "..data/sub".into()));
    assert_eq!((volume.read("plain"), volume.read("sub/deep/x")), ("1".to_owned(), "2".to_owned()));
    let meta = fs::metadata(volume.dir.path().join("sub/y")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o640, 1234));
    assert_eq!(fs::metadata(volume.dir.path().join(stamp)).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn unchanged_content_is_not_rewritten() {
    let volume = Volume::new();
    assert!(volume.write(&[("a", "1")]));
    let inode = || fs::metadata(volume.dir.path().join("a")).unwrap().ino();
    let before = inode();
    assert!(!volume.write(&[("a", "1")]));
    assert_eq!(inode(), before);
    // A visible link that someone removed comes back without a rewrite.
    fs::remove_file(volume.dir.path().join("a")).unwrap();
    assert!(!volume.write(&[("a", "1")]));
    assert_eq!(inode(), before);
}

#[test]
fn updates_replace_add_and_remove() {
    let volume = Volume::new();
    volume.write(&[("a", "1"), ("b/x", "1"), ("c", "1")]);
    assert!(volume.write(&[("a", "2"), ("b/y", "2"), ("d", "2")]));
    assert_eq!(volume.names(), ["..1970_01_01_00_00_00.1", "..data", "a", "b", "d"]);
    assert_eq!(
        (volume.read("a"), volume.read("b/y"), volume.read("d")),
        ("2".into(), "2".into(), "2".into())
    );
    assert!(!volume.dir.path().join("b/x").exists());
    assert!(volume.write(&[]));
    assert_eq!(volume.names(), ["..1970_01_01_00_00_00.0", "..data"]);
}

#[test]
fn a_reader_sees_all_old_or_all_new() {
    let volume = Volume::new();
    volume.write(&[("a", "old"), ("b", "old")]);
    // What a container's process does to read both consistently: enter the folder once.
    let data = Root::open(&volume.dir.path().join("..data")).unwrap();
    let seen_while_writing = std::cell::RefCell::new(Vec::new());
    write(&volume.root, &payload(&[("a", "new"), ("b", "new")]), Timestamp::UNIX_EPOCH, |_| {
        // The new files are all there at this point, yet nobody sees them.
        seen_while_writing.borrow_mut().push((volume.read("a"), volume.read("b")));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen_while_writing.into_inner(), [("old".to_owned(), "old".to_owned())]);
    assert_eq!((volume.read("a"), volume.read("b")), ("new".to_owned(), "new".to_owned()));
    drop(data);
}

#[test]
fn a_failed_update_leaves_the_old_content() {
    let volume = Volume::new();
    volume.write(&[("a", "old")]);
    let before = volume.names();
    let refuse = |root: &Root| root.read(Path::new("no-such-file"), Links::Refuse).map(drop);
    assert!(write(&volume.root, &payload(&[("a", "new")]), Timestamp::UNIX_EPOCH, refuse).is_err());
    assert_eq!((volume.read("a"), volume.names()), ("old".to_owned(), before));
    // A path that is both a file and a folder cannot be written.
    let clash = payload(&[("a", "x"), ("a/b", "y")]);
    assert!(write(&volume.root, &clash, Timestamp::UNIX_EPOCH, |_| Ok(())).is_err());
    assert_eq!(volume.read("a"), "old");
}

#[test]
fn damage_and_leftovers_are_repaired() {
    type Damage = fn(&Path);
    let damages: [Damage; 6] = [
        |dir| symlink("..nowhere", dir.join("..data_tmp")).unwrap(),
        |dir| fs::create_dir_all(dir.join("..data_tmp/x")).unwrap(),
        |dir| {
            fs::remove_file(dir.join("..data")).unwrap();
            fs::create_dir_all(dir.join("..data/x")).unwrap();
        },
        |dir| {
            fs::remove_file(dir.join("..data")).unwrap();
            symlink("/etc", dir.join("..data")).unwrap();
        },
        |dir| fs::write(fs::canonicalize(dir.join("..data")).unwrap().join("a"), "damaged").unwrap(),
        |dir| fs::create_dir(dir.join("..2020_01_01_00_00_00.5")).unwrap(),
    ];
    for (index, damage) in damages.iter().enumerate() {
        let volume = Volume::new();
        volume.write(&[("a", "good")]);
        damage(volume.dir.path());
        volume.write(&[("a", "good")]);
        volume.write(&[("a", "better")]);
        assert_eq!(volume.read("a"), "better", "damage {index}");
        assert_eq!(volume.names().len(), 3, "damage {index}: {:?}", volume.names());
    }
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[test]
fn links_planted_in_the_volume_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a"), "precious").unwrap();
    let volume = Volume::new();
    volume.write(&[("d/a", "1")]);
    symlink(outside.path(), volume.dir.path().join("..1970_01_01_00_00_00.1")).unwrap();
    symlink(outside.path(), volume.dir.path().join("e")).unwrap();
    volume.write(&[("d/a", "2"), ("e/a", "2")]);
    assert_eq!((volume.read("d/a"), volume.read("e/a")), ("2".to_owned(), "2".to_owned()));
    assert_eq!(fs::read_to_string(outside.path().join("a")).unwrap(), "precious");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}
